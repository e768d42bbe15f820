"""Clusters of Dask and of Ray in containers: one that schedules and some that work, on the network of the services."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.containers.engine import Engine
from tests.containers.images import ROOT, VERSION, build
from tests.containers.pools import PREFECT_INSIDE
from tests.containers.site import Site
from tests.waiting import PATIENCE, until


@dataclass(frozen=True)
class Kind:
    """How an engine's cluster is started.

    Attributes:
        name: what `--engine` calls it.
        head: the command of the container that schedules, whose name on the network is `head`.
        process: the command of one that works.
        address: what `--cluster` calls it.
        count: a Python function `count()` that tells, in the head's container, how many processes it has.
        options: more options for each container.
    """

    name: str
    head: tuple[str, ...]
    process: tuple[str, ...]
    address: str
    count: str
    options: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The worker's image with the engine in it."""
        return f"bulk-ocr-{self.name}:{VERSION}"


DASK = Kind(
    "dask",
    ("dask", "scheduler", "--host", "0.0.0.0", "--port", "8786", "--no-dashboard"),
    ("dask", "worker", "tcp://head:8786", "--nthreads", "2", "--no-dashboard", "--local-directory", "/tmp"),
    "tcp://head:8786",
    "from distributed import Client\n"
    "client = Client('tcp://127.0.0.1:8786', timeout=5)\n"
    "def count(): return len(client.scheduler_info(n_workers=-1)['workers'])\n",
    # See docs/machines.md: its profiler was seen to stop a process for good.
    ("--env=DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=false",),
)
# One program in the head that looks, bounded by the patience of whoever runs it: a new client for each look would load
# the head more than its processes do.
_WAIT = "import sys, time\nwhile count() != int(sys.argv[1]): time.sleep(0.5)\n"
_RAY = ("--object-store-memory=100000000", "--disable-usage-stats", "--block")
RAY = Kind(
    "ray",
    # The head schedules only; a process of Ray's is one processor to it.
    ("ray", "start", "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false", *_RAY),
    ("ray", "start", "--address=head:6379", "--num-cpus=1", *_RAY),
    "ray://head:10001",
    "import ray\n"
    "ray.init(address='127.0.0.1:6379', log_to_driver=False, logging_level='error')\n"
    "def count(): return int(ray.cluster_resources().get('CPU', 0))\n",
    ("--shm-size=256m", "--env=RAY_AUTH_MODE=disabled"),
)
# As whoever runs a cluster does it: Ray, for one, gives up on a node that is not there after 30 s. What `podman kill`
# stops is not started again.
_RESTARTED = "--restart=on-failure"


def make_image(engine: Engine, kind: Kind) -> None:
    """Build the worker's image with an engine of task runs in it, as docs/machines.md says."""
    dockerfile = ROOT / "deployments" / "docker" / "Dockerfile"
    extras = f"EXTRAS=aws outputs {kind.name}"
    build(engine, ROOT, dockerfile, kind.image, "--target", "worker", "--build-arg", extras)


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        kind: which.
        services: what it works with.
        processes: the containers that work.
    """

    kind: Kind
    services: Site
    processes: list[str]

    @property
    def arguments(self) -> list[str]:
        """How a run is told of it."""
        return [
            *("--engine", self.kind.name, "--cluster", self.kind.address, "--processes", str(len(self.processes))),
        ]

    @contextlib.contextmanager
    def run(self, *command: str) -> Iterator[str]:
        """A container of the cluster's image on its network. Gives its name."""
        name = f"{self.services.network}-{self.kind.name}-run"
        with _container(self.kind, self.services, name, *command):
            yield name

    def complete(self) -> bool:
        """Wait, in the head's container, until all processes are there; False where the head cannot be asked yet."""
        head = f"{self.services.network}-{self.kind.name}-head"
        code = self.kind.count + _WAIT
        return self.services.engine.tried("exec", head, "python", "-c", code, str(len(self.processes))).returncode == 0


@contextlib.contextmanager
def cluster(services: Site, kind: Kind, processes: int) -> Iterator[Cluster]:
    """Start a cluster and wait for its processes."""
    with contextlib.ExitStack() as running:
        name = f"{services.network}-{kind.name}"
        running.enter_context(
            _container(kind, services, f"{name}-head", *kind.head, options=(_RESTARTED, "--network-alias=head"))
        )
        names = [f"{name}-{number}" for number in range(processes)]
        for full in names:
            running.enter_context(_container(kind, services, full, *kind.process, options=(_RESTARTED,)))
        found = Cluster(kind, services, names)
        until(found.complete, f"{processes} processes of {kind.name}")
        yield found


def cut(engine: Engine, container: str) -> None:
    """Drop every packet of a container, in its own network namespace."""
    _change(engine, container, "-A")


def mend(engine: Engine, container: str) -> None:
    """Let packets through again; a container that has ended meanwhile needs none."""
    if engine.running(container):
        _change(engine, container, "-D")


def _change(engine: Engine, container: str, change: str) -> None:
    process = str(engine.inspect(container)["State"]["Pid"])
    for chain in ("INPUT", "OUTPUT"):
        command = ["nsenter", "--target", process, "--net", "iptables", change, chain, "-j", "DROP"]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


def _container(
    kind: Kind, services: Site, name: str, *command: str, options: tuple[str, ...] = ()
) -> contextlib.AbstractContextManager[str]:
    options = (f"--network={services.network}", "--tmpfs=/tmp:rw,mode=1777", *kind.options, *options)
    environment = {**services.inside, "PREFECT_API_URL": PREFECT_INSIDE}
    return services.engine.container(kind.image, *command, name=name, options=options, environment=environment)
