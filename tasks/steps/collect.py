"""Step 4: fetch the batches of a finished job, merge them, publish the result, close the job."""

import json
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.context import RunContext
from tasks.documents.files.text_pages import RECOGNISED, SOURCE, in_shape_of
from tasks.documents.results.batch import BatchIncomplete, BatchUnreadable, read_batch
from tasks.documents.results.merge import merge
from tasks.faults import (
    Cancelled,
    CredentialsRefused,
    DocumentFault,
    EndsRun,
    FailureCode,
    Fault,
    Gone,
    ObjectRefused,
    RecordUnreadable,
    Superseded,
    TransientFault,
    UrlExpired,
)
from tasks.job import transitions
from tasks.job.coverage import Coverage, Piece, Share, cover
from tasks.job.outcome import Outcome
from tasks.job.record import Job, PageRange, PageSources, Request
from tasks.steps.failing import fail
from tasks.steps.held_job import HeldJob
from tasks.steps.poll import ask, postpone
from tasks.steps.publish import Pages, publish
from tasks.steps.send import send_pages
from tasks.store.ledger import Held
from tasks.upstage.answers import RequestStatus

log = logging.getLogger(__name__)

_BATCH_ATTEMPTS = 4
_MOST_PAGES = 100_000  # in one request; the API takes a thousand
_UNREADABLE_SECONDS = 86_400  # a storage host's bad day is no reason to pay again
_RENEWED_SECONDS = 20.0


def collect_job(context: RunContext, job: str | Held) -> Outcome:
    """Bring an open job as far as it goes: publish it, send its missing pages, or leave it open.

    Args:
        context: the tools.
        job: its id, or its record as it was just read.

    Raises:
        EndsRun: the account, the set-up or the operator ends the run; the job stays open.
    """
    identity, name = (job, job) if isinstance(job, str) else (job.job.id, job.job.document.uri)
    with context.jobs_at_work.begin(identity) as begun:
        return _taken_up(context, job, identity) if begun else Outcome("skipped", identity, name)


def _taken_up(context: RunContext, job: str | Held, identity: str) -> Outcome:
    try:
        held = context.ledger.read(job) if isinstance(job, str) else job
        if held is None or context.held_by_another(held.job, looked_at=isinstance(job, Held)):
            return Outcome("skipped", identity, held.job.document.uri if held else identity)
        taken = _take_up(context, held)
    except TransientFault as fault:  # S3 could not be asked who has the job: whoever looks next will see
        return Outcome("later", identity, f"job {identity}", message=str(fault))
    return taken if isinstance(taken, Outcome) else _collect(context, taken)


def _take_up(context: RunContext, held: Held) -> HeldJob | Outcome:
    """Take a job over from whoever left it; one that waits for the API is just collected, without a lease.

    A lease keeps other collectors from downloading the same. It is no condition for being right, and takes a write.
    """
    job = HeldJob(context, held)
    over = held.job.lease
    if over is None:
        # What its sender had reserved, and was killed before it could settle, is known now.
        context.budget.taken_over(held.job.id, held.job.pages_sent + held.job.pages_lost, held.job.backfill)
        return job
    if _close_if_settled(context, held):
        return job.outcome("skipped")
    try:
        found = context.ledger.kept_ranges(held.job.id) if over.doing == "posting" else []
        change = transitions.taken_over(held.job, context.lease("collecting"), found)
        if len(change.job.kept) > len(held.job.kept):
            log.info("%s: pages had arrived before a worker stopped; they are kept", held.job.document.uri)
        job.write(change)
    except Superseded:
        return job.outcome("skipped")
    spent = change.job.pages_sent + change.job.pages_lost
    context.budget.taken_over(held.job.id, spent, change.job.backfill)
    return job


def _close_if_settled(context: RunContext, held: Held) -> bool:
    """Close the open record of a job that has ended already. Returns whether it has."""
    if not context.ledger.settled(held.job):
        return False
    if context.ledger.done(held.job.id) is not None:
        context.ledger.drop_kept(held.job.id)  # whoever closed it was stopped before it came to that
    context.ledger.close(held)
    return True


def _collect(context: RunContext, job: HeldJob) -> Outcome:
    try:
        return _collected(context, job)
    except EndsRun as ended:
        ended.outcome = _with_what_was_sent(job, ended)
        raise
    except Exception as error:
        error.outcome = _with_what_was_sent(job, error)  # type: ignore[attr-defined]  # counted by whoever catches it
        raise


def _with_what_was_sent(job: HeldJob, error: Exception) -> Outcome:
    """What the job came to when something ended the step, perhaps while its missing pages were sent."""
    sent = getattr(error, "outcome", None)
    return job.plus(sent) if isinstance(sent, Outcome) else job.outcome("later", str(error))


def _collected(context: RunContext, job: HeldJob) -> Outcome:
    try:
        return _Collector(context, job).collect()
    except Superseded:
        return job.outcome("skipped")
    except DocumentFault as fault:
        return fail(context, job, "collect", fault)
    except ObjectRefused as fault:
        _put_off(context, job)
        return job.outcome("aside", str(fault))
    except (TransientFault, Gone, RecordUnreadable, Cancelled) as fault:
        unreadable = isinstance(fault, BatchUnreadable)
        _put_off(context, job, (job.job.unreadable_since or context.clock.now()) if unreadable else None)
        return job.outcome("later", str(fault))
    except CredentialsRefused:  # nothing can be written any more
        raise
    except Exception:  # the run ends, or worse: nobody else should wait for a lease of ours
        _put_off(context, job)
        raise


def _put_off(context: RunContext, job: HeldJob, unreadable_since: datetime | None = None) -> None:
    """Let a job go that could not be collected; what was counted is counted all the same."""
    try:
        postpone(context, job, unreadable_since)
    except CredentialsRefused:
        raise
    except Fault as fault:
        log.warning("%s could not be postponed (%s); its lease will expire", job.job.document.uri, fault)


class _Collector:
    """One job: collected without a lease while it takes one batch; with one for anything longer."""

    def __init__(self, context: RunContext, job: HeldJob) -> None:
        self._context = context
        self._held = job
        self._answers: dict[str, RequestStatus] = {}
        self._unusable: set[tuple[str, PageRange]] = set()
        self._since = context.clock.now()

    @property
    def _job(self) -> Job:
        return self._held.job

    def collect(self) -> Outcome:
        asked = ask(self._context, self._job, finished_too=True)
        self._answers = asked.answers
        self._held.stage(asked.change)
        if not asked.ready:
            postpone(self._context, self._held)
            return self._held.outcome("open")
        self._learn_pages()
        return self._finish()

    def _finish(self) -> Outcome:
        """Publish what is whole, or send what is missing."""
        with self._context.scratch() as folder:
            while True:
                coverage = self._coverage()
                if coverage is None or coverage.missing:
                    return self._send_missing(coverage)
                if len(coverage.shares) > 1 and self._job.lease is None:
                    self._renew()
                try:
                    return self._publish(coverage, folder)
                except _PieceUnusable as unusable:
                    log.warning("%s: pages %s: %s", self._job.document.uri, unusable.piece.pages, unusable)
                    self._unusable.add((unusable.piece.request, unusable.piece.pages))
                except DocumentFault as fault:
                    if fault.code == FailureCode.UNMERGEABLE:  # paid for and whole, if only in pieces
                        self._keep_fetched(coverage)
                    raise

    def _renew(self) -> None:
        """Write the record, with a fresh lease."""
        self._held.write(transitions.collecting(self._job, self._context.lease("collecting")))

    def _learn_pages(self) -> None:
        """Take the page count from the API, for a document that only it can count.

        Raises:
            DocumentFault: pages came, and how many there are cannot be known: sending them again would not tell.
        """
        unknown = [request for request in self._job.requests if request.pages is None and request.id in self._answers]
        came = [self._answers[each.id] for each in unknown if any(b.completed for b in self._answers[each.id].batches)]
        if self._job.pages is not None or not came:
            return
        totals = {total for answer in came if (total := _total(answer)) is not None}
        if len(totals) != 1:
            said = f"differently each time ({', '.join(map(str, sorted(totals)))})" if totals else "not at all"
            raise DocumentFault(
                FailureCode.WRONG_ANSWER,
                f"the API counts the document's pages {said}: convert it to PDF, so that its pages can be "
                "counted locally",
            )
        (total,) = totals
        _check_total(total)
        context = self._context
        change = transitions.counted(self._job, total, context.lease("collecting"), unknown, context.run)
        more = total - self._job.estimate
        # Whatever comes between the two, no meter counts less than was spent: more is charged before it is on record,
        # and less is given back once it is. Whoever finds the record uncorrected makes the same charge again.
        if more > 0:
            self._correct_budget(unknown, more)
        self._held.write(change)
        if more <= 0:
            self._correct_budget(unknown, more)

    def _correct_budget(self, requests: Sequence[Request], pages: int) -> None:
        for request in requests:
            counted = self._job.id if request is requests[-1] else None
            self._context.correct_budget(request, pages, self._job.backfill, counted)

    def _coverage(self) -> Coverage | None:
        """What the batches cover; None while nobody knows how many pages there are."""
        total = self._job.pages
        if total is None:
            return None
        pieces = [Piece(_kept(pages), pages) for pages in self._job.kept if (_kept(pages), pages) not in self._unusable]
        for request in reversed(self._job.requests):  # pages that were sent again lacked something before
            answer = self._answers.get(request.id)
            if answer is None or request.status != "finished":
                continue
            before = request.pages.first - 1 if request.pages else 0
            expected = len(request.pages) if request.pages else total
            completed = [batch for batch in answer.batches if batch.completed]
            if completed and answer.total_pages is not None and answer.total_pages != expected:
                raise DocumentFault(
                    FailureCode.WRONG_ANSWER,
                    f"the API counts {answer.total_pages} pages in request {request.id}, but {expected} were sent: "
                    "the document may be damaged; open it, save it again and upload it",
                    retry_helps=True,
                )
            for batch in completed:
                pages = PageRange(first=before + batch.start_page, last=before + batch.end_page)
                if (request.id, pages) not in self._unusable:
                    pieces.append(Piece(request.id, pages))
        return cover(total, pieces)

    def _send_missing(self, coverage: Coverage | None) -> Outcome:
        missing = None if coverage is None else coverage.missing
        if self._job.rounds >= self._context.options.rounds:
            words = "its pages" if missing is None else "pages " + ", ".join(map(str, missing))
            said = {request.note for request in self._job.requests if request.note}
            said |= {batch.failure_message for answer in self._answers.values() for batch in answer.batches}
            said_words = "; ".join(sorted(words for words in said if words))
            fault = DocumentFault(
                FailureCode.MISSING_PAGES,
                f"{words} did not come back after {self._job.rounds} submissions"
                + (f" (the API says: {said_words})" if said_words else ""),
                retry_helps=True,
            )
            if coverage is not None:
                self._keep_fetched(coverage)
            return fail(self._context, self._held, "recognise", fault, missing or ())
        if self._held.written.job.lease is None and _close_if_settled(self._context, self._held.written):
            return self._held.outcome("skipped")
        log.info("%s: sending pages %s", self._job.document.uri, "all" if missing is None else [*map(str, missing)])
        # Lost requests may have been billed all the same.
        self._held.write(transitions.resending(self._job, self._context.lease("reading")))
        return self._held.plus(send_pages(self._context, self._held.written, missing))

    def _publish(self, coverage: Coverage, folder: Path) -> Outcome:
        result, text = folder / "result.json", folder / "text" if self._context.options.text else None
        merged = merge(coverage.shares, self._loader(coverage, folder), result, text)
        from_text = sum(map(len, self._job.text_pages))
        sources = PageSources(sent=merged.pages - from_text, text_layer=from_text)
        return publish(
            self._context, self._held, Pages(result, text, merged.pages, sources, self._since, merged.measured)
        )

    def _loader(self, coverage: Coverage, folder: Path) -> Callable[[Share], dict[str, Any]]:
        """What gives the batch of a share. Of a job that takes text from documents, each page says where it is from."""
        if self._job.text_layers is None:
            return lambda share: self._load(share, folder / "batch.json")
        like: list[dict[str, Any] | None] = []

        def load(share: Share) -> dict[str, Any]:
            answer = self._load(share, folder / "batch.json")
            if share.piece.pages in self._job.text_pages and share.piece.request == _kept(share.piece.pages):
                if not like:  # the shape and the model are told by what the API answered, wherever it stands
                    sent = next(
                        (each for each in coverage.shares if each.piece.pages not in self._job.text_pages), None
                    )
                    like.append(None if sent is None else self._load(sent, folder / "shape.json"))
                return in_shape_of(answer, like[0])
            return {**answer, "pages": [{**page, SOURCE: RECOGNISED} for page in answer["pages"]]}

        return load

    def _keep_fetched(self, coverage: Coverage) -> None:
        """Keep the pages that were paid for and came: the API forgets them after 30 days."""
        kept = list(self._job.kept)
        with self._context.scratch() as folder:
            for piece in dict.fromkeys(share.piece for share in coverage.shares):
                if piece.pages in kept:
                    continue
                try:
                    answer = self._load(Share(piece, piece.pages), folder / "batch.json")
                except (_PieceUnusable, TransientFault, Gone, DocumentFault) as fault:
                    log.warning("%s: pages %s cannot be kept: %s", self._job.document.uri, piece.pages, fault)
                    continue
                self._context.ledger.keep_pages(self._job.id, piece.pages, json.dumps(answer).encode())
                kept.append(piece.pages)
        self._held.write(transitions.kept(self._job, kept, self._context.lease("collecting")))

    def _load(self, share: Share, file: Path) -> dict[str, Any]:
        """Download the batch of a share; a URL that expired, or a cut download, is asked for anew."""
        piece = share.piece
        lease = self._job.lease
        if lease is not None and self._context.age(lease.since) > min(
            _RENEWED_SECONDS, self._context.options.lease_seconds / 2
        ):
            self._renew()
        if piece.request == _kept(piece.pages):
            return self._load_kept(piece, file)
        trouble: Fault = TransientFault("")
        for attempt in range(_BATCH_ATTEMPTS):
            if attempt:
                if not isinstance(trouble, UrlExpired):
                    self._context.clock.sleep(random.uniform(0, 2**attempt))
                self._answers[piece.request] = self._context.client.status(piece.request)
            url = self._url(piece)
            if not url:
                raise _PieceUnusable(piece, "its batch is no longer offered")
            try:
                self._context.client.download(url, file)
                return read_batch(file, len(piece.pages))
            except BatchIncomplete as fault:
                if attempt:
                    raise _PieceUnusable(piece, str(fault)) from fault
            except (UrlExpired, BatchUnreadable) as fault:
                trouble = fault
                log.warning("%s, pages %s: %s; asking for a fresh URL", self._job.document.uri, piece.pages, fault)
        since = self._job.unreadable_since
        if (
            isinstance(trouble, BatchUnreadable)
            and since is not None
            and self._context.age(since) > _UNREADABLE_SECONDS
        ):
            raise _PieceUnusable(piece, str(trouble)) from trouble
        raise trouble

    def _load_kept(self, piece: Piece, file: Path) -> dict[str, Any]:
        body = self._context.ledger.kept_pages(self._job.id, piece.pages)
        try:
            file.write_bytes(body or b"")
            return read_batch(file, len(piece.pages))
        except BatchUnreadable as fault:
            raise _PieceUnusable(piece, f"the stored answer cannot be read: {fault}") from fault

    def _url(self, piece: Piece) -> str:
        before = next(
            (
                request.pages.first - 1
                for request in self._job.requests
                if request.id == piece.request and request.pages
            ),
            0,
        )
        for batch in self._answers[piece.request].batches:
            if batch.completed and (before + batch.start_page, before + batch.end_page) == (
                piece.pages.first,
                piece.pages.last,
            ):
                return batch.download_url
        return ""


def _total(answer: RequestStatus) -> int | None:
    """How many pages a request holds: as the API says, or, where it doesn't, to the end of batches without a gap."""
    if answer.total_pages is not None:
        return answer.total_pages
    end = 0
    for first, last in sorted({(batch.start_page, batch.end_page) for batch in answer.batches}):
        if first != end + 1:
            return None
        end = last
    return end if answer.status == "completed" else None


def _check_total(total: int) -> None:
    if not 1 <= total <= _MOST_PAGES:
        raise DocumentFault(
            FailureCode.WRONG_ANSWER, f"the API counts {total} pages in the document: nothing was published"
        )


def _kept(pages: PageRange) -> str:
    """The name under which a kept batch stands among the requests."""
    return f"kept {pages}"


class _PieceUnusable(Exception):
    """A batch that says it is completed, but whose pages cannot be had: they count as missing."""

    def __init__(self, piece: Piece, reason: str) -> None:
        super().__init__(reason)
        self.piece = piece
