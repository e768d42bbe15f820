"""The local stack: an S3 server, the OCR API's stand-in and a Prefect server, as processes on loopback.

    with LocalStack(Path(".local-stack")) as stack:
        subprocess.run(["bulk-ocr", "check", …], env=stack.process_environment())

All data is in one folder: objects in `s3/`, the stand-in's jobs in `upstage/`, the run history in `prefect/`, logs in
`logs/`. The folder outlives the stack; no process does, however the stack ends.
"""

import contextlib
import fcntl
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Recogniser = Literal["ocr", "text"]
ServiceName = Literal["s3", "upstage", "prefect"]

ALL_SERVICES: tuple[ServiceName, ...] = ("s3", "upstage", "prefect")
DEFAULT_DATA = Path(".local-stack")
HOST = "127.0.0.1"
REGION = "us-east-1"

# Not secrets: the services listen on loopback only. They are checked nevertheless, so that a wrong key is rejected here
# too.
S3_ACCESS_KEY = "local-stack"
S3_SECRET_KEY = "local-stack-secret"
UPSTAGE_KEY = "up_local_stack"

# Variables that would direct a process to other services although those of the stack are set.
UNWANTED = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "PREFECT_PROFILE",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
)
_FOREIGN_SETTINGS = ("AWS_", "PREFECT_", "UPSTAGE_", "MINISTACK_", "LOCALSTACK_", "USE_SSL", "EDGE_PORT")

_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0
_LOCK_SECONDS = 20.0
_LOG_LINES = 15
_ROOT = Path(__file__).resolve().parents[2]
_LAUNCHER = Path(__file__).resolve().with_name("service.py")


class StackError(Exception):
    """The stack cannot start, or one of its services has ended. The message names the service and the remedy."""


@dataclass
class _Service:
    """One service: how it is started, and how to check that it is ready."""

    name: ServiceName
    title: str
    port: int
    module: str
    needs: str
    health: str
    remedy: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tries: int = 600
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ready(self) -> bool:
        """Call the health route once, directly on loopback, regardless of proxies in the environment."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class LocalStack:
    """Starts the services on entry and stops them on exit.

    Args:
        data: the data folder, which is kept; created if missing.
        recogniser: how the stand-in reads a page: `ocr` recognises it, `text` uses its text layer.
        services: the services to start.
        ports: fixed ports by service; other services get a free port.

    Raises:
        StackError: on entry: the folder is in use, a port is taken, or a service does not start.
    """

    def __init__(
        self,
        data: Path = DEFAULT_DATA,
        *,
        recogniser: Recogniser = "ocr",
        services: Sequence[ServiceName] = ALL_SERVICES,
        ports: Mapping[ServiceName, int] | None = None,
    ) -> None:
        self.data = data.resolve()
        self._recogniser = recogniser
        self._names = tuple(name for name in ALL_SERVICES if name in services)
        self._ports = dict(ports or {})
        self._services: dict[ServiceName, _Service] = {}
        self._lock: int | None = None

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
        return self._url("s3")

    @property
    def upstage_url(self) -> str:
        """The stand-in's root, without `/v1`."""
        return self._url("upstage")

    @property
    def prefect_url(self) -> str:
        """The address of the Prefect UI."""
        return self._url("prefect")

    @property
    def processes(self) -> dict[ServiceName, int]:
        """The process ids of the running services."""
        started = ((name, service.process) for name, service in self._services.items())
        return {name: process.pid for name, process in started if process is not None}

    def log(self, name: ServiceName) -> Path:
        """Return the log file of a service; each start creates a new one."""
        return self.data / "logs" / f"{name}.log"

    def start(self) -> None:
        """Start all services and wait until each answers. After a failure, none is left running."""
        if self._lock is not None:
            raise StackError("This stack is already running.")
        try:
            for folder in ("logs", *self._names):
                (self.data / folder).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.data)
        except OSError as error:
            raise StackError(f"The data folder {self.data} cannot be used: {error}.") from error
        try:
            ports = _choose_ports(self._names, self._ports)
            self._services = {name: self._describe(name, ports[name]) for name in self._names}
            if "prefect" in self._services:
                _write_profile(self.data / "prefect", f"{self.prefect_url}/api")
            for service in self._services.values():
                self._launch(service)
            for service in self._services.values():
                self._await(service)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Check that all services are running.

        Raises:
            StackError: a service has exited.
        """
        for service in self._services.values():
            if service.process is not None and service.process.poll() is not None:
                raise StackError(self._complaint(service, f"ended with status {service.process.returncode}"))

    def stop(self) -> None:
        """Stop the services with SIGTERM, and those that take too long with SIGKILL. May be called repeatedly."""
        running = [service.process for service in self._services.values() if service.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            _end(process, deadline)
        for service in self._services.values():
            service.process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def environment(self) -> dict[str, str]:
        """Return the variables that a process needs to use the services."""
        exempt = [HOST, "localhost", os.environ.get("NO_PROXY"), os.environ.get("no_proxy")]
        no_proxy = ",".join(dict.fromkeys(filter(None, exempt)))
        variables = {"NO_PROXY": no_proxy, "no_proxy": no_proxy, "DO_NOT_TRACK": "1"}
        if "s3" in self._services:
            variables |= {
                "AWS_ENDPOINT_URL_S3": self.s3_url,
                "AWS_ENDPOINT_URL_SQS": self.s3_url,
                "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_REGION": REGION,
            }
        if "upstage" in self._services:
            variables |= {"UPSTAGE_API_KEY": UPSTAGE_KEY, "UPSTAGE_BASE_URL": f"{self.upstage_url}/v1"}
        if "prefect" in self._services:
            variables |= {
                "PREFECT_HOME": str(self.data / "prefect"),
                "PREFECT_API_URL": f"{self.prefect_url}/api",
            }
        return variables

    def process_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return a whole environment for a process: `base` (or this one's) without UNWANTED, plus `environment()`."""
        inherited = os.environ if base is None else base
        kept = {name: value for name, value in inherited.items() if name not in UNWANTED}
        return kept | self.environment()

    def _url(self, name: ServiceName) -> str:
        if name not in self._services:
            raise StackError(f"The stack has not started {name}.")
        return self._services[name].url

    def _describe(self, name: ServiceName, port: int) -> _Service:
        folder = self.data / name
        if name == "s3":
            return _s3(folder, port)
        if name == "upstage":
            return _upstage(folder, port, self._recogniser)
        return _prefect(folder, port)

    def _launch(self, service: _Service) -> None:
        if importlib.util.find_spec(service.needs) is None:
            raise StackError(
                f"{service.title} needs the package {service.needs}, which is not installed.\n"
                "Install the local stack's packages: pip install --constraint constraints.txt '.[local]'"
            )
        assert self._lock is not None
        with self.log(service.name).open("wb") as log:
            service.process = subprocess.Popen(
                [sys.executable, "-P", str(_LAUNCHER), service.module, *service.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Prefect reads `.env` and `prefect.toml` in the working directory, and must not read the user's.
                cwd=self.data / service.name,
                env=_service_environment() | dict(service.environment),
                start_new_session=True,
                # Services hold the lock as well: after a SIGKILL of the stack, the folder is free once they have ended.
                pass_fds=(self._lock,),
            )

    def _await(self, service: _Service) -> None:
        assert service.process is not None
        for _ in range(service.tries):
            if service.process.poll() is not None:
                raise StackError(self._complaint(service, f"ended with status {service.process.returncode}"))
            if service.ready():
                return
            time.sleep(_POLL_SECONDS)  # between bounded looks; another process tells nobody
        problem = f"did not answer at {service.url}{service.health} in {service.tries} tries"
        raise StackError(self._complaint(service, problem))

    def _complaint(self, service: _Service, problem: str) -> str:
        log = self.log(service.name)
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.exists() else []
        tail = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return f"{service.title} {problem}. The end of its log, {log}:\n{tail}\n{service.remedy}"


def _s3(folder: Path, port: int) -> _Service:
    for name in ("objects", "state", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return _Service(
        name="s3",
        title="The S3 server",
        port=port,
        module="ministack",
        needs="ministack",
        health="/_ministack/health",
        remedy=f"If its data is damaged, remove {folder} (all buckets in it are lost) and start again.",
        environment={
            "SERVICES": "s3,sqs",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY,
            "MINISTACK_REGION": REGION,
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(folder / "objects"),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(folder / "state"),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "SFTP_ENABLED": "false",
            "IOT_MTLS_ENABLED": "false",
            "LOG_LEVEL": "WARNING",
            # It writes a pid file to the temporary folder, which would remain after a SIGKILL.
            "TMPDIR": str(folder / "tmp"),
            # It removes all Docker containers with its label, even another instance's; without a socket, it cannot.
            "DOCKER_HOST": f"unix://{folder / 'no-docker.sock'}",
        },
    )


def _upstage(folder: Path, port: int, recogniser: Recogniser) -> _Service:
    search = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return _Service(
        name="upstage",
        title="The OCR API's stand-in",
        port=port,
        module="deployments.local.upstage",
        needs="rapidocr" if recogniser == "ocr" else "pypdfium2",
        health="/_control/health",
        remedy=f"If its data is damaged, remove {folder} (its open jobs are lost) and start again.",
        arguments=(
            *("--port", str(port), "--data-dir", str(folder)),
            *("--api-key", UPSTAGE_KEY, "--recogniser", recogniser),
        ),
        environment={"PYTHONPATH": os.pathsep.join(search)},
    )


def _prefect(folder: Path, port: int) -> _Service:
    return _Service(
        name="prefect",
        title="The Prefect server",
        port=port,
        module="prefect",
        needs="prefect",
        health="/api/health",
        remedy=f"If its database is damaged, remove {folder} (only the run history is lost) and start again.",
        arguments=("server", "start", "--host", HOST, "--port", str(port)),
        environment={
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # By default, leases are in memory. They would be lost with the server, and block a deployment's only slot.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # Without batches, the server records only 28 task runs a second and drops the rest.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
        },
        # The first start in an empty folder creates the database, which takes 7 to 15 s on an idle machine.
        tries=1800,
    )


def _service_environment() -> dict[str, str]:
    """Return this process's environment without variables for clients or for other instances of the services."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)}


def _write_profile(home: Path, api_url: str) -> None:
    """Write a Prefect profile, so that `PREFECT_HOME=… prefect flow-run ls` finds this server."""
    text = f'active = "local"\n\n[profiles.local]\nPREFECT_API_URL = "{api_url}"\n'
    (home / "profiles.toml").write_text(text)


def _choose_ports(names: Sequence[ServiceName], given: Mapping[ServiceName, int]) -> dict[ServiceName, int]:
    """Return the given ports, and free ones for the other services. All are bound at the same time, so they differ."""
    ports: dict[ServiceName, int] = {}
    with contextlib.ExitStack() as held:
        for name in sorted(names, key=lambda name: not given.get(name)):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, given.get(name, 0)))
            except OSError as error:
                raise StackError(
                    f"Port {given.get(name)} for {name} cannot be used: {error.strerror}.\n"
                    "Stop the process that holds it, or give another port or none for a free one."
                ) from error
            ports[name] = listener.getsockname()[1]
    return ports


def _lock(data: Path) -> int:
    """Lock the data folder.

    Raises:
        StackError: another stack is using it.
    """
    path = data / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = path.read_text().strip()
            # If the owner was killed, its services are just ending.
            if not _alive(owner) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)  # between bounded looks; another process tells nobody
                continue
            os.close(descriptor)
            raise StackError(
                f"Another local stack (process {owner or 'unknown'}) is using {data}.\n"
                "Stop it first, or choose another data folder."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor


def _alive(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a process that was told to end, and kill the rest of its group."""
    try:
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
