"""Posting one part of a document, and recording the outcome before anything else happens.

This is where money is spent. Right before each POST the record says "posting". Anything raised after that is counted
and charged as a lost answer, unless the API itself said that it accepted nothing.
"""

import logging
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasks.budget.gate import Spending
from tasks.context import RunContext
from tasks.documents.results.batch import BatchUnreadable, page_count, read_batch
from tasks.faults import (
    AnswerLost,
    CredentialsRefused,
    DocumentFault,
    Fault,
    NotUnderstood,
    SetupFault,
    Superseded,
    TimedOut,
    TransientFault,
)
from tasks.job import transitions
from tasks.job.record import Job, PageRange, Request
from tasks.job.transitions import Change
from tasks.steps.held_job import HeldJob
from tasks.upstage.errors import clean_words
from tasks.upstage.upload import Upload

log = logging.getLogger(__name__)

Mode = Literal["async", "sync"]

_LOST_ANSWERS = 3
_RECORD_ATTEMPTS = 12
_UNRECORDED = "could not be recorded; the next run counts it as possibly paid twice"
_ROOM = 1 << 20
_ROOM_A_PAGE = 1 << 18  # a page of a thousand words is about 150 KB of JSON

Value = TypeVar("Value")


@dataclass(frozen=True)
class PartToPost:
    """The content of one POST.

    Attributes:
        upload: the file and its name, media type and model.
        pages: the pages of the document it contains; None for all pages of a document whose pages are not counted.
        last: whether this is the final part.
    """

    upload: Upload
    pages: PageRange | None
    last: bool


class ProvesNothing(Exception):
    """A synchronous answer with exactly the maximum number of pages, for a document whose page count is unknown.

    Older versions of the API recognise the first pages and do not mention the rest.
    """

    def __init__(self, pages: int) -> None:
        super().__init__(
            f"the API returned {pages} pages, the maximum of a synchronous answer, so the document may have more"
        )
        self.pages = pages


class Posting:
    """Posts the parts of one job, in one round.

    Args:
        context: the run's context.
        job: the job, leased to us.
        reservation: the pages it may send.
        folder: where answers are stored.
        reserved_at: when the reservation was made.
    """

    def __init__(
        self, context: RunContext, job: HeldJob, reservation: Spending, folder: Path, *, reserved_at: datetime
    ) -> None:
        self._context = context
        self._job = job
        self._reservation = reservation
        self._folder = folder
        self._received: int | None = None  # pages of a synchronous answer
        self._reserved_at = reserved_at
        self._posted_at = context.clock.now()

    def post(self, part: PartToPost, mode: Mode) -> None:
        """Send one part and record it. After a lost answer the part is sent again, within bounds.

        Raises:
            AnswerLost: the answers to all attempts were lost; each is counted and charged.
            NotUnderstood: so many consecutive answers were lost that the run must stop.
            ProvesNothing: the answer is recorded, but does not prove that it covers the whole document.
            Superseded: another worker took the job over.
            SetupFault: the disk is full or has no room for the answer.
            AccountFault, DocumentFault, TransientFault: as the API answered.
        """
        for attempt in range(1, _LOST_ANSWERS + 1):
            try:
                self._post_once(part, mode)
                return
            except AnswerLost as lost:
                if attempt == _LOST_ANSWERS or isinstance(lost, TimedOut):
                    raise
                self.pay_again(part.upload.pages, lost)
            self._context.clock.sleep(random.uniform(0, 4.0 ** (attempt + 1)))

    def pay_again(self, pages: int, lost: AnswerLost) -> None:
        """Reserve pages that must be sent again.

        Raises:
            AnswerLost: the budget has no room for them.
        """
        if not self._reservation.extend(pages):
            raise AnswerLost(f"{lost}, and the page budget has no room to send it again")

    def _post_once(self, part: PartToPost, mode: Mode) -> None:
        context, job, answer = self._context, self._job, self._folder / "answer"
        under_way = False

        def record_posting() -> None:
            # Records that a POST may be in flight: a worker that takes the job over from here on knows that these pages
            # may have been billed. Written after the wait for the rate limit, it renews the lease and proves that the
            # job is still ours, because the wait can outlast a lease.
            nonlocal under_way
            under_way = False
            context.prove_sends(job.job.backfill)  # the backfill may have been paused during the wait
            job.write(transitions.posting(job.job, context.lease("posting", part.pages)))
            job.unrecorded, under_way = False, True
            self._posted_at = context.clock.now()

        if mode == "sync":
            self._check_room(part)
        try:
            if mode == "async":
                request_id = context.client.submit(part.upload, record_posting)
                self._claim_request_id(request_id)
            else:
                request_id = f"sync-{uuid.uuid4()}"
                context.client.recognise(part.upload, answer, record_posting)
        except AnswerLost as lost:
            self._count_lost(part, lost)
            raise
        except DocumentFault:
            context.lost_answers.understood()
            raise
        except Exception as error:
            # All other faults mean that nothing was accepted: the API said so, or nothing had been sent.
            local = isinstance(error, SetupFault) or not isinstance(error, Fault)
            if under_way and local and not getattr(error, "not_sent", False):
                # For example, a full disk: the answer is paid for but cannot be stored.
                self._count_lost(part, AnswerLost(f"the answer could not be stored: {error}"))
            raise
        context.lost_answers.understood()
        # From here on the pages are paid for, but the record does not say so yet.
        job.unrecorded = True
        requests_before, self._received = job.counts.requests, None
        try:
            if mode == "async":
                context.accepted(job.job.model)
                self._record(self._request(request_id, part.pages), part, part.upload.pages)
            else:
                self._keep_answer(request_id, answer, part)
        except BaseException:
            if job.counts.requests == requests_before:  # whatever was raised, the pages were paid for before it
                self._paid(self._received or part.upload.pages)
            raise

    def _claim_request_id(self, request_id: str) -> None:
        """Claim the request id for this job.

        Raises:
            AnswerLost: another document, or another part of this one, has it.
        """
        job, name = self._job.job, clean_words(request_id)
        if not self._context.request_owners.claim(request_id, job.id):
            raise AnswerLost(f"the API returned request {name}, which belongs to another document")
        earlier = next((request for request in job.requests if request.id == request_id), None)
        if earlier is not None:
            pages = f"pages {earlier.pages}" if earlier.pages else "all pages"
            raise AnswerLost(f"the API returned request {name}, which already covers {pages} of this document")

    def _request(self, request_id: str, pages: PageRange | None, note: str | None = None) -> Request:
        context, now = self._context, self._context.clock.now()
        answered = note is not None
        submitted = self._posted_at if answered else now
        # The wait for the rate limit may have lasted over midnight.
        overnight = self._reserved_at.astimezone(UTC).date() != submitted.astimezone(UTC).date()
        return Request(
            id=request_id,
            pages=pages,
            submitted_at=submitted,
            reserved_at=self._reserved_at if overnight else None,
            run=context.run,
            status="answered" if answered else "open",
            note=note or "",
            completed_at=now if answered else None,
            price_per_page=context.options.price,
        )

    def _check_room(self, part: PartToPost) -> None:
        needed = _ROOM + _ROOM_A_PAGE * part.upload.pages
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise SetupFault(
                f"{self._folder.parent} has {free >> 20} MB free, but the answer for "
                f"{self._job.job.document.uri} may need {needed >> 20} MB: make room, or set TMPDIR to another folder; "
                "nothing was sent"
            )

    def _count_lost(self, part: PartToPost, lost: AnswerLost) -> None:
        job, pages = self._job, part.upload.pages
        job.unrecorded = True
        self._reservation.lost(pages)
        log.error("%s, pages %s: %s; it may be paid for twice", job.job.document.uri, part.pages or "all", lost)
        change = transitions.answer_lost(job.job, pages)
        job.counts += change.counts  # counted even if it cannot be recorded
        try:
            job.write(Change(change.job))
            job.unrecorded = False
        finally:
            self._brake(lost)

    def _brake(self, lost: AnswerLost) -> None:
        try:
            self._context.lost_answers.lost(lost)
        except NotUnderstood as stop:
            self._context.stop_submitting(stop)
            raise

    def _keep_answer(self, request_id: str, answer: Path, part: PartToPost) -> None:
        """Store the pages of a synchronous answer in the ledger: the API returns them only once."""
        context, job = self._context, self._job
        try:
            received = page_count(read_batch(answer, None if part.pages is None else len(part.pages)))
            self._received = received
        except BatchUnreadable as unusable:  # recognised again as missing pages
            log.warning("%s, pages %s: %s", job.job.document.uri, part.pages or "all", unusable)
            self._record(self._request(request_id, part.pages, str(unusable)), part, part.upload.pages)
            return
        if part.pages is None and received == context.options.limits.sync_pages:
            job.write(transitions.proved_nothing(job.job, received))
            self._reservation.sent(received)
            job.unrecorded = False
            raise ProvesNothing(received)
        pages = part.pages or PageRange(first=1, last=received)

        def keep() -> None:
            with answer.open("rb") as body:
                context.ledger.keep_pages(job.job.id, pages, body)

        try:
            self._insist(keep)
        except CredentialsRefused as refused:
            raise CredentialsRefused(f"pages {pages} were recognised but {_UNRECORDED}: {refused}") from refused
        except Fault as fault:
            raise TransientFault(f"pages {pages} were recognised but could not be kept: {fault}") from fault
        self._record(self._request(request_id, pages, ""), part, len(pages), total=received)

    def _paid(self, pages: int) -> None:
        """Count a submission that is not recorded; the job's lease says that it may have happened."""
        self._reservation.sent(pages)
        self._job.counts += transitions.accepted(pages)

    def _record(self, request: Request, part: PartToPost, paid: int, total: int | None = None) -> None:
        context, job = self._context, self._job
        # Keep the lease until the last part is sent, so that no collector considers the job complete.
        keep = None if part.last else context.lease("reading")
        whole = total if part.pages is None else None
        posted, late = job.written.job.lease, False

        def add(record: Job) -> Change:
            nonlocal late
            late = request not in record.requests and transitions.is_no_longer_leased_to(record, context.owner)
            return transitions.sent(
                record,
                request,
                paid,
                owner=context.owner,
                keep=keep,
                flow_run=context.flow_run,
                total=whole,
                posted=posted,
            )

        try:
            written, counts = self._insist(lambda: context.ledger.amend(job.written, add))
        except Fault as fault:
            name = job.job.document.uri
            if isinstance(fault, CredentialsRefused):
                message = f"request {request.id} was accepted but {_UNRECORDED}: {fault}"
                log.error("%s, pages %s: %s", name, request.pages, message)
                raise CredentialsRefused(message) from fault
            message = f"request {request.id} was accepted but could not be recorded: {fault}"
            log.error("%s, pages %s: %s", name, request.pages, message)
            raise TransientFault(message) from fault
        job.unrecorded = False
        if written is None:
            done = context.ledger.done(job.job.id)
            if done is not None:
                context.ledger.drop_kept(job.job.id)  # the pages we stored arrived too late to be used
            closed = done or context.ledger.failed(job.job.id)
            ended = context.ledger.earlier_attempt(job.job) or (closed.job if closed is not None else None)
            counted = ended is not None and transitions.counted_as_lost(ended, posted) is not None
            job.counts += transitions.accepted(paid, possible_duplicate=not counted)
            self._reservation.sent(paid)
        elif late:
            self._reservation.sent(paid)
            job.counts += counts
        else:
            self._reservation.sent(paid)
            job.take(written, counts)
            log.info("%s: sent pages %s as request %s", job.job.document.uri, request.pages or "all", request.id)
            return
        # Our lease expired before the answer arrived, and another worker sent the same pages.
        log.error(
            "%s: request %s was accepted after another worker had taken the job over; its pages may be paid for twice",
            job.job.document.uri,
            request.id,
        )
        raise Superseded(job.job.id)

    def _insist(self, call: Callable[[], Value]) -> Value:
        """Retry for many minutes before giving up, because money was spent on this."""
        retrying = Retrying(
            # A missing permission is retried too: an operator may grant it meanwhile. Expired credentials are not:
            # boto3 renews those it can before they expire.
            retry=retry_if_exception(_can_pass),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=stop_after_attempt(_RECORD_ATTEMPTS),
            sleep=self._context.clock.sleep,
            reraise=True,
        )
        return retrying(call)


def _can_pass(error: BaseException) -> bool:
    return isinstance(error, TransientFault | SetupFault) and not isinstance(error, CredentialsRefused)
