"""Runs work on documents in a process of its own, with bounds on memory and time.

What strangers wrote can end the process of a library in C++, or keep it busy: objects of a PDF that hang together deep
enough end qpdf with a crash.
"""

import subprocess
import sys
from pathlib import Path

from tasks.documents.files import extract
from tasks.documents.files.open import ENCRYPTED_PDF, first_line
from tasks.faults import DocumentFault, FailureCode

_SECONDS = 600.0
_READING_SECONDS = 60.0
_READING_MEGABYTES = 100  # to look at each page of a document, or to draw it small
_MEGABYTES = 1024  # to write pages, beyond twice the document's size


class NoAnswer(Exception):
    """The second reader crashed, or took too long or too much memory: it says nothing of the document."""


def work_on(task: str, name: str, file: Path, *arguments: str | int | Path) -> str:
    """Do a task of `extract` that writes a file.

    Args:
        task: which.
        name: what the format is called, for the message.
        file: the document.
        arguments: what else the task takes.

    Returns:
        What it prints.

    Raises:
        DocumentFault: the document is encrypted or damaged.
        OSError: the disk takes no more.
    """
    try:
        ended = _run(task, _MEGABYTES + (2 * file.stat().st_size >> 20), _SECONDS, file, *arguments)
    except subprocess.TimeoutExpired as error:
        raise DocumentFault(
            FailureCode.BROKEN, f"the {name} takes too long to take apart: repair or replace it"
        ) from error
    words = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode == extract.MACHINE:
        raise OSError(int(words), "the pages cannot be written")
    if ended.returncode == extract.ENCRYPTED:
        raise DocumentFault(FailureCode.ENCRYPTED, ENCRYPTED_PDF)
    if ended.returncode:
        reason = first_line(words) if ended.returncode == extract.BROKEN else "it cannot be taken apart"
        raise DocumentFault(FailureCode.BROKEN, f"the {name} is broken ({reason}): repair or replace it")
    return words


def look_at(task: str, file: Path, *arguments: str | int | Path) -> str:
    """Have pdfium look at a PDF.

    Args:
        task: `count` or `compare`.
        file: the document.
        arguments: what else the task takes.

    Returns:
        What it prints.

    Raises:
        NoAnswer: it cannot tell.
    """
    seconds = _READING_SECONDS if task == "count" else _SECONDS
    try:
        ended = _run(task, _READING_MEGABYTES, seconds, file, *arguments)
    except subprocess.TimeoutExpired as error:
        raise NoAnswer from error
    if ended.returncode:
        raise NoAnswer
    return ended.stdout.decode("utf-8", "replace").strip()


def _run(
    task: str, megabytes: int, seconds: float, file: Path, *arguments: str | int | Path
) -> "subprocess.CompletedProcess[bytes]":
    return run_program(extract.__file__, task, megabytes, seconds, file, *arguments)


def run_program(
    program: str, task: str, megabytes: int, seconds: float, file: Path, *arguments: str | int | Path
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program that is built like `extract`.

    Args:
        program: its file.
        task: which of its tasks.
        megabytes: how much memory it may take, beyond what libraries and mapped documents do.
        seconds: how long it may take.
        file: the document.
        arguments: what else the task takes.

    Raises:
        subprocess.TimeoutExpired: it takes longer.
    """
    # -P: nothing beside the script is imported in place of the real thing.
    command = [sys.executable, "-P", program, task, str(megabytes), str(file), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
