"""Posting one part of a document, and recording what came of it before anything else happens.

This is where money is spent. Right before each POST the record says "posting"; whatever is raised after that is counted
and charged as an answer that was lost, unless the API itself said that it took nothing.
"""

import logging
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasks.context import RunContext
from tasks.documents.results.batch import BatchUnreadable, page_count, read_batch
from tasks.faults import (
    AnswerLost,
    CredentialsRefused,
    DocumentFault,
    Fault,
    NotUnderstood,
    Passes,
    SetupFault,
    Superseded,
    TimedOut,
)
from tasks.job import transitions
from tasks.job.record import Job, PageRange, Request
from tasks.job.transitions import Change
from tasks.steps.held_job import HeldJob
from tasks.upstage.errors import clean_words
from tasks.upstage.gate import Spending
from tasks.upstage.upload import Upload

log = logging.getLogger(__name__)

Mode = Literal["async", "sync"]

_LOST_ANSWERS = 3
_RECORD_ATTEMPTS = 12
_UNRECORDED = "could not be recorded, and the next run counts it as possibly paid twice"
_ROOM = 1 << 20
_ROOM_A_PAGE = 1 << 18  # a page of a thousand words is about 150 KB of JSON

Value = TypeVar("Value")


@dataclass(frozen=True)
class Part:
    """What one POST sends.

    Attributes:
        upload: the file, and how to announce it.
        pages: which pages of the document it holds; None for all, where nobody counted them.
        last: whether no part comes after it.
    """

    upload: Upload
    pages: PageRange | None
    last: bool


class ProvesNothing(Exception):
    """A synchronous answer of exactly the most pages there can be, for a document whose pages nobody counted.

    Older versions of the API recognise the first pages and say nothing of the others.
    """

    def __init__(self, pages: int) -> None:
        super().__init__(
            f"the API answered with {pages} pages, the most it gives at once, so the document may have more than these"
        )
        self.pages = pages


class Posting:
    """Posts the parts of one job, in one round.

    Args:
        context: the tools.
        job: the job, leased to us.
        reservation: the pages it may send.
        folder: where answers are put.
    """

    def __init__(self, context: RunContext, job: HeldJob, reservation: Spending, folder: Path) -> None:
        self._context = context
        self._job = job
        self._reservation = reservation
        self._folder = folder
        self._received: int | None = None  # pages of a synchronous answer
        self._posted_at = context.clock.now()

    def post(self, part: Part, mode: Mode) -> None:
        """Send one part and record it. A lost answer is repeated, within bounds.

        Raises:
            AnswerLost: the answers to all attempts were lost; each is counted and charged.
            NotUnderstood: so many answers in a row were lost that the run has to stop.
            ProvesNothing: the answer is on record, and does not show that it is the whole document.
            Superseded: another worker took the job over.
            SetupFault: there is no room for the answer, or the disk is full.
            AccountFault, DocumentFault, Passes: as the API answered.
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
        """Reserve pages that are to be sent once more.

        Raises:
            AnswerLost: the budget has no room for that.
        """
        if not self._reservation.extend(pages):
            raise AnswerLost(f"{lost}, and the page budget has no room to repeat it")

    def _post_once(self, part: Part, mode: Mode) -> None:
        context, job, answer = self._context, self._job, self._folder / "answer"
        under_way = False

        def still_ours() -> None:
            # Says that a POST may be under way: whoever takes the job over from here on knows that these pages
            # may be paid for. Comes after the wait for the rate limit, renews the lease, and proves that the
            # job is still ours: waiting can take longer than a lease.
            nonlocal under_way
            under_way = False
            context.prove_sends(job.job.backfill)  # the wait may have been long, and the backfill paused meanwhile
            job.write(transitions.posting(job.job, context.lease("posting", part.pages)))
            job.unrecorded, under_way = False, True
            self._posted_at = context.clock.now()

        if mode == "sync":
            self._check_room(part)
        try:
            if mode == "async":
                request_id = context.client.submit(part.upload, still_ours)
                self._check_owner(request_id)
            else:
                request_id = f"sync-{uuid.uuid4()}"
                context.client.recognise(part.upload, answer, still_ours)
        except AnswerLost as lost:
            self._count_lost(part, lost)
            raise
        except DocumentFault:
            context.lost_answers.understood()
            raise
        except Exception as error:
            # All other faults say that nothing was taken: the API did, or nothing had been sent.
            local = isinstance(error, SetupFault) or not isinstance(error, Fault)
            if under_way and local and not getattr(error, "not_sent", False):
                # Such as a disk without room for an answer that is paid for.
                self._count_lost(part, AnswerLost(f"the answer could not be taken in: {error}"))
            raise
        context.lost_answers.understood()
        # From here on the pages are paid for, and the record does not say so.
        job.unrecorded = True
        counted, self._received = job.counts.requests, None
        try:
            if mode == "async":
                context.accepted(job.job.model)
                self._record(self._request(request_id, part.pages), part, part.upload.pages)
            else:
                self._keep_answer(request_id, answer, part)
        except BaseException:
            if job.counts.requests == counted:  # whatever it was, it happened after the payment
                self._paid(self._received or part.upload.pages)
            raise

    def _check_owner(self, request_id: str) -> None:
        """See that the API gave an id that no other document has, and no other part of this one.

        Raises:
            AnswerLost: another has it.
        """
        job, name = self._job.job, clean_words(request_id)
        if not self._context.request_owners.claim(request_id, job.id):
            raise AnswerLost(f"the API answered with request {name}, which is another document's")
        known = next((request for request in job.requests if request.id == request_id), None)
        if known is not None:
            pages = f"pages {known.pages}" if known.pages else "all pages"
            raise AnswerLost(f"the API answered with request {name}, which holds {pages} of the document already")

    def _request(self, request_id: str, pages: PageRange | None, note: str | None = None) -> Request:
        context, now = self._context, self._context.clock.now()
        answered = note is not None
        return Request(
            id=request_id,
            pages=pages,
            submitted_at=self._posted_at if answered else now,
            run=context.run,
            status="answered" if answered else "open",
            note=note or "",
            completed_at=now if answered else None,
            price_per_page=context.options.price,
        )

    def _check_room(self, part: Part) -> None:
        needed = _ROOM + _ROOM_A_PAGE * part.upload.pages
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise SetupFault(
                f"{self._folder.parent} has room for {free >> 20} MB, and the answer for "
                f"{self._job.job.document.uri} may need {needed >> 20} MB: make room, or set TMPDIR to another folder; "
                "nothing was sent"
            )

    def _count_lost(self, part: Part, lost: AnswerLost) -> None:
        job, pages = self._job, part.upload.pages
        job.unrecorded = True
        self._reservation.lost(pages)
        log.error("%s, pages %s: %s; it may be paid for twice", job.job.document.uri, part.pages or "all", lost)
        change = transitions.answer_lost(job.job, pages)
        job.counts += change.counts  # it happened, whether it can be recorded or not
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

    def _keep_answer(self, request_id: str, answer: Path, part: Part) -> None:
        """Put the pages of a synchronous answer into the ledger: the API gives them once."""
        context, job = self._context, self._job
        try:
            received = page_count(read_batch(answer, None if part.pages is None else len(part.pages)))
            self._received = received
        except BatchUnreadable as unusable:  # to be recognised again, by the rule for pages that are missing
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
            raise Passes(f"pages {pages} were recognised but could not be kept: {fault}") from fault
        self._record(self._request(request_id, pages, ""), part, len(pages), total=received)

    def _paid(self, pages: int) -> None:
        """Count a submission that is not on record: its job's lease says that it may have been made."""
        self._reservation.sent(pages)
        self._job.counts += transitions.accepted(pages)

    def _record(self, request: Request, part: Part, paid: int, total: int | None = None) -> None:
        context, job = self._context, self._job
        # Held until the last part is sent, so that no collector takes the job for complete.
        keep = None if part.last else context.lease("reading")
        whole = total if part.pages is None else None
        posted, late = job.written.job.lease, False

        def add(record: Job) -> Change:
            nonlocal late
            late = request not in record.requests and transitions.taken_from(record, context.owner)
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
            raise Passes(message) from fault
        job.unrecorded = False
        if written is None:
            done = context.ledger.done(job.job.id)
            if done is not None:
                context.ledger.drop_kept(job.job.id)  # what we kept came too late to be of use
            ended = done or context.ledger.failed(job.job.id)
            counted = ended is not None and transitions.counted_as_lost(ended.job, posted) is not None
            job.counts += transitions.accepted(paid, late=not counted)
            self._reservation.sent(paid)
        elif late:
            self._reservation.sent(paid)
            job.counts += counts
        else:
            self._reservation.sent(paid)
            job.take(written, counts)
            log.info("%s: sent pages %s as request %s", job.job.document.uri, request.pages or "all", request.id)
            return
        # Our lease was over before the answer came, and another worker sent the same pages.
        log.error("%s: request %s came after another worker had taken over", job.job.document.uri, request.id)
        raise Superseded(job.job.id)

    def _insist(self, call: Callable[[], Value]) -> Value:
        """Money was spent on this: try for many minutes before it is given up."""
        retrying = Retrying(
            # Also where a permission is missing, which somebody may mend while we try. Credentials that ran out stay
            # so: those that can be renewed are, by boto3, before they run out.
            retry=retry_if_exception(_can_pass),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=stop_after_attempt(_RECORD_ATTEMPTS),
            sleep=self._context.clock.sleep,
            reraise=True,
        )
        return retrying(call)


def _can_pass(error: BaseException) -> bool:
    return isinstance(error, Passes | SetupFault) and not isinstance(error, CredentialsRefused)
