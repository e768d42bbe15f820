"""Files for the command `file`: which ones to recognise and where results go, checked before anything is paid."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from tasks.documents.files.formats import EXTENSIONS
from tasks.faults import SetupFault

SUFFIX = ".ocr.json"
STDIN = "standard input"
_LONGEST_NAME = 255  # characters, if the file system does not say


@dataclass(frozen=True)
class LocalDocument:
    """A file to recognise.

    Attributes:
        path: its path.
        shown: its name in messages.
        output: the path of its result.
        output_named: whether the user named that file, so that it may be overwritten; in a folder, a file of that name
            may be another document's result.
    """

    path: Path
    shown: str
    output: Path
    output_named: bool = False


class Files(NamedTuple):
    """The files to recognise, and those left out of folders."""

    documents: list[LocalDocument]
    left_out: list[str]


def gather(paths: Sequence[str], output: str | None, folder: Path) -> Files:
    """Find the files and the paths of their results, and check them before anything is paid.

    Args:
        paths: files, folders, and "-" for standard input.
        output: a file for the result of one file; a folder for those of several; None for the system's temporary
            folder.
        folder: where standard input is stored.

    Raises:
        SetupFault: a path does not exist, an output cannot be written, or two results would be the same file.
    """
    files = Files([], [])
    output_mode = 0 if output is None else _mode(Path(output))
    several = len(paths) > 1 or stat.S_ISDIR(output_mode) or (output or "").endswith(os.sep)
    output_named = output is not None and not several
    for name in paths:
        path, shown = Path(name), as_text(name)
        kind = 0 if name == "-" else _kind(path, shown)
        if name == "-":
            path = folder / "stdin"
            if not path.exists():
                _read_stdin(path)
            result = result_path(Path("stdin"), output, several)
            files.documents.append(LocalDocument(path, STDIN, result, output_named))
        elif stat.S_ISDIR(kind):
            for file in _documents_in(path, files.left_out):
                files.documents.append(
                    LocalDocument(file, as_text(file), result_path(file.relative_to(path), output, True))
                )
        elif stat.S_ISREG(kind):
            result = result_path(Path(path.name), output, several)
            files.documents.append(LocalDocument(path, shown, result, output_named))
        else:
            raise SetupFault(
                f"'{shown}' is neither a file nor a folder: pipe its content to standard input and give '-'"
            )
    if output is not None and stat.S_ISREG(output_mode) and several:
        raise SetupFault(f"--output {as_text(output)} is a file, but several results need a folder")
    if not files.documents:
        left = f" ({len(files.left_out)} files have unsupported extensions)" if files.left_out else ""
        raise SetupFault(f"there is no document in {', '.join(map(as_text, paths))}{left}")
    return Files(checked(files.documents), files.left_out)


def _mode(path: Path) -> int:
    """The mode from `stat`; 0 if there is no such file."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _kind(path: Path, shown: str) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        label = "file or option" if shown.startswith("-") else "file"
        raise SetupFault(f"there is no {label} '{shown}'") from None
    except (OSError, ValueError) as error:
        raise SetupFault(f"'{shown}' cannot be opened ({words_of(error)})") from error


def _documents_in(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """Yield the documents in a folder in order, leaving out hidden files and unsupported extensions."""

    def unreadable(error: OSError) -> None:
        raise SetupFault(f"the folder '{as_text(error.filename)}' cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
                left_out.append(as_text(path))
            else:
                yield path


def _read_stdin(to: Path) -> None:
    if sys.stdin is None:
        raise SetupFault("standard input is closed")
    try:
        with to.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
    except OSError as error:
        raise SetupFault(f"standard input cannot be copied to {to.parent} ({error.strerror})") from error


def as_text(name: str | Path) -> str:
    """A name as text, with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def words_of(error: BaseException) -> str:
    """The message of an error, without its number and path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def temporary_folder() -> Path:
    """The system's temporary folder, even if it is full: another one would not have the paid jobs."""
    named = [Path(os.environ[name]) for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    return next((folder for folder in named if folder.is_dir()), Path(tempfile.gettempdir())).resolve()


def result_path(name: Path, output: str | None, several: bool) -> Path:
    """The path of the result of a document with this name."""
    if output is None:
        return temporary_folder() / f"{name.stem}{SUFFIX}"
    if several:
        return Path(output).resolve() / name.with_name(name.name + SUFFIX)
    return Path(output).resolve()


def numbered(output: Path) -> Iterator[Path]:
    """Yield a result's path and the alternatives if it is taken: STEM-2.ocr.json, …"""
    yield output
    stem = output.name.removesuffix(SUFFIX)
    for number in count(2):
        yield output.with_name(f"{stem}-{number}{SUFFIX if output.name.endswith(SUFFIX) else ''}")


def checked(documents: Sequence[LocalDocument]) -> list[LocalDocument]:
    """Remove repeated documents, and check that all results can be written before anything is paid.

    Raises:
        SetupFault: a result cannot be written, or two would be the same file.
    """
    by_output: dict[Path, LocalDocument] = {}
    sources = {document.path.resolve() for document in documents}
    writable: set[Path] = set()
    for document in documents:
        place = as_text(document.output)
        earlier = by_output.setdefault(document.output, document)
        if earlier.path.resolve() != document.path.resolve():
            raise SetupFault(
                f"the results of {earlier.shown} and {document.shown} would both be {place}: "
                "choose a folder with --output, or give them one by one"
            )
        if document.output in sources:
            raise SetupFault(f"the result of {document.shown} would overwrite {place}: choose another --output")
        _check_output(document, place, writable)
    return list(by_output.values())


def _check_output(document: LocalDocument, place: str, writable: set[Path]) -> None:
    parent = document.output.parent
    try:
        if parent not in writable:
            parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=parent):
                writable.add(parent)
        longest = os.pathconf(parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else _LONGEST_NAME
        if len(os.fsencode(document.output.name)) > longest:
            raise SetupFault(
                f"the name of the result of {document.shown} would be too long: choose a name with --output"
            )
        if not os.path.lexists(document.output):
            return
        existing = document.output.lstat()
    except OSError as error:
        raise SetupFault(
            f"the result of {document.shown} cannot be written to {as_text(parent)} ({error.strerror}): "
            "choose another path with --output"
        ) from error
    if stat.S_ISDIR(existing.st_mode):
        raise SetupFault(f"the result of {document.shown} would be {place}, which is a folder")
    if not stat.S_ISREG(existing.st_mode):
        raise SetupFault(f"the result of {document.shown} would be {place}, which is not a regular file")
    above = parent.stat()
    owners = {0, existing.st_uid, above.st_uid}
    if above.st_mode & stat.S_ISVTX and hasattr(os, "geteuid") and os.geteuid() not in owners:
        raise SetupFault(
            f"the result of {document.shown} would be {place}, which belongs to another user: choose another --output"
        )
