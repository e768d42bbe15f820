"""Writes searchable PDFs: the document's own pages with the recognised words as invisible text.

    from pathlib import Path
    from tasks.outputs.searchable_pdf import write_searchable_pdf
    write_searchable_pdf(Path("scan.pdf.ocr.json"), Path("scan.pdf"), Path("scan.ocr.pdf"))

qpdf writes the pages in a separate process, because untrusted documents can crash it.
"""

import json
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tasks.documents.files.apart import run_program
from tasks.documents.files.extract import BROKEN, MACHINE
from tasks.documents.files.formats import PDF, Format
from tasks.documents.files.inspect import InspectionLimits, inspect_as
from tasks.documents.files.open import first_line
from tasks.documents.files.sniff import format_of
from tasks.documents.files.split import divide
from tasks.documents.files.text_pages import OwnText, find_own_text
from tasks.faults import DocumentFault, FailureCode, SetupFault
from tasks.job.record import PageRange
from tasks.outputs import layering
from tasks.scratch import folder_fault, scratch_folder

MEDIA_TYPE = PDF.media_type
_SECONDS = 3600.0
_MEGABYTES = 1024  # in addition to the documents themselves
_EVERYTHING = 1 << 62


@dataclass(frozen=True)
class SearchablePdf:
    """The facts about a PDF that was written.

    Attributes:
        pages: the number of pages.
        words: the number of words added.
        left: the number of pages that already contain their text and were left unchanged.
        text_only: why it does not show the document's pages; empty if it does.
    """

    pages: int
    words: int
    left: int = 0
    text_only: str = ""


def write_searchable_pdf(
    result: Path, document: Path | None, to: Path, *, name: str = "", reason: str = ""
) -> SearchablePdf:
    """Write the searchable PDF of a result.

    Args:
        result: the result, in any form.
        document: the document; None if it is not available, for pages with only the text.
        to: the file to write.
        name: the document's name, if it differs from that of its file.
        reason: why there is no document.

    Raises:
        DocumentFault: the document or the result cannot be read, or they do not belong together.
        SetupFault: a library is missing, or a disk is full.
    """
    with scratch_folder() as folder:
        bases: list[Path] = []
        own_text = OwnText()
        if document is not None:
            form = format_of(document, name or document.name)
            if form.laid_out:
                reason = f"a {form.name} has no fixed pages to show"
            else:
                bases, own_text = (
                    _pdf(document, form, folder) if form is PDF else (_pictures(document, form, folder), own_text)
                )
        if not bases:
            reason = reason or "its document is not available"
        written = folder / "searchable.pdf"
        size = sum(base.stat().st_size for base in bases)
        own_text_json = json.dumps({"usable": sorted(own_text.usable), "invisible": sorted(own_text.invisible)})
        counts = json.loads(_run("layers", result, size, written, reason, own_text_json, *bases))
        _move(written, to)
        return SearchablePdf(counts["pages"], counts["words"], counts["left"], "" if bases else reason)


def require_library() -> None:
    """Check that pictures can be turned into PDF pages.

    Raises:
        SetupFault: the library is missing.
    """
    if find_spec("img2pdf") is None:
        raise SetupFault(
            "turning pictures into PDF pages needs img2pdf, which is not installed: "
            "pip install --constraint constraints.txt '.[outputs]'"
        )


def _pdf(document: Path, form: Format, folder: Path) -> tuple[list[Path], OwnText]:
    """Return a PDF as it was sent (unencrypted, with the pages that were counted), and its pages that contain text."""
    inspected = inspect_as(document, form, InspectionLimits(_EVERYTHING, 1))
    whole = PageRange(first=1, last=inspected.estimate)
    bases = [part.file for part in divide(document, inspected, [whole], len(whole), _EVERYTHING, folder)]
    return bases, find_own_text(document, inspected, folder)


def _pictures(document: Path, form: Format, folder: Path) -> list[Path]:
    require_library()
    names = _run("pages", document, document.stat().st_size, form.name, folder)
    return [folder / name for name in names.split()]


def _run(task: str, file: Path, size: int, *arguments: str | Path) -> str:
    """Run a task of `layering`.

    Args:
        task: the name of the task.
        file: the file to read.
        size: the total size in bytes of the documents that it maps.
        arguments: the task's other arguments.
    """
    try:
        ended = run_program(layering.__file__, task, _MEGABYTES + (2 * size >> 20), _SECONDS, file, *arguments)
    except subprocess.TimeoutExpired as error:
        raise _impossible("it takes too long") from error
    words = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode == MACHINE:
        full = OSError(int(words), "no room for a searchable PDF")
        raise folder_fault(file.parent, full) or full
    if ended.returncode:
        raise _impossible(first_line(words) if ended.returncode == BROKEN and words else "it cannot be read")
    return words


def _impossible(why: str) -> DocumentFault:
    return DocumentFault(FailureCode.NO_RESULT, f"no searchable PDF can be made from it: {why}")


def _move(written: Path, to: Path) -> None:
    """Move a file atomically to its destination, also if that is on another disk."""
    beside = to.with_name(f".{uuid.uuid4().hex}.part")
    try:
        shutil.copyfile(written, beside)
        beside.replace(to)
    finally:
        beside.unlink(missing_ok=True)
