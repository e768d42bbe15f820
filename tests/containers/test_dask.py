"""A Dask cluster over a network: a scheduler and three workers in containers, one killed, one cut off for a while."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests import sample_documents as documents
from tests.containers.engine import Engine
from tests.containers.images import ROOT, VERSION, build
from tests.containers.pools import PREFECT_INSIDE
from tests.containers.site import Site
from tests.flows.conftest import FAST, Place
from tests.waiting import PATIENCE, until

_IMAGE = f"bulk-ocr-dask:{VERSION}"
_DOCUMENTS, _BUDGET, _PROCESSES = 24, 20, 3
_SCHEDULER = "tcp://scheduler:8786"


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """The worker's image with Dask in it, as docs/machines.md says."""
    dockerfile = ROOT / "deployments" / "docker" / "Dockerfile"
    build(engine, ROOT, dockerfile, _IMAGE, "--target", "worker", "--build-arg", "EXTRAS=aws outputs dask")
    return _IMAGE


@pytest.fixture
def cluster(services: Site, image: str) -> Iterator[list[str]]:
    """A scheduler and three workers. Gives the workers' containers."""
    with contextlib.ExitStack() as running:
        environment = {**services.inside, "PREFECT_API_URL": PREFECT_INSIDE}

        def start(name: str, *command: str) -> str:
            full = f"{services.network}-{name}"
            options = (f"--network={services.network}", f"--network-alias={name}", "--tmpfs=/tmp:rw,mode=1777")
            running.enter_context(
                services.engine.container(image, *command, name=full, options=options, environment=environment)
            )
            return full

        start("scheduler", "dask", "scheduler", "--host", "0.0.0.0", "--port", "8786", "--no-dashboard")
        worker = ("dask", "worker", _SCHEDULER, "--nthreads", "2", "--no-dashboard", "--local-directory", "/tmp")
        yield [start(f"dask-{number}", *worker) for number in range(_PROCESSES)]


def test_a_killed_and_a_cut_off_process_lose_and_double_nothing(services: Site, image: str, cluster: list[str]) -> None:
    engine, api, s3 = services.engine, services.api(), services.s3()
    s3.create_bucket(Bucket="dask")
    place = Place("dask", s3)
    place.put({f"{number:02}.pdf": documents.text_pdf([f"dask {number}"]) for number in range(_DOCUMENTS)})
    before = api.requests()
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 1})
    command = ["bulk-ocr", "run", place.source, place.destination, *FAST]
    command += ["--engine", "dask", "--processes", str(_PROCESSES), "--cluster", _SCHEDULER, "--lease-seconds", "15"]
    name = f"{services.network}-dask-run"
    options = (f"--network={services.network}", "--tmpfs=/tmp:rw,mode=1777")
    environment = {**services.inside, "PREFECT_API_URL": PREFECT_INSIDE}
    until(lambda: _workers(engine, f"{services.network}-scheduler") == _PROCESSES, "the workers")
    try:
        with engine.container(
            image, *command, "--page-budget", str(_BUDGET), name=name, options=options, environment=environment
        ):
            until(lambda: place.records("open"), "a claim")
            engine.podman("kill", "--signal", "KILL", cluster[0])
            _cut(engine, cluster[1], "-A")
            until(lambda: api.requests() - before >= _BUDGET // 2, "half the budget")
            _cut(engine, cluster[1], "-D")
            engine.podman("wait", name)
            first = engine.inspect(name)["State"]["ExitCode"]
            said = engine.tried("logs", name)
    finally:
        api.reset()
    assert first in (1, 4), said.stderr[-3000:]
    counted = sum(record["possible_duplicates"] for record in place.records("open"))
    counted += sum(record["job"]["possible_duplicates"] for record in place.records("done"))
    assert api.requests() - before <= _BUDGET
    alone = [*command[:4], *FAST, "--lease-seconds", "15"]
    with engine.container(image, *alone, name=name, options=options, environment=environment):
        engine.podman("wait", name)
        assert engine.inspect(name)["State"]["ExitCode"] == 0, engine.tried("logs", name).stderr[-3000:]
    records = place.records("done")
    assert len(records) == _DOCUMENTS
    results = place.results()
    texts = {key: json.loads(body)["pages"][0]["text"].split() for key, body in results.items()}
    assert texts == {f"{number:02}.pdf.ocr.json": ["dask", str(number)] for number in range(_DOCUMENTS)}
    counted = sum(record["job"]["possible_duplicates"] for record in records)
    assert api.requests() - before - _DOCUMENTS <= counted


def _workers(engine: Engine, scheduler: str) -> int:
    code = (
        "from distributed import Client\n"
        "print(len(Client('tcp://127.0.0.1:8786', timeout=5).scheduler_info(n_workers=-1)['workers']))"
    )
    printed = engine.tried("exec", scheduler, "python", "-c", code).stdout.split()
    return int(printed[-1]) if printed else 0


def _cut(engine: Engine, container: str, change: str) -> None:
    """Drop (`-A`) or let through again (`-D`) every packet of a container, in its own network namespace."""
    process = str(engine.inspect(container)["State"]["Pid"])
    for chain in ("INPUT", "OUTPUT"):
        command = ["nsenter", "--target", process, "--net", "iptables", change, chain, "-j", "DROP"]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
