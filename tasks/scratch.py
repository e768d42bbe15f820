"""Temporary files of this process: in one folder with a lock, which whoever starts next clears when its owner is dead.

A process that is killed cannot delete what it has fetched, and these are customers' documents. The system lets a lock
go when its process ends, however that happens.
"""

import atexit
import errno
import os
import shutil
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
    """The fault of a folder that cannot be written to: no room in it, or no permission. None for other errors."""
    if error.errno not in _UNWRITABLE:
        return None
    advice = "make room there" if error.errno in _NO_ROOM else "let this user write there"
    return SetupFault(f"the folder {folder} cannot be written ({error.strerror}): {advice}, or set TMPDIR to another")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for one piece of work, deleted at its end; after a kill, by whoever starts next.

    Raises:
        SetupFault: the disk is full, or not to be written to; also for what is written inside.
    """
    parent = process_folder()
    try:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)
    except OSError as error:
        # A missing permission may be about something else that was read or written inside.
        fault = folder_fault(parent, error) if error.errno in _NO_ROOM | {errno.EROFS} else None
        if fault is None:
            raise
        raise fault from error


def process_folder() -> Path:
    """The folder for all temporary files of this process; made at the first call, deleted when the process ends.

    Raises:
        SetupFault: it cannot be made, or a folder in its place is another user's, or none can be written.
    """
    global _own
    with _making:
        try:
            place = Path(tempfile.gettempdir())
        except FileNotFoundError as error:  # Python has tried to write into each candidate
            raise SetupFault(
                "no folder for temporary files can be written: mount one at /tmp (a volume or a tmpfs), or set TMPDIR "
                "to one that this user can write"
            ) from error
        # A forked child shares its parent's lock, but deletes nothing of the parent's. Cleaners of the system may.
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
    """Delete the folders of processes that have ended."""
    if sys.platform == "win32":
        return
    for folder in root.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        try:
            lock = _locked(folder / _LOCK, create=False)
        except FileNotFoundError:  # stopped before it had made its lock, which it does behind the gate
            lock = None
        except OSError:  # its owner lives, or locks do not work here
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def _gate(root: Path) -> Iterator[None]:
    """Let one process at a time make a folder or sweep: one without its lock yet must not look abandoned."""
    if sys.platform == "win32":
        yield
        return
    gate = os.open(root / _GATE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):  # where locks do not work, nothing is swept either
            fcntl.flock(gate, fcntl.LOCK_EX)
        yield
    finally:
        os.close(gate)


def _locked(file: Path, *, create: bool) -> int | None:
    """Take a lock. Returns the descriptor that holds it.

    Raises:
        OSError: somebody else holds it, there is no such file, or locks do not work here.
    """
    if sys.platform == "win32":
        return None
    lock = os.open(file, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if create:  # without working locks nobody sweeps it, and it is deleted at the end all the same
            return lock
        os.close(lock)
        raise
    return lock


def _check_owner(root: Path) -> None:
    """Refuse a folder in a place that all may write to, when somebody else was there first."""
    status = root.lstat()
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077
    ):
        raise SetupFault(f"the folder {root} is not yours alone: remove it, or set TMPDIR to another")


def _forget(own: _Own) -> None:
    if own.process == os.getpid():
        shutil.rmtree(own.folder, ignore_errors=True)
