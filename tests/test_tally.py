"""The tally of a run: every outcome is counted once, and the report says what it adds up to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.job.outcome import Outcome
from tasks.report import RunReport
from tasks.tally import KnownJobs, StepResult, Tally
from tests.fakes import FakeClock


@pytest.fixture
def tally(tmp_path: Path, clock: FakeClock) -> Iterator[Tally]:
    """The tally of a backfill that has just begun."""
    with KnownJobs(tmp_path) as known:
        yield Tally(known, RunReport(flow="backfill", source="s3://in", destination="s3://out"), clock)


def test_the_report_adds_up_what_the_task_runs_gave(tally: Tally, clock: FakeClock) -> None:
    tally.known.count("4", "done")
    tally.add(StepResult([Outcome("open", "1", "a", pages_sent=10, requests=2, possible_duplicates=1)]))
    tally.add(StepResult([Outcome("done", "1", "a", pages=10), Outcome("failed", "2", "b", pages_sent=3, requests=1)]))
    tally.known.count("3", None)
    tally.add(StepResult([Outcome("later", "3", "c", message="503")]))
    clock.advance(12)
    tally.note_missing(2, ["s3://in/x", "s3://in/y"])
    tally.note_messages(5, 1)
    report = tally.report()
    assert (report.documents, report.done, report.failed, report.open, report.skipped) == (4, 2, 1, 0, 0)
    assert report.left == 1, "it has no job"
    assert (report.pages, report.pages_sent, report.requests, report.possible_duplicates) == (10, 13, 3, 1)
    assert (report.missing, report.messages, report.messages_left, report.seconds) == (2, 5, 1, 12)
    assert tally.sending


def test_what_the_account_refuses_and_the_budget_end_the_sending_for_the_first_reason(tally: Tally) -> None:
    full = Outcome("later", "1", "s3://in/a.pdf", message="its 9 pages exceed what is left", budget_used_up=True)
    tally.add(StepResult([full]))
    assert (tally.sending, tally.refused) == (False, None)
    assert tally.stopped == "s3://in/a.pdf: its 9 pages exceed what is left"
    assert tally.known.is_left("1"), "this run has no room for it"
    tally.add(StepResult(refused="no credit (403)", without_jobs="403"))
    tally.add(StepResult(refused="the same again"))
    report = tally.report()
    assert (tally.sending, report.refused, report.exit_status) == (False, "no credit (403)", 3)
    assert report.note == "the account has no async access, so requests were synchronous (403)"


def test_jobs_of_a_task_run_that_died_are_left_to_a_later_run(tally: Tally) -> None:
    tally.known.count("1", "open")
    tally.add(StepResult(left=["1"]))
    assert (tally.known.is_left("1"), tally.known.is_left("2")) == (True, False)
    assert tally.report().open == 1


def test_a_version_that_is_gone_is_no_document_of_the_run(tally: Tally) -> None:
    tally.known.count("old", None)
    tally.add(StepResult([Outcome("open", "new", "a", moved=True, listed_as="old")]))
    assert (tally.report().documents, tally.known.state("old")) == (1, None)


def test_a_named_document_that_may_not_be_looked_at_is_set_aside(tally: Tally) -> None:
    tally.note_refused("s3://in/a.pdf", "no permission to read it")
    report = tally.report()
    assert (report.documents, report.aside, report.missing, report.exit_status) == (1, 1, 0, 1)
    [aside] = report.set_aside
    assert (aside.document, aside.reason) == ("s3://in/a.pdf", "no permission to read it")
