"""Every transition of a job, as a pure function that returns the next record and the counts to add to the run's sums.

    claimed ─▶ reading ──posting─▶ posting ──sent─▶ at the API ──asked─▶ finished ──collecting─▶ collecting
                  │                  │  ▲                                                         │      │
                  │ released         └──┘ answer_lost: sent again            pages missing: resending    │ closed
                  ▼                                                          (then posting …)            ▼
               (deleted)         a lease that ended: taken_over               done, or failed ──put_back─▶ open

One call returns both, so that reports and records always agree. Nothing else changes a record's lease, requests, rounds
or counts. `tasks.job.next_step` decides which transition comes next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from tasks.faults import DocumentFault, FailureCode
from tasks.job.record import (
    RECORD_FORMAT,
    Activity,
    AnswerSchema,
    Document,
    DoneJob,
    Durations,
    FailedJob,
    Job,
    Lease,
    LostPages,
    Measured,
    PageRange,
    PageSources,
    Request,
    TextLayers,
)
from tasks.job.spending import cost

Stage = Literal["read", "submit", "recognise", "collect"]


@dataclass(frozen=True)
class Counts:
    """What transitions add to the sums of a run.

    Attributes:
        requests: submissions that the API accepted.
        pages_sent: pages in them.
        pages_lost: pages in submissions without an answer on record, because it was lost or the worker died. They may
            be billed, and are not included in `pages_sent`.
        possible_duplicates: submissions that may be billed and were, or will be, repeated: those without an answer on
            record, those that the API forgot or never finished, and synchronous answers that may be incomplete.
    """

    requests: int = 0
    pages_sent: int = 0
    pages_lost: int = 0
    possible_duplicates: int = 0

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.requests + other.requests,
            self.pages_sent + other.pages_sent,
            self.pages_lost + other.pages_lost,
            self.possible_duplicates + other.possible_duplicates,
        )


NOTHING = Counts()


@dataclass(frozen=True)
class Change:
    """A job after a transition, and the counts to add."""

    job: Job
    counts: Counts = NOTHING


def lease(
    owner: str,
    now: datetime,
    seconds: float,
    doing: Activity,
    pages: PageRange | None = None,
    *,
    run: str | None = None,
    price_per_page: float | None = None,
) -> Lease:
    """Create a lease that starts now and lasts `seconds`."""
    return Lease(
        owner=owner,
        since=now,
        until=now + timedelta(seconds=seconds),
        doing=doing,
        pages=pages,
        run=run,
        price_per_page=price_per_page,
    )


def claimed(
    identity: str,
    document: Document,
    *,
    model: str,
    answer_schema: AnswerSchema | None,
    text_layers: TextLayers | None = None,
    result: str,
    now: datetime,
    lease: Lease,
    flow_run: str | None,
    backfill: str | None = None,
) -> Job:
    """Create a new job. It belongs to the worker that succeeds in creating its record."""
    return Job(
        id=identity,
        document=document,
        model=model,
        answer_schema=answer_schema,
        text_layers=text_layers,
        result=result,
        claimed_at=now,
        lease=lease,
        flow_run=flow_run,
        backfill=backfill,
    )


def read(job: Job, *, content: str, pages: int | None, estimate: int, note: str = "") -> Change:
    """Record that the document was read, and start a round of sending.

    Args:
        job: the job.
        content: SHA-256 of the document's bytes.
        pages: its page count; None if only the API can count it.
        estimate: the page count to assume in that case.
        note: a warning about the document, if it is sent in spite of it.
    """
    count = {"estimate": estimate} if pages is None else {"pages": pages}
    return _changed(job, {"rounds": job.rounds + 1, "content": content, "note": note, **count})


def text_found(job: Job, pages: Sequence[PageRange]) -> Change:
    """Record that pages taken from the document's own text are in the ledger, and need not be sent."""
    new = tuple(page_range for page_range in pages if page_range not in job.kept)
    return _changed(job, {"kept": (*job.kept, *new), "text_pages": tuple(pages)})


def posting(job: Job, lease: Lease) -> Change:
    """Record that pages are about to be posted, so that a worker that takes the job over knows they may be billed."""
    return _changed(job, {"lease": lease})


def sent(
    job: Job,
    request: Request,
    pages: int,
    *,
    owner: str,
    keep: Lease | None,
    flow_run: str | None,
    total: int | None = None,
    posted: Lease | None = None,
) -> Change:
    """Record an accepted request. The pages of a synchronous request are in the ledger already.

    If another worker has taken the job over meanwhile, it counted these pages as possibly billed. They are then moved
    from that count, so that they are not counted twice.

    Args:
        job: the job.
        request: the accepted request.
        pages: its number of pages, or the estimate.
        owner: the worker that sent it.
        keep: the lease to continue with, if there are more parts to send; None to release the job.
        flow_run: the run that sent it.
        total: the document's page count, if the answer contained it.
        posted: the lease under which it was sent.
    """
    if request in job.requests:  # it was written before, but the response to that write was lost
        return Change(job, accepted(pages))
    late = is_no_longer_leased_to(job, owner)  # another worker sends the same pages
    found = counted_as_lost(job, posted) if late else None
    lost = {} if found is None else _found(job, found)
    counted = found is not None
    kept = (request.pages,) if request.status == "answered" and request.pages and not request.note else ()
    return _changed(
        job,
        {
            "requests": (*job.requests, request),
            "kept": (*job.kept, *kept),
            "pages": total if job.pages is None else job.pages,
            "lease": job.lease if late else keep,
            "poll_after": None,
            "pages_sent": job.pages_sent + pages,
            "possible_duplicates": job.possible_duplicates + (late and not counted),
            "flow_run": flow_run,
            **lost,
        },
        accepted(pages, possible_duplicate=late and not counted),
    )


def is_no_longer_leased_to(job: Job, owner: str) -> bool:
    """Whether the job has been released, or is leased to another worker."""
    return job.lease is None or job.lease.owner != owner


def counted_as_lost(job: Job, posted: Lease | None) -> LostPages | None:
    """Return the pages that a takeover counted as lost for a lease; None if the job was not taken over from it.

    Args:
        job: the job.
        posted: the lease under which the pages were posted.
    """
    if posted is None or posted.run is None:
        return None
    return next((lost for lost in job.lost if (lost.at, lost.run) == (posted.since, posted.run)), None)


def _found(job: Job, found: LostPages) -> dict[str, Any]:
    """Return the changed fields when an answer arrives that was counted as lost."""
    index = job.lost.index(found)
    return {"pages_lost": max(0, job.pages_lost - found.pages), "lost": (*job.lost[:index], *job.lost[index + 1 :])}


def accepted(pages: int, *, possible_duplicate: bool = False) -> Counts:
    """Return the counts of an accepted request.

    Args:
        pages: the pages in it.
        possible_duplicate: whether its pages were, or will be, sent again.
    """
    return Counts(requests=1, pages_sent=pages, possible_duplicates=int(possible_duplicate))


def answer_lost(job: Job, pages: int) -> Change:
    """Record that pages were posted in full without an answer: they may be billed."""
    return _changed(job, _lost(job, job.lease, pages), Counts(pages_lost=pages, possible_duplicates=1))


def proved_nothing(job: Job, pages: int) -> Change:
    """Record a synchronous answer that may be silently truncated: its pages are billed, and are sent again."""
    return _changed(
        job,
        {"possible_duplicates": job.possible_duplicates + 1, "pages_sent": job.pages_sent + pages},
        accepted(pages, possible_duplicate=True),
    )


def taken_over(job: Job, lease: Lease, found: Sequence[PageRange] = ()) -> Change:
    """Replace an expired lease. Pages that its owner was posting may be billed.

    Args:
        job: the job.
        lease: the new lease.
        found: pages in the ledger that are missing in the record: they were answered synchronously, and the worker died
            before it could record them.
    """
    over = job.lease
    new = tuple(pages for pages in found if pages not in job.kept)
    changes: dict[str, Any] = {"lease": lease}
    if new:
        total = job.pages if job.pages is not None else max(pages.last for pages in new)
        paid = sum(map(len, new))
        changes |= {"kept": (*job.kept, *new), "pages": total, "pages_sent": job.pages_sent + paid}
    found_paid = Counts(requests=len(new), pages_sent=sum(map(len, new)))
    if over is None or over.doing != "posting" or (new and (over.pages is None or over.pages in new)):
        return _changed(job, changes, found_paid)
    posted = len(over.pages) if over.pages is not None else (job.pages or job.estimate)
    changes |= _lost(job, over, posted)
    return _changed(job, changes, found_paid + Counts(pages_lost=posted, possible_duplicates=1))


def _lost(job: Job, posting: Lease | None, pages: int) -> dict[str, Any]:
    """Return the changed fields when pages were posted under a lease and no answer is on record."""
    at = job.claimed_at if posting is None else posting.since
    run, price = (None, None) if posting is None else (posting.run, posting.price_per_page)
    return {
        "possible_duplicates": job.possible_duplicates + 1,
        "pages_lost": job.pages_lost + pages,
        "lost": (*job.lost, LostPages(at=at, pages=pages, run=run, price_per_page=price)),
    }


def collecting(job: Job, lease: Lease) -> Change:
    """Take or renew the lease under which the job's batches are fetched."""
    return _changed(job, {"lease": lease})


def released(job: Job, *, round_counts: bool) -> Change:
    """Release the job. Its owner knows that no submission is in flight.

    Args:
        job: the job, as it was last written.
        round_counts: whether anything was sent in this round; if nothing could be sent, the round is not counted.
    """
    rounds = job.rounds if round_counts else max(0, job.rounds - 1)
    return _changed(job, {"lease": None, "rounds": rounds})


def asked(job: Job, requests: Iterable[Request], pages_completed: int) -> Change:
    """Record the result of a poll.

    Args:
        job: the job.
        requests: its requests with their new status.
        pages_completed: the number of pages that the API has finished.
    """
    completed = max(job.pages_completed, pages_completed)
    return _changed(job, {"requests": tuple(requests), "pages_completed": completed})


def running(request: Request) -> Request:
    """Mark a request as in progress at the API."""
    return _request(request, {"unknown_since": None})


def finished(request: Request, note: str = "", completed_at: datetime | None = None) -> Request:
    """Mark a request as finished at the API.

    Args:
        request: the request.
        note: the API's reason, if it failed.
        completed_at: when the API finished it, if reported.
    """
    completed = completed_at or request.completed_at
    return _request(request, {"status": "finished", "note": note, "unknown_since": None, "completed_at": completed})


def unknown(request: Request, since: datetime) -> Request:
    """Mark a request as unknown to the API.

    A finished request is reopened: otherwise its pages would be sent, and paid for, again at once.
    """
    return _request(request, {"status": "open", "unknown_since": since})


def lost(request: Request, note: str) -> Request:
    """Mark a request as lost: its pages are missing, and may be billed."""
    return _request(request, {"status": "lost", "note": note})


def postponed(job: Job, until: datetime, unreadable_since: datetime | None = None) -> Change:
    """Release the job until the next poll.

    Args:
        job: the job.
        until: when to poll again.
        unreadable_since: since when downloaded results have been unreadable; None if the last one was not.
    """
    return _changed(job, {"lease": None, "poll_after": until, "unreadable_since": unreadable_since})


def resending(job: Job, lease: Lease) -> Change:
    """Start sending the pages of lost requests again. The lost requests may be billed as well."""
    gone = [request for request in job.requests if request.status == "lost"]
    requests = tuple(
        _request(request, {"status": "resent"}) if request.status == "lost" else request for request in job.requests
    )
    counts = Counts(possible_duplicates=len(gone))
    return _changed(
        job,
        {"requests": requests, "lease": lease, "possible_duplicates": job.possible_duplicates + len(gone)},
        counts,
    )


def counted(job: Job, total: int, lease: Lease, requests: Iterable[Request] = (), run: str | None = None) -> Change:
    """Record the API's page count of a document that only the API can count.

    Args:
        job: the job.
        total: the page count.
        lease: the renewed lease.
        requests: the requests that were sent for "all pages" and now get a page range.
        run: the run whose sums the returned counts correct. The correction is negative if the estimate was too high.
    """
    pages = PageRange(first=1, last=total)
    whole = tuple(requests)
    more = total - job.estimate
    return _changed(
        job,
        {
            "pages": total,
            "lease": lease,
            "requests": tuple(
                _request(request, {"pages": pages}) if request in whole else request for request in job.requests
            ),
            "pages_sent": max(0, job.pages_sent + more * len(whole)),
        },
        Counts(pages_sent=more * sum(request.run == run for request in whole)),
    )


def kept(job: Job, ranges: Iterable[PageRange], lease: Lease) -> Change:
    """Record that pages that were paid for are now in the ledger."""
    return _changed(job, {"kept": tuple(dict.fromkeys((*job.kept, *ranges))), "lease": lease})


def done(
    job: Job,
    *,
    pages: int,
    now: datetime,
    superseded: bool,
    copied_from: str | None,
    flow_run: str | None,
    measured: Measured | None = None,
    sources: PageSources | None = None,
    durations: Durations | None = None,
) -> DoneJob:
    """Create the record of a job whose result is published.

    Args:
        job: the job.
        pages: the number of pages in the result.
        now: the current time.
        superseded: whether a newer version was already published.
        copied_from: the job whose result was copied, if any.
        flow_run: the run that published it.
        measured: figures of the result.
        sources: where its pages came from.
        durations: how the time from claim to result divides.
    """
    return DoneJob(
        job=_changed(job, {"lease": None}).job,
        pages=pages,
        finished_at=now,
        superseded=superseded,
        copied_from=copied_from,
        flow_run=flow_run,
        measured=measured,
        sources=sources,
        cost=cost(job).accepted,
        durations=durations,
    )


def failed(
    job: Job, stage: Stage, fault: DocumentFault, *, missing: Sequence[PageRange], now: datetime, flow_run: str | None
) -> FailedJob:
    """Create the record of a job that is given up. Its requests stay on record, so their results can be fetched."""
    return FailedJob(
        job=_changed(job, {"lease": None}).job,
        stage=stage,
        code=fault.code,
        reason=str(fault),
        retry_helps=fault.retry_helps,
        missing=tuple(missing),
        failed_at=now,
        flow_run=flow_run,
    )


def put_back(failed: FailedJob, nonce: str) -> Job:
    """Reopen a failed job for a retry. Its requests and pages stay on record."""
    requests = failed.job.requests
    if failed.code == FailureCode.WRONG_ANSWER:  # polling the same requests would return the same answer
        # `resending` counts them. Pages of answered requests are in the ledger, and are not sent again.
        requests = tuple(
            _request(request, {"status": "lost"}) if request.status in ("open", "finished") else request
            for request in requests
        )
    changes = {"lease": None, "closed": None, "nonce": nonce, "rounds": 0, "poll_after": None, "unreadable_since": None}
    return _changed(failed.job, {**changes, "retries": failed.job.retries + 1, "requests": requests}).job


def knows_as_much(one: Job, other: Job) -> bool:
    """Return whether a record of a job contains at least the requests, pages and retries of another record of it."""
    requests = {request.id for request in other.requests}
    return (
        one.retries >= other.retries
        and requests <= {request.id for request in one.requests}
        and one.pages_sent >= other.pages_sent
        # Pages whose answer arrived late have moved from `pages_lost` to `pages_sent`.
        and one.pages_sent + one.pages_lost >= other.pages_sent + other.pages_lost
    )


def closed(job: Job, owner: str, nonce: str) -> Job:
    """Mark the record as closed. The worker that wrote the mark deletes the record."""
    return _changed(job, {"closed": owner, "nonce": nonce}).job


def _changed(job: Job, changes: Mapping[str, Any], counts: Counts = NOTHING) -> Change:
    """Return the changed job. Validation rejects unknown fields and wrong values."""
    return Change(Job.model_validate({**dict(job), "format": RECORD_FORMAT, **changes}), counts)


def _request(request: Request, changes: Mapping[str, Any]) -> Request:
    return Request.model_validate({**dict(request), **changes})
