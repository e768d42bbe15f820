"""Decides the next step of an open job, the same way for surveys, collectors and local runs.

Clocks of other machines may be wrong, so times in records count only within bounds, measured from the time at which the
store wrote the record: a lease lasts at most `lease_seconds` unless its owner's heartbeat is alive, and a poll is
postponed by at most `longest_poll_seconds`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from tasks.job.record import Job, Lease, PageRange, page_ranges

# A heartbeat renews a lease for at most this long, so a lease that a live owner has forgotten still expires.
LONGEST_LEASE = timedelta(minutes=30)

Need = Literal["wait", "poll", "collect", "send", "take over", "sweep"]


class Liveness(Protocol):
    """Knows which lease owners are alive."""

    def alive(self, owner: str) -> bool | None:
        """Return True if the owner has a recent heartbeat, False if it is known to be dead, None if unknown."""


@dataclass(frozen=True)
class Bounds:
    """Upper bounds for times in records.

    Attributes:
        lease: the longest lease without a heartbeat.
        longest_poll: the longest time until the next poll.
    """

    lease: timedelta
    longest_poll: timedelta


@dataclass(frozen=True)
class NextStep:
    """The next step of a job.

    Attributes:
        need: `wait`; `poll` (ask the API for the status); `collect` (no request is open: fetch and publish, or find
            the missing pages); `send` (there is no request to poll); `take over` (the owner is gone); `sweep` (the
            worker that closed the job died before it deleted the record).
        until: when to look again, for `wait`.
        holder: the owner of the lease, for a `wait` for another worker rather than for the API.
        holder_alive: whether the holder has a recent heartbeat.
        pages: the pages to send, for `send`; None for all.
    """

    need: Need
    until: datetime | None = None
    holder: str | None = None
    holder_alive: bool = False
    pages: tuple[PageRange, ...] | None = None


def next_step(
    job: Job, now: datetime, owner: str, bounds: Bounds, liveness: Liveness, written: datetime | None = None
) -> NextStep:
    """Return the next step of a job.

    Args:
        job: its open record.
        now: the current time.
        owner: the worker that would take the step.
        bounds: upper bounds for times in the record.
        liveness: knows which lease owners are alive.
        written: when the record was written, by the store's clock, if known.
    """
    if job.closed is not None:
        # A closed record is deleted at once. If it stays, the worker died between the two writes.
        until = (written or now) + bounds.lease
        left = until <= now or liveness.alive(job.closed) is False
        return NextStep("sweep") if left else NextStep("wait", until)
    lease = job.lease
    if lease is not None and lease.owner != owner:
        held = _held(lease, now, bounds, liveness, written)
        return held or NextStep("take over")
    if lease is not None:  # the caller's own lease, left over from work that it no longer does
        return NextStep("take over")
    if job.poll_after is not None:
        until = min(job.poll_after, (written or now) + bounds.longest_poll)
        if until > now:
            return NextStep("wait", until)
    if job.open_requests:
        return NextStep("poll")
    if any(request.status == "finished" for request in job.requests) or _covered(job):
        return NextStep("collect")
    return NextStep("send", pages=_uncovered(job))


def held_by_another(
    job: Job, now: datetime, owner: str, bounds: Bounds, liveness: Liveness, written: datetime | None = None
) -> bool:
    """Return whether another worker holds the job, or is about to delete its record.

    Args:
        job: its open record.
        now: the current time.
        owner: the worker that would take the job.
        bounds: upper bounds for times in the record.
        liveness: knows which lease owners are alive.
        written: when the record was written, by the store's clock, if known.
    """
    if job.closed is not None:
        return True
    if job.lease is None or job.lease.owner == owner:
        return False
    return _held(job.lease, now, bounds, liveness, written) is not None


def _held(lease: Lease, now: datetime, bounds: Bounds, liveness: Liveness, written: datetime | None) -> NextStep | None:
    until = lease.until if written is None else min(lease.until, written + bounds.lease)
    alive = liveness.alive(lease.owner)
    if alive is False:
        return None
    if alive:
        since = lease.since if written is None else min(lease.since, written)
        until = max(until, min(since + LONGEST_LEASE, now + bounds.lease))
    return NextStep("wait", until, holder=lease.owner, holder_alive=bool(alive)) if until > now else None


def _covered(job: Job) -> bool:
    return job.pages is not None and not _uncovered(job)


def _uncovered(job: Job) -> tuple[PageRange, ...] | None:
    """Return the pages that are not in the ledger; None, meaning all, if the page count is unknown."""
    if job.pages is None or not job.kept:
        return None
    kept = {page for pages in job.kept for page in range(pages.first, pages.last + 1)}
    return tuple(page_ranges(page for page in range(1, job.pages + 1) if page not in kept))
