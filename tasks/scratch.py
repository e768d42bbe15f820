"""Temporary files of this process, in one locked folder that the next process deletes if its owner has died.

A killed process cannot delete the customers' documents it has fetched. The operating system releases its lock however
it ends, which shows the next process that the folder is abandoned.
"""

import atexit
import errno
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.faults import SetupFault

if sys.platform != "win32":
    import fcntl

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = _NO_ROOM | {errno.EROFS, errno.EACCES, errno.EPERM}
_LOCK = "lock"
_GATE = "gate"


def folder_fault(folder: Path, error: OSError) -> SetupFault | None:
    """Return the fault for a folder that is full or that this user may not write to; None for other errors."""
    if error.errno not in _UNWRITABLE:
        return None
    advice = "make room there" if error.errno in _NO_ROOM else "let this user write there"
    return SetupFault(f"the folder {folder} cannot be written ({error.strerror}): {advice}, or set TMPDIR to another")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Provide a temporary folder for one task. It is deleted afterwards, or by the next process if this one is killed.

    Raises:
        SetupFault: the disk is full or read-only, also if a write inside the folder finds this.
    """
    parent = process_folder()
    try:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)
    except OSError as error:
        # A permission error may concern another file that was used inside the block.
        fault = folder_fault(parent, error) if error.errno in _NO_ROOM | {errno.EROFS} else None
        if fault is None:
            raise
        raise fault from error


def scratch_database(file: Path | None) -> sqlite3.Connection:
    """Open a database for temporary data. Any thread may use it, one at a time.

    Args:
        file: its file; None to keep it in memory.
    """
    database = sqlite3.connect(":memory:" if file is None else file, check_same_thread=False)
    database.execute("PRAGMA synchronous=OFF")  # nobody needs the data after a crash
    database.execute("PRAGMA journal_mode=OFF")
    return database


def process_folder() -> Path:
    """Return the folder for all temporary files of this process, created on first use and deleted at exit.

    Raises:
        SetupFault: it cannot be created, or the existing folder belongs to another user.
    """
    global _own
    with _making:
        try:
            place = Path(tempfile.gettempdir())
        except FileNotFoundError as error:  # Python has tried to write to each candidate
            raise SetupFault(
                "no folder for temporary files can be written: mount one at /tmp (a volume or a tmpfs), or set TMPDIR "
                "to one that this user can write"
            ) from error
        # A forked child needs a folder of its own. The folder may also be gone: systems clean up their /tmp.
        if _own is None or _own.process != os.getpid() or _own.place != place or not _own.folder.is_dir():
            _own = _make(place)
        return _own.folder


@dataclass(frozen=True)
class _Own:
    process: int
    place: Path
    folder: Path
    lock: int | None  # held open as long as the process lives


_own: _Own | None = None
_making = threading.Lock()


def _make(place: Path) -> _Own:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    root = place / f"bulk-ocr-{user}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        _check_owner(root)
        with _gate(root):
            _sweep(root)
            folder = root / uuid.uuid4().hex
            folder.mkdir(mode=0o700)
            lock = _locked(folder / _LOCK, create=True)
    except OSError as error:
        raise folder_fault(root, error) or SetupFault(
            f"the folder {root} cannot be used ({error.strerror}): set TMPDIR to another"
        ) from error
    own = _Own(os.getpid(), place, folder, lock)
    atexit.register(_forget, own)
    return own


def _sweep(root: Path) -> None:
    """Delete the folders of processes that no longer run."""
    if sys.platform == "win32":
        return
    for folder in root.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        try:
            lock = _locked(folder / _LOCK, create=False)
        except FileNotFoundError:  # its owner died before it created the lock: the gate excludes one that is alive
            lock = None
        except OSError:  # its owner is alive, or this file system has no locks
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def _gate(root: Path) -> Iterator[None]:
    """Let only one process at a time create or delete folders: a folder that is not locked yet looks abandoned."""
    if sys.platform == "win32":
        yield
        return
    gate = os.open(root / _GATE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):  # without working locks no folder is deleted either
            fcntl.flock(gate, fcntl.LOCK_EX)
        yield
    finally:
        os.close(gate)


def _locked(file: Path, *, create: bool) -> int | None:
    """Take a lock. Returns the file descriptor that holds it.

    Raises:
        OSError: another process holds it, the file does not exist, or this file system has no locks.
    """
    if sys.platform == "win32":
        return None
    lock = os.open(file, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if create:  # without working locks no other process deletes it, and this one does at exit
            return lock
        os.close(lock)
        raise
    return lock


def _check_owner(root: Path) -> None:
    """Refuse a folder that another user has created first: anybody may write to its parent."""
    status = root.lstat()
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077
    ):
        raise SetupFault(f"the folder {root} is not yours alone: remove it, or set TMPDIR to another")


def _forget(own: _Own) -> None:
    if own.process == os.getpid():
        shutil.rmtree(own.folder, ignore_errors=True)
