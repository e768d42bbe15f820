"""Documents on this machine, for the command `file`: the same steps as for a bucket, without one, and without a flow.

The jobs are kept in a folder under the system's temporary one, so that an interrupted command goes on where it was,
and the same document is not paid for twice.
"""

import getpass
import hashlib
import logging
import os
import re
import shutil
import stat
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from flows.printing import (
    FileResult,
    LocalDocument,
    checked,
    printable,
    result_path,
    temporary_folder,
    words_of,
)
from flows.progress import LocalProgress
from tasks.clock import Clock
from tasks.collect import collect_job
from tasks.documents.formats import EXTENSIONS
from tasks.faults import AccountFault, Fault, SetupFault
from tasks.models import Document, Job
from tasks.options import FileOptions, Options, RunSettings
from tasks.outcomes import Outcome
from tasks.poll import poll_job
from tasks.session import Session, session_from_environment
from tasks.store.folder import FolderObjects
from tasks.store.ledger import Held, Superseded
from tasks.submit import submit_document
from tasks.upstage.client import Cancelled, UpstageClient
from tasks.upstage.throttle import Throttle

STDIN = "standard input"
_FILES, _RESULTS = "files", "results"
_ADDRESS = re.compile(rf"(?:s3://{_FILES}/)?\b([0-9a-f]{{64}})(?:\.[a-z]{{3,4}})?\b")  # of a document
_SHORTEST_REST, _LONGEST_REST = 0.05, 30.0
_TRIES = 3  # for a file that changes while it is read
_ENDING = "the command is being ended; what was sent is on record, and the same command goes on"


class Files(NamedTuple):
    """The files that were asked for, and what was left out of folders."""

    documents: list[LocalDocument]
    left_out: list[str]


class EndedAtOnce(KeyboardInterrupt):
    """Interrupted a second time, while answers were waited for."""


def gather(paths: Sequence[str], output: str | None, folder: Path) -> Files:
    """Find the files, and where their results go: checked before anything is paid.

    Args:
        paths: files, folders, and "-" for standard input.
        output: a file for the result of one file; a folder for those of several; None for the system's temporary
            folder.
        folder: where standard input is put.

    Raises:
        SetupFault: a path is not there, an output cannot be written, or two results would be the same file.
    """
    found = Files([], [])
    there = 0 if output is None else _mode(Path(output))
    several = len(paths) > 1 or stat.S_ISDIR(there) or (output or "").endswith(os.sep)
    for given in paths:
        path, shown = Path(given), printable(given)
        kind = 0 if given == "-" else _kind(path, shown)
        if given == "-":
            path = folder / "stdin"
            if not path.exists():
                _read_stdin(path)
            found.documents.append(LocalDocument(path, STDIN, result_path(Path("stdin"), output, several)))
        elif stat.S_ISDIR(kind):
            for each in _documents_in(path, found.left_out):
                found.documents.append(
                    LocalDocument(each, printable(each), result_path(each.relative_to(path), output, True))
                )
        elif stat.S_ISREG(kind):
            found.documents.append(LocalDocument(path, shown, result_path(Path(path.name), output, several)))
        else:
            raise SetupFault(f"'{shown}' is neither a file nor a folder: give its content to standard input, as '-'")
    if output is not None and stat.S_ISREG(there) and several:
        raise SetupFault(f"--output {printable(output)} is a file, and several results need a folder")
    if not found.documents:
        left = f" ({len(found.left_out)} files are none by their names)" if found.left_out else ""
        raise SetupFault(f"there is no document in {', '.join(map(printable, paths))}{left}")
    return Files(checked(found.documents), found.left_out)


def _mode(path: Path) -> int:
    """What it is, as `stat` has it; 0 when it is not there."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _kind(path: Path, shown: str) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        what = "file or option" if shown.startswith("-") else "file"
        raise SetupFault(f"there is no {what} '{shown}'") from None
    except (OSError, ValueError) as error:
        raise SetupFault(f"'{shown}' cannot be opened ({words_of(error)})") from error


def _documents_in(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """The documents in a folder, in order; hidden ones, and what is none by its name, are left out."""

    def unreadable(error: OSError) -> None:
        raise SetupFault(f"the folder '{printable(error.filename)}' cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            each = Path(place, name)
            if name.startswith(".") or each.suffix.lower() not in EXTENSIONS:
                left_out.append(printable(each))
            else:
                yield each


def _read_stdin(to: Path) -> None:
    if sys.stdin is None:
        raise SetupFault("standard input is closed")
    try:
        with to.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
    except OSError as error:
        raise SetupFault(f"standard input cannot be copied to {to.parent} ({error.strerror})") from error


def state_folder() -> Path:
    """Where the jobs of local documents are kept."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return temporary_folder() / f"bulk-ocr-files-{user}"


class _EndableClock(Clock):
    """The API client's clock: its waits, for the rate limit and between two tries, end with the command."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def sleep(self, seconds: float) -> None:
        if self.ended.wait(seconds):
            raise Cancelled(_ENDING)


class _Told(logging.Handler):
    """Gives the warnings of the steps to a person, with the name of the document instead of its address."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


class LocalRun:
    """Recognises local documents, several at a time.

    Args:
        session: the tools, over `objects`.
        objects: the store of the jobs.
        again: pay once more for what was recognised before.
    """

    def __init__(self, session: Session, objects: FolderObjects, *, again: bool = False) -> None:
        self._session = session
        self._objects = objects
        self._again = again
        self._clock = _EndableClock()
        self._names: dict[str, str] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._paid_now: set[str] = set()
        self._pages: dict[str, tuple[int, int]] = {}
        self._finished = 0
        self._watch: Callable[[LocalProgress], None] = lambda _progress: None
        self._tell: Callable[[str], None] = lambda _sentence: None

    @classmethod
    def from_environment(cls, options: FileOptions, *, again: bool = False) -> "LocalRun":
        """A run with the account of the environment.

        Raises:
            SetupFault: there is no key, or the folder for the jobs cannot be used.
        """
        settings = RunSettings(
            source=f"s3://{_FILES}",
            destination=f"s3://{_RESULTS}",
            options=Options(**options.model_dump(by_alias=True)),
        )
        objects = FolderObjects(state_folder())
        return cls(session_from_environment(settings, objects), objects, again=again)

    def recognise(
        self,
        documents: Sequence[LocalDocument],
        tell: Callable[[str], None],
        watch: Callable[[LocalProgress], None],
    ) -> Iterator[FileResult]:
        """Recognise documents; results come in the order of the documents, as soon as those before are finished.

        Args:
            documents: the documents.
            tell: takes a sentence for a person.
            watch: takes the progress.

        Raises:
            AccountFault: the account is refused. What was sent is on record.
            EndedAtOnce: interrupted twice.
        """
        session, options = self._session, self._session.options
        throttle = Throttle(options.requests_per_second, options.pages_per_minute, self._clock)
        # A missing key is found here, before any work is begun.
        session.client = UpstageClient(session.base_url, session.key, throttle, self._clock, options.workers + 4)
        self._objects.enlist(session.owner)
        self._watch, self._tell = watch, lambda sentence: tell(self._plain(sentence))
        warnings, log = _Told(self._tell), logging.getLogger("tasks")
        log.addHandler(warnings)
        pool = ThreadPoolExecutor(options.workers)
        try:
            yield from self._in_order(pool, documents)
        except KeyboardInterrupt:
            try:
                self._tell("ending; answers under way are paid for and waited for (Ctrl-C again does not wait)")
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
        calls = {pool.submit(self._one, each): number for number, each in enumerate(documents)}
        finished: dict[int, FileResult | None] = {}
        refused: AccountFault | None = None
        following = 0
        for call in as_completed(calls):
            try:
                finished[calls[call]] = call.result()
            except AccountFault as fault:  # the others end by themselves; what they had finished counts
                refused = refused or fault
                finished[calls[call]] = None
                self._end()
            self._finished += 1
            self._report()
            while following in finished:
                result = finished.pop(following)
                following += 1
                if result is not None:
                    yield result
        if refused is not None:
            raise refused

    def _wind_up(self, pool: ThreadPoolExecutor) -> None:
        self._end()
        pool.shutdown(cancel_futures=True)

    def _end(self) -> None:
        self._session.client.stop_submitting(Cancelled(_ENDING))
        self._clock.ended.set()

    def _plain(self, sentence: str) -> str:
        return _ADDRESS.sub(lambda found: self._names.get(found[1], found[0]), sentence)

    def _report(self, local: LocalDocument | None = None, job: Job | None = None) -> None:
        if local is not None and job is not None:
            settled = sum(len(each.pages or ()) for each in job.requests if each.status in ("finished", "answered"))
            total = job.pages or job.estimate
            self._pages[str(local.path)] = min(max(settled, job.pages_completed), total), total
        known = list(self._pages.values())
        self._watch(LocalProgress(self._finished, sum(done for done, _ in known), sum(of for _, of in known)))

    def _one(self, local: LocalDocument) -> FileResult | None:
        """Recognise one document. None when the command was ended before."""
        outcomes: list[Outcome] = []
        reason, known = "", None
        try:
            for _ in range(_TRIES):
                document = self._shown(local)
                # The same bytes may lie in several places: recognised once, and delivered to each.
                with self._turns[document.key]:
                    known = self._known_since(document)
                    for outcome in self._work(document, local):
                        outcomes.append(outcome)
                    if not (outcomes and outcomes[-1].moved):
                        break
            reason = self._reason(document, outcomes)
            if not reason:
                pages = self._deliver(document, local)
                self._pages[str(local.path)] = pages, pages
                spent = _spent(outcomes)
                return FileResult(
                    document=local.shown, kind="done", output=local.output, pages=pages, known_since=known, **spent
                )
        except AccountFault:
            raise
        except Fault as fault:
            reason = str(fault)
        except OSError as error:
            reason = f"it cannot be read ({words_of(error)})"
        if self._clock.ended.is_set():
            return None
        return FileResult(document=local.shown, kind="failed", reason=self._plain(reason), **_spent(outcomes))

    def _reason(self, document: Document, outcomes: Sequence[Outcome]) -> str:
        """Why there is no result; nothing when there is one."""
        ledger, identity = self._session.ledger, self._session.job_id(document)
        if ledger.done(identity) is not None:
            return ""
        failed = ledger.failed(identity)
        if failed is not None:
            return failed.reason
        if outcomes and outcomes[-1].moved:
            return "it changes while it is read: give the command again when it is written"
        said = next((outcome.message for outcome in reversed(outcomes) if outcome.message), "")
        return f"{said or 'another command gave it up'}; the same command goes on"

    def _shown(self, local: LocalDocument) -> Document:
        """The file as a document of the store: its content decides what it is, whatever its name and wherever it is."""
        with local.path.open("rb") as content:
            etag = hashlib.file_digest(content, "sha256").hexdigest()
            status = os.fstat(content.fileno())
        self._names.setdefault(etag, local.shown)
        self._objects.show(_FILES, etag, local.path, etag)
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Document(bucket=_FILES, key=etag, etag=etag, size=status.st_size, last_modified=modified)

    def _known_since(self, document: Document) -> datetime | None:
        """When an earlier command recognised it, if it did, and that is not to be paid again."""
        session = self._session
        ledger, identity = session.ledger, session.job_id(document)
        done = ledger.done(identity)
        if done is not None:
            if session.objects.exists(_RESULTS, session.result_key(document)) and not self._pay_again(identity):
                return None if identity in self._paid_now else done.finished_at
            ledger.forget_done(identity)
        self._paid_now.add(identity)
        return None

    def _work(self, document: Document, local: LocalDocument) -> Iterator[Outcome]:
        """Bring the job to its end, from wherever an earlier command left it."""
        session = self._session
        ledger, identity = session.ledger, session.job_id(document)
        failed = ledger.failed(identity)
        if failed is not None:
            ledger.put_back(failed)
        waiting = False
        while True:
            held = ledger.read(identity)
            if held is None:
                if ledger.done(identity) is not None or ledger.failed(identity) is not None:
                    return
                outcome = submit_document(session, document)
            elif session.held_by_another(held.job):
                if not self._taken_from_the_dead(held):
                    if not waiting:
                        self._tell(f"{local.shown}: another command works on it; its result is waited for")
                    waiting = True
                    self._rest(identity)
                continue
            elif held.job.open_requests and not poll_job(session, identity):
                self._report(local, held.job)
                self._rest(identity)
                continue
            else:
                self._report(local, held.job)
                outcome = collect_job(session, identity)
            yield outcome
            if outcome.budget_used_up or outcome.set_aside or outcome.moved:
                return
            if outcome.kind == "later" and ledger.read(identity) is None:  # nothing could be sent
                return
            if outcome.kind in ("later", "skipped", "open"):
                self._rest(identity)

    def _pay_again(self, job_id: str) -> bool:
        return self._again and job_id not in self._paid_now

    def _taken_from_the_dead(self, held: Held) -> bool:
        """End the claim of a command that was killed, rather than wait for its end."""
        lease = held.job.lease
        if lease is None:
            return True
        if lease.doing == "closed":  # whoever closes deletes at once; a later claim must not be what is deleted
            if not self._objects.alone():
                return False
            self._session.ledger.sweep(held.job.id)
            return True
        if not self._objects.gone(lease.owner):
            return False
        over = lease.model_copy(update={"until": self._session.clock.now()})
        try:
            self._session.ledger.update(held, held.job.model_copy(update={"lease": over}))
        except Superseded:
            return False
        return True

    def _rest(self, job_id: str) -> None:
        """Wait until the job wants to be looked at again.

        Raises:
            Cancelled: the command is being ended.
        """
        session = self._session
        held = session.ledger.read(job_id)
        now = session.clock.now()
        until = now
        if held is not None:
            until = held.job.poll_after or now
            if session.held_by_another(held.job) and held.job.lease is not None:
                until = min(held.job.lease.until, now + timedelta(seconds=session.options.poll_seconds))
        seconds = (until - now).total_seconds()
        self._clock.sleep(min(max(seconds, _SHORTEST_REST), _LONGEST_REST))

    def _deliver(self, document: Document, local: LocalDocument) -> int:
        """Copy the result to where it is wanted. Returns its pages."""
        session = self._session
        key = session.result_key(document)
        described = session.objects.head(_RESULTS, key)
        if described is None:
            raise SetupFault(f"the result of {local.shown} is gone from {state_folder()}: give the command again")
        # A name that nobody can have taken before; what lies in the shared temporary folder is for this user alone.
        beside = local.output.with_name(f".bulk-ocr-{uuid.uuid4().hex}")
        try:
            os.close(
                os.open(
                    beside,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                    0o600 if local.output.parent == temporary_folder() else 0o666,
                )
            )
            session.objects.fetch(_RESULTS, key, described.etag, beside)
            beside.replace(local.output)
        except (Fault, OSError) as error:
            raise SetupFault(
                f"its result cannot be written to {printable(local.output)} ({words_of(error.__cause__ or error)}); "
                "it is paid for and kept: give the command again, with another --output if need be"
            ) from error
        finally:
            beside.unlink(missing_ok=True)
        return int(described.metadata["pages"])


def _spent(outcomes: Iterable[Outcome]) -> dict[str, int]:
    seen = list(outcomes)
    return {
        "pages_sent": sum(outcome.pages_sent for outcome in seen),
        "possible_duplicates": sum(outcome.possible_duplicates for outcome in seen),
    }
