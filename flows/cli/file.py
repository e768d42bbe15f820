"""The command `file`: recognises local documents and prints results and progress."""

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field
from rich.console import Console

from flows.cli.local_files import Files, LocalDocument, gather
from flows.cli.local_run import EndedAtOnce, FileResult, LocalRun, open_local_run
from flows.cli.output import complain, print_json, print_name, show, writing
from flows.cli.progress import Display
from flows.cli.recognised import print_text, print_words
from flows.cli.signals import CLOCK
from tasks.faults import EndsRun, ExitStatus, SetupFault
from tasks.job.spending import duplicates_text
from tasks.options import FileOptions
from tasks.scratch import process_folder

_NAMED = 3  # of the files that were left out

Content = Literal["paths", "text", "words", "json"]


class FilesReport(BaseModel):
    """The outcome of all documents, for JSON."""

    documents: list[FileResult]
    done: int
    failed: int
    left_out: list[str] = Field(description="files in folders with unsupported extensions")

    @classmethod
    def of(cls, results: Sequence[FileResult], left_out: Sequence[str]) -> Self:
        """Count the outcomes."""
        failed = sum(result.kind == "failed" for result in results)
        return cls(documents=list(results), done=len(results) - failed, failed=failed, left_out=list(left_out))


def content_of(*, text: bool, words: bool, json: bool) -> Content:
    """Return what to print for each document.

    Raises:
        SetupFault: more than one was requested.
    """
    if text + words + json > 1:
        raise SetupFault("--text, --words and --json exclude one another")
    return "text" if text else "words" if words else "json" if json else "paths"


def recognise_files(
    paths: Sequence[str],
    output: str | None,
    options: FileOptions,
    content: Content,
    *,
    again: bool,
    quiet: bool = False,
    dry_run: bool = False,
) -> ExitStatus:
    """Recognise documents, and print what was requested.

    Args:
        paths: files, folders, and "-" for standard input.
        output: where to write results; the system's temporary folder by default.
        options: how to recognise them.
        content: what to print for each document.
        again: recognise and pay again for documents that were recognised before.
        quiet: show no progress.
        dry_run: only show what would be done and what it would cost.

    Raises:
        SetupFault: a path, an output or the set-up is wrong; nothing was sent.
        EndsRun: the account is refused, or the set-up is wrong; documents finished before are printed.
    """
    if not paths:
        raise SetupFault("no file was given; see 'bulk-ocr file --help'")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names and texts are what they are, whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
        files = gather(paths, output, Path(folder))
        if files.left_out:
            some = ", ".join(files.left_out[:_NAMED]) + (", …" if len(files.left_out) > _NAMED else "")
            complain(f"skipped in folders because of unsupported extensions: {len(files.left_out)} ({some})")
        if dry_run:
            from flows.cli.local_plan import plan_files

            plan = plan_files(files.documents, options, again=again)
            show(plan, json=content == "json")
            failing = any(planned.reason for planned in plan.documents)
            return ExitStatus.SOME_FAILED if failing else ExitStatus.DONE
        with Display(Console(stderr=True), quiet=quiet) as display:
            printer = _Printer(display, content, named=len(files.documents) > 1)
            results, refused = _recognise(open_local_run(options, CLOCK, again=again), files.documents, printer)
    _conclude(results, files, content)
    if refused is not None:
        raise refused
    return ExitStatus.SOME_FAILED if any(result.kind == "failed" for result in results) else ExitStatus.DONE


@dataclass(frozen=True)
class _Printer:
    """Prints documents as they are finished.

    Attributes:
        display: the progress display, which is hidden while something is printed.
        content: what is printed for each document.
        named: whether the document's name is printed as well.
    """

    display: Display
    content: Content
    named: bool

    def print(self, result: FileResult) -> None:
        if result.kind == "failed":
            self.display.say(f"{result.document} failed: {result.reason}")
        elif result.output is not None and self.content != "json":
            name = result.document if self.named else None
            with self.display.aside(), writing():
                if self.content == "text":
                    print_text(result.output, sys.stdout, name)
                elif self.content == "words":
                    print_words(result.output, sys.stdout, name)
                else:
                    print_name(str(result.output), sys.stdout)
                sys.stdout.flush()


def _recognise(
    run: LocalRun, documents: Sequence[LocalDocument], printer: _Printer
) -> tuple[list[FileResult], EndsRun | None]:
    results: list[FileResult] = []
    display = printer.display
    try:
        for result in run.recognise(documents, display.say, display.show):
            results.append(result)
            printer.print(result)
    except EndsRun as fault:
        return results, fault
    except EndedAtOnce:
        display.say("ended; anything that may be paid for twice is counted when the command is rerun")
        os._exit(ExitStatus.INTERRUPTED)  # the threads that wait for answers would keep the process
    return results, None


def _conclude(results: Sequence[FileResult], files: Files, content: Content) -> None:
    """Print the summary of all documents."""
    if content == "json":
        print_json(FilesReport.of(results, files.left_out))
    known = sum(result.known_since is not None for result in results)
    if known:
        several = len(files.documents) > 1
        which = f"{known} of {len(files.documents)} documents" if several else files.documents[0].shown
        were = "were" if known > 1 else "was"
        complain(f"{which} had been recognised before and {were} not paid for again (--again pays again)")
    twice = sum(result.possible_duplicates for result in results)
    if twice:
        complain(f"{duplicates_text(twice)}: their answers were lost, late or incomplete")
