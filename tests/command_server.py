"""Commands in processes of their own that start at once: the program is imported a single time, and forked.

`bulk-ocr` takes two seconds of processor time to import itself and Prefect, and the tests start it a hundred times.
Here one process imports both, and each command is a fork of it, with its own environment, streams, signals and end.
What differs from a command started afresh is what was read before the fork: botocore's descriptions of AWS services
and Prefect's settings. Prefect looks up some of them only when it uses them; those are read again in the fork. A
command whose environment holds others than the server's is started afresh.
"""

import contextlib
import faulthandler
import gc
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn, Self

import psutil

# What a flow run imports of Prefect beside what the flows do.
_BY_PREFECT = (
    "anyio._backends._asyncio", "fastapi", "prefect.client.orchestration", "prefect.flow_engine", "prefect.task_engine",
    "prefect.telemetry.run_telemetry", "prefect.utilities.visualization",
)  # fmt: skip
# Settings that nothing in Prefect looks up at its import: where the server is, and how patient its client is.
_READ_LATE = {"PREFECT_API_URL", "PREFECT_CLIENT_MAX_RETRIES"}
_MESSAGE = 1 << 20
_DUMP_SECONDS = 20.0


class Process:
    """A command that was started; the part of `subprocess.Popen` that tests use.

    Args:
        arguments: the command's arguments.
        pid: the process.
        wait: waits so many seconds, or until it ends, for the exit status.
        streams: the files that standard output and standard error are written to.
    """

    def __init__(
        self, arguments: Sequence[str], pid: int, wait: Callable[[float | None], int], streams: Sequence[IO[str]]
    ) -> None:
        self.args = list(arguments)
        self.pid = pid
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self._wait = wait
        self._streams = streams

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, or minus the number of the signal that ended it. Several threads may wait.

        Raises:
            subprocess.TimeoutExpired: it has not ended in so many seconds.
        """
        if not self._waiting.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        try:
            if self.returncode is None:
                self.returncode = self._wait(timeout)
            return self.returncode
        finally:
            self._waiting.release()

    def poll(self) -> int | None:
        """The exit status if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end. Gives standard output and standard error; they can be read once."""
        self.wait(timeout)
        for stream in self._streams:
            stream.seek(0)
        out, err = (stream.read() for stream in self._streams)
        for stream in self._streams:
            stream.close()
        return out, err

    def completed(self, timeout: float) -> "subprocess.CompletedProcess[str]":
        """Wait for its end; one that does not end is killed.

        Raises:
            AssertionError: it did not end in so many seconds; with all it has printed, and the stacks of its threads
                and of the processes it has started.
        """
        try:
            out, err = self.communicate(timeout)
        except subprocess.TimeoutExpired:
            self._abort()
            out, err = self.communicate()
            raise AssertionError(f"{self.args} did not end in {timeout:g} s\n{out}\n{err}") from None
        except BaseException:
            self.kill()
            raise
        return subprocess.CompletedProcess(self.args, self.wait(), out, err)

    def _abort(self) -> None:
        """End it and its descendants. Each prints the stacks of its threads (`faulthandler`)."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGABRT)
                if process.pid != self.pid:
                    psutil.wait_procs([process], timeout=_DUMP_SECONDS)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class CommandServer:
    """The process whose forks are the commands. Use as a context manager.

    Args:
        environment: its variables. Those of a command may be others, but for Prefect's settings.
        flows: whether commands run flows; without, Prefect is not imported.
    """

    def __init__(self, environment: Mapping[str, str], *, flows: bool = True) -> None:
        self._environment = dict(environment)
        self._flows = flows

    def __enter__(self) -> Self:
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.command_server", str(far.fileno()), *(["flows"] if self._flows else [])],
                env=self._environment,
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                # As a command's are: Python chooses by it how to write to them.
                stdout=(stream := tempfile.TemporaryFile()),
            )
            stream.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._server.wait()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> Process:
        """Start `bulk-ocr …` in a folder, and return."""
        streams = [_stream(), _stream()]
        environment = {**environment, "PYTHONFAULTHANDLER": "1"}
        if _differences(environment, self._environment) - _READ_LATE or {"--verbose", "-v"} & set(arguments):
            return _afresh(arguments, environment, folder, streams)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            request = json.dumps(
                {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder or Path.cwd())}
            )
            socket.send_fds(self._control, [request.encode()], [far.fileno(), *(stream.fileno() for stream in streams)])
        pid = int(near.recv(_MESSAGE))

        def wait(timeout: float | None) -> int:
            near.settimeout(timeout)
            try:
                status = near.recv(_MESSAGE)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(list(arguments), timeout or 0) from None
            near.close()
            return os.waitstatus_to_exitcode(int(status))

        return Process(arguments, pid, wait, streams)


def _stream() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape")


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """The names of the settings of Prefect that are not the same in two environments."""
    names = {name for name in {*one, *other} if name.startswith("PREFECT_")}
    return {name for name in names if one.get(name) != other.get(name)}


def _afresh(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None, streams: Sequence[IO[str]]
) -> Process:
    out, err = streams
    command = [sys.executable, "-m", "flows.cli", *arguments]
    process = subprocess.Popen(
        command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
    )
    return Process(arguments, process.pid, process.wait, streams)


def _serve(control: socket.socket) -> list[str]:
    """Fork at each request. Returns in the forks alone, with the arguments of the command."""
    while True:
        message, files, _, _ = socket.recv_fds(control, _MESSAGE, 3)
        if not message:
            os._exit(0)  # the tests have ended, however
        # The parent of a command is a process of its own, which waits for its end and tells it.
        if os.fork():
            for file in files:
                os.close(file)
            _reap()
            continue
        control.close()
        command = os.fork()
        if command:
            _tell(command, socket.socket(fileno=files[0]))
        request = json.loads(message)
        os.close(files[0])
        for file, stream in zip(files[1:], (1, 2), strict=True):
            os.dup2(file, stream)
            os.close(file)
        faulthandler.enable()
        os.chdir(request["folder"])
        late = _READ_LATE & _differences(os.environ, request["environment"])
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None  # it may have been looked up by the other environment
        if late:
            _read_settings_again()
        return list(request["arguments"])


def _read_settings_again() -> None:
    """What Prefect itself does after a plug-in of its has changed the environment."""
    from flows.cli.prefect_setup import prepare_prefect

    prepare_prefect(verbose=False)
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _reap() -> None:
    """Forget the parents of commands that have ended."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


def _tell(command: int, test: socket.socket) -> NoReturn:
    """Tell a test the number of its command, and how it ended."""
    test.send(str(command).encode())
    for stream in (1, 2):
        os.close(stream)
    _, status = os.waitpid(command, 0)
    try:
        test.send(str(status).encode())
    finally:
        os._exit(0)


def main(channel: int, flows: bool) -> None:
    """Import everything, and become the command in each fork."""
    from flows.cli.prefect_setup import prepare_prefect

    prepare_prefect(verbose=False)  # as every command does before it imports Prefect
    if flows:
        for name in (*_BY_PREFECT, *_modules("flows"), *_modules("flows.run"), *_modules("flows.cli")):
            import_module(name)
        _describe_s3()
    import_module("flows.cli.file")
    from flows.cli import app

    # At its end a process looks through all that it holds, which a fork would have to copy first.
    gc.collect()
    gc.freeze()
    arguments = _serve(socket.socket(fileno=channel))
    sys.argv = [str(app.__file__), *arguments]
    app.main()


def _describe_s3() -> None:
    """Have botocore read what it needs for an S3 client, and give it to all sessions: each would read it again."""
    import botocore.session
    from botocore.loaders import Loader, create_loader

    descriptions = create_loader()

    def known(search_path_string: str | None = None) -> Loader:  # noqa: ARG001  # botocore's name; no test has folders
        return descriptions

    botocore.session.create_loader = known
    session = botocore.session.Session()
    session.set_credentials("nobody", "nothing")
    session.create_client("s3", region_name="us-east-1")


def _modules(package: str) -> list[str]:
    found = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    return [module.name for module in found if not module.ispkg and not module.name.endswith("__main__")]


if __name__ == "__main__":
    main(int(sys.argv[1]), "flows" in sys.argv[2:])
