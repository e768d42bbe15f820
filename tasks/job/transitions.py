"""Every change of a job, as a pure function: from one record to the next, and what the change counts.

    claimed ─▶ reading ──posting─▶ posting ──sent─▶ at the API ──asked─▶ finished ──collecting─▶ collecting
                  │                  │  ▲                                                         │      │
                  │ released         └──┘ answer_lost: sent again            pages missing: resending    │ closed
                  ▼                                                          (then posting …)            ▼
               (deleted)         a lease that ended: taken_over               done, or failed ──put_back─▶ open

The count and the record come out of the same call, so that a report and a record are computed from the same numbers.
Nothing else changes a record's lease, requests, rounds or counts. `tasks.job.next_step` tells what a job needs next.
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
    """What changes of jobs add to the sums of a run.

    Attributes:
        requests: submissions that the API accepted.
        pages_sent: pages in them.
        pages_lost: pages in submissions without an answer on record: it was lost, or the worker died. They may be
            billed, and are not among `pages_sent`.
        possible_duplicates: submissions that may be paid for, and were or will be made again: those without an answer
            on record, those that the API forgot or never finished, and synchronous answers that may be incomplete.
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
    """A job after a change, and what the change counts."""

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
    """A lease from now on."""
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
    """A new job, owned by whoever manages to create its record."""
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
    """The document was read, and a round of sending begins.

    Args:
        job: the job.
        content: SHA-256 of the document's bytes.
        pages: its page count, where it can be counted here.
        estimate: the pages to reckon with where it cannot.
        note: what is odd about the document, if it is sent all the same.
    """
    count = {"estimate": estimate} if pages is None else {"pages": pages}
    return _changed(job, {"rounds": job.rounds + 1, "content": content, "note": note, **count})


def text_found(job: Job, pages: Sequence[PageRange]) -> Change:
    """Pages that hold their text lie in the ledger: they are covered, and are not sent."""
    new = tuple(each for each in pages if each not in job.kept)
    return _changed(job, {"kept": (*job.kept, *new), "text_pages": tuple(pages)})


def posting(job: Job, lease: Lease) -> Change:
    """Pages are about to be posted: from here on, whoever takes the job over knows that they may be paid for."""
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
    """A request was accepted; of a synchronous one, its pages lie in the ledger already.

    One that is recorded after another worker has taken the job over was counted then, as pages that may be paid for:
    these are the same, and are not counted a second time.

    Args:
        job: the job.
        request: what was accepted.
        pages: how many pages it holds, or is reckoned to hold.
        owner: who sent it.
        keep: the lease to go on with, where parts are left to send; None to let the job go.
        flow_run: the run that sent it.
        total: the document's pages, where the answer told them.
        posted: the lease under which it was sent.
    """
    if request in job.requests:  # written before, though the answer to that write was lost
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
    """What was counted when a job was taken over from whoever posted under a lease; None where that did not happen."""
    if posted is None or posted.run is None:
        return None
    return next((lost for lost in job.lost if (lost.at, lost.run) == (posted.since, posted.run)), None)


def _found(job: Job, found: LostPages) -> dict[str, Any]:
    """What changes when the answer came after all."""
    index = job.lost.index(found)
    return {"pages_lost": max(0, job.pages_lost - found.pages), "lost": (*job.lost[:index], *job.lost[index + 1 :])}


def accepted(pages: int, *, possible_duplicate: bool = False) -> Counts:
    """What an accepted request counts.

    Args:
        pages: the pages in it.
        possible_duplicate: whether its pages were, or will be, sent once more.
    """
    return Counts(requests=1, pages_sent=pages, possible_duplicates=int(possible_duplicate))


def answer_lost(job: Job, pages: int) -> Change:
    """Pages were posted whole, and no answer came: they may be paid for."""
    return _changed(job, _lost(job, job.lease, pages), Counts(pages_lost=pages, possible_duplicates=1))


def proved_nothing(job: Job, pages: int) -> Change:
    """A synchronous answer may be cut short without a word: its pages are paid for, and are sent again."""
    return _changed(
        job,
        {"possible_duplicates": job.possible_duplicates + 1, "pages_sent": job.pages_sent + pages},
        accepted(pages, possible_duplicate=True),
    )


def taken_over(job: Job, lease: Lease, found: Sequence[PageRange] = ()) -> Change:
    """A lease that has ended gives way to ours. What its holder was posting may be paid for.

    Args:
        job: the job.
        lease: ours.
        found: pages that lie in the ledger and that the record does not name: answered synchronously, by a worker that
            was stopped before it could record them.
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
    """What changes when pages were posted under a lease, and no answer is known."""
    at = job.claimed_at if posting is None else posting.since
    run, price = (None, None) if posting is None else (posting.run, posting.price_per_page)
    return {
        "possible_duplicates": job.possible_duplicates + 1,
        "pages_lost": job.pages_lost + pages,
        "lost": (*job.lost, LostPages(at=at, pages=pages, run=run, price_per_page=price)),
    }


def collecting(job: Job, lease: Lease) -> Change:
    """The job's batches are about to be fetched, or the lease is renewed while they are."""
    return _changed(job, {"lease": lease})


def released(job: Job, *, round_counts: bool) -> Change:
    """The job is let go by its owner, who knows that nothing is under way.

    Args:
        job: the job, as it was last written.
        round_counts: whether anything was sent in this round; a round in which nothing could be sent is none.
    """
    rounds = job.rounds if round_counts else max(0, job.rounds - 1)
    return _changed(job, {"lease": None, "rounds": rounds})


def asked(job: Job, requests: Iterable[Request], pages_completed: int) -> Change:
    """The API said how the requests stand."""
    completed = max(job.pages_completed, pages_completed)
    return _changed(job, {"requests": tuple(requests), "pages_completed": completed})


def running(request: Request) -> Request:
    """The API works on the request."""
    return _request(request, {"unknown_since": None})


def finished(request: Request, note: str = "", completed_at: datetime | None = None) -> Request:
    """The API has finished the request; the note is what it says of a failure, the time when that was."""
    completed = completed_at or request.completed_at
    return _request(request, {"status": "finished", "note": note, "unknown_since": None, "completed_at": completed})


def unknown(request: Request, since: datetime) -> Request:
    """The API does not know the request. Open again if it was finished: else its pages would be paid for again."""
    return _request(request, {"status": "open", "unknown_since": since})


def lost(request: Request, note: str) -> Request:
    """The request is taken for lost: its pages are missing, and may be paid for."""
    return _request(request, {"status": "lost", "note": note})


def postponed(job: Job, until: datetime, unreadable_since: datetime | None = None) -> Change:
    """The job waits for the API, and belongs to nobody meanwhile.

    Args:
        job: the job.
        until: when to ask again.
        unreadable_since: when downloads began to be no answers, if the last one was none; any other trouble ends that.
    """
    return _changed(job, {"lease": None, "poll_after": until, "unreadable_since": unreadable_since})


def resending(job: Job, lease: Lease) -> Change:
    """Pages of lost requests are sent again: these requests may be paid for all the same."""
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
    """The API counted a document that only it can count.

    Args:
        job: the job.
        total: its pages.
        lease: ours, renewed.
        requests: those that were sent for "all pages", and now have a range.
        run: whose counts are asked for: by how many pages this run's submissions were reckoned too low.
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
    """Pages that were paid for lie in the ledger now."""
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
    """The result is published.

    Args:
        job: the job.
        pages: its pages.
        now: the time.
        superseded: whether a newer version had been published already.
        copied_from: the job whose result was copied, if it was.
        flow_run: the run that published it.
        measured: what the result holds.
        sources: where its pages came from.
        durations: where the time went.
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
    """The job is given up. Its requests stay on record, so that what they hold can still be fetched."""
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
    """A failed job is opened again, with all that is known of its requests and pages."""
    requests = failed.job.requests
    if failed.code == FailureCode.WRONG_ANSWER:  # asked again, the same requests would give the same answer
        # `resending` counts them. Those that were answered are in the ledger, and are not sent again.
        requests = tuple(
            _request(request, {"status": "lost"}) if request.status in ("open", "finished") else request
            for request in requests
        )
    changes = {"lease": None, "closed": None, "nonce": nonce, "rounds": 0, "poll_after": None, "unreadable_since": None}
    return _changed(failed.job, {**changes, "retries": failed.job.retries + 1, "requests": requests}).job


def knows_as_much(one: Job, other: Job) -> bool:
    """Whether a record of a job tells at least what another one does: of requests, pages and lives."""
    requests = {request.id for request in other.requests}
    return (
        one.retries >= other.retries
        and requests <= {request.id for request in one.requests}
        and one.pages_sent >= other.pages_sent
        # Pages whose answer came after all are not lost any more.
        and one.pages_sent + one.pages_lost >= other.pages_sent + other.pages_lost
    )


def closed(job: Job, owner: str, nonce: str) -> Job:
    """The record is about to be deleted by whoever wrote the mark."""
    return _changed(job, {"closed": owner, "nonce": nonce}).job


def _changed(job: Job, changes: Mapping[str, Any], counts: Counts = NOTHING) -> Change:
    """A change with every field checked: a name that is none, or a value that does not fit, raises."""
    return Change(Job.model_validate({**dict(job), "format": RECORD_FORMAT, **changes}), counts)


def _request(request: Request, changes: Mapping[str, Any]) -> Request:
    return Request.model_validate({**dict(request), **changes})
