"""What a job needs next, and how far the times in its record are believed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.job import transitions
from tasks.job.next_step import LONGEST_LEASE, Bounds, NextStep, held_by_another, next_step
from tasks.job.record import Document, Job, PageRange, Request

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BOUNDS = Bounds(lease=MINUTE, longest_poll=10 * MINUTE)
DOCUMENT = Document(bucket="b", key="in/a.pdf", etag="e", size=1, last_modified=NOON)


class Living:
    """Knows who lives, who is dead, and nothing of all others."""

    def __init__(self, **workers: bool) -> None:
        self._workers = workers

    def alive(self, owner: str) -> bool | None:
        return self._workers.get(owner)


def job(**fields: Any) -> Job:
    """An open job that nobody holds."""
    return Job(id="j", document=DOCUMENT, model="ocr", result="s3://b/r", claimed_at=NOON, **fields)


def leased(since: datetime = NOON) -> Job:
    """A job that another worker holds for a minute."""
    return job(lease=transitions.lease("other", since, 60, "collecting"))


def request(status: Any = "open") -> Request:
    """A request about two pages."""
    return Request(id="r", pages=PageRange(first=1, last=2), submitted_at=NOON, status=status)


def step(job: Job, now: datetime, written: datetime | None = None, **workers: bool) -> NextStep:
    """What the job needs, as "me" sees it."""
    return next_step(job, now, "me", BOUNDS, Living(**workers), written)


def test_an_open_request_is_polled_and_a_finished_one_collected() -> None:
    assert step(job(requests=(request(),)), NOON).need == "poll"
    assert step(job(requests=(request("finished"),)), NOON).need == "collect"
    assert step(job(pages=2, kept=(PageRange(first=1, last=2),)), NOON).need == "collect"


def test_pages_that_nothing_covers_are_sent() -> None:
    assert step(job(), NOON) == NextStep("send")
    part = job(pages=5, kept=(PageRange(first=2, last=3),), requests=(request("resent"),))
    assert step(part, NOON).pages == (PageRange(first=1, last=1), PageRange(first=4, last=5))


def test_a_job_waits_for_its_poll_but_not_longer_than_any_poll_may_take() -> None:
    waiting = job(requests=(request(),), poll_after=NOON + MINUTE)
    assert step(waiting, NOON) == NextStep("wait", NOON + MINUTE)
    assert step(waiting, NOON + MINUTE).need == "poll"
    skewed = job(requests=(request(),), poll_after=NOON + timedelta(hours=72))
    assert step(skewed, NOON, written=NOON) == NextStep("wait", NOON + 10 * MINUTE)
    assert step(skewed, NOON + 10 * MINUTE, written=NOON).need == "poll"


def test_a_lease_is_respected_until_it_is_over() -> None:
    assert step(leased(), NOON) == NextStep("wait", NOON + MINUTE, holder="other")
    assert step(leased(), NOON + MINUTE).need == "take over"
    assert held_by_another(leased(), NOON, "me", BOUNDS, Living())
    assert not held_by_another(leased(), NOON + MINUTE, "me", BOUNDS, Living())


def test_a_living_owner_keeps_its_lease_and_a_dead_one_loses_it_at_once() -> None:
    later = NOON + 5 * MINUTE
    assert step(leased(), later, other=True) == NextStep("wait", later + MINUTE, holder="other", holder_alive=True)
    assert step(leased(), NOON, other=False).need == "take over"


def test_a_lease_that_its_living_owner_forgot_ends_all_the_same() -> None:
    assert step(leased(), NOON + LONGEST_LEASE - MINUTE, other=True).need == "wait"
    assert step(leased(), NOON + LONGEST_LEASE, other=True).need == "take over"


def test_a_lease_from_a_clock_that_is_days_ahead_is_believed_for_a_lease_only() -> None:
    ahead = leased(NOON + timedelta(hours=72))
    assert step(ahead, NOON, written=NOON) == NextStep("wait", NOON + MINUTE, holder="other")
    assert step(ahead, NOON + MINUTE, written=NOON).need == "take over"
    assert step(ahead, NOON + LONGEST_LEASE, written=NOON, other=True).need == "take over"


def test_a_lease_of_our_own_that_was_left_behind_is_taken_over() -> None:
    abandoned = job(lease=transitions.lease("me", NOON, 60, "reading"))
    assert step(abandoned, NOON).need == "take over"
    assert not held_by_another(abandoned, NOON, "me", BOUNDS, Living())


@pytest.mark.parametrize(("workers", "need"), [({}, "wait"), ({"closer": True}, "wait"), ({"closer": False}, "sweep")])
def test_a_closed_record_is_its_closers_to_delete_for_a_while(workers: dict[str, bool], need: str) -> None:
    closed = transitions.closed(job(), "closer", "nonce")
    assert step(closed, NOON, written=NOON, **workers).need == need
    assert held_by_another(closed, NOON, "me", BOUNDS, Living(**workers))
    assert step(closed, NOON + MINUTE, written=NOON, **workers).need == "sweep"
