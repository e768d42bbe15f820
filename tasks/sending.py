"""Sending pages: read the document, post what is not covered yet, record every request at once.

Used for a new document (all pages), for one over the limits (several requests), and for pages that did not
come back (those only): one rule, not three.
"""

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tasks.documents.formats import PDF, TIFF, Format, format_of, upload_name
from tasks.documents.pages import count_pages, extract_pages
from tasks.faults import AccountFault, AnswerLost, DocumentFault, DocumentMoved, Fault, MomentFault, SetupFault
from tasks.models import FailedJob, Job, PageRange, Request, page_ranges
from tasks.outcomes import Outcome
from tasks.publish import check_place, reuse_identical
from tasks.session import Session
from tasks.store.ledger import Held, Superseded

log = logging.getLogger(__name__)

_LOST_ANSWERS = 3
_RECORD_ATTEMPTS = 12

Value = TypeVar("Value")
Kind = Literal["open", "failed", "later", "skipped"]


def send_pages(session: Session, held: Held, missing: Sequence[PageRange] | None = None) -> Outcome:
    """Submit pages of a job whose lease we hold.

    Args:
        session: the tools.
        held: the job, leased to us.
        missing: which pages; None for the whole document.

    Raises:
        AccountFault: the account is refused. The job is released; pages sent before are on record.
    """
    sender = _Sender(session, held)
    try:
        return sender.send(missing)
    except Superseded:
        return sender.outcome("skipped", "another worker took it over")
    except DocumentMoved as moved:
        if not sender.job.requests and not sender.job.possible_duplicates:
            sender.release()
            return replace(sender.outcome("later", f"{moved}: the next pass sees it as it is then"), moved=True)
        fault = DocumentFault(
            "changed", f"{moved}, so its missing pages cannot be sent; its new version is a job of its own"
        )
        return sender.outcome(fail(session, sender.held, "submit", fault, missing or ()), str(fault))
    except DocumentFault as fault:
        stage: Literal["submit", "read"] = "submit" if sender.sent.total else "read"
        return sender.outcome(fail(session, sender.held, stage, fault, missing or ()), str(fault))
    except (MomentFault, AnswerLost) as fault:
        sender.release()
        return sender.outcome("later", str(fault))
    except AccountFault:
        sender.release()
        raise
    except Fault as fault:  # the set-up: this object may not be read, or is in an archive
        sender.release()
        return replace(sender.outcome("later", str(fault)), set_aside=True)


def fail(
    session: Session,
    held: Held,
    stage: Literal["read", "submit", "recognise", "collect"],
    fault: DocumentFault,
    missing: Sequence[PageRange] = (),
) -> Kind:
    """Put a job on record as given up. Its requests stay on record, so that what they hold can still be fetched.

    Returns:
        `failed`; or `skipped`, when another worker took the job over, who may see it otherwise.
    """
    try:
        # Proves that the job is still ours: a worker whose lease was over must not fail what another finished.
        held = session.ledger.update(held, held.job.model_copy(update={"lease": session.lease("collecting")}))
    except Superseded:
        return "skipped"
    failed = FailedJob(
        job=held.job.model_copy(update={"lease": None}),
        stage=stage,
        code=fault.code,
        reason=str(fault),
        retry_helps=fault.retry_helps,
        missing=tuple(missing),
        failed_at=session.clock.now(),
        flow_run=session.flow_run,
    )
    session.ledger.fail(held, failed)
    return "failed"


def _parts(
    session: Session, document: Path, form: Format, total: int, wanted: Sequence[PageRange], folder: Path
) -> list[tuple[Path, PageRange]]:
    """The files to send and the pages they hold: the document itself where it fits, parts of it where not.

    All are made before the first is sent: a page that is too large is found before anything is paid.
    """
    limits = session.options.limits
    parts: list[tuple[Path, PageRange]] = []
    pending = [
        part for pages in wanted for part in page_ranges(range(pages.first, pages.last + 1), longest=limits.pages)
    ]
    while pending:
        pages = pending.pop(0)
        file = document
        if len(pages) < total:
            file = folder / f"pages-{pages.first}-{pages.last}"
            extract_pages(document, form, pages, file)
        size = file.stat().st_size
        if size <= limits.bytes:
            parts.append((file, pages))
            continue
        if len(pages) == 1 or form not in (PDF, TIFF):
            raise DocumentFault(
                "too-large",
                f"page {pages} alone is {size / 1e6:.1f} MB, and the API takes {limits.megabytes:g} MB: compress it",
            )
        middle = (pages.first + pages.last) // 2
        pending[:0] = [PageRange(first=pages.first, last=middle), PageRange(first=middle + 1, last=pages.last)]
        if file is not document:
            file.unlink()
    return parts


@dataclass
class _Sent:
    """What was spent."""

    requests: int = 0
    pages: int = 0
    lost: int = 0
    pages_lost: int = 0

    @property
    def total(self) -> int:
        return self.requests + self.lost


class _Sender:
    """One round of sending for one job. Knows the record as it was last written, whatever happens on the way."""

    def __init__(self, session: Session, held: Held) -> None:
        self._session = session
        self.held = held
        self.sent = _Sent()
        self._to_send = 0
        self._charged = 0
        self._rounds_before = held.job.rounds
        self._unrecorded = False  # whether pages may have been accepted and the record does not say so

    @property
    def job(self) -> Job:
        return self.held.job

    def outcome(self, kind: Kind, message: str = "", *, budget_used_up: bool = False) -> Outcome:
        return Outcome(
            kind,
            self.job.id,
            self.job.document.uri,
            pages_sent=self.sent.pages,
            requests=self.sent.requests,
            possible_duplicates=self.sent.lost,
            message=message,
            budget_used_up=budget_used_up,
        )

    def send(self, missing: Sequence[PageRange] | None) -> Outcome:
        session, source = self._session, self.job.document
        with session.scratch() as folder:
            document = folder / "document"
            session.objects.fetch(source.bucket, source.key, source.etag, document)
            content = _sha256(document)
            form = format_of(document, source.key)
            total = count_pages(document, form, session.options.limits.pixels)
            wanted = list(missing) if missing is not None else [PageRange(first=1, last=total)]
            fresh = missing is None and not self.job.requests and not self.job.possible_duplicates
            if fresh:
                check_place(session, self.job)
            if fresh and session.options.reuse_identical:
                copied = reuse_identical(session, self.held, content, folder)
                if copied is not None:
                    return copied
            self._to_send = count = sum(map(len, wanted))
            if not session.budget.take(count):
                self.release()
                message = f"its {count} pages are more than is left of the page budget"
                return self.outcome("later", message, budget_used_up=True)
            self._charged = count
            # Written together with the first "posting", to save a write.
            news: dict[str, object] = {"rounds": self.job.rounds + 1, "pages": total, "content": content}
            try:
                for part, pages in _parts(session, document, form, total, wanted, folder):
                    self._post(part, upload_name(source.key, form), form.media_type, pages, news)
            finally:
                # Pages whose answer was lost may be paid for.
                session.budget.give_back(max(0, self._charged - self.sent.pages - self.sent.pages_lost))
        return self.outcome("open")

    def _update(self, **changes: object) -> None:
        self.held = self._session.ledger.update(self.held, self.job.model_copy(update=changes))

    def _post(self, part: Path, name: str, media_type: str, pages: PageRange, news: dict[str, object]) -> None:
        """Send one part and record its request id before anything else happens."""
        session = self._session
        for attempt in range(1, _LOST_ANSWERS + 1):
            if attempt > 1:
                session.clock.sleep(random.uniform(0, 4.0**attempt))
                if not session.budget.take(len(pages)):
                    raise AnswerLost(
                        f"{name} was sent, the answer was lost, and the page budget has no room to repeat it"
                    )
                self._charged += len(pages)

            def still_ours(pages: PageRange = pages) -> None:
                # Says that a POST may be under way: whoever takes the job over from here on knows that these pages
                # may be paid for. Comes after the wait for the rate limit, renews the lease, and proves that the
                # job is still ours: waiting can take longer than a lease.
                self._update(lease=session.lease("posting", pages), **news)
                news.clear()
                self._unrecorded = False

            try:
                request_id = session.client.submit(part, name, media_type, self.job.model, len(pages), still_ours)
            except AnswerLost as lost:
                self._unrecorded = True
                self.sent.lost += 1
                self.sent.pages_lost += len(pages)
                log.error("%s, pages %s: %s; it may be paid for twice", self.job.document.uri, pages, lost)
                news["possible_duplicates"] = self.job.possible_duplicates + 1
                self._update(**news)
                news.clear()
                self._unrecorded = False
                if attempt == _LOST_ANSWERS:
                    raise
                continue
            self._unrecorded = True
            self.sent.requests += 1
            self.sent.pages += len(pages)
            self._record(Request(id=request_id, pages=pages, submitted_at=session.clock.now()))
            self._unrecorded = False
            return

    def _record(self, request: Request) -> None:
        session, taken_over = self._session, False
        # Held until the last part is sent, so that no collector takes the job for complete.
        lease = session.lease("reading") if self.sent.pages < self._to_send else None

        def add(job: Job) -> Job:
            nonlocal taken_over
            taken_over = job.lease is None or job.lease.owner != session.owner
            if request in job.requests:  # written before, though the answer to that was lost
                return job
            return job.model_copy(
                update={
                    "requests": (*job.requests, request),
                    "lease": job.lease if taken_over else lease,
                    "poll_after": None,
                    "possible_duplicates": job.possible_duplicates + taken_over,
                    "flow_run": session.flow_run,
                }
            )

        try:
            written = _insist(session, lambda: session.ledger.amend(self.held, add))
        except Fault as fault:
            message = f"request {request.id} was accepted but could not be recorded: {fault}"
            log.error("%s, pages %s: %s", self.job.document.uri, request.pages, message)
            raise MomentFault(message) from fault
        if written is None or taken_over:
            # Our lease was over before the answer came, and another worker sent the same pages.
            self.sent.lost += 1
            log.error("%s: request %s came after another worker had taken over", self.job.document.uri, request.id)
            raise Superseded(self.job.id)
        self.held = written
        log.info("%s: sent pages %s as request %s", self.job.document.uri, request.pages, request.id)

    def release(self) -> None:
        """Give the job back: a later pass takes it up. One that has nothing at the API is not even claimed.

        Where pages may have been accepted and that could not be recorded, the lease is left to run out: it says
        "posting", so whoever takes the job over counts the possible duplicate.
        """
        if self._unrecorded:
            return
        try:
            if not self.job.requests and not self.job.possible_duplicates:
                self._session.ledger.close(self.held)
            else:
                # A round in which nothing could be sent is none.
                rounds = self.job.rounds if self.sent.total else self._rounds_before
                self._update(lease=None, rounds=rounds)
        except Superseded:
            log.info("%s: another worker took it over", self.job.document.uri)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _insist(session: Session, call: Callable[[], Value]) -> Value:
    """Money was spent on this: try for many minutes before it is given up."""
    retrying = Retrying(
        # Also where the set-up is wrong: a token that ran out may be renewed while we try.
        retry=retry_if_exception_type((MomentFault, SetupFault)),
        wait=wait_random_exponential(multiplier=1, max=60),
        stop=stop_after_attempt(_RECORD_ATTEMPTS),
        sleep=session.clock.sleep,
        reraise=True,
    )
    return retrying(call)
