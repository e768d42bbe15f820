"""Prefect's settings for a command, and a temporary server if none is configured.

Prefect is imported only where it is used: importing takes seconds, and reads its settings from the environment.
"""

import atexit
import http.client
import ipaddress
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from tasks.faults import SetupFault
from tasks.options import Credentials
from tasks.printable import escape_logs
from tasks.scratch import process_folder

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_PORTS = 5  # ports to try: another process may take a free port before the server starts
_HOST = "127.0.0.1"


def prepare_prefect(verbose: bool) -> None:
    """Set quiet defaults that the environment can override. Must be called before Prefect is imported."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    logging.captureWarnings(True)
    escape_logs()


def prepare_for_blocks(credentials: Credentials) -> None:
    """Prepare Prefect for a command that needs it only if the credentials name a block.

    Raises:
        SetupFault: a block is named, but Prefect cannot be used.
    """
    prepare_prefect(verbose=False)
    if any(dict(credentials).values()):
        prove_prefect()
        start_temporary_server()


def prove_prefect() -> None:
    """Check that Prefect can be used in this environment, before it fails with an unclear message.

    Raises:
        SetupFault: there is no home folder, or its HTTP client cannot read the proxy variables.
    """
    try:
        Path.home()
    except RuntimeError:
        raise SetupFault(
            "this user has no home folder, and Prefect needs one: set HOME to a folder that can be written"
        ) from None
    import httpx

    try:
        httpx.Client().close()
    except (httpx.InvalidURL, ValueError, OSError) as error:
        entries = ", ".join(_unreadable_hosts()) or "one of the proxy variables"
        raise SetupFault(
            f"Prefect's HTTP client cannot read {entries} ({error}): it knows host names and single addresses there, "
            "and no networks; correct it, or unset the variable for this command"
        ) from error


def _unreadable_hosts() -> Iterator[str]:
    """Yield the entries of NO_PROXY that httpx cannot parse."""
    import httpx

    for entry in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(","):
        host = entry.strip()
        if host.lower() == "localhost" or _is_address(host):
            continue
        try:
            httpx.Client(mounts={f"all://*{host}": None}, trust_env=False).close()
        except (httpx.InvalidURL, ValueError):
            yield f"the entry '{host}' of NO_PROXY"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def prefect_fault(error: BaseException) -> SetupFault | None:
    """Return the fault if an error means that Prefect's server cannot be used; None for any other error."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value() or "this machine"
    otherwise = "or unset it, to run with a temporary server"
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    refusal = next((candidate for candidate in causes if isinstance(candidate, httpx.HTTPStatusError)), None)
    if refusal is not None:
        status = refusal.response.status_code
        if status in (401, 403):
            advice = f"set PREFECT_API_KEY or PREFECT_API_AUTH_STRING to what it accepts, {otherwise}"
        elif status == 429 or status >= 500:
            advice = f"try again later, or look into its log; correct PREFECT_API_URL, {otherwise}"
        else:
            advice = f"correct PREFECT_API_URL, or use a server of this Prefect's version, {otherwise}"
        return SetupFault(f"the Prefect server at {address} answers {status}: {advice}; what was sent is on record")
    if isinstance(error, httpx.HTTPError) or "Failed to reach API" in str(error):
        return SetupFault(
            f"no Prefect server answers at {address} ({type(error).__name__}): start it, correct PREFECT_API_URL, "
            f"{otherwise}; what was sent is on record"
        )
    return None


def start_temporary_server() -> bool:
    """Start a Prefect server for this command if none is configured. Returns whether it was necessary.

    It ends with this process, however that ends. Prefect treats it as its own, and starts no other.

    Raises:
        SetupFault: it does not start.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    )

    if PREFECT_API_URL.value():
        return False
    if not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise SetupFault(
            "no Prefect server is named, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids a temporary one: set "
            "PREFECT_API_URL to a server, or allow it"
        )
    _prove_home(PREFECT_HOME.value())
    from prefect.server.api.server import SubprocessASGIServer

    _reach_directly(_HOST)
    server = SubprocessASGIServer()
    if server.running:
        return True
    seconds = max(_START_SECONDS, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())
    for last in (False,) * (_PORTS - 1) + (True,):
        port = _free_port()
        with tempfile.TemporaryFile(dir=process_folder()) as words:
            process = _start(port, words)
            why = _wait(process, port, seconds, words)
        if why is None:
            break
        process.kill()
        process.wait()
        if last or "address already in use" not in why:
            raise _no_server(why, PREFECT_HOME.value())
    server.port, server.server_process, server.running = port, process, True
    atexit.register(server.stop)
    return True


def _prove_home(home: Path) -> None:
    """Check that the temporary server can keep its database in a folder: it would take 10 s to fail.

    Raises:
        SetupFault: the folder cannot be made or written.
    """
    from prefect.settings import get_current_settings

    database = get_current_settings().server.database
    if "connection_url" in database.model_fields_set or database.driver or database.name:
        return  # its database is somewhere else
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise _no_server(str(error), home) from error


def _no_server(why: str, home: Path) -> SetupFault:
    return SetupFault(
        f"Prefect's temporary server does not start ({why}): it keeps its history in {home}, "
        "which has to be writable; set PREFECT_HOME to another folder, or PREFECT_API_URL to a running server"
    )


def _reach_directly(host: str) -> None:
    """Exclude a server on this machine from the proxy."""
    name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
    hosts = [entry for entry in os.environ.get(name, "").split(",") if entry.strip()]
    if host not in hosts:
        os.environ[name] = ",".join([*hosts, host])


def _start(port: int, words: IO[bytes]) -> "subprocess.Popen[bytes]":
    from prefect.settings import get_current_settings

    explicit = get_current_settings().to_environment_variables(exclude_unset=True)
    ephemeral = {
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        # A block's type is registered when the block is saved. To register all types, the server would first import
        # every installed Prefect integration, those of Dask and Ray included, which takes seconds.
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "0",
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.prefect_setup", str(port)],
        env={**os.environ, **ephemeral, **explicit, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"},
        stdin=subprocess.PIPE,  # it is closed when this process ends, and then the server ends as well
        stdout=subprocess.DEVNULL,
        stderr=words,
        start_new_session=True,  # Ctrl-C is for this process only, which still reports to the server how its run ended
    )


def _wait(process: "subprocess.Popen[bytes]", port: int, seconds: float, words: IO[bytes]) -> str | None:
    """Wait until the server answers. Returns None, or the reason if it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words.seek(0)
            output = words.read().decode(errors="replace")
            errors = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", output, re.MULTILINE) or output.split("\n")
            return next((line.strip() for line in reversed(errors) if line.strip()), f"exit {process.returncode}")
        connection = http.client.HTTPConnection(_HOST, port, timeout=_START_SECONDS)
        try:
            connection.request("GET", "/api/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return None
        except (OSError, http.client.HTTPException):
            pass  # not ready yet
        finally:
            connection.close()
        with suppress(subprocess.TimeoutExpired):  # returns at once if the server ends
            process.wait(_LOOK_SECONDS)
    return f"no answer within {seconds:g} s"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])


def _serve(port: int) -> None:
    """Run the server until standard input is closed: its other end is in the process that started this one."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app", factory=True, host=_HOST, port=port, log_level="error", lifespan="on"
    )


def _end_with_standard_input() -> None:
    while os.read(0, 1):  # not with the buffered reader: its lock would prevent a clean shutdown
        pass
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
