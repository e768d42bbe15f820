"""Task runs on the processes of Dask and Ray instead of threads: the same results, the same bill."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from prefect.task_runners import TaskRunner

from flows.run.engines import Engine, ray_processes
from tasks.faults import SetupFault
from tasks.options import Options, RunSettings
from tests import sample_documents as documents
from tests.fakes import FakeClock
from tests.flows.conftest import FAST, Command, History, Place, report_of
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

DOCUMENTS = 5


@pytest.fixture
def hashes(place: Place) -> list[str]:
    """Documents in the place, by what the stand-in's bill calls them."""
    given = {f"{number}.pdf": documents.text_pdf([f"{place.bucket} {number}", "2"]) for number in range(DOCUMENTS)}
    place.put({**given, "broken.pdf": b"%PDF-1.4 and no more"})
    return [hashlib.sha256(body).hexdigest() for body in given.values()]


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_processes_of_a_cluster_do_as_threads_do(
    command: Command, place: Place, api: StandInControl, hashes: list[str], history: History, engine: str
) -> None:
    arguments = ("run", place.source, place.destination, "--engine", engine, "--processes", "2", *FAST, "--json")
    ran = command(*arguments)
    report = report_of(ran)
    assert ran.returncode == 1, ran.stderr
    assert (report["done"], report["failed"], report["requests"]) == (DOCUMENTS, 1, DOCUMENTS)
    assert "broken.pdf" in report["failures"][0]["document"]
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)
    assert set(place.results()) == {f"{number}.pdf.ocr.json" for number in range(DOCUMENTS)}
    # What the steps said in the other processes is in the run's log.
    flow_run = next(record["flow_run"] for record in place.records("done"))
    assert any("published 2 pages" in line for line in history.logs(flow_run))


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """A Dask cluster of two processes that somebody else started: each takes seconds to start. Gives its address."""
    from distributed import LocalCluster

    of = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None, "env": environment}
    with LocalCluster(**of) as running:
        yield running.scheduler_address


@contextmanager
def without_key(cluster: str) -> Iterator[None]:
    """Take the API key out of the environment of the cluster's processes for a while."""
    from distributed import Client

    def take() -> str:
        return os.environ.pop("UPSTAGE_API_KEY")

    def give_back(key: str) -> None:
        os.environ["UPSTAGE_API_KEY"] = key

    with Client(cluster) as client:
        (key,) = set(client.run(take).values())
        try:
            yield
        finally:
            client.run(give_back, key)


def test_a_cluster_with_more_processes_than_the_rates_are_shared_out_over_is_refused(
    command: Command, place: Place, api: StandInControl, hashes: list[str], cluster: str
) -> None:
    arguments = ("run", place.source, place.destination, "--engine", "dask", "--cluster", cluster, *FAST)
    refused = command(*arguments)
    assert refused.returncode == 2
    assert "give --processes 2" in refused.stderr
    assert not api.billed(*hashes)
    assert place.keys("out/") == set()
    ran = command(*arguments, "--processes", "2", "--json")
    assert report_of(ran)["done"] == DOCUMENTS
    # Dask's profiler, which the cluster was started with, can make a process hang on this Python.
    if sys.version_info < (3, 11, 12):
        assert not any(profilers_of(cluster).values())


def profilers_of(cluster: str) -> dict[str, bool]:
    """Whether the profiler of each of a cluster's processes runs."""
    from distributed import Client

    def runs(dask_worker: Any) -> bool:
        profiler = dask_worker.periodic_callbacks.get("profile")
        return profiler is not None and bool(profiler.is_running())

    with Client(cluster) as client:
        return cast("dict[str, bool]", client.run(runs))


def test_processes_without_the_key_end_the_run_before_they_claim_anything(
    command: Command, place: Place, api: StandInControl, hashes: list[str], cluster: str
) -> None:
    given = ("--engine", "dask", "--cluster", cluster, "--processes", "2")
    with without_key(cluster):
        ran = command("submit", place.source, place.destination, *given, *FAST)
    assert ran.returncode == 2
    assert "no API key" in ran.stderr
    assert not api.billed(*hashes)
    assert place.keys("out/") == set()


@pytest.mark.usefixtures("api")
def test_ctrl_c_lets_what_the_processes_are_sending_end(environment: dict[str, str], place: Place) -> None:
    place.put({f"{number}.pdf": documents.text_pdf([f"{place.bucket} {number}"]) for number in range(20)})
    slowly = ("--requests-per-second", "2", "--workers", "2", "--engine", "dask", "--processes", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "submit", place.source, place.destination, *slowly],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: place.keys("out/_jobs/open/"), "a claim")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the processes that were started, too
    _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "rerun the command to resume" in complaints) == (130, True), complaints
    jobs = place.records("open")
    assert jobs
    assert all(job["requests"] and job["lease"] is None for job in jobs)
    assert len(jobs) < 20


def look_for_ever(clock: FakeClock, engine: Engine) -> None:
    """Look at the cluster as a run does in which no task run ends."""
    while clock.monotonic() < 10_000:
        engine.look_at_cluster()
        clock.advance(5)


def cluster_engine(clock: FakeClock, count: Callable[[Any], int], processes: int = 2) -> Engine:
    """An engine on a cluster that has as many processes as `count` says."""
    options = Options(engine="dask", cluster="tcp://cluster:8786", processes=processes)
    settings = RunSettings.model_validate(
        {"source": "s3://bucket/in", "destination": "s3://bucket/out", "options": options}
    )
    return Engine(cast("TaskRunner[Any]", object()), settings, processes, count, clock.monotonic)


def _gone(_runner: object) -> int:
    raise OSError("the scheduler does not answer")


@pytest.mark.parametrize("count", [lambda _runner: 0, _gone], ids=["no processes", "no scheduler"])
def test_a_cluster_that_loses_all_its_processes_ends_the_run(clock: FakeClock, count: Callable[[Any], int]) -> None:
    with pytest.raises(SetupFault, match=r"tcp://cluster:8786 has had no processes for 120 s: start some"):
        look_for_ever(clock, cluster_engine(clock, count))
    assert 120 <= clock.monotonic() < 180


def test_a_ray_cluster_without_processors_has_no_processes() -> None:
    # What Ray says of a head without processors, with two nodes beside it, and after both are gone.
    head = {"memory": 1e9, "object_store_memory": 5e8, "node:192.0.2.1": 1.0}
    assert ray_processes({**head, "CPU": 2.0}) == 2
    assert ray_processes(head) == 0


def test_a_cluster_that_grows_is_refused_with_the_number_to_give(clock: FakeClock) -> None:
    with pytest.raises(SetupFault, match=r"has grown to 3 processes.*--processes 3"):
        look_for_ever(clock, cluster_engine(clock, lambda _runner: 3))


def test_a_cluster_that_comes_back_within_two_minutes_goes_on(clock: FakeClock) -> None:
    # Two times a hundred seconds without, and some in between.
    def count(_runner: object) -> int:
        return 2 if 100 < clock.monotonic() < 120 else 0

    with pytest.raises(SetupFault):
        look_for_ever(clock, cluster_engine(clock, count))
    assert clock.monotonic() >= 240
