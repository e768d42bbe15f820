"""Finds published results: those of a document, of a folder, or of a whole destination in S3.

Listings are lazy, and a result from S3 is on disk only while it is being read, so memory and disk usage do not grow
with the number of results.
"""

import os
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.faults import EndsDocument, SetupFault
from tasks.scratch import scratch_folder
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import Entry, ObjectStore

# The last ".ocr" counts, because a document's own name may contain one.
_RESULT = re.compile(r"(.*)\.ocr(?:\.[A-Za-z0-9._-]+)?\.json", re.DOTALL)
_S3 = re.compile(r"s3://", re.IGNORECASE)

Store = Callable[[], ObjectStore]
"""Opens the store of a destination. Only called for addresses in S3."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result.

    Attributes:
        address: its S3 address or absolute path.
        version: changes whenever the result changes: its ETag, or its file's time and size.
        document: the name of the document, relative to the place that was searched.
    """

    address: str
    version: str
    document: str


class Results(Protocol):
    """Results found at a place, in the order of their names."""

    @property
    def place(self) -> str:
        """The S3 address or absolute path that was searched."""

    @property
    def whole_place(self) -> bool:
        """Whether the place is a folder or a destination, rather than a result or a document."""

    def files(self) -> Iterator[ResultFile]:
        """Yield the results, lazily.

        Raises:
            SetupFault, TransientFault: the place cannot be listed.
        """

    def fetch(self, result: ResultFile, folder: Path) -> Path:
        """Return a local file with the result.

        Args:
            result: the result.
            folder: the folder for a download from S3.

        Raises:
            EndsDocument: it changed, vanished, or may not be read.
        """


def is_result_name(name: str) -> bool:
    """Return whether a key or file name is that of a result, of any model and schema."""
    return bool(_RESULT.fullmatch(name))


def document_name(result: str) -> str:
    """Return the document's name from that of its result: `b.pdf` for `b.pdf.ocr.json` and `b.pdf.ocr.clova.json`."""
    match = _RESULT.fullmatch(result)
    return match[1] if match else result


def find_results(where: str, store: Store | None = None) -> Results:
    """Find results.

    Args:
        where: a result; a document, by its name beside the result (`s3://bucket/ocr/a.pdf` for
            `s3://bucket/ocr/a.pdf.ocr.json`); a folder; or a destination in S3.
        store: opens the store, for addresses in S3.

    Returns:
        The results. For a folder, there may be none.

    Raises:
        SetupFault: there is no such place, or it is in S3 and no store was given.
        TransientFault: the store is unavailable at the moment.
    """
    if not _S3.match(where):
        return _local(Path(where))
    if store is None:
        raise SetupFault(f"{where} is in S3, but no store was given to read it from: use find_results of flows.python")
    place, objects = Location.parse(where), store()
    key = place.prefix.rstrip("/")
    if key:
        is_result = _IsResult(key)
        entries = [entry for entry in objects.list(place.bucket, key if is_result_name(key) else f"{key}.ocr.")
                 if is_result.accepts(entry.key)]  # fmt: skip
        if entries:
            return _ObjectResults(objects, place, tuple(entries))
        if is_result_name(key):
            raise SetupFault(f"there is no result {place}: 'bulk-ocr status' shows what a destination has")
    return _ObjectResults(objects, place)


@dataclass(frozen=True)
class _IsResult:
    """Selects the results of one document, or a single result, from a listing."""

    key: str

    def accepts(self, key: str) -> bool:
        return is_result_name(key) and self.key in (key, document_name(key))


@dataclass(frozen=True)
class _ObjectResults:
    """Results in S3: the given ones of a document, or else all of a destination."""

    _objects: ObjectStore
    _location: Location
    _given: tuple[Entry, ...] | None = None

    @property
    def place(self) -> str:
        return str(self._location)

    @property
    def whole_place(self) -> bool:
        return self._given is None

    def files(self) -> Iterator[ResultFile]:
        bucket, ledger = self._location.bucket, self._location.key(LEDGER_FOLDER)
        for entry in self._given or self._objects.list(bucket, self._location.prefix):
            if is_result_name(entry.key) and not entry.key.startswith(ledger):
                name = entry.key.rpartition("/")[2] if self._given else self._location.relative(entry.key)
                yield ResultFile(f"s3://{bucket}/{entry.key}", entry.etag, document_name(name))

    def fetch(self, result: ResultFile, folder: Path) -> Path:
        bucket = self._location.bucket
        file = folder / f"{uuid.uuid4().hex}.json"
        self._objects.fetch(bucket, result.address.removeprefix(f"s3://{bucket}/"), result.version, file)
        return file


def _local(path: Path) -> Results:
    try:
        if path.is_dir():
            return _FolderResults(path.resolve())
        if path.is_file() and path.suffix == ".json":
            return _FileResults((path.resolve(),))
        result_files = _beside(path)
    except OSError as error:
        raise SetupFault(f"'{path}' cannot be read ({error.strerror})") from error
    if not result_files:
        if not path.exists():
            raise SetupFault(f"there is no file or folder '{path}'")
        raise SetupFault(f"there is no result beside '{path}': name the result that 'bulk-ocr file' printed")
    return _FileResults(tuple(result_files))


def _beside(document: Path) -> list[Path]:
    """Return the results beside a document that are named after it."""
    folder = document.resolve().parent
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in files if is_result_name(file.name) and document_name(file.name) == document.name]


@dataclass(frozen=True)
class _FileResults:
    """Individual results on this machine."""

    _paths: tuple[Path, ...]

    @property
    def place(self) -> str:
        return str(self._paths[0])

    @property
    def whole_place(self) -> bool:
        return False

    def files(self) -> Iterator[ResultFile]:
        for path in self._paths:
            yield _result_file(path, path.name)

    def fetch(self, result: ResultFile, folder: Path) -> Path:  # noqa: ARG002  # it stays where it is
        return Path(result.address)


@dataclass(frozen=True)
class _FolderResults:
    """All results in a folder on this machine and its subfolders."""

    _folder: Path

    @property
    def place(self) -> str:
        return str(self._folder)

    @property
    def whole_place(self) -> bool:
        return True

    def files(self) -> Iterator[ResultFile]:
        def unreadable(error: OSError) -> None:
            raise SetupFault(f"the folder '{error.filename}' cannot be read ({error.strerror})") from error

        for place, folders, names in os.walk(self._folder, onerror=unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "_jobs")
            for name in sorted(names):
                path = Path(place, name)
                if is_result_name(name) and not name.startswith(".") and path.is_file():
                    yield _result_file(path, path.relative_to(self._folder).as_posix())

    def fetch(self, result: ResultFile, folder: Path) -> Path:  # noqa: ARG002  # it stays where it is
        return Path(result.address)


def _result_file(path: Path, name: str) -> ResultFile:
    try:
        status = path.stat()
    except OSError as error:
        raise SetupFault(f"'{path}' cannot be read ({error.strerror})") from error
    document = document_name(name) if is_result_name(name) else name.removesuffix(".json")
    return ResultFile(os.fspath(path), f"{status.st_mtime_ns}-{status.st_size}", document)


def storable(name: str) -> str:
    """Return a file name that a database can store: bytes that are not valid UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def inside(folder: Path, name: str) -> Path:
    """Return a file in a folder. A name that leads out of it, as an S3 key may, is kept inside."""
    parts = [part for part in name.replace("\0", "").split("/") if part not in ("", ".", "..")]
    return folder.joinpath(*parts or ["document"])


def read_ahead(
    results: Results, threads: int = 8, wanted: Callable[[ResultFile], bool] = lambda _: True
) -> Iterator[tuple[ResultFile, Path | EndsDocument]]:
    """Yield each result with a local file, and prefetch the next ones.

    A file from S3 is deleted when the next result is requested.

    Args:
        results: the results.
        threads: the number of concurrent downloads; at most twice as many files are on disk.
        wanted: whether to fetch a result; others are skipped.

    Yields:
        A result, and its file or the fault that prevents reading it.

    Raises:
        SetupFault, TransientFault: the store cannot be read.
    """
    with scratch_folder() as folder, ThreadPoolExecutor(threads) as pool:

        def fetch(result: ResultFile) -> Path | EndsDocument:
            try:
                return results.fetch(result, folder)
            except EndsDocument as fault:
                return fault

        pending: deque[tuple[ResultFile, Future[Path | EndsDocument]]] = deque()

        def oldest() -> Iterator[tuple[ResultFile, Path | EndsDocument]]:
            result, fetched = pending.popleft()
            file = fetched.result()
            yield result, file
            if isinstance(file, Path) and file.parent == folder:
                file.unlink(missing_ok=True)

        try:
            for result in filter(wanted, results.files()):
                pending.append((result, pool.submit(fetch, result)))
                if len(pending) >= 2 * threads:
                    yield from oldest()
            while pending:
                yield from oldest()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
