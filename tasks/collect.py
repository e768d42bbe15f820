"""Step 4: fetch the batches of a finished job, merge them, publish the result, close the job."""

import json
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.documents.answers import BatchIncomplete, BatchUnreadable, read_batch
from tasks.documents.coverage import Coverage, Piece, Share, cover
from tasks.documents.merge import merge
from tasks.failing import fail
from tasks.faults import AccountFault, DocumentFault, MomentFault
from tasks.models import Job, PageRange
from tasks.outcomes import Outcome
from tasks.poll import ask, postpone, without_lease
from tasks.publish import Pages, publish
from tasks.sending import send_pages
from tasks.session import Session
from tasks.store.ledger import Held, Superseded
from tasks.upstage.answers import RequestStatus
from tasks.upstage.client import UrlExpired

log = logging.getLogger(__name__)

_BATCH_ATTEMPTS = 4
_MOST_PAGES = 100_000  # in one request; the API takes a thousand
_UNREADABLE_SECONDS = 86_400  # a storage host's bad day is no reason to pay again


def collect_job(session: Session, job_id: str) -> Outcome:
    """Bring an open job as far as it goes: publish it, send its missing pages, or leave it open.

    Raises:
        AccountFault: the account is refused; the job stays open.
    """
    try:
        return _take_up(session, job_id)
    except MomentFault as fault:  # S3 could not be asked who has the job: whoever looks next will see
        return Outcome("later", job_id, f"job {job_id}", message=str(fault))


def _take_up(session: Session, job_id: str) -> Outcome:
    held = session.ledger.read(job_id)
    if held is None or session.held_by_another(held.job):
        return Outcome("skipped", job_id, held.job.document.uri if held else job_id)
    name = held.job.document.uri
    if session.ledger.settled(held.job):
        if session.ledger.done(job_id) is not None:
            session.ledger.drop_kept(job_id)  # whoever closed it was stopped before it came to that
        session.ledger.close(held)
        return Outcome("skipped", job_id, name)
    try:
        # The lease keeps other collectors from downloading the same; it is no condition for being right.
        job = _adopted(session, held.job).model_copy(update={"lease": session.lease("collecting")})
        taken_over = job.possible_duplicates - held.job.possible_duplicates
        held = session.ledger.update(held, job)
    except Superseded:
        return Outcome("skipped", job_id, name)
    outcome = _collect(session, held)
    return replace(outcome, possible_duplicates=outcome.possible_duplicates + taken_over)


def _adopted(session: Session, job: Job) -> Job:
    """The job without the lease of somebody who was stopped, and with the pages that they had put into the ledger."""
    if job.lease is None or job.lease.doing != "posting":
        return without_lease(job)
    found = [pages for pages in session.ledger.kept_ranges(job.id) if pages not in job.kept]
    if not found:
        return without_lease(job)
    log.info("%s: pages %s had come before a worker stopped", job.document.uri, ", ".join(map(str, found)))
    pages = job.pages if job.pages is not None else max(each.last for each in found)
    job = job.model_copy(update={"kept": (*job.kept, *found), "pages": pages})
    if job.lease is not None and (job.lease.pages is None or job.lease.pages in found):
        # What they were posting was answered at once, and only the record of it is missing.
        return job.model_copy(update={"lease": None})
    return without_lease(job)


def _collect(session: Session, held: Held) -> Outcome:
    collector = _Collector(session, held)
    outcome = _ended(session, held, collector)
    return replace(outcome, pages_sent=outcome.pages_sent + collector.corrected)


def _ended(session: Session, held: Held, collector: "_Collector") -> Outcome:
    job_id, name = held.job.id, held.job.document.uri
    try:
        return collector.collect()
    except Superseded:
        return Outcome("skipped", job_id, name)
    except DocumentFault as fault:
        return Outcome(fail(session, collector.held, "collect", fault), job_id, name, message=str(fault))
    except MomentFault as fault:
        news: dict[str, object] = {"lease": None}
        if isinstance(fault, BatchUnreadable):
            news["unreadable_since"] = collector.held.job.unreadable_since or session.clock.now()
        postpone(session, collector.held, collector.held.job.model_copy(update=news))
        return Outcome("later", job_id, name, message=str(fault))
    except AccountFault:
        postpone(session, collector.held, collector.held.job.model_copy(update={"lease": None}))
        raise


class _Collector:
    """One job, leased to us."""

    def __init__(self, session: Session, held: Held) -> None:
        self._session = session
        self.held = held
        self._answers: dict[str, RequestStatus] = {}
        self._unusable: set[tuple[str, PageRange]] = set()
        self.corrected = 0  # by how many pages this run's submissions were reckoned too low

    @property
    def _job(self) -> Job:
        return self.held.job

    def collect(self) -> Outcome:
        asked = ask(self._session, self._job, finished_too=True)
        self._answers = asked.answers
        if asked.job.requests != self._job.requests:
            self._keep(asked.job)
        if not asked.ready:
            postpone(self._session, self.held, self._job.model_copy(update={"lease": None}))
            return Outcome("open", self._job.id, self._job.document.uri)
        self._learn_pages()
        return self._finish()

    def _finish(self) -> Outcome:
        """Publish what is whole, or send what is missing."""
        with self._session.scratch() as folder:
            while True:
                coverage = self._coverage()
                if coverage is None or coverage.missing:
                    return self._send_missing(coverage)
                try:
                    return self._publish(coverage, folder)
                except _PieceUnusable as unusable:
                    log.warning("%s: pages %s: %s", self._job.document.uri, unusable.piece.pages, unusable)
                    self._unusable.add((unusable.piece.request, unusable.piece.pages))
                except DocumentFault as fault:
                    if fault.code == "unmergeable":  # paid for and whole, if only in pieces
                        self._keep_what_came(coverage)
                    raise

    def _keep(self, job: Job) -> None:
        """Write the record, with a fresh lease."""
        lease = self._session.lease("collecting")
        self.held = self._session.ledger.update(self.held, job.model_copy(update={"lease": lease}))

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
                "wrong-answer",
                f"the API counts the document's pages {said}: convert it to PDF, whose pages are counted here",
            )
        (total,) = totals
        pages = _pages_of(total)
        requests = tuple(
            request.model_copy(update={"pages": pages}) if request in unknown else request
            for request in self._job.requests
        )
        ours = sum(request.id in self._session.submitted for request in unknown)
        if not ours and self._session.flow_run is not None:  # another process of this run may have sent the last one
            ours = int(self._job.flow_run == self._session.flow_run)
        more = (total - self._job.estimate) * ours
        self._keep(self._job.model_copy(update={"pages": total, "requests": requests}))
        self._session.budget.correct(more)
        self.corrected += more

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
                    "wrong-answer",
                    f"the API counts {answer.total_pages} pages in request {request.id}, and {expected} were sent: "
                    "the document may be damaged; open it, save it anew and upload it again",
                    retry_helps=True,
                )
            for batch in completed:
                pages = PageRange(first=before + batch.start_page, last=before + batch.end_page)
                if (request.id, pages) not in self._unusable:
                    pieces.append(Piece(request.id, pages))
        return cover(total, pieces)

    def _send_missing(self, coverage: Coverage | None) -> Outcome:
        missing = None if coverage is None else coverage.missing
        if self._job.rounds >= self._session.options.rounds:
            words = "its pages" if missing is None else "pages " + ", ".join(map(str, missing))
            said = {request.note for request in self._job.requests if request.note}
            said |= {batch.failure_message for answer in self._answers.values() for batch in answer.batches}
            said_words = "; ".join(sorted(words for words in said if words))
            fault = DocumentFault(
                "missing-pages",
                f"{words} did not come back after {self._job.rounds} submissions"
                + (f" (the API says: {said_words})" if said_words else ""),
                retry_helps=True,
            )
            if coverage is not None:
                self._keep_what_came(coverage)
            kind = fail(self._session, self.held, "recognise", fault, missing or ())
            return Outcome(kind, self._job.id, self._job.document.uri, message=str(fault))
        log.info("%s: sending pages %s", self._job.document.uri, "all" if missing is None else [*map(str, missing)])
        lost = [request.id for request in self._job.requests if request.status == "lost"]
        if lost:  # they may have been billed all the same
            requests = tuple(
                request.model_copy(update={"status": "resent"}) if request.id in lost else request
                for request in self._job.requests
            )
            duplicates = self._job.possible_duplicates + len(lost)
            self._keep(self._job.model_copy(update={"requests": requests, "possible_duplicates": duplicates}))
        outcome = send_pages(self._session, self.held, missing)
        return replace(outcome, possible_duplicates=outcome.possible_duplicates + len(lost))

    def _publish(self, coverage: Coverage, folder: Path) -> Outcome:
        result, text = folder / "result.json", folder / "text" if self._session.options.text else None
        merged = merge(coverage.shares, lambda share: self._load(share, folder / "batch.json"), result, text)
        return publish(self._session, self.held, Pages(result, text, merged.pages, merged.words))

    def _keep_what_came(self, coverage: Coverage) -> None:
        """Keep the pages that were paid for and came: the API forgets them after 30 days."""
        kept = list(self._job.kept)
        with self._session.scratch() as folder:
            for piece in dict.fromkeys(share.piece for share in coverage.shares):
                if piece.pages in kept:
                    continue
                try:
                    answer = self._load(Share(piece, piece.pages), folder / "batch.json")
                except (_PieceUnusable, MomentFault, DocumentFault) as fault:
                    log.warning("%s: pages %s cannot be kept: %s", self._job.document.uri, piece.pages, fault)
                    continue
                self._session.ledger.keep_pages(self._job.id, piece.pages, json.dumps(answer).encode())
                kept.append(piece.pages)
        self._keep(self._job.model_copy(update={"kept": tuple(kept)}))

    def _load(self, share: Share, file: Path) -> dict[str, Any]:
        """Download the batch of a share; a URL that expired, or a cut download, is asked for anew."""
        piece = share.piece
        lease = self._job.lease
        if lease is not None and self._session.age(lease.until) > -self._session.options.lease_seconds / 2:
            self._keep(self._job)
        if piece.request == _kept(piece.pages):
            return self._load_kept(piece, file)
        trouble: MomentFault = MomentFault("")
        for attempt in range(_BATCH_ATTEMPTS):
            if attempt:
                if not isinstance(trouble, UrlExpired):
                    self._session.clock.sleep(random.uniform(0, 2**attempt))
                self._answers[piece.request] = self._session.client.status(piece.request)
            url = self._url(piece)
            if not url:
                raise _PieceUnusable(piece, "its batch is not offered any more")
            try:
                self._session.client.download(url, file)
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
            and self._session.age(since) > _UNREADABLE_SECONDS
        ):
            raise _PieceUnusable(piece, str(trouble)) from trouble
        raise trouble

    def _load_kept(self, piece: Piece, file: Path) -> dict[str, Any]:
        body = self._session.ledger.kept_pages(self._job.id, piece.pages)
        try:
            file.write_bytes(body or b"")
            return read_batch(file, len(piece.pages))
        except BatchUnreadable as fault:
            raise _PieceUnusable(piece, f"what was kept of them cannot be read: {fault}") from fault

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


def _pages_of(total: int) -> PageRange:
    if not 1 <= total <= _MOST_PAGES:
        raise DocumentFault("wrong-answer", f"the API counts {total} pages in the document: nothing was published")
    return PageRange(first=1, last=total)


def _kept(pages: PageRange) -> str:
    """The name under which a kept batch stands among the requests."""
    return f"kept {pages}"


class _PieceUnusable(Exception):
    """A batch that says it is completed, but whose pages cannot be had: they count as missing."""

    def __init__(self, piece: Piece, reason: str) -> None:
        super().__init__(reason)
        self.piece = piece
