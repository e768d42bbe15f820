"""What an open job needs now: one answer for surveys, collectors and local runs.

Times in records are believed within bounds only, counted from when the store says the record was written: a lease lasts
`lease_seconds` at most unless its owner's heartbeat is alive, a poll is put off by `longest_poll_seconds` at most.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from tasks.job.record import Job, Lease, PageRange, page_ranges

# A heartbeat renews a lease for so long at most: a lease that its living owner forgot ends all the same.
LONGEST_LEASE = timedelta(minutes=30)

Need = Literal["wait", "poll", "collect", "send", "take over", "sweep"]


class Liveness(Protocol):
    """Tells whether the owners of leases live."""

    def alive(self, owner: str) -> bool | None:
        """True when it shows that it lives; False when it is known to be dead; None when nothing is known."""


@dataclass(frozen=True)
class Bounds:
    """How far times in records are believed."""

    lease: timedelta
    longest_poll: timedelta


@dataclass(frozen=True)
class NextStep:
    """What a job needs.

    Attributes:
        need: `wait`; `poll` (ask the API); `collect` (no request is open: fetch and publish, or find what is missing);
            `send` (nothing was sent that could be asked for); `take over` (its owner is gone); `sweep` (its closer
            was stopped before deleting the record).
        until: when to look again, for `wait`.
        holder: who holds it, for a `wait` that is not for the API.
        holder_alive: whether that one shows that it lives.
        pages: what to send, for `send`; None for all.
    """

    need: Need
    until: datetime | None = None
    holder: str | None = None
    holder_alive: bool = False
    pages: tuple[PageRange, ...] | None = None


def next_step(
    job: Job, now: datetime, owner: str, bounds: Bounds, liveness: Liveness, written: datetime | None = None
) -> NextStep:
    """Tell what a job needs.

    Args:
        job: its open record.
        now: the time.
        owner: who asks.
        bounds: how far times in the record are believed.
        liveness: tells whether another owner lives.
        written: when the record was written, by the store's clock, where that is known.
    """
    if job.closed is not None:
        # It is deleted at once; one that stays was left by somebody who was stopped in between.
        until = (written or now) + bounds.lease
        left = until <= now or liveness.alive(job.closed) is False
        return NextStep("sweep") if left else NextStep("wait", until)
    lease = job.lease
    if lease is not None and lease.owner != owner:
        held = _held(lease, now, bounds, liveness, written)
        return held or NextStep("take over")
    if lease is not None:  # ours, and whoever asks does not work on it: it was left behind
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
    """Whether somebody else works on the job, or is about to delete its record."""
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
    """The pages that are not in the ledger; None for all, where nobody knows how many there are."""
    if job.pages is None or not job.kept:
        return None
    kept = {page for pages in job.kept for page in range(pages.first, pages.last + 1)}
    return tuple(page_ranges(page for page in range(1, job.pages + 1) if page not in kept))
