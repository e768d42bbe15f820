"""What a run remembers of the ledger: it only saves work, and its sums add up."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.job.record import DoneJob, FailedJob
from tasks.store.ledger import Ledger
from tasks.tally import Census, KnownJobs
from tests.store.conftest import NOON, job
from tests.waiting import PATIENCE


@pytest.fixture
def known(tmp_path: Path) -> Iterator[KnownJobs]:
    """A run's memory."""
    with KnownJobs(tmp_path) as jobs:
        yield jobs


def _ledger_of(ledger: Ledger) -> tuple[str, str, str]:
    """One open, one done and one failed job."""
    ids = []
    for key in ("open.pdf", "done.pdf", "failed.pdf"):
        held = ledger.claim(job(key))
        assert held is not None
        ids.append(held.job.id)
        if key == "done.pdf":
            ledger.finish(held, DoneJob(job=held.job, pages=1, finished_at=NOON))
        if key == "failed.pdf":
            failed = FailedJob(job=held.job, stage="read", code="broken", reason="", retry_helps=False, failed_at=NOON)
            ledger.fail(held, failed)
    return ids[0], ids[1], ids[2]


def test_the_ledgers_states_are_known(known: KnownJobs, ledger: Ledger) -> None:
    opened, done, failed = _ledger_of(ledger)
    assert known.load(ledger) == 1
    assert [known.state(job_id) for job_id in (opened, done, failed, "new")] == ["open", "done", "failed", None]


def test_a_job_that_is_closed_while_the_ledger_is_listed_is_not_taken_for_new(known: KnownJobs, ledger: Ledger) -> None:
    """It stands in two listings: the later one counts."""
    held = ledger.claim(job())
    assert held is not None
    known.load(ledger)
    ledger.finish(held, DoneJob(job=held.job, pages=1, finished_at=NOON))
    assert known.load(ledger) == 0
    assert known.state(held.job.id) == "done"


def test_what_was_finished_before_is_told_from_what_this_run_did(known: KnownJobs, ledger: Ledger) -> None:
    opened, done, failed = _ledger_of(ledger)
    known.load(ledger)
    known.count(opened, "open")
    known.count(done, "done")
    known.count(failed, "failed")
    for new, state in (("n1", "done"), ("n2", "failed"), ("n3", "open")):
        known.count(new, None)
        known.count(new, state)  # type: ignore[arg-type] # the loop's type is plain text
    known.count("n4", None)
    assert known.census() == Census(open=2, done=1, failed=1, done_before=1, failed_before=1, left=1)
    assert sorted(known.unfinished()) == sorted([opened, "n3", "n4"])
    assert known.unclaimed() == 1


def test_what_another_run_has_closed_counts_as_finished_before(known: KnownJobs) -> None:
    known.count("a", "open")
    known.settle_elsewhere("a", "done")
    assert known.census() == Census(open=0, done=0, failed=0, done_before=1, failed_before=0)
    assert list(known.unfinished()) == []


def test_a_document_listed_twice_counts_once_and_keeps_its_state(known: KnownJobs) -> None:
    known.count("a", None)
    known.count("a", "open")
    known.count("a", None)
    assert known.state("a") == "open"
    assert known.census().open == 1


def test_what_is_set_aside_is_neither_open_nor_new_until_it_is_finished(known: KnownJobs) -> None:
    known.count("new", None)
    known.count("open", "open")
    for identity in ("new", "open"):
        known.set_aside(identity)
    assert known.census() == Census(aside=2)
    assert (known.unclaimed(), known.is_left("new"), known.is_left("open")) == (0, True, True)
    known.count("open", "open")  # seen again by a survey
    assert known.census().aside == 2
    known.settle_elsewhere("open", "done")
    known.count("new", "done")
    assert known.census() == Census(done=1, done_before=1)


def test_jobs_of_the_ledger_that_the_run_never_met_are_not_in_its_sums(known: KnownJobs, ledger: Ledger) -> None:
    _ledger_of(ledger)
    known.load(ledger)
    assert known.census() == Census(0, 0, 0, 0, 0)


@given(
    events=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([None, "open", "done", "failed", "elsewhere"])), max_size=20
    )
)
def test_every_job_counts_exactly_once_whatever_becomes_of_it(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str | None]]
) -> None:
    with KnownJobs(tmp_path_factory.mktemp("known")) as known:
        met = set()
        for identity, event in events:
            if event == "elsewhere":
                known.settle_elsewhere(identity, "done")
            else:
                known.count(identity, event)  # type: ignore[arg-type] # sampled from the states
                met.add(identity)
        census = known.census()
        total = census.finished + census.open + census.left
        assert total == len(met)
        assert len(list(known.unfinished())) == census.open + census.left


def test_the_temporary_file_is_gone_afterwards(tmp_path: Path) -> None:
    with KnownJobs(tmp_path) as known:
        known.count("a", "open")
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


_MANY = """
import resource, sys
from datetime import datetime
from pathlib import Path
from tasks.tally import KnownJobs
from tasks.store.ledger import RecordEntry

class Ledger:
    def entries(self, state):
        numbers = range(count if state == "done" else 0)
        return (RecordEntry(f"{number:040x}", "0" * 32, datetime.now()) for number in numbers)

with KnownJobs(Path(sys.argv[1])) as known:
    count = 1000
    known.load(Ledger())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 200_000
    known.load(Ledger())
    assert known.state(f"{199_999:040x}") == "done"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_ledger(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MANY, str(tmp_path)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout)
    # Kilobytes, but bytes on macOS. The ids alone are 8 MB, and as Python strings 18 MB.
    assert grown // (1024 if sys.platform == "darwin" else 1) < 6 * 1024


def test_a_job_that_was_closed_and_is_open_again_counts_as_open(known: KnownJobs, ledger: Ledger) -> None:
    """Its closer died before it deleted the open record, or it was put back while the run was on."""
    _, done, failed = _ledger_of(ledger)
    known.load(ledger)
    known.count(done, "open")
    known.count(failed, "open")
    assert known.census() == Census(open=2, done=0, failed=0, done_before=0, failed_before=0)
