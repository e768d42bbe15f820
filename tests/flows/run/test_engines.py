"""Task runs on the processes of Dask and Ray instead of threads: the same results, the same bill."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import sample_documents as documents
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
    assert sorted(each["sha256"] for each in api.billed(*hashes)) == sorted(hashes)
    assert set(place.results()) == {f"{number}.pdf.ocr.json" for number in range(DOCUMENTS)}
    # What the steps said in the other processes is in the run's log.
    flow_run = next(record["flow_run"] for record in place.records("done"))
    assert any("published 2 pages" in line for line in history.logs(flow_run))


@contextmanager
def dask_cluster(processes: int, environment: dict[str, str]) -> Iterator[str]:
    """A Dask cluster that somebody else started. Gives its address."""
    from distributed import LocalCluster

    of = {"n_workers": processes, "threads_per_worker": 2, "dashboard_address": None, "env": environment}
    with LocalCluster(**of) as running:  # type: ignore[no-untyped-call]  # Dask has no types there
        yield running.scheduler_address


def test_a_cluster_with_more_processes_than_the_rates_are_shared_out_over_is_refused(
    command: Command, place: Place, api: StandInControl, hashes: list[str], environment: dict[str, str]
) -> None:
    with dask_cluster(2, environment) as cluster:
        arguments = ("run", place.source, place.destination, "--engine", "dask", "--cluster", cluster, *FAST)
        refused = command(*arguments)
        assert refused.returncode == 2
        assert "give --processes 2" in refused.stderr
        assert not api.billed(*hashes)
        assert place.keys("out/") == set()
        ran = command(*arguments, "--processes", "2", "--json")
        assert report_of(ran)["done"] == DOCUMENTS


def test_processes_without_the_key_end_the_run_before_they_claim_anything(
    command: Command, place: Place, api: StandInControl, hashes: list[str], environment: dict[str, str]
) -> None:
    without = {name: value for name, value in environment.items() if name != "UPSTAGE_API_KEY"}
    with dask_cluster(1, without) as cluster:
        ran = command("submit", place.source, place.destination, "--engine", "dask", "--cluster", cluster, *FAST)
    assert ran.returncode == 2
    assert "no API key" in ran.stderr
    assert not api.billed(*hashes)
    assert place.keys("out/") == set()


@pytest.mark.usefixtures("api")
def test_ctrl_c_lets_what_the_processes_are_sending_end(environment: dict[str, str], place: Place) -> None:
    place.put({f"{number}.pdf": documents.text_pdf([f"{place.bucket} {number}"]) for number in range(20)})
    slowly = ("--requests-per-second", "2", "--workers", "2", "--engine", "dask", "--processes", "2")
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
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "the same command goes on from here" in said) == (130, True), said
    jobs = place.records("open")
    assert jobs
    assert all(job["requests"] and job["lease"] is None for job in jobs)
    assert len(jobs) < 20
