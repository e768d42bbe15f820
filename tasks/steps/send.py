"""Sending pages: read the document, choose async or sync, post the pages that are not covered yet.

The same rule serves a new document (all pages), one over the limits (several requests), and pages that did not come
back (only those). A synchronous request is one that is finished at once: its pages are stored in the ledger, where the
collect step finds them.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.context import RunContext
from tasks.documents.files.formats import upload_name
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.documents.files.split import divide
from tasks.documents.files.text_pages import find_text_pages
from tasks.faults import (
    AnswerLost,
    Cancelled,
    CeilingReached,
    CountsAwaited,
    CredentialsRefused,
    DocumentChanged,
    DocumentFault,
    EndsRun,
    FailureCode,
    NotOffered,
    NotSending,
    ObjectRefused,
    RecordUnreadable,
    Superseded,
    TimedOut,
    TransientFault,
)
from tasks.job import transitions
from tasks.job.coverage import left_over
from tasks.job.outcome import Outcome
from tasks.job.record import PageRange
from tasks.job.transitions import Stage
from tasks.steps.failing import fail
from tasks.steps.held_job import HeldJob
from tasks.steps.post import Mode, PartToPost, Posting, ProvesNothing
from tasks.steps.publish import check_place, reuse_identical
from tasks.store.ledger import Held
from tasks.upstage.upload import Upload

log = logging.getLogger(__name__)


def send_pages(context: RunContext, held: Held, missing: Sequence[PageRange] | None = None) -> Outcome:
    """Submit pages of a job whose lease we hold.

    Args:
        context: the run's context.
        held: the job, leased to us.
        missing: the pages to send; None for the whole document.

    Raises:
        EndsRun: the account, the set-up or the operator ends the run. The job is released, unless pages may have been
            billed and the record does not say so; then the lease is left to say it.
    """
    job = HeldJob(context, held)
    try:
        return _sent(context, job, missing)
    except EndsRun as ended:
        ended.outcome = ended.outcome or job.outcome("later", str(ended))
        raise
    except Exception as error:
        error.outcome = job.outcome("later", f"unexpected: {error!r}")  # type: ignore[attr-defined]  # its pages are counted by the caller
        raise


def _sent(context: RunContext, job: HeldJob, missing: Sequence[PageRange] | None) -> Outcome:
    try:
        return _Round(context, job).send(missing)
    except Superseded:
        return job.outcome("skipped", "another worker took it over")
    except DocumentChanged as changed:
        if job.job.untouched:
            job.release()
            return job.outcome("later", f"{changed}: the next pass picks up its current version", moved=True)
        fault = DocumentFault(
            FailureCode.CHANGED,
            f"{changed}, so its missing pages cannot be sent; the new version is a separate job",
        )
        return fail(context, job, "submit", fault, missing or ())
    except DocumentFault as fault:
        stage: Stage = "submit" if job.sent_something else "read"
        return fail(context, job, stage, fault, missing or ())
    except ObjectRefused as fault:
        job.release()
        return job.outcome("aside", str(fault))
    except (TransientFault, AnswerLost, RecordUnreadable, Cancelled) as fault:
        job.release()
        return job.outcome("later", str(fault), not_sending=isinstance(fault, NotSending))
    except CredentialsRefused:  # nothing more can be written
        raise
    except Exception:  # the run ends, or worse: no other worker should have to wait for our lease
        job.release()
        raise


class _Round:
    """One round of sending for one job."""

    def __init__(self, context: RunContext, job: HeldJob) -> None:
        self._context = context
        self._job = job
        self._too_long = False  # whether the document is too long, or takes too long, for synchronous requests
        self._longest_sync = context.options.limits.sync_pages

    def send(self, missing: Sequence[PageRange] | None) -> Outcome:
        context, job = self._context, self._job
        source, limits = job.job.document, context.options.limits
        with context.scratch() as folder:
            document = folder / "document"
            context.objects.fetch(source.bucket, source.key, source.etag, document)
            content = _sha256(document)
            inspected = inspect_document(
                document,
                source.key,
                InspectionLimits(limits.pixels, limits.dpi, context.options.refuse_restricted),
            )
            if inspected.note:
                log.warning("%s: %s", job.job.document.uri, inspected.note)
            if inspected.pages is None:  # the API's earlier count beats the document's own claim
                inspected = replace(inspected, estimate=job.job.pages or min(inspected.estimate, limits.pages))
            fresh = missing is None and job.job.untouched
            if fresh:
                check_place(context, job.job)
            if fresh and context.options.reuse_identical:
                copied = reuse_identical(context, job, content, folder)
                if copied is not None:
                    return copied
            text_pages = self._keep_text(document, inspected, folder) if missing is None else []
            if text_pages:
                missing = left_over(inspected.estimate, text_pages)
            if text_pages and not missing:
                return self._all_text(inspected, content, text_pages)
            whole = missing is None or not inspected.form.divisible
            wanted = [PageRange(first=1, last=inspected.estimate)] if whole else list(missing or ())
            count = sum(map(len, wanted))
            page_limit = context.options.max_pages_per_document
            if fresh and page_limit is not None and count > page_limit:
                job.release()
                return job.outcome(
                    "aside",
                    f"it has {count:,} pages, more than --max-pages-per-document {page_limit:,}: raise the limit "
                    "or exclude the document",
                )
            excess = self._excess(count) if inspected.pages is None and job.job.pages is None else 0
            now = context.clock.now()
            try:
                reservation = context.budget.reserve(
                    job.job.id,
                    count,
                    job.job.pages_sent + job.job.pages_lost,
                    job.job.backfill,
                    excess=excess,
                    at=now,
                )
            except CeilingReached as reached:
                job.release()
                awaited = isinstance(reached, CountsAwaited)
                return job.outcome(
                    "later", str(reached), budget_used_up=True, meter=reached.meter, counts_awaited=awaited
                )
            job.stage(
                transitions.read(
                    job.job,
                    content=content,
                    pages=inspected.pages,
                    estimate=inspected.estimate,
                    note=inspected.note,
                )
            )
            if text_pages:
                job.stage(transitions.text_found(job.job, text_pages))
            with reservation:
                posting = Posting(context, job, reservation, folder, reserved_at=now)
                try:
                    self._send_all(document, inspected, wanted, folder, posting)
                finally:
                    if job.job.pages is not None:  # a synchronous answer tells at once
                        reservation.counted()
        return job.outcome("open")

    def _excess(self, estimate: int) -> int:
        """Return by how many pages the API's count of an uncounted document can exceed the estimate at most."""
        limits, sync = self._context.options.limits, self._context.options.mode == "sync"
        # A synchronous answer that may be incomplete is paid for, and then the document is sent as a job.
        return max(0, limits.pages - estimate) + (max(0, limits.sync_pages - estimate) if sync else 0)

    def _all_text(self, inspected: Inspected, content: str, text_pages: Sequence[PageRange]) -> Outcome:
        """Release a job that has nothing to send; the collect step publishes it."""
        job, estimate = self._job, inspected.estimate
        job.stage(
            transitions.read(job.job, content=content, pages=inspected.pages, estimate=estimate, note=inspected.note)
        )
        job.stage(transitions.text_found(job.job, text_pages))
        job.write(transitions.released(job.job, round_counts=True))
        return job.outcome("open")

    def _keep_text(self, document: Path, inspected: Inspected, folder: Path) -> list[PageRange]:
        """Store pages with a usable text layer in the ledger, if the job accepts them, and return their ranges."""
        job, kept = self._job.job, list[PageRange]()
        if job.text_layers is None:
            return kept
        trusted = job.text_layers == "trust-ocr-layers"
        for part in find_text_pages(document, inspected, folder, trust_ocr_layers=trusted):
            self._context.ledger.keep_pages(job.id, part.pages, json.dumps(part.answer).encode())
            kept.append(part.pages)
        return kept

    def _send_all(
        self, document: Path, inspected: Inspected, wanted: Sequence[PageRange], folder: Path, posting: Posting
    ) -> None:
        """Send the pages, asynchronously or synchronously; what one mode does not accept is sent in the other."""
        job, limits = self._job.job, self._context.options.limits
        name = upload_name(job.document.key, inspected.form)
        while wanted:
            mode = self._mode(inspected, wanted)
            longest = self._longest_sync if mode == "sync" else limits.pages
            files = divide(document, inspected, wanted, longest, limits.bytes, folder)
            parts = [
                PartToPost(
                    Upload(
                        file.file,
                        name,
                        inspected.form.media_type,
                        job.model,
                        len(file.pages) if file.pages else inspected.estimate,
                        job.answer_schema,
                    ),
                    file.pages,
                    last=file is files[-1],
                )
                for file in files
            ]
            try:
                while parts:
                    posting.post(parts[0], mode)
                    parts.pop(0)
            except NotOffered as refused:
                self._after_refusal(refused, mode)
            except DocumentFault as fault:
                if mode != "sync" or inspected.pages is not None or fault.code != FailureCode.TOO_LARGE:
                    raise
                # It has more pages than a synchronous request accepts, and only the API can count them.
                self._as_job(fault)
            except ProvesNothing as answer:
                self._as_job(
                    DocumentFault(
                        FailureCode.TOO_MANY_PAGES,
                        f"{answer}, and this account has no async access, which would show how many: convert it to "
                        "PDF, so that its pages can be counted locally",
                    )
                )
                log.warning("%s: %s; falling back to an asynchronous job", job.document.uri, answer)
                posting.pay_again(parts[0].upload.pages, AnswerLost(str(answer)))
            except TimedOut as slow:
                self._after_time_out(slow, parts[0], posting)
            wanted = [part.pages or PageRange(first=1, last=inspected.estimate) for part in parts]

    def _mode(self, inspected: Inspected, wanted: Sequence[PageRange]) -> Mode:
        options = self._context.options
        if self._context.async_refused(self._job.job.model) is not None:
            return "sync"
        if self._too_long:
            return "async"
        if options.mode == "auto":
            # Up to one batch of pages is recognised about as fast as it is uploaded: one call instead of three.
            short = inspected.pages is not None and sum(map(len, wanted)) <= options.sync_up_to
            return "sync" if short else "async"
        return options.mode

    def _as_job(self, fault: DocumentFault) -> None:
        """Fall back to an asynchronous job if the account has async access."""
        if self._context.async_refused(self._job.job.model) is not None:
            raise DocumentFault(fault.code, str(fault), retry_helps=True) from fault
        self._too_long = True

    def _after_refusal(self, refused: NotOffered, mode: Mode) -> None:
        """Fall back to synchronous requests if the account has no async access; stop if it accepts neither."""
        context, model = self._context, self._job.job.model
        if mode == "async":
            context.refuse_async(model, refused)
        elif model == context.options.model:
            context.stop_submitting(refused)
            raise refused
        else:  # a job of an earlier run: its model does not concern this run
            raise DocumentFault(
                FailureCode.MODEL_REFUSED, f"its missing pages cannot be sent: {refused}", retry_helps=True
            ) from refused

    def _after_time_out(self, slow: TimedOut, part: PartToPost, posting: Posting) -> None:
        """Fall back to an asynchronous job if the account has async access, else to half as many pages a request."""
        if self._context.async_refused(self._job.job.model) is None:
            log.warning("%s: %s; falling back to an asynchronous job", self._job.job.document.uri, slow)
            self._too_long = True
        elif part.pages is not None and len(part.pages) > 1:
            self._longest_sync = (len(part.pages) + 1) // 2
        else:
            raise slow
        posting.pay_again(part.upload.pages, slow)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
