"""Sending pages: read the document, post what is not covered yet, record every request at once.

Used for a new document (all pages), for one over the limits (several requests), and for pages that did not
come back (those only): one rule, not three. A synchronous request is one that is finished at once: its pages go
into the ledger, where collecting finds them.
"""

import hashlib
import logging
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasks.documents.answers import BatchUnreadable, page_count, read_batch
from tasks.documents.formats import upload_name
from tasks.documents.inspect import Inspected, InspectionLimits, inspect_document
from tasks.documents.parts import divide
from tasks.failing import fail
from tasks.faults import (
    AccountFault,
    AnswerLost,
    CredentialsRefused,
    DocumentFault,
    DocumentMoved,
    Fault,
    MomentFault,
    NotOffered,
    SetupFault,
    TimedOut,
)
from tasks.models import Job, PageRange, Request
from tasks.outcomes import Outcome
from tasks.publish import check_place, reuse_identical
from tasks.session import Session
from tasks.store.ledger import Held, Superseded
from tasks.upstage.client import SYNC_SECONDS, Upload

log = logging.getLogger(__name__)

_LOST_ANSWERS = 3
_RECORD_ATTEMPTS = 12
_UNRECORDED = "could not be recorded, and the next run counts it as possibly paid twice"

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
        CredentialsRefused: nothing can be written any more. The job keeps its lease, which says what may be paid for.
    """
    sender = _Sender(session, held)
    try:
        return sender.send(missing)
    except Superseded:
        return sender.outcome("skipped", "another worker took it over")
    except DocumentMoved as moved:
        if sender.job.untouched:
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
    except CredentialsRefused:
        raise
    except Fault as fault:  # the set-up: this object may not be read, or is in an archive
        sender.release()
        return replace(sender.outcome("later", str(fault)), set_aside=True)


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
        self._more_to_come = False  # whether parts are left after the one at hand
        self._charged = 0
        self._rounds_before = held.job.rounds
        self._news: dict[str, object] = {}  # written together with the next "posting", to save a write
        self._unrecorded = False  # whether pages may have been accepted and the record does not say so
        self._too_long = False  # whether the document is too long, or takes too long, for synchronous requests
        self._longest_sync = session.options.limits.sync_pages

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
            limits = session.options.limits
            inspected = inspect_document(document, source.key, InspectionLimits(limits.pixels, limits.dpi))
            if inspected.pages is None:  # what the API counted before is better than what the document says of itself
                inspected = replace(inspected, estimate=self.job.pages or min(inspected.estimate, limits.pages))
            fresh = missing is None and self.job.untouched
            if fresh:
                check_place(session, self.job)
            if fresh and session.options.reuse_identical:
                copied = reuse_identical(session, self.held, content, folder)
                if copied is not None:
                    return copied
            whole = missing is None or not inspected.form.divisible
            wanted = [PageRange(first=1, last=inspected.estimate)] if whole else list(missing or ())
            count = sum(map(len, wanted))
            if not session.budget.take(count):
                self.release()
                message = f"its {count} pages are more than is left of the page budget"
                return self.outcome("later", message, budget_used_up=True)
            self._charged = count
            self._news = {"rounds": self.job.rounds + 1, "content": content}
            if inspected.pages is None:
                self._news["estimate"] = inspected.estimate
            else:
                self._news["pages"] = inspected.pages
            try:
                self._send_all(document, inspected, wanted, folder)
            finally:
                # Pages whose answer was lost may be paid for.
                session.budget.give_back(max(0, self._charged - self.sent.pages - self.sent.pages_lost))
        return self.outcome("open")

    def _send_all(self, document: Path, inspected: Inspected, wanted: Sequence[PageRange], folder: Path) -> None:
        """Send the pages, as jobs or synchronously; what the one way does not take goes the other."""
        session, limits = self._session, self._session.options.limits
        name = upload_name(self.job.document.key, inspected.form)
        while wanted:
            mode = self._mode(inspected, wanted)
            longest = self._longest_sync if mode == "sync" else limits.pages
            parts = divide(document, inspected, wanted, longest, limits.bytes, folder)
            try:
                while parts:
                    part, self._more_to_come = parts[0], len(parts) > 1
                    upload = Upload(
                        part.file,
                        name,
                        inspected.form.media_type,
                        self.job.model,
                        len(part.pages) if part.pages else inspected.estimate,
                        self.job.answer_schema,
                    )
                    self._post(upload, part.pages, mode, folder / "answer")
                    parts.pop(0)
            except NotOffered as refused:
                self._after_refusal(refused, mode)
            except DocumentFault as fault:
                if mode != "sync" or inspected.pages is not None or fault.code != "too-large":
                    raise
                # Its pages are more than a synchronous request takes, and only the API can count them.
                if session.async_refused(self.job.model) is not None:
                    raise DocumentFault(fault.code, str(fault), retry_helps=True) from fault
                self._too_long = True
            except TimedOut as slow:
                self._after_time_out(slow, parts[0].pages, upload.pages)
            wanted = [part.pages or PageRange(first=1, last=inspected.estimate) for part in parts]

    def _mode(self, inspected: Inspected, wanted: Sequence[PageRange]) -> Literal["async", "sync"]:
        options = self._session.options
        if self._session.async_refused(self.job.model) is not None:
            return "sync"
        if self._too_long:
            return "async"
        if options.mode == "auto":
            # Up to a batch's worth comes within the time that an upload takes, in one call instead of three.
            short = inspected.pages is not None and sum(map(len, wanted)) <= options.sync_up_to
            return "sync" if short else "async"
        return options.mode

    def _after_refusal(self, refused: NotOffered, mode: Literal["async", "sync"]) -> None:
        """Go on synchronously where the account takes no jobs; stop where it takes nothing."""
        session, model = self._session, self.job.model
        if mode == "async":
            session.refuse_async(model, refused)
        elif model == session.options.model:
            session.client.stop_submitting(refused)
            raise refused
        else:  # a job of an older run: its model is not this run's trouble
            raise DocumentFault(
                "model-refused", f"its missing pages cannot be sent, since {refused}", retry_helps=True
            ) from refused

    def _after_time_out(self, slow: TimedOut, pages: PageRange | None, count: int) -> None:
        """Find the way on: as a job, where the account takes jobs; else half as many pages at once."""
        if self._session.async_refused(self.job.model) is None:
            log.warning("%s: %s; going on with a job", self.job.document.uri, slow)
            self._too_long = True
        elif pages is not None and len(pages) > 1:
            self._longest_sync = (len(pages) + 1) // 2
        else:
            raise slow
        self._pay_again(count, slow)

    def _pay_again(self, pages: int, lost: AnswerLost) -> None:
        if not self._session.budget.take(pages):
            raise AnswerLost(f"{lost}, and the page budget has no room to repeat it")
        self._charged += pages

    def _update(self, **changes: object) -> None:
        self.held = self._session.ledger.update(self.held, self.job.model_copy(update=self._news | changes))
        self._news = {}

    def _post(self, upload: Upload, pages: PageRange | None, mode: Literal["async", "sync"], answer: Path) -> None:
        """Send one part, and record what came of it before anything else happens."""
        session = self._session
        longer = SYNC_SECONDS if mode == "sync" else 0

        def still_ours() -> None:
            # Says that a POST may be under way: whoever takes the job over from here on knows that these pages
            # may be paid for. Comes after the wait for the rate limit, renews the lease, and proves that the
            # job is still ours: waiting can take longer than a lease.
            self._update(lease=session.lease("posting", pages, longer=longer))
            self._unrecorded = False

        for attempt in range(1, _LOST_ANSWERS + 1):
            try:
                if mode == "async":
                    request_id = session.client.submit(upload, still_ours)
                    session.accepted(self.job.model, request_id)
                    self._count_sent(upload.pages)
                    self._record(Request(id=request_id, pages=pages, submitted_at=session.clock.now()))
                else:
                    session.client.recognise(upload, answer, still_ours)
                    self._count_sent(upload.pages)
                    self._keep_answer(answer, pages)
                self._unrecorded = False
                return
            except AnswerLost as lost:
                self._note_lost(lost, pages, upload.pages)
                if attempt == _LOST_ANSWERS or isinstance(lost, TimedOut):
                    raise
                self._pay_again(upload.pages, lost)
            session.clock.sleep(random.uniform(0, 4.0 ** (attempt + 1)))

    def _count_sent(self, pages: int) -> None:
        self._unrecorded = True
        self.sent.requests += 1
        self.sent.pages += pages

    def _note_lost(self, lost: AnswerLost, pages: PageRange | None, count: int) -> None:
        self._unrecorded = True
        self.sent.lost += 1
        self.sent.pages_lost += count
        log.error("%s, pages %s: %s; it may be paid for twice", self.job.document.uri, pages or "all", lost)
        self._update(possible_duplicates=self.job.possible_duplicates + 1)
        self._unrecorded = False

    def _keep_answer(self, answer: Path, pages: PageRange | None) -> None:
        """Put the pages of a synchronous answer into the ledger: the API gives them once."""
        session, note = self._session, ""
        request_id = f"sync-{uuid.uuid4()}"
        try:
            came = page_count(read_batch(answer, None if pages is None else len(pages)))
        except BatchUnreadable as unusable:  # to be recognised again, by the rule for pages that are missing
            note = str(unusable)
            log.warning("%s, pages %s: %s", self.job.document.uri, pages or "all", unusable)
        else:
            if pages is None:
                pages = PageRange(first=1, last=came)
                self._news["pages"] = came
                session.budget.correct(came - self.job.estimate)
                self.sent.pages += came - self.job.estimate
                self._charged += came - self.job.estimate
            kept = pages

            def keep() -> None:
                with answer.open("rb") as body:
                    session.ledger.keep_pages(self.job.id, kept, body)

            try:
                _insist(session, keep)
            except CredentialsRefused as refused:
                raise CredentialsRefused(f"pages {kept} were recognised but {_UNRECORDED}: {refused}") from refused
            except Fault as fault:
                raise MomentFault(f"pages {kept} were recognised but could not be kept: {fault}") from fault
        self._record(
            Request(id=request_id, pages=pages, submitted_at=session.clock.now(), status="answered", note=note)
        )

    def _record(self, request: Request) -> None:
        session, taken_over = self._session, False
        # Held until the last part is sent, so that no collector takes the job for complete.
        lease = session.lease("reading") if self._more_to_come else None
        news, self._news = self._news, {}
        kept = (request.pages,) if request.status == "answered" and request.pages and not request.note else ()

        def add(job: Job) -> Job:
            nonlocal taken_over
            taken_over = job.lease is None or job.lease.owner != session.owner
            if request in job.requests:  # written before, though the answer to that was lost
                return job
            return job.model_copy(
                update={
                    **news,
                    "requests": (*job.requests, request),
                    "kept": (*job.kept, *kept),
                    "lease": job.lease if taken_over else lease,
                    "poll_after": None,
                    "possible_duplicates": job.possible_duplicates + taken_over,
                    "flow_run": session.flow_run,
                }
            )

        try:
            written = _insist(session, lambda: session.ledger.amend(self.held, add))
        except CredentialsRefused as refused:
            message = f"request {request.id} was accepted but {_UNRECORDED}: {refused}"
            log.error("%s, pages %s: %s", self.job.document.uri, request.pages, message)
            raise CredentialsRefused(message) from refused
        except Fault as fault:
            message = f"request {request.id} was accepted but could not be recorded: {fault}"
            log.error("%s, pages %s: %s", self.job.document.uri, request.pages, message)
            raise MomentFault(message) from fault
        if written is None or taken_over:
            if written is None and session.ledger.done(self.job.id) is not None:
                session.ledger.drop_kept(self.job.id)  # what we kept came too late to be of use
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
            self._news = {}  # of a round that did not come to be
            if self.job.untouched:
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


def _can_pass(error: BaseException) -> bool:
    return isinstance(error, MomentFault | SetupFault) and not isinstance(error, CredentialsRefused)


def _insist(session: Session, call: Callable[[], Value]) -> Value:
    """Money was spent on this: try for many minutes before it is given up."""
    retrying = Retrying(
        # Also where a permission is missing, which somebody may mend while we try. Credentials that ran out stay so:
        # those that can be renewed are, by boto3, before they run out.
        retry=retry_if_exception(_can_pass),
        wait=wait_random_exponential(multiplier=1, max=60),
        stop=stop_after_attempt(_RECORD_ATTEMPTS),
        sleep=session.clock.sleep,
        reraise=True,
    )
    return retrying(call)
