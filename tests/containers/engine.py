"""A container engine of the tests' own: podman with a storage of its own, which nothing else on this machine sees.

Podman needs no daemon. What it expects of the machine and tests cannot count on is set here: `runc`, control groups
without systemd, and ulimits that this process may set. Health checks are run by systemd's timers elsewhere; here a
thread does (`health_checks`).
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE, until

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}
OLDEST = (4, 3)
_HEALTH_SECONDS = 5.0  # as often as the compose file asks
_ENOUGH = 16384
_BUILD_SECONDS = 3000.0  # a hundred packages are downloaded


class EngineMissing(Exception):
    """There is no engine here that the tests can use; says why, and what to do."""


def require_engine() -> None:
    """Look for all that the tests of containers need.

    Raises:
        EngineMissing: something is not there.
    """
    if os.geteuid() != 0:
        raise EngineMissing("containers on networks of their own need root here")
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise EngineMissing(
            f"not on this machine: {', '.join(missing)}. On Debian: apt-get install {' '.join(missing)}"
        )
    printed = subprocess.run(
        ["podman", "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    require_version(printed)


def require_version(printed: str) -> None:
    """Check what `podman --version` printed.

    Raises:
        EngineMissing: it is older than what the tests were written for.
    """
    version = printed.split()[-1]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineMissing(f"podman {version} is too old for these tests; {oldest} or newer is needed")


def default_folder() -> Path:
    """Where images are kept from one test run to the next; all of it can be made again."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "bulk-ocr" / "containers"


class Engine:
    """Podman, with its storage and networks in one folder.

    Args:
        folder: what is kept: images, volumes, networks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        files, processes = (_limit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
        (folder / "containers.conf").write_text(
            "[containers]\n"
            f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            'log_driver = "k8s-file"\n'
            "[engine]\n"
            'runtime = "runc"\n'
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "file"\n'
            "[network]\n"
            'network_backend = "netavark"\n'
            f'network_config_dir = "{folder / "networks"}"\n'
        )
        (folder / "storage.conf").write_text(
            "[storage]\n"
            'driver = "overlay"\n'
            f'graphroot = "{folder / "storage"}"\n'
            f'runroot = "/run/bulk-ocr-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"\n'  # ends with the machine
        )
        self.environment: Mapping[str, str] = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def podman(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run one command to its end, and give what it printed.

        Raises:
            AssertionError: it failed; with what it said.
        """
        done = self.tried(*arguments, stdin=stdin)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def tried(self, *arguments: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end, however it ends."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            cwd=self.folder,  # where a container that was out of memory leaves a mark
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=PATIENCE if arguments[0] != "build" else _BUILD_SECONDS,
            check=False,
        )
        texts = (done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: dict[str, Any] = json.loads(self.podman("container", "inspect", container))[0]
        return found

    def running(self, container: str) -> bool:
        """Whether a container is at work."""
        return bool(self.inspect(container)["State"]["Running"])

    def published(self, container: str, port: int) -> str:
        """The address on this machine under which a container's port is published."""
        return f"http://{self.podman('port', container, str(port)).splitlines()[0]}"

    def images(self) -> set[str]:
        """Names of the images that are there, without the name of a registry."""
        names = json.loads(self.podman("images", "--format", "json"))
        return {name.removeprefix("localhost/") for image in names for name in image.get("Names") or ()}

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[str]:
        """A network of its own, with names; what is on it at the end is removed with it."""
        self.podman("network", "create", name)
        try:
            yield name
        finally:
            self.tried("network", "rm", "--force", "--time", "5", name)

    @contextlib.contextmanager
    def volume(self, name: str) -> Iterator[str]:
        """An empty volume, which outlives the containers that use it; removed at the end."""
        self.podman("volume", "create", name)
        try:
            yield name
        finally:
            self.tried("volume", "rm", "--force", name)

    @contextlib.contextmanager
    def container(
        self,
        image: str,
        *command: str,
        name: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """A container in the background, bounded as the compose file does it; removed at the end."""
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        self.podman("run", "--detach", "--name", name, *BOUNDS, *options, *variables, image, *command)
        try:
            yield name
        finally:
            self.tried("rm", "--force", "--time", "5", "--volumes", name)

    @contextlib.contextmanager
    def docker_api(self, folder: Path) -> Iterator[Path]:
        """Docker's API on a socket. Gives the socket."""
        path = folder / "docker.sock"
        with (folder / "api.log").open("wb") as log:
            process = subprocess.Popen(
                ["podman", "system", "service", "--time", "0", f"unix://{path}"],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                until(lambda: _listens(path), "Docker's API")
                yield path
            finally:
                process.terminate()
                process.wait(PATIENCE)

    @contextlib.contextmanager
    def health_checks(self) -> Iterator[None]:
        """Run the health checks of all running containers, as systemd's timers do where there are some."""
        ended = threading.Event()

        def check() -> None:
            while not ended.wait(_HEALTH_SECONDS):
                names = self.tried("ps", "--format", "{{.Names}}", "--filter", "health=starting").stdout.split()
                names += self.tried("ps", "--format", "{{.Names}}", "--filter", "health=unhealthy").stdout.split()
                for name in names:
                    self.tried("healthcheck", "run", name)

        thread = threading.Thread(target=check, name="health checks")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(PATIENCE)


BOUNDS = ("--init", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
"""How every service and every flow run of this project is run."""


def _limit(kind: int) -> int:
    """What a container may be given: the engine's own default is more than a process may set here."""
    hard = resource.getrlimit(kind)[1]
    return _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
