"""An object store in a local folder, for documents that are not in a bucket.

SQLite stores names, ETags and small objects, so conditional writes are transactions, also between processes. Results
are files beside the database. The folder `workers` shows which workers are alive: each holds a lock there, which the
system releases when the process ends, for whatever reason.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, BinaryIO, Self

from tasks.faults import DocumentChanged, Fault, SetupFault, TransientFault
from tasks.scratch import folder_fault
from tasks.store.object_store import Described, Entry, Stored

if sys.platform != "win32":
    import fcntl

_TABLE = """CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, key TEXT, etag TEXT, size INTEGER, modified TEXT, metadata TEXT, body BLOB, file TEXT,
    PRIMARY KEY (bucket, key)
)"""
_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR_WRITE: errno.EFBIG,
}
_PATIENCE = 60.0
_PIECE = 1 << 20
_KEEP_LOCKS_SECONDS = 7 * 86_400  # far longer than any lease


class FolderObjects:
    """Objects in a folder that belongs to one user.

    Args:
        folder: the folder; created if missing, accessible to this user only.

    Raises:
        SetupFault: the folder belongs to another user, or cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(folder)
            self._folder = folder
            self._workers = folder / "workers"
            self._workers.mkdir(mode=0o700, exist_ok=True)
            self._locks: list[int] = []
            self._files: dict[tuple[str, str], tuple[Path, str]] = {}
            self._lock = threading.Lock()
            # Autocommit, so that each conditional statement is a transaction: the module would begin one too late.
            self._database = sqlite3.connect(
                folder / "objects.sqlite", timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise SetupFault(f"the folder {folder} cannot be used ({error}): set TMPDIR to another") from error

    def show(self, bucket: str, key: str, file: Path, etag: str) -> None:
        """Expose a user's file as an object for `head` and `fetch`, without copying it.

        Args:
            bucket: the object's bucket.
            key: the object's key.
            file: the file.
            etag: the SHA-256 of its bytes.
        """
        self._files[bucket, key] = (file, etag)

    def close(self) -> None:
        """Close the database and release the locks."""
        self._database.close()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def enlist(self, worker: str) -> None:
        """Register a worker of this process, until the process ends or `close` is called."""
        if sys.platform == "win32":
            return
        try:
            self._forget_old_locks()
            lock = os.open(self._lock_of(worker), os.O_RDWR | os.O_CREAT, 0o600)
            self._locks.append(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise SetupFault(f"the folder {self._folder} cannot be used ({error}): set TMPDIR to another") from error

    def gone(self, worker: str) -> bool:
        """Whether a worker is known to have ended. False for one that never enlisted here."""
        return _unlocked(self._lock_of(worker))

    def alive(self, owner: str) -> bool | None:
        """Whether a worker is alive; None if that is unknown because it never enlisted here."""
        if self.gone(owner):
            return False
        return True if self._lock_of(owner).exists() else None

    def alone(self) -> bool:
        """Whether no other process uses this folder."""
        if sys.platform == "win32":
            return False
        own_inodes = {os.fstat(lock).st_ino for lock in self._locks}
        others = [lock for lock in self._workers.iterdir() if lock.stat().st_ino not in own_inodes]
        return all(_unlocked(lock) for lock in others)

    def _lock_of(self, worker: str) -> Path:
        return self._workers / hashlib.sha256(worker.encode()).hexdigest()[:40]

    def _forget_old_locks(self) -> None:
        for lock in self._workers.iterdir():
            if time.time() - lock.stat().st_mtime > _KEEP_LOCKS_SECONDS and _unlocked(lock):
                lock.unlink(missing_ok=True)

    def get(self, bucket: str, key: str) -> Stored | None:
        """Read an object; None if it does not exist."""
        row = self._row(bucket, key, "body, file, etag")
        if row is None:
            return None
        try:
            return Stored(row[0] if row[1] is None else (self._folder / row[1]).read_bytes(), row[2])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object exists."""
        return self.head(bucket, key) is not None

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """Look up an object without reading it; None if it does not exist."""
        del document  # unreadable files are reported before they get here
        shown = self._files.get((bucket, key))
        if shown is not None:
            try:
                status = shown[0].stat()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise TransientFault(f"{shown[0]} cannot be read: {error.strerror}") from error
            return Described(key, shown[1], status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), {})
        while True:
            row = self._row(bucket, key, "etag, size, modified, metadata, file")
            if row is None:
                return None
            if row[4] is None or (self._folder / row[4]).exists():
                break
            # The system has deleted the file, so the key is free; or it was just replaced, and there is a new row.
            delete_row = "DELETE FROM objects WHERE bucket = ? AND key = ? AND etag = ?"
            self._execute(delete_row, (bucket, key, row[0]))
        return Described(key, row[0], row[1], datetime.fromisoformat(row[2]), json.loads(row[3]))

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag; None if another writer was first."""
        etag = _etag()
        return etag if self._write(bucket, key, etag, len(body), {}, body=body, over=None) else None

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Replace exactly the version with this ETag. Returns the new ETag; None if the object had changed."""
        new_etag = _etag()
        return new_etag if self._write(bucket, key, new_etag, len(body), {}, body=body, over=etag) else None

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Create an object from a file (`over` is None), or replace exactly the version with that ETag."""
        del media_type
        try:
            body = file.open("rb")
        except OSError as error:
            raise TransientFault(f"{file} cannot be read: {error.strerror}") from error
        with body:
            return self._write_file(bucket, key, body, metadata, over)

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """Write an object unconditionally."""
        del media_type
        if isinstance(body, bytes):
            self._write(bucket, key, _etag(), len(body), metadata, body=body)
        else:
            self._write_file(bucket, key, body, metadata, ...)

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:  # noqa: ARG002  # always checked
        """Delete exactly the version with this ETag, never one that has replaced it.

        Args:
            bucket: the bucket.
            key: the object's key.
            etag: the version.
            just_written: ignored.

        Returns:
            True if that version is gone, deleted by this call or earlier; False if another version has replaced it.
        """
        query = "DELETE FROM objects WHERE bucket = ? AND key = ? AND etag = ? RETURNING file"
        deleted = self._execute(query, (bucket, key, etag))
        for (file,) in deleted:
            self._remove(file)
        return bool(deleted) or self._row(bucket, key, "etag") is None

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that has no other writers (otherwise use `remove`). A missing object is no error."""
        for (file,) in self._execute("DELETE FROM objects WHERE bucket = ? AND key = ? RETURNING file", (bucket, key)):
            self._remove(file)

    def list(
        self,
        bucket: str,
        prefix: str,
        *,
        divide: Callable[[], Sequence[str]] | None = None,  # noqa: ARG002  # a folder is listed in one go
    ) -> Iterator[Entry]:
        """Return the objects under a prefix, in key order."""
        rows = self._execute(
            "SELECT key, etag, size, modified FROM objects WHERE bucket = ? AND substr(key, 1, ?) = ? ORDER BY key",
            (bucket, len(prefix), prefix),
        )
        return (Entry(row[0], row[1], row[2], datetime.fromisoformat(row[3])) for row in rows)

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """Return the names in a folder, at most a thousand: objects, and folders with a trailing slash."""
        rows = self._execute(
            "SELECT DISTINCT CASE WHEN instr(name, '/') THEN substr(name, 1, instr(name, '/')) ELSE name END FROM "
            "(SELECT substr(key, ?) AS name FROM objects WHERE bucket = ? AND substr(key, 1, ?) = ?) "
            "WHERE name != '' ORDER BY 1 LIMIT 1000",
            (len(folder) + 1, bucket, len(folder), folder),
        )
        return [row[0] for row in rows]

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start` of exactly the version with this ETag.

        Raises:
            DocumentChanged: the object has changed or vanished.
        """
        try:
            with self._opened(bucket, key, etag) as source:
                source.seek(start)
                return source.read(length)
        except FileNotFoundError as error:
            raise DocumentChanged(f"{key} changed or vanished") from error

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Copy exactly the version with this ETag into a file.

        Raises:
            DocumentChanged: the object has changed or vanished.
        """
        shown = self._files.get((bucket, key))
        name, moved = (str(shown[0]) if shown else key), False
        digest = hashlib.sha256()
        try:
            with self._opened(bucket, key, etag) as source, _Target(to) as target:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    target.write(piece)
        except FileNotFoundError:
            moved = True
        except OSError as error:
            raise TransientFault(f"{name} cannot be read: {error.strerror}") from error
        if moved or (shown is not None and digest.hexdigest() != etag):
            raise DocumentChanged(f"{name} changed or vanished in the meantime")

    def _opened(self, bucket: str, key: str, etag: str) -> BinaryIO:
        shown = self._files.get((bucket, key))
        if shown is not None:
            return shown[0].open("rb")
        row = self._row(bucket, key, "etag, body, file")
        if row is None or row[0] != etag:
            raise FileNotFoundError(key)
        return io.BytesIO(row[1]) if row[2] is None else (self._folder / row[2]).open("rb")

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """Always succeeds: SQLite has transactions. Returns the time by this machine's clock."""
        del bucket, folder
        return datetime.now(UTC)

    def _remove(self, file: str | None) -> None:
        if file:
            try:
                (self._folder / file).unlink(missing_ok=True)
            except OSError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: OSError | sqlite3.Error) -> Fault:
        if isinstance(error, sqlite3.Error):
            number = _SQLITE.get(getattr(error, "sqlite_errorcode", 0))
            fault = folder_fault(self._folder, OSError(number, os.strerror(number))) if number else None
        else:
            fault = folder_fault(self._folder, error)
        return fault or TransientFault(f"the folder {self._folder} cannot be used: {error}")

    def _row(self, bucket: str, key: str, columns: str) -> Any:
        query = f"SELECT {columns} FROM objects WHERE bucket = ? AND key = ?"
        rows = self._execute(query, (bucket, key))
        return rows[0] if rows else None

    def _execute(self, query: str, values: tuple[Any, ...]) -> Sequence[Any]:
        try:
            with self._lock:
                return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _write(
        self,
        bucket: str,
        key: str,
        etag: str,
        size: int,
        metadata: Mapping[str, str],
        *,
        body: bytes | None = None,
        file: str | None = None,
        over: str | EllipsisType | None = ...,
    ) -> bool:
        now = datetime.now(UTC).isoformat()
        values = (bucket, key, etag, size, now, json.dumps(dict(metadata)), body, file)
        insert = "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        update = (
            "DO UPDATE SET etag = excluded.etag, size = excluded.size, modified = excluded.modified, "
            "metadata = excluded.metadata, body = excluded.body, file = excluded.file"
        )
        if over is ...:
            query = f"{insert} ON CONFLICT (bucket, key) {update} RETURNING 1"
        elif over is None:
            query = f"{insert} ON CONFLICT (bucket, key) DO NOTHING RETURNING 1"
        else:
            query = (
                "UPDATE objects SET etag = ?3, size = ?4, modified = ?5, metadata = ?6, body = ?7, file = ?8 "
                "WHERE bucket = ?1 AND key = ?2 AND etag = ?9 RETURNING 1"
            )
            return bool(self._execute(query, (*values, over)))
        return bool(self._execute(query, values))

    def _write_file(
        self, bucket: str, key: str, body: BinaryIO, metadata: Mapping[str, str], over: str | EllipsisType | None
    ) -> bool:
        before = self._row(bucket, key, "file")
        name = uuid.uuid4().hex
        try:
            with (self._folder / name).open("xb") as target:
                shutil.copyfileobj(body, target, _PIECE)
                size = target.tell()
                target.flush()
                os.fsync(target.fileno())  # after a power cut, no record may refer to lost bytes
        except OSError as error:
            (self._folder / name).unlink(missing_ok=True)
            raise self._unusable(error) from error
        try:
            written = self._write(bucket, key, _etag(), size, metadata, file=name, over=over)
        except Fault:
            self._remove(name)
            raise
        self._remove((before[0] if before is not None else None) if written else name)
        return written


class _Target:
    """A file to copy to. Its errors are kept apart from those of the file that is copied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            self._file = path.open("wb")

    def write(self, piece: bytes) -> None:
        with self._errors():
            self._file.write(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._errors():
            self._file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise folder_fault(self._path.parent, error) or SetupFault(
                f"{self._path} cannot be written: {error.strerror}"
            ) from error


def _etag() -> str:
    """Return a unique version for a write: two writes of the same bytes must be distinguishable."""
    return uuid.uuid4().hex


def _require_private(folder: Path) -> None:
    """Refuse a folder that another user has created or can read, as is possible in a shared temporary folder."""
    status = folder.lstat()
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077
    ):
        raise SetupFault(f"the folder {folder} is not yours alone: remove it, or set TMPDIR to another")


def _unlocked(lock: Path) -> bool:
    """Whether the process that held the lock has ended."""
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        # A shared lock, so that two processes checking at the same time do not mistake each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
