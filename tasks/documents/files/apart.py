"""Runs work on documents in a separate process, with limits on memory and time.

An untrusted document can crash a C++ library or keep it busy: deeply nested objects in a PDF crash qpdf, for example.
"""

import subprocess
import sys
from pathlib import Path

from tasks.documents.files import extract
from tasks.documents.files.open import ENCRYPTED_PDF, first_line
from tasks.faults import DocumentFault, FailureCode

_SECONDS = 600.0
_READING_SECONDS = 60.0
_READING_MEGABYTES = 100  # to inspect or thumbnail every page of a document
_MEGABYTES = 1024  # to write pages, in addition to twice the document's size


class NoAnswer(Exception):
    """The second reader crashed or exceeded its limits, so nothing is known about the document."""


def work_on(task: str, name: str, file: Path, *arguments: str | int | Path) -> str:
    """Run a task of `extract` that writes a file.

    Args:
        task: the name of the task.
        name: the name of the format, for messages.
        file: the document.
        arguments: the task's other arguments.

    Returns:
        The output of the program.

    Raises:
        DocumentFault: the document is encrypted or damaged.
        OSError: the disk is full.
    """
    try:
        ended = _run(task, _MEGABYTES + (2 * file.stat().st_size >> 20), _SECONDS, file, *arguments)
    except subprocess.TimeoutExpired as error:
        raise DocumentFault(FailureCode.BROKEN, f"the {name} takes too long to split: repair or replace it") from error
    words = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode == extract.MACHINE:
        raise OSError(int(words), "the pages cannot be written")
    if ended.returncode == extract.ENCRYPTED:
        raise DocumentFault(FailureCode.ENCRYPTED, ENCRYPTED_PDF)
    if ended.returncode:
        reason = first_line(words) if ended.returncode == extract.BROKEN else "it cannot be split"
        raise DocumentFault(FailureCode.BROKEN, f"the {name} is broken ({reason}): repair or replace it")
    return words


def look_at(task: str, file: Path, *arguments: str | int | Path) -> str:
    """Inspect a PDF with pdfium.

    Args:
        task: `count` or `compare`.
        file: the document.
        arguments: the task's other arguments.

    Returns:
        The output of the program.

    Raises:
        NoAnswer: pdfium crashed or exceeded its limits.
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
    """Run a program with the same interface as `extract`.

    Args:
        program: the path of the program.
        task: the name of the task.
        megabytes: its memory limit, not counting libraries and mapped documents.
        seconds: its time limit.
        file: the document.
        arguments: the task's other arguments.

    Raises:
        subprocess.TimeoutExpired: it exceeds its time limit.
    """
    # -P keeps modules beside the script from shadowing real ones.
    command = [sys.executable, "-P", program, task, str(megabytes), str(file), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
