"""A disposable Ceph cluster: one monitor, one OSD and the S3 gateway, as processes on loopback.

    with CephCluster(Path("ceph-data")) as ceph:
        boto3.client("s3", endpoint_url=ceph.s3_url, aws_access_key_id=ceph.access_key, …)

It is a second S3 server for tests only: there is a single copy of the data, the daemons trust every client, and
everything except the logs is deleted on exit.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import deployments.local.service as launcher
from deployments.ceph.settings import configuration
from deployments.local.stack import HOST, REGION, S3_ACCESS_KEY, S3_SECRET_KEY, StackError

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")  # the other programs used are their dependencies

_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
_GATEWAY = ("--name", "client.rgw")
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LOG_LINES = 15
_ROOT = Path(__file__).resolve().parents[2]


def require_programs() -> None:
    """Check that Ceph is installed.

    Raises:
        StackError: it is not; the message names the packages.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise StackError(
            f"Ceph's S3 gateway is not installed: there is no {', '.join(missing)} in the PATH.\n"
            f"On Debian or Ubuntu, as root: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        )


class CephCluster:
    """Starts the daemons on entry; stops them and deletes their data on exit.

    Args:
        data: the data folder; created if missing.

    Raises:
        StackError: on entry: Ceph is not installed, the folder is in use, or a daemon does not start.
    """

    access_key = S3_ACCESS_KEY
    secret_key = S3_SECRET_KEY

    def __init__(self, data: Path) -> None:
        self.data = data.resolve()
        self._store = self.data / "store"
        self._s3_port = 0
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def s3_url(self) -> str:
        """The S3 endpoint."""
        return f"http://{HOST}:{self._s3_port}"

    @property
    def processes(self) -> dict[str, int]:
        """The process ids of the daemons' launchers; each leads the process group of its daemon."""
        return {name: process.pid for name, process in self._daemons.items()}

    def environment(self) -> dict[str, str]:
        """The variables a process needs to use the gateway."""
        return {
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def log(self, name: str) -> Path:
        """Return the log file of a daemon, or of a tool used during the start."""
        return self.data / "logs" / f"{name}.log"

    def start(self) -> None:
        """Create the cluster and wait until the gateway answers. After a failure, nothing is left running."""
        require_programs()
        try:
            (self.data / "logs").mkdir(parents=True, exist_ok=True)
            self._store.mkdir()
        except FileExistsError as error:
            raise StackError(
                f"{self._store} already exists: a cluster is running in it, or was killed.\n"
                "Choose another data folder, or make sure that nothing is running and remove it."
            ) from error
        except OSError as error:
            raise StackError(f"The data folder {self.data} cannot be used: {error}.") from error
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self._store / name).mkdir()
        cluster, osd = str(uuid.uuid4()), str(uuid.uuid4())
        monitor_port, self._s3_port = _free_ports(2)
        (self._store / "ceph.conf").write_text(configuration(cluster, monitor_port, self._s3_port))

        address = f"[v2:{HOST}:{monitor_port}]"
        self._run("monmap", "monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, "monmap")
        self._run("monitor-mkfs", "ceph-mon", "--mkfs", "--id", "a", "--monmap", "monmap")
        self._daemons["monitor"] = self._launch("monitor", "ceph-mon", "-f", "--id", "a")
        # Each of the following steps waits for the previous daemon itself.
        self._run("osd-new", "ceph", "osd", "new", osd)
        self._run("osd-mkfs", "ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", osd)
        self._daemons["osd"] = self._launch("osd", "ceph-osd", "-f", "--id", "0")
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        user = ("user", "create", "--uid", "test", "--display-name", "test", "--max-buckets", "0", *keys)
        self._run("user", "radosgw-admin", *_GATEWAY, *user)
        self._daemons["gateway"] = self._launch("gateway", "radosgw", "-f", *_GATEWAY)
        self._await_gateway()

    def check(self) -> None:
        """Check that all daemons are running.

        Raises:
            StackError: a daemon has exited.
        """
        for name, process in self._daemons.items():
            if process.poll() is not None:
                raise StackError(self._complaint(name, f"ended with status {process.returncode}"))

    def stop(self) -> None:
        """Stop the daemons in reverse order, and delete their data. May be called repeatedly."""
        while self._daemons:
            _, process = self._daemons.popitem()
            process.terminate()
            _end(process, _STOP_SECONDS)
        shutil.rmtree(self._store, ignore_errors=True)

    def _launch(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = (program, "--conf", "ceph.conf", *arguments)
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-P", launcher.__file__, "deployments.ceph.daemon", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._store,
                env=_environment(),
                start_new_session=True,
            )

    def _run(self, name: str, *command: str) -> None:
        """Run a tool and wait until it ends."""
        process = self._launch(name, *command)
        try:
            status = process.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.check()
            raise StackError(self._complaint(name, f"did not end within {_START_SECONDS:.0f} s")) from error
        finally:
            _end(process, 0)
        if status:
            self.check()
            raise StackError(self._complaint(name, f"ended with status {status}"))

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            self.check()
            if time.monotonic() > deadline:
                problem = f"did not answer at {self.s3_url} within {_START_SECONDS:.0f} s"
                raise StackError(self._complaint("gateway", problem))
            time.sleep(_POLL_SECONDS)  # a daemon announces readiness only by answering on its port

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._s3_port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _complaint(self, name: str, problem: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in list(filter(None, lines))[-_LOG_LINES:]) or "  (nothing)"
        return f"Ceph's {name} {problem}. The end of its log, {self.log(name)}:\n{tail}"


def _environment() -> dict[str, str]:
    """Return this process's environment without variables that would affect the daemons."""
    foreign = ("AWS_", "CEPH_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(_ROOT)}


def _free_ports(number: int) -> list[int]:
    """Return ports that are free now. All are bound at the same time, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for listener in sockets:
            listener.bind((HOST, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process that was told to end, and kill the rest of its group."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
