"""Documents on this machine, for the command `file`: the same steps as for a bucket, without one, and without a flow.

The jobs are kept in a folder under the system's temporary one, so that an interrupted command goes on where it was,
and the same document is not paid for twice.
"""

import getpass
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, Field

from tasks.collect import collect_job
from tasks.documents.formats import EXTENSIONS
from tasks.faults import AccountFault, Fault, SetupFault
from tasks.models import Document
from tasks.options import FileOptions, Options, RunSettings
from tasks.outcomes import Outcome
from tasks.poll import poll_job
from tasks.session import Session, session_from_environment
from tasks.store.folder import FolderObjects
from tasks.submit import submit_document
from tasks.upstage.client import Cancelled

SUFFIX = ".ocr.json"
_FILES, _RESULTS = "files", "results"
_LONGEST_NAME = 100  # in a key; the hash before it tells documents apart
_SHORTEST_REST, _LONGEST_REST = 0.05, 30.0


class FileResult(BaseModel):
    """What became of one local document."""

    document: str
    kind: Literal["done", "failed"]
    output: str | None = Field(None, description="the absolute path of the result")
    pages: int = 0
    pages_sent: int = Field(0, description="pages paid for now; 0 where it had been recognised before")
    possible_duplicates: int = 0
    reason: str = ""


class FilesReport(BaseModel):
    """What became of all of them, for machines."""

    documents: list[FileResult]
    done: int
    failed: int
    left_out: list[str] = Field(description="files in the folders that are no documents by their names")

    @classmethod
    def of(cls, results: Sequence[FileResult], left_out: Sequence[str]) -> Self:
        """Count."""
        failed = sum(result.kind == "failed" for result in results)
        return cls(documents=list(results), done=len(results) - failed, failed=failed, left_out=list(left_out))


@dataclass(frozen=True)
class LocalDocument:
    """A file to recognise, and where its result goes."""

    path: Path
    shown: str
    output: Path


class Files(NamedTuple):
    """The files that were asked for, and what was left out of folders."""

    documents: list[LocalDocument]
    left_out: list[str]


def gather(paths: Sequence[str], output: Path | None, folder: Path) -> Files:
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
    several = len(paths) > 1 or Path(paths[0]).is_dir() or (output is not None and output.is_dir())
    for given in paths:
        path = Path(given)
        if given == "-":
            path = folder / "stdin"
            with path.open("wb") as target:
                shutil.copyfileobj(sys.stdin.buffer, target)
            found.documents.append(LocalDocument(path, "standard input", _output(Path("stdin"), output, several)))
        elif path.is_dir():
            for each in sorted(path.rglob("*")):
                if not each.is_file():
                    continue
                if each.suffix.lower() not in EXTENSIONS or each.name.startswith("."):
                    found.left_out.append(str(each))
                    continue
                place = _output(each.relative_to(path), output, several)
                found.documents.append(LocalDocument(each, str(each), place))
        elif path.is_file():
            found.documents.append(LocalDocument(path, given, _output(Path(path.name), output, several)))
        else:
            raise SetupFault(f"there is no file '{given}'")
    _check_outputs(found.documents)
    return found


def _output(name: Path, output: Path | None, several: bool) -> Path:
    if output is None:
        return Path(tempfile.gettempdir()).resolve() / f"{name.stem}{SUFFIX}"
    if several:
        return output.resolve() / name.with_name(name.name + SUFFIX)
    return output.resolve()


def _check_outputs(documents: Iterable[LocalDocument]) -> None:
    taken: dict[Path, LocalDocument] = {}
    for each in documents:
        other = taken.setdefault(each.output, each)
        if other is not each:
            raise SetupFault(
                f"the results of {other.shown} and {each.shown} would both be {each.output}: "
                "name a folder with --output, or give them one by one"
            )
        if each.output == each.path.resolve():
            raise SetupFault(f"the result of {each.shown} would be written over it: name another --output")
        try:
            each.output.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=each.output.parent):
                pass
        except OSError as error:
            raise SetupFault(f"no result can be written to {each.output.parent} ({error.strerror})") from error
        if each.output.is_dir():
            raise SetupFault(f"the result of {each.shown} would be {each.output}, which is a folder")


def state_folder() -> Path:
    """Where the jobs of local documents are kept."""
    return Path(tempfile.gettempdir()) / f"bulk-ocr-files-{getpass.getuser()}"


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

    @classmethod
    def from_environment(cls, options: FileOptions, *, again: bool = False) -> "LocalRun":
        """A run with the account of the environment.

        Raises:
            SetupFault: there is no key, or the folder for the jobs cannot be used.
        """
        objects = FolderObjects(state_folder())
        settings = RunSettings(
            source=f"s3://{_FILES}",
            destination=f"s3://{_RESULTS}",
            options=Options(**options.model_dump(by_alias=True)),
        )
        return cls(session_from_environment(settings, objects), objects, again=again)

    def recognise(self, documents: Sequence[LocalDocument], tell: Callable[[str], None]) -> Iterator[FileResult]:
        """Recognise documents; results come as they are finished.

        Args:
            documents: the documents.
            tell: takes a sentence for a person.

        Raises:
            AccountFault: the account is refused. What was sent is on record.
        """
        _ = self._session.client  # a missing key is found before any work is begun
        pool = ThreadPoolExecutor(self._session.options.workers)
        calls = [pool.submit(self._one, each, tell) for each in documents]
        try:
            for call in as_completed(calls):
                yield call.result()
        except BaseException:
            self._session.client.stop_submitting(Cancelled("the command is being ended"))
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, local: LocalDocument, tell: Callable[[str], None]) -> FileResult:
        try:
            document = self._shown(local)
            outcomes = list(self._work(document, local, tell))
            last = outcomes[-1] if outcomes else None
            if last is not None and last.kind in (
                "failed",
                "later",
            ):  # later: the API or the budget let nothing through
                return FileResult(document=local.shown, kind="failed", reason=last.message, **_spent(outcomes))
            pages = self._deliver(document, local)
        except AccountFault:
            raise
        except (Fault, OSError) as fault:
            return FileResult(document=local.shown, kind="failed", reason=str(fault))
        return FileResult(document=local.shown, kind="done", output=str(local.output), pages=pages, **_spent(outcomes))

    def _shown(self, local: LocalDocument) -> Document:
        """The file as a document of the store: its content decides what it is, wherever it lies."""
        with local.path.open("rb") as content:
            etag = hashlib.file_digest(content, "sha256").hexdigest()
        status = local.path.stat()
        key = f"{etag[:16]}/{local.path.name[-_LONGEST_NAME:]}"
        self._objects.show(_FILES, key, local.path, etag)
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Document(bucket=_FILES, key=key, etag=etag, size=status.st_size, last_modified=modified)

    def _work(self, document: Document, local: LocalDocument, tell: Callable[[str], None]) -> Iterator[Outcome]:
        """Bring the job to its end, from wherever an earlier command left it."""
        session = self._session
        identity = session.job_id(document)
        done = session.ledger.done(identity)
        if done is not None:
            there = session.objects.exists(_RESULTS, session.result_key(document))
            if there and not self._again:
                tell(f"{local.shown} was recognised on {done.finished_at:%Y-%m-%d}: not paid for again (--again does)")
                return
            session.ledger.forget_done(identity)
        failed = session.ledger.failed(identity)
        if failed is not None:
            session.ledger.put_back(failed)
        else:
            yield submit_document(session, document)
        waiting = False
        while (held := session.ledger.read(identity)) is not None:
            job = held.job
            if session.held_by_another(job) and job.lease is not None and not waiting:
                waiting = True
                until = f"{job.lease.until:%H:%M:%S} UTC"
                tell(f"{local.shown}: another command works on it, or was killed over it; its claim ends at {until}")
            if job.open_requests and not poll_job(session, identity):
                self._rest(identity)
                continue
            outcome = collect_job(session, identity)
            yield outcome
            if outcome.kind in ("later", "skipped", "open"):
                self._rest(identity)
        failed = session.ledger.failed(identity)
        if failed is not None:
            yield Outcome("failed", identity, local.shown, message=failed.reason)

    def _rest(self, job_id: str) -> None:
        """Wait until the job wants to be looked at again."""
        session = self._session
        if session.client.stopped:
            raise Cancelled("the command is being ended; what was sent is on record, and the same command goes on")
        held = session.ledger.read(job_id)
        if held is None:
            return
        now = session.clock.now()
        until = held.job.poll_after or now
        if session.held_by_another(held.job) and held.job.lease is not None:
            until = min(held.job.lease.until, now + timedelta(seconds=session.options.poll_seconds))
        seconds = (until - now).total_seconds()
        session.clock.sleep(min(max(seconds, _SHORTEST_REST), _LONGEST_REST))

    def _deliver(self, document: Document, local: LocalDocument) -> int:
        """Copy the result to where it is wanted. Returns its pages."""
        session = self._session
        key = session.result_key(document)
        described = session.objects.head(_RESULTS, key)
        if described is None:
            raise SetupFault(f"the result of {local.shown} is gone from {state_folder()}: try again")
        beside = local.output.with_name(f".{local.output.name}.part")
        session.objects.fetch(_RESULTS, key, described.etag, beside)
        beside.replace(local.output)
        return int(described.metadata["pages"])


def _spent(outcomes: Iterable[Outcome]) -> dict[str, int]:
    seen = list(outcomes)
    return {
        "pages_sent": sum(outcome.pages_sent for outcome in seen),
        "possible_duplicates": sum(outcome.possible_duplicates for outcome in seen),
    }
