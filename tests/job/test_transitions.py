"""Every change of a job: what it writes, what it counts, and that the two agree."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.faults import DocumentFault, FailureCode
from tasks.job import transitions
from tasks.job.record import RECORD_FORMAT, Document, Job, Lease, PageRange, Request
from tasks.job.transitions import Counts

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
DOCUMENT = Document(bucket="b", key="in/a.pdf", etag="e", size=1, last_modified=NOON)


def lease(owner: str = "me", doing: Any = "reading", pages: PageRange | None = None) -> Lease:
    """A lease of a minute from noon."""
    return transitions.lease(owner, NOON, 60, doing, pages)


def new(**fields: Any) -> Job:
    """A job that was just claimed."""
    job = transitions.claimed(
        "j", DOCUMENT, model="ocr", answer_schema=None, result="s3://b/r", now=NOON, lease=lease(), flow_run="run"
    )
    return Job.model_validate({**dict(job), **fields})


def request(identity: str = "r", pages: PageRange | None = None, **fields: Any) -> Request:
    """A request about pages 1 to 2, or others."""
    return Request(id=identity, pages=pages or PageRange(first=1, last=2), submitted_at=NOON, run="run", **fields)


def sent(job: Job, what: Request, pages: int = 2, owner: str = "me", keep: Lease | None = None) -> transitions.Change:
    """A request that was accepted."""
    return transitions.sent(job, what, pages, owner=owner, keep=keep, flow_run="run")


def test_an_accepted_request_lets_the_job_go_and_counts_its_pages() -> None:
    change = sent(new(), request())
    assert change.job.lease is None
    assert change.job.requests == (request(),)
    assert change.job.pages_sent == 2
    assert change.counts == Counts(requests=1, pages_sent=2)


def test_a_request_written_twice_is_one_request_in_the_record_and_in_the_counts() -> None:
    once = sent(new(), request())
    twice = sent(once.job, request())
    assert twice.job == once.job
    assert twice.counts == once.counts, "the caller takes one of the two"


def test_a_request_that_comes_after_another_took_over_counts_as_possibly_paid_twice() -> None:
    taken = transitions.taken_over(new(), lease("other")).job
    change = sent(taken, request())
    assert change.job.lease == taken.lease, "the job stays theirs"
    assert (change.job.possible_duplicates, change.counts.possible_duplicates) == (1, 1)


def test_a_lost_answer_counts_at_once_and_leaves_the_lease() -> None:
    posting = transitions.posting(new(), lease(doing="posting", pages=PageRange(first=1, last=5))).job
    change = transitions.answer_lost(posting, 5)
    assert change.job.lease == posting.lease
    assert (change.job.possible_duplicates, change.job.pages_lost) == (1, 5)
    assert change.counts == Counts(pages_lost=5, possible_duplicates=1)


@pytest.mark.parametrize(("doing", "lost"), [("reading", 0), ("collecting", 0), ("posting", 1)])
def test_only_a_worker_that_died_while_posting_may_have_paid(doing: Any, lost: int) -> None:
    pages = PageRange(first=1, last=3) if doing == "posting" else None
    change = transitions.taken_over(new(lease=lease("dead", doing, pages)), lease())
    assert change.counts == Counts(possible_duplicates=lost, pages_lost=3 * lost)
    assert change.job.possible_duplicates == lost
    assert change.job.lease == lease()


def test_pages_that_a_dead_worker_had_kept_are_paid_and_counted_as_sent_in_the_record() -> None:
    pages = PageRange(first=1, last=3)
    change = transitions.taken_over(new(lease=lease("dead", "posting", pages)), lease(), [pages])
    assert (change.job.kept, change.job.pages, change.job.pages_sent) == ((pages,), 3, 3)
    assert change.job.possible_duplicates == 0, "what it was posting is here"


def test_a_round_in_which_nothing_was_sent_is_none() -> None:
    reading = transitions.read(new(requests=(request(),)), content="c", pages=2, estimate=2).job
    assert reading.rounds == 1
    assert transitions.released(reading, round_counts=False).job.rounds == 0
    assert transitions.released(reading, round_counts=True).job.rounds == 1


def test_lost_requests_count_once_when_their_pages_are_sent_again() -> None:
    lost = transitions.lost(request(), "gone")
    change = transitions.resending(new(requests=(lost, request("s"))), lease())
    assert [request.status for request in change.job.requests] == ["resent", "open"]
    assert change.counts.possible_duplicates == change.job.possible_duplicates == 1
    assert transitions.resending(change.job, lease()).counts == Counts()


def test_what_the_api_counts_corrects_this_runs_submissions_only() -> None:
    own_request = Request(id="ours", pages=None, submitted_at=NOON, run="run")
    other_request = Request(id="theirs", pages=None, submitted_at=NOON, run="another")
    job = new(requests=(own_request, other_request), estimate=1, pages_sent=2)
    change = transitions.counted(job, 23, lease(), (own_request, other_request), "run")
    assert change.counts.pages_sent == 22
    assert change.job.pages_sent == 46
    assert [request.pages for request in change.job.requests] == [PageRange(first=1, last=23)] * 2


def test_a_wrong_answer_put_back_is_asked_for_anew() -> None:
    for code, status in ((FailureCode.WRONG_ANSWER, "lost"), (FailureCode.MISSING_PAGES, "open")):
        fault = DocumentFault(code, "why")
        job = new(requests=(request(),), rounds=3)
        failed = transitions.failed(job, "collect", fault, missing=(), now=NOON, flow_run=None)
        again = transitions.put_back(failed, "nonce")
        assert [request.status for request in again.requests] == [status]
        assert (again.rounds, again.retries, again.lease) == (0, 1, None)


def test_sending_again_after_a_wrong_answer_counts_only_what_is_sent_again() -> None:
    requests = (request("wrong"), request("kept", status="answered"), request("before", status="resent"))
    job = new(requests=requests, possible_duplicates=1)
    fault = DocumentFault(FailureCode.WRONG_ANSWER, "why")
    failed = transitions.failed(job, "collect", fault, missing=(), now=NOON, flow_run=None)
    change = transitions.resending(transitions.put_back(failed, "nonce"), lease())
    assert [request.status for request in change.job.requests] == ["resent", "answered", "resent"]
    assert (change.counts.possible_duplicates, change.job.possible_duplicates) == (1, 2)


@pytest.mark.parametrize("changes", [{"leese": 1}, {"rounds": "three"}, {"lease": "nonsense"}, {"rounds": -1}])
def test_a_change_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        transitions._changed(new(), changes)


def test_a_record_of_format_1_is_read_and_written_anew_in_the_newest_format() -> None:
    old = {
        **new().model_dump(mode="json"),
        "format": 1,
        "lease": {"owner": "o", "until": (NOON + timedelta(minutes=10)).isoformat(), "doing": "reading", "pages": None},
        "requests": [request().model_dump(mode="json", exclude={"run"})],
    }
    for name in ("closed", "nonce", "pages_sent", "pages_lost", "note"):
        del old[name]
    job = Job.model_validate(old)
    assert job.lease is not None
    assert job.lease.since == NOON
    assert job.pages_sent == 2
    assert transitions.collecting(job, lease()).job.format == RECORD_FORMAT
    closed = Job.model_validate({**old, "lease": {**old["lease"], "doing": "closed"}})
    assert (closed.lease, closed.closed) == (None, "o")
