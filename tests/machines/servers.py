"""Prefect as it is run for several machines: two API servers and one for the background, on PostgreSQL and Redis.

Everything is a process of its own on loopback, stopped at the end. PostgreSQL refuses to work as root, so where the
tests are root it runs as the user that its package made.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests

from deployments.local.stack import HOST, UNWANTED
from tests.waiting import PATIENCE

API_SERVERS = 2
_STOP_SECONDS = 20.0
_POSTGRES_USER = "postgres"
_PROGRAMS = {
    "initdb": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
}


class ProgramsMissing(Exception):
    """Programs that are no Python packages are not on this machine; says which, and what to install."""


@dataclass(frozen=True)
class Servers:
    """What is running."""

    apis: tuple[str, ...]
    database: int
    folder: Path

    def rows(self) -> dict[str, int]:
        """How many rows the tables of Prefect's database have that grow with the runs."""
        tables = (
            "flow_run",
            "flow_run_state",
            "task_run",
            "task_run_state",
            "events",
            "event_resources",
            "log",
            "artifact",
        )
        query = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in tables)
        return {name: int(count) for name, count in (line.split("|") for line in self._ask(query).splitlines())}

    def megabytes(self) -> float:
        """The size of Prefect's database."""
        return int(self._ask("SELECT pg_database_size('prefect')")) / 1e6

    def _ask(self, query: str) -> str:
        command = [
            _program("psql"),
            "-h",
            HOST,
            "-p",
            str(self.database),
            "-U",
            _POSTGRES_USER,
            "-Atc",
            query,
            "prefect",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def require_programs() -> None:
    """Look for what has to be installed by the system's own means.

    Raises:
        ProgramsMissing: something is not there.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        packages = " ".join(dict.fromkeys(_PROGRAMS[name] for name in missing))
        raise ProgramsMissing(f"not on this machine: {', '.join(missing)}. On Debian: apt-get install {packages}")


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Start all of it on empty folders.

    Raises:
        ProgramsMissing: PostgreSQL or Redis is not installed.
    """
    require_programs()
    folder.mkdir(parents=True, exist_ok=True)
    ports = _free_ports(2 + API_SERVERS)
    database, redis, *apis = ports
    urls = tuple(f"http://{HOST}:{port}" for port in apis)
    with contextlib.ExitStack() as running:
        log = folder / "servers.log"
        _postgres(running, database, log)
        _redis(running, folder / "redis", redis, log)
        settings = _server_settings(database, redis, folder / "home")
        _prefect(settings, "server", "database", "upgrade", "-y")
        for port in apis:
            command = ["server", "start", "--no-services", "--host", HOST, "--port", str(port)]
            _start(running, [sys.executable, "-m", "prefect", *command], log, settings)
        _start(running, [sys.executable, "-m", "prefect", "server", "services", "start"], log, settings)
        for url in urls:
            _until(partial(_answers, f"{url}/api/ready"), f"Prefect at {url}", log)
        yield Servers(urls, database, folder)


def _server_settings(database: int, redis: int, home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **{name: value for name, value in inherited.items() if name not in UNWANTED},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{_POSTGRES_USER}@{HOST}:{database}/prefect",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_HOST": HOST,
        "PREFECT_REDIS_MESSAGING_PORT": str(redis),
        "PREFECT_SERVER_DOCKET_URL": f"redis://{HOST}:{redis}/1",
        # One by one, the server records 28 task runs a second.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "200",
    }


def _postgres(running: contextlib.ExitStack, port: int, log: Path) -> None:
    # Not in a folder of pytest's: those are closed to other users again whenever another pytest starts.
    folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bulk-ocr-postgres-")))
    user = _POSTGRES_USER if os.geteuid() == 0 else None
    if user is not None:
        owner = pwd.getpwnam(_POSTGRES_USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    made = [_program("initdb"), "-D", str(folder / "data"), "-U", _POSTGRES_USER, "--auth=trust", "-N"]
    subprocess.run(made, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL, cwd=folder, user=user, group=user)
    settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off"}
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    command = [_program("postgres"), "-D", str(folder / "data"), *flags]
    _start(running, command, log, os.environ, cwd=folder, user=user)
    psql = [_program("psql"), "-h", HOST, "-p", str(port), "-U", _POSTGRES_USER, "-c"]

    def create() -> bool:
        return subprocess.run([*psql, "CREATE DATABASE prefect"], capture_output=True, check=False).returncode == 0

    _until(create, "PostgreSQL", log)


def _redis(running: contextlib.ExitStack, folder: Path, port: int, log: Path) -> None:
    folder.mkdir(parents=True)
    flags = ["--bind", HOST, "--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    _start(running, [_program("redis-server"), *flags], log, os.environ)

    def answers() -> bool:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    _until(answers, "Redis", log)


def _prefect(settings: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", *arguments]
    subprocess.run(command, env=settings, check=True, timeout=PATIENCE, capture_output=True)


def _start(
    running: contextlib.ExitStack,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    cwd: Path | None = None,
    user: str | None = None,
) -> None:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            user=user,
            group=user,
        )
    running.callback(_end, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    process.kill()
    process.wait()


def _until(seen: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, requests.RequestException):
            if seen():
                return
        assert time.monotonic() < deadline, f"{what} does not answer; the end of its log:\n{log.read_text()[-3000:]}"
        time.sleep(0.1)  # between bounded looks: another process tells nobody


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=5).ok


def _program(name: str) -> str:
    found = shutil.which(name, path=_path())
    assert found is not None, name
    return found


def _path() -> str:
    """Debian keeps PostgreSQL's own programs out of the usual path."""
    beside = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return os.pathsep.join([*map(str, beside), os.environ.get("PATH", os.defpath)])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
