"""Pages of a document as a document of their own, for one that is too long or too large for a request."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.documents import part
from tasks.documents.formats import Format
from tasks.documents.inspect import Inspected
from tasks.documents.opened import ENCRYPTED_PDF, first_line
from tasks.faults import DocumentFault
from tasks.models import PageRange, page_ranges

_SECONDS = 600.0


@dataclass(frozen=True)
class Part:
    """What goes into one request.

    Attributes:
        file: the document itself, or some of its pages.
        pages: which pages these are; None for all of a document whose pages nobody has counted.
    """

    file: Path
    pages: PageRange | None


def divide(
    document: Path, inspected: Inspected, wanted: Sequence[PageRange], longest: int, most_bytes: int, folder: Path
) -> list[Part]:
    """Make the files to send: the document itself where it fits, parts of it where not.

    All are made before the first is sent: a page that is too large is found before anything is paid.

    Args:
        document: the document.
        inspected: what is known of it.
        wanted: the pages to send; a document that cannot be divided goes whole.
        longest: most pages of a part.
        most_bytes: most bytes of a part.
        folder: where the parts go.

    Raises:
        DocumentFault: what cannot be divided any further is still too large, or the document is damaged.
    """
    form, total = inspected.form, inspected.pages
    check_size(inspected, document.stat().st_size, most_bytes)
    if total is None or not form.divisible:
        return [Part(document, None if total is None else PageRange(first=1, last=total))]
    parts: list[Part] = []
    whole = document.stat().st_size
    pending = [part for pages in wanted for part in page_ranges(range(pages.first, pages.last + 1), longest)]
    while pending:
        pages = pending.pop(0)
        if len(pages) > 1 and whole * len(pages) > most_bytes * total:
            # Likely too large: half of a long document would be written, and read, to learn that.
            pending[:0] = _halves(pages)
            continue
        file = document
        if len(pages) < total:
            file = folder / f"pages-{pages.first}-{pages.last}"
            extract_pages(document, form, pages, file)
        size = file.stat().st_size
        if size <= most_bytes:
            parts.append(Part(file, pages))
            continue
        if len(pages) == 1:
            raise _too_large(f"page {pages} alone", size, most_bytes, "compress it")
        pending[:0] = _halves(pages)
        if file is not document:
            file.unlink()
    return parts


def _halves(pages: PageRange) -> list[PageRange]:
    middle = (pages.first + pages.last) // 2
    return [PageRange(first=pages.first, last=middle), PageRange(first=middle + 1, last=pages.last)]


def check_size(inspected: Inspected, size: int, most_bytes: int) -> None:
    """See that a document that cannot be divided is within the size limit.

    Raises:
        DocumentFault: it is too large.
    """
    if size > most_bytes and not inspected.form.divisible:
        advice = "compress it" if inspected.pages else "compress it, or convert it to PDF, which can be sent in parts"
        raise _too_large(f"the {inspected.form.name}", size, most_bytes, advice)


def _too_large(what: str, size: int, most_bytes: int, advice: str) -> DocumentFault:
    return DocumentFault(
        "too-large", f"{what} is {size / 1e6:.1f} MB, and the API takes {most_bytes / 1e6:g} MB: {advice}"
    )


def extract_pages(file: Path, form: Format, pages: PageRange, to: Path) -> None:
    """Write some pages of a divisible document as a document of the same format. Nothing is decoded on the way.

    In a process of its own: objects of a PDF that hang together deep enough end qpdf with a crash, and a TIFF whose
    frames form a ring has no end.

    Raises:
        DocumentFault: it cannot be taken apart.
    """
    # -P: nothing beside the script is imported in place of the real thing.
    arguments = [sys.executable, "-P", part.__file__, form.name, str(file), str(pages.first), str(pages.last), str(to)]
    try:
        ended = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DocumentFault("broken", f"the {form.name} takes too long to take apart: repair or replace it") from error
    words = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode == part.MACHINE:
        raise OSError(int(words), "the pages cannot be written")
    if ended.returncode == part.ENCRYPTED:
        raise DocumentFault("encrypted", ENCRYPTED_PDF)
    if ended.returncode:
        reason = first_line(words) if ended.returncode == part.BROKEN else "it cannot be taken apart"
        raise DocumentFault("broken", f"the {form.name} is broken ({reason}): repair or replace it")
