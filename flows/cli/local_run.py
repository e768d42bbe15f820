"""Recognises local documents for the command `file`: the same steps as for a bucket, without a bucket or a flow.

Jobs are kept in a folder under the system's temporary folder, so that an interrupted command can resume and the same
document is not paid for twice.
"""

import getpass
import hashlib
import logging
import os
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError, field_serializer

from flows.cli.local_files import LocalDocument, as_text, numbered, temporary_folder, words_of
from flows.run.progress import Progress
from tasks.access.environment import environment_access
from tasks.clock import Clock
from tasks.context import RunContext
from tasks.faults import Cancelled, EndsRun, Fault, SetupFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, Job
from tasks.options import FileOptions, Options, RunSettings
from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tasks.store.local_folder import FolderObjects
from tasks.store.object_store import JSON

_FILES, RESULTS, OUTPUTS = "files", "results", "outputs"
_ADDRESS = re.compile(
    rf"(?:s3://{_FILES}/)?\b([0-9a-f]{{64}})(?:\.[a-z]{{3,4}})?\b"
)  # the store's address of a document
_SHORTEST_REST, _LONGEST_REST = 0.05, 30.0
_TRIES = 3  # attempts for a file that changes while it is read
_ENDING = "the command is shutting down; what was sent is on record: rerun the command to resume"


class FileResult(BaseModel):
    """The outcome of one local document."""

    document: str
    kind: Literal["done", "failed"]
    output: Path | None = Field(None, description="the absolute path of the result")
    pages: int = 0
    pages_sent: int = Field(0, description="pages paid for now; 0 if it had been recognised before")
    known_since: datetime | None = Field(None, description="when an earlier command recognised it")
    possible_duplicates: int = Field(0, description="submissions that may be billed and were, or will be, repeated")
    reason: str = ""

    @field_serializer("output")
    def _output_as_text(self, output: Path | None) -> str | None:
        return None if output is None else as_text(output)


class Delivered(BaseModel):
    """The record of a delivered result: the path and content hash of its document."""

    path: str
    etag: str


class EndedAtOnce(KeyboardInterrupt):
    """Interrupted a second time, while waiting for answers."""


def state_folder() -> Path:
    """The folder that stores the jobs of local documents."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return temporary_folder() / f"bulk-ocr-files-{user}"


def open_local_run(options: FileOptions, clock: Clock, *, again: bool = False) -> "LocalRun":
    """Open a run with the account from the environment.

    Args:
        options: how documents are recognised.
        clock: the clock.
        again: recognise and pay again for documents that were recognised before.

    Raises:
        SetupFault: the folder for the jobs cannot be used.
    """
    settings = RunSettings(
        source=f"s3://{_FILES}",
        destination=f"s3://{RESULTS}",
        options=Options(**options.model_dump(by_alias=True)),
    )
    objects, access = FolderObjects(state_folder()), environment_access()
    context = RunContext(settings, objects, clock, base_url=access.base_url, key=access.key, liveness=objects)
    return LocalRun(context, objects, again=again)


class _WarningHandler(logging.Handler):
    """TransientFault warnings of the steps to the user, with the document's name instead of its address."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


class _PageCount:
    """Counts finished documents and pages, and reports them as progress."""

    def __init__(self, documents: int, watch: Callable[[Progress], None]) -> None:
        self._documents = documents
        self._watch = watch
        self._finished = 0
        self._pages: dict[Path, tuple[int, int]] = {}

    def note(self, local: LocalDocument, job: Job) -> None:
        """Note a document's progress from its job record."""
        settled = sum(
            len(request.pages or ()) for request in job.requests if request.status in ("finished", "answered")
        )
        total = job.pages or job.estimate
        self._pages[local.path] = min(max(settled, job.pages_completed), total), total
        self._show()

    def deliver(self, local: LocalDocument, pages: int) -> None:
        """Note that the result of a document was delivered."""
        self._pages[local.path] = pages, pages

    def finish(self) -> None:
        """Note that a document is done or failed."""
        self._finished += 1
        self._show()

    def _show(self) -> None:
        counts = list(self._pages.values())
        done, known = sum(done for done, _ in counts), sum(total for _, total in counts)
        details = f"{done} of {known} pages" if known else ""
        self._watch(Progress("recognising", self._finished, self._documents, details))


class LocalRun:
    """Recognises local documents, several at a time.

    Args:
        context: the context, with `objects` as its store.
        objects: the store of the jobs.
        again: recognise and pay again for documents that were recognised before.
    """

    def __init__(self, context: RunContext, objects: FolderObjects, *, again: bool = False) -> None:
        self._context = context
        self._objects = objects
        self._again = again
        self._names: dict[str, str] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._paid_now: set[str] = set()
        self._at_work: dict[str, bool] = {}  # by job: whether it is more than waiting for the API to count others
        self._worked_through = 0
        self._ended: EndsRun | None = None  # the fault that ends the command
        self._count = _PageCount(0, lambda _progress: None)
        self._tell: Callable[[str], None] = lambda _sentence: None

    def recognise(
        self,
        documents: Sequence[LocalDocument],
        tell: Callable[[str], None],
        watch: Callable[[Progress], None],
    ) -> Iterator[FileResult]:
        """Recognise documents and yield results in the order of the documents.

        Args:
            documents: the documents.
            tell: receives messages for the user.
            watch: receives the progress.

        Raises:
            EndsRun: the account is rejected or the set-up is wrong. Everything sent is recorded.
            EndedAtOnce: interrupted twice.
        """
        context = self._context
        _ = context.client  # fail here, before any work, if the API key is missing
        self._objects.enlist(context.owner)
        self._count, self._tell = _PageCount(len(documents), watch), lambda sentence: tell(self._plain(sentence))
        warnings, log = _WarningHandler(self._tell), logging.getLogger("tasks")
        log.addHandler(warnings)
        pool = ThreadPoolExecutor(context.options.workers)
        try:
            yield from self._in_order(pool, documents)
        except KeyboardInterrupt:
            try:
                self._tell(
                    "interrupted: waiting for answers that are already paid for (press Ctrl-C again to stop waiting)"
                )
                self._wind_up(pool)
            except KeyboardInterrupt:
                raise EndedAtOnce from None
            raise
        except BaseException:
            self._wind_up(pool)
            raise
        else:
            self._wind_up(pool)
        finally:
            log.removeHandler(warnings)
            self._objects.close()

    def _in_order(self, pool: ThreadPoolExecutor, documents: Sequence[LocalDocument]) -> Iterator[FileResult]:
        calls = {pool.submit(self._one, document): number for number, document in enumerate(documents)}
        finished: dict[int, FileResult | None] = {}
        following = 0
        for call in as_completed(calls):
            finished[calls[call]] = call.result()
            self._count.finish()
            while following in finished:
                result = finished.pop(following)
                following += 1
                if result is not None:
                    yield result
        if self._ended is not None:  # the other documents have ended; those that finished count
            raise self._ended

    def _wind_up(self, pool: ThreadPoolExecutor) -> None:
        self._end()
        pool.shutdown(cancel_futures=True)

    def _end(self) -> None:
        self._context.stop_submitting(Cancelled(_ENDING))
        self._context.clock.end()

    def _plain(self, sentence: str) -> str:
        return _ADDRESS.sub(lambda match: self._names.get(match[1], match[0]), sentence)

    def _one(self, local: LocalDocument) -> FileResult | None:
        """Recognise one document; None if the command ended first."""
        outcomes: list[Outcome] = []
        reason, known = "", None
        try:
            for _ in range(_TRIES):
                document = self._shown(local)
                # Several files may have the same bytes: these are recognised once and delivered to each path.
                with self._turns[document.key]:
                    known = self._known_since(document)
                    for outcome in self._worked(document, local):
                        outcomes.append(outcome)
                    if not (outcomes and outcomes[-1].moved):
                        break
            reason = self._reason(document, outcomes)
            if not reason:
                output, pages = self._deliver(document, local)
                self._count.deliver(local, pages)
                spent = _spent(outcomes)
                return FileResult(
                    document=local.shown, kind="done", output=output, pages=pages, known_since=known, **spent
                )
        except Fault as fault:
            reason = str(fault)
        except OSError as error:
            reason = f"it cannot be read ({words_of(error)})"
        if self._context.clock.ended and not any(_spent(outcomes).values()):
            return None
        return FileResult(document=local.shown, kind="failed", reason=self._plain(reason), **_spent(outcomes))

    def _worked(self, document: Document, local: LocalDocument) -> Iterator[Outcome]:
        """Run the job to its end. A fault that ends the command, or an unexpected one, still yields what was spent."""
        identity = self._context.job_id(document)
        try:
            yield from self._work(document, local)
        except Exception as error:
            outcome = getattr(error, "outcome", None)
            if isinstance(outcome, Outcome):
                yield outcome
            if isinstance(error, Fault) and not isinstance(error, EndsRun):
                raise
            if not isinstance(error, Cancelled):
                self._ended = self._ended or (error if isinstance(error, EndsRun) else SetupFault(f"{error!r}"))
                self._end()
        finally:
            self._worked_through += 1  # first: whoever finds nobody at work knows that something has ended
            self._at_work.pop(identity, None)

    def _reason(self, document: Document, outcomes: Sequence[Outcome]) -> str:
        """Why there is no result; empty if there is one."""
        ledger, identity = self._context.ledger, self._context.job_id(document)
        if ledger.done(identity) is not None:
            return ""
        failed = ledger.failed(identity)
        if failed is not None:
            return failed.reason
        if outcomes and outcomes[-1].moved:
            return "it keeps changing while it is read: run the command again when it is complete"
        message = next((outcome.message for outcome in reversed(outcomes) if outcome.message), "")
        return f"{message or 'another command gave it up'}; rerun the command to resume"

    def _shown(self, local: LocalDocument) -> Document:
        """The file as a document of the store, identified by its content and not by its path."""
        with local.path.open("rb") as content:
            etag = hashlib.file_digest(content, "sha256").hexdigest()
            status = os.fstat(content.fileno())
        self._names.setdefault(etag, local.shown)
        self._objects.show(_FILES, etag, local.path, etag)
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Document(bucket=_FILES, key=etag, etag=etag, size=status.st_size, last_modified=modified)

    def is_known(self, local: LocalDocument) -> bool:
        """Whether an earlier command recognised a document, and its result is still kept."""
        document = self._shown(local)
        done = self._context.ledger.done(self._context.job_id(document))
        return done is not None and self._context.objects.exists(RESULTS, self._context.result_key(document))

    def _known_since(self, document: Document) -> datetime | None:
        """When an earlier command recognised the document; None if it did not, or if it is to be paid for again."""
        context = self._context
        ledger, identity = context.ledger, context.job_id(document)
        entry, done = ledger.entry("done", identity), ledger.done(identity)
        if entry is not None and done is not None:
            if context.objects.exists(RESULTS, context.result_key(document)) and not self._pay_again(identity):
                return None if identity in self._paid_now else done.finished_at
            if self._pay_again(identity):
                ledger.close_leftover(identity)
            ledger.forget_done(identity, entry.etag)
        self._paid_now.add(identity)
        return None

    def _work(self, document: Document, local: LocalDocument) -> Iterator[Outcome]:
        """Run the job to its end from where an earlier command left it."""
        context = self._context
        ledger, identity = context.ledger, context.job_id(document)
        failed = ledger.failed(identity)
        if failed is not None:
            ledger.put_back(failed)
        waiting = False
        while True:
            self._at_work[identity], before = True, self._worked_through
            held = ledger.read(identity)
            if held is None:
                if ledger.done(identity) is not None or ledger.failed(identity) is not None:
                    return
                outcome = submit_document(context, document)
            else:
                step = context.next_step(held.job)
                if step.need == "sweep":
                    ledger.sweep(held)
                    continue
                if context.held_by_another(held.job):
                    if not waiting:
                        self._tell(f"{local.shown}: another command is working on it; waiting for its result")
                    waiting = True
                    self._rest(identity)
                    continue
                self._count.note(local, held.job)
                if step.need == "wait" or (step.need == "poll" and not poll_job(context, held)):
                    self._rest(identity)
                    continue
                outcome = collect_job(context, held)
            yield outcome
            if outcome.counts_awaited:  # others of this command may be counted soon; those of other commands, who knows
                self._at_work[identity] = False
                if any(self._at_work.copy().values()) or self._worked_through != before:
                    context.clock.sleep(context.options.poll_seconds)
                    continue
            if outcome.budget_used_up or outcome.set_aside or outcome.moved:
                return
            if outcome.kind == "later" and ledger.read(identity) is None:  # nothing was sent
                return
            if outcome.kind in ("later", "skipped", "open"):
                self._rest(identity)

    def _pay_again(self, job_id: str) -> bool:
        return self._again and job_id not in self._paid_now

    def _rest(self, job_id: str) -> None:
        """Wait until the job is due for the next step.

        Raises:
            Cancelled: the command is shutting down.
        """
        context = self._context
        held = context.ledger.read(job_id)
        now = context.clock.now()
        step = None if held is None else context.next_step(held.job)
        until = (step.until if step else None) or now
        if step is not None and step.holder is not None:  # the holder may finish or be killed at any moment
            until = min(until, now + timedelta(seconds=context.options.poll_seconds))
        seconds = (until - now).total_seconds()
        context.clock.sleep(min(max(seconds, _SHORTEST_REST), _LONGEST_REST))

    def _deliver(self, document: Document, local: LocalDocument) -> tuple[Path, int]:
        """Copy the result to its output path, and return that path and the number of pages."""
        context = self._context
        key = context.result_key(document)
        described = context.objects.head(RESULTS, key)
        if described is None:
            raise SetupFault(f"the result of {local.shown} is gone from {state_folder()}: run the command again")
        # An unpredictable name; in the shared temporary folder, the file is readable by this user only.
        beside = local.output.with_name(f".bulk-ocr-{uuid.uuid4().hex}")
        try:
            os.close(
                os.open(
                    beside,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                    0o600 if local.output.parent == temporary_folder() else 0o666,
                )
            )
            context.objects.fetch(RESULTS, key, described.etag, beside)
            output = self._put_in_place(beside, document, local)
        except (Fault, OSError) as error:
            raise SetupFault(
                f"its result cannot be written to {as_text(local.output)} ({words_of(error.__cause__ or error)}); "
                "it is paid for and kept: run the command again, with another --output if necessary"
            ) from error
        finally:
            beside.unlink(missing_ok=True)
        if output != local.output:
            self._tell(
                f"{as_text(local.output)} is the result of another document; the result of {local.shown} "
                f"is {output.name}"
            )
        return output, int(described.metadata["pages"])

    def _put_in_place(self, beside: Path, document: Document, local: LocalDocument) -> Path:
        """Move a result to its path; a path taken by another document's result or an unrelated file is left alone."""
        for output in numbered(local.output):
            if local.output_named or self._is_of(output, document, local):
                beside.replace(output)
            else:
                try:
                    output.hardlink_to(beside)  # unlike a rename, this never overwrites a file
                except FileExistsError:
                    continue
                except OSError:  # a file system without hard links
                    if os.path.lexists(output):
                        continue
                    beside.replace(output)
            delivered = Delivered(path=as_text(local.path.resolve()), etag=document.etag)
            body = delivered.model_dump_json().encode()
            self._context.objects.put(OUTPUTS, output_key(output), body, {}, JSON)
            return output
        raise AssertionError("numbered() is infinite")

    def _is_of(self, output: Path, document: Document, local: LocalDocument) -> bool:
        """Whether an earlier delivered result belongs to this document: to the same path or the same bytes."""
        stored = self._context.objects.get(OUTPUTS, output_key(output))
        try:
            delivered = None if stored is None else Delivered.model_validate_json(stored.body)
        except ValidationError:  # written by another version of this program
            return False
        if delivered is None:
            return False
        return delivered.etag == document.etag or delivered.path == as_text(local.path.resolve())


def output_key(output: Path) -> str:
    """The key of the record of a delivered result."""
    return hashlib.sha256(os.fsencode(output)).hexdigest()


def _spent(outcomes: Iterable[Outcome]) -> dict[str, int]:
    spent = list(outcomes)
    return {
        "pages_sent": sum(outcome.pages_sent for outcome in spent),
        "possible_duplicates": sum(outcome.possible_duplicates for outcome in spent),
    }
