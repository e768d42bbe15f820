"""Files for the command `file`: which ones are meant, and where their results go. Looked at before anything is paid."""

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
_LONGEST_NAME = 255  # where the file system does not say


@dataclass(frozen=True)
class LocalDocument:
    """A file to recognise.

    Attributes:
        path: where it lies.
        shown: what to call it.
        output: where its result goes.
        output_named: whether that file was named, and may be written over; in a folder there may be another's result.
    """

    path: Path
    shown: str
    output: Path
    output_named: bool = False


class Files(NamedTuple):
    """The files that were asked for, and what was left out of folders."""

    documents: list[LocalDocument]
    left_out: list[str]


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
    output_named = output is not None and not several
    for given in paths:
        path, shown = Path(given), as_text(given)
        kind = 0 if given == "-" else _kind(path, shown)
        if given == "-":
            path = folder / "stdin"
            if not path.exists():
                _read_stdin(path)
            result = result_path(Path("stdin"), output, several)
            found.documents.append(LocalDocument(path, STDIN, result, output_named))
        elif stat.S_ISDIR(kind):
            for each in _documents_in(path, found.left_out):
                found.documents.append(
                    LocalDocument(each, as_text(each), result_path(each.relative_to(path), output, True))
                )
        elif stat.S_ISREG(kind):
            result = result_path(Path(path.name), output, several)
            found.documents.append(LocalDocument(path, shown, result, output_named))
        else:
            raise SetupFault(f"'{shown}' is neither a file nor a folder: give its content to standard input, as '-'")
    if output is not None and stat.S_ISREG(there) and several:
        raise SetupFault(f"--output {as_text(output)} is a file, and several results need a folder")
    if not found.documents:
        left = f" ({len(found.left_out)} files are none by their names)" if found.left_out else ""
        raise SetupFault(f"there is no document in {', '.join(map(as_text, paths))}{left}")
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
        raise SetupFault(f"the folder '{as_text(error.filename)}' cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            each = Path(place, name)
            if name.startswith(".") or each.suffix.lower() not in EXTENSIONS:
                left_out.append(as_text(each))
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


def as_text(name: str | Path) -> str:
    """A name as text; bytes of it that are no UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def words_of(error: BaseException) -> str:
    """What an error says, for people."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def temporary_folder() -> Path:
    """The system's temporary folder, also when it is full: another one would know nothing of what is paid for."""
    named = [Path(os.environ[name]) for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    return next((each for each in named if each.is_dir()), Path(tempfile.gettempdir())).resolve()


def result_path(name: Path, output: str | None, several: bool) -> Path:
    """Where the result of a document of that name goes."""
    if output is None:
        return temporary_folder() / f"{name.stem}{SUFFIX}"
    if several:
        return Path(output).resolve() / name.with_name(name.name + SUFFIX)
    return Path(output).resolve()


def numbered(output: Path) -> Iterator[Path]:
    """A result's name, and the names that it has when others have the first ones: STEM-2.ocr.json, …"""
    yield output
    stem = output.name.removesuffix(SUFFIX)
    for number in count(2):
        yield output.with_name(f"{stem}-{number}{SUFFIX if output.name.endswith(SUFFIX) else ''}")


def checked(documents: Sequence[LocalDocument]) -> list[LocalDocument]:
    """The documents, each once: seen, before anything is paid, that their results can be written.

    Raises:
        SetupFault: one cannot be, or two would be the same file.
    """
    taken: dict[Path, LocalDocument] = {}
    sources = {each.path.resolve() for each in documents}
    writable: set[Path] = set()
    for each in documents:
        place = as_text(each.output)
        other = taken.setdefault(each.output, each)
        if other.path.resolve() != each.path.resolve():
            raise SetupFault(
                f"the results of {other.shown} and {each.shown} would both be {place}: "
                "name a folder with --output, or give them one by one"
            )
        if each.output in sources:
            raise SetupFault(f"the result of {each.shown} would be written over {place}: name another --output")
        _check_output(each, place, writable)
    return list(taken.values())


def _check_output(document: LocalDocument, place: str, writable: set[Path]) -> None:
    parent = document.output.parent
    try:
        if parent not in writable:
            parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=parent):
                writable.add(parent)
        longest = os.pathconf(parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else _LONGEST_NAME
        if len(os.fsencode(document.output.name)) > longest:
            raise SetupFault(f"the name of the result of {document.shown} would be too long: name one with --output")
        if not os.path.lexists(document.output):
            return
        there = document.output.lstat()
    except OSError as error:
        raise SetupFault(
            f"the result of {document.shown} cannot be written to {as_text(parent)} ({error.strerror}): "
            "name another place with --output"
        ) from error
    if stat.S_ISDIR(there.st_mode):
        raise SetupFault(f"the result of {document.shown} would be {place}, which is a folder")
    if not stat.S_ISREG(there.st_mode):
        raise SetupFault(f"the result of {document.shown} would be {place}, which is no ordinary file")
    above = parent.stat()
    ours = {0, there.st_uid, above.st_uid}
    if above.st_mode & stat.S_ISVTX and hasattr(os, "geteuid") and os.geteuid() not in ours:
        raise SetupFault(
            f"the result of {document.shown} would be {place}, which is another user's: name another --output"
        )
