"""What commands print: the report of a run; for `file`, where results go, what became of each document, its text."""

import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self, TextIO

from pydantic import BaseModel, Field, field_serializer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.documents.reading import read_pages
from tasks.faults import SetupFault
from tasks.report import RunReport

SUFFIX = ".ocr.json"
_PIPE_WIDTH = 200
_LONGEST_NAME = 255  # where the file system does not say


@dataclass(frozen=True)
class LocalDocument:
    """A file to recognise, what to call it, and where its result goes."""

    path: Path
    shown: str
    output: Path


class FileResult(BaseModel):
    """What became of one local document."""

    document: str
    kind: Literal["done", "failed"]
    output: Path | None = Field(None, description="the absolute path of the result")
    pages: int = 0
    pages_sent: int = Field(0, description="pages paid for now; 0 where it had been recognised before")
    known_since: datetime | None = Field(None, description="when an earlier command recognised it")
    possible_duplicates: int = 0
    reason: str = ""

    @field_serializer("output")
    def _printable_output(self, output: Path | None) -> str | None:
        return None if output is None else printable(output)


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


def printable(name: str | Path) -> str:
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


def checked(documents: Sequence[LocalDocument]) -> list[LocalDocument]:
    """The documents, each once: seen, before anything is paid, that their results can be written.

    Raises:
        SetupFault: one cannot be, or two would be the same file.
    """
    taken: dict[Path, LocalDocument] = {}
    sources = {each.path.resolve() for each in documents}
    writable: set[Path] = set()
    for each in documents:
        place = printable(each.output)
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
            f"the result of {document.shown} cannot be written to {printable(parent)} ({error.strerror}): "
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


def print_text(result: Path, out: TextIO, document: str | None = None) -> None:
    """Print the text of a document, form feeds between pages; under a line with its name, where given."""
    if document is not None:
        out.write(f"==> {document} <==\n")
    for page in read_pages(result):
        out.write(page.text if page.number == 1 else f"\f{page.text}")
    out.write("\n")


def print_words(result: Path, out: TextIO, document: str | None = None) -> None:
    """Print a line a word: page, confidence, box (x,y of each corner) and text, divided by tabs.

    Where the document's name is given, it is the first column.
    """
    before = "" if document is None else f"{' '.join(document.split())}\t"
    for page in read_pages(result):
        for word in page.words:
            confidence = "" if word.confidence is None else f"{word.confidence:g}"
            box = " ".join(f"{x:g},{y:g}" for x, y in word.box)
            # A word of several lines or with a tab would be several lines or columns.
            out.write(f"{before}{page.number}\t{confidence}\t{box}\t{' '.join(word.text.split())}\n")


def console() -> Console:
    """Where data goes: standard output, wide where nobody looks at it."""
    out = Console(soft_wrap=True)
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out


def complain(message: str) -> None:
    """Say what is wrong, on standard error."""
    print(f"bulk-ocr: {message}", file=sys.stderr)


def show_report(report: RunReport, console: Console) -> None:
    """Print what a run did, for a person."""
    if report.published:
        table = Table("document", "result", "pages", "words", box=None, header_style="bold", pad_edge=False)
        for row in report.published:
            table.add_row(_raw(row.document), _raw(row.result), str(row.pages), str(row.words))
        console.print(table)
    for failure in report.failures:
        console.print(f"failed: {failure.document}: {failure.reason}", markup=False, highlight=False)
    for key in report.missing_keys:
        console.print(f"missing: {key}: it does not exist, or lies outside the source", markup=False, highlight=False)
    if report.texts:
        console.print(f"{report.texts} plain texts written beside results of earlier runs", markup=False)
    if report.failed_before:
        console.print(f"{report.failed_before} documents failed in earlier runs", markup=False)
    if report.unreadable:
        console.print(report.left_alone(), markup=False, highlight=False)
    if report.note:
        console.print(f"note: {report.note}", markup=False, highlight=False)
    if report.stopped:
        console.print(f"sent less than there was: {report.stopped}", markup=False)
    console.print(f"{report.sentence()} ({report.seconds:.1f} s)", markup=False, highlight=False)


def _raw(text: str) -> Text:
    return Text(text, overflow="fold")
