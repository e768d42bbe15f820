"""PDFs as pdfium reads them, for those that qpdf cannot read or had to repair.

pdfium is not safe for threads, and a damaged document can end the process: it runs in a process of its own only.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from tasks.documents.files.writing import written

_MOST_MISSING = 1000  # pages in a row that are claimed and not there: a tree can claim a million
_SIDE = 400  # pixels of the longer side of a page that is compared
_OBJECTS, _TAIL = re.compile(rb"/Size (\d+)"), 2048  # near the end: how many objects there are
_BYTES_AN_OBJECT = 4  # qpdf takes a file with fewer than 3 for damaged
_DYNAMIC_FORM = pdfium.FORMTYPE_XFA_FULL


def count(file: Path) -> str:
    """Count the pages of a PDF by looking at each.

    Returns:
        JSON: `refused` (pdfium's number of the reason) or `pages`, `claimed`, `sizes` (width and height in points, and
        the first page of that size), `restricted` and `dynamic`.
    """
    try:
        pdf = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        return json.dumps({"refused": error.err_code})
    sizes: dict[tuple[float, float], int] = {}
    pages = 0
    for pages, (_, size) in enumerate(_found(pdf), 1):
        sizes.setdefault(size, pages)
    counted = {"pages": pages, "claimed": len(pdf), "sizes": [[*size, first] for size, first in sizes.items()]}
    restricted = pdfium.FPDF_GetSecurityHandlerRevision(pdf) != -1
    dynamic = pdfium.FPDF_GetFormType(pdf) == _DYNAMIC_FORM
    return json.dumps({**counted, "restricted": restricted, "dynamic": dynamic})


def _found(pdf: Any) -> Iterator[tuple[int, tuple[float, float]]]:
    """The pages that there are of those that the page tree claims: their index, and their size in points."""
    size, missing = pdfium.FS_SIZEF(), 0
    for index in range(len(pdf)):
        if pdfium.FPDF_GetPageSizeByIndexF(pdf, index, size):
            missing = 0
            yield index, (size.width, size.height)
        else:
            missing += 1
            if missing == _MOST_MISSING:
                return


def rebuild(file: Path, pages: int, to: Path) -> None:
    """Write a PDF as pdfium reads it, without encryption, such that qpdf reads as many pages.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
        ValueError: qpdf reads other pages in the copy.
        OSError: the copy cannot be written.
    """
    from tasks.documents.files import pdf_parts  # not at the top: counting needs no qpdf

    with pypdfium2.PdfDocument(file) as pdf, written(to) as out:
        pdf.save(out, flags=pdfium.FPDF_REMOVE_SECURITY)
    _make_room(to)
    if pdf_parts.page_count(to) != pages:
        raise ValueError("its readers count its pages differently")


def write_part(file: Path, first: int, last: int, to: Path) -> None:
    """Write some pages of a PDF as a PDF: as pdfium reads them, without what the catalogue says of forms and layers.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
        OSError: the part cannot be written.
    """
    with pypdfium2.PdfDocument(file) as pdf, pypdfium2.PdfDocument.new() as part:
        part.import_pages(pdf, pages=[index for index, _ in _found(pdf)][first - 1 : last])
        with written(to) as out:
            part.save(out)


def _make_room(file: Path) -> None:
    """Lengthen a copy to what qpdf asks of a file with such object numbers: it takes no room on most disks."""
    with file.open("r+b") as copied:
        size = copied.seek(0, os.SEEK_END)
        copied.seek(max(0, size - _TAIL))
        tail = copied.read()
        objects = _OBJECTS.search(tail)
        end = tail[tail.rfind(b"startxref") :]
        if objects and int(objects[1]) * _BYTES_AN_OBJECT > size:
            copied.write(b"\n%")
            copied.seek(int(objects[1]) * _BYTES_AN_OBJECT)
            copied.write(b"\n" + end)


def first_difference(whole: Path, first: int, last: int, pages: int, part: Path, at: int) -> int:
    """Draw some pages of a document, and the same pages of a part or copy of it, small and grey, and compare them.

    Args:
        whole: the document.
        first: the first page to compare.
        last: the last.
        pages: how many pages the whole has.
        part: the part or copy.
        at: which page of it is the first to compare.

    Returns:
        The page of the whole that looks different in the part; 0 where all look the same, or pdfium counts other
        pages than these.
    """
    with pypdfium2.PdfDocument(whole) as document, pypdfium2.PdfDocument(part) as some:
        found = [index for index, _ in _found(document)]
        if len(found) != pages:
            return 0
        for pdf in (document, some):
            pdf.init_forms()
        for number in range(first, last + 1):
            index = at - 1 + number - first
            box = some[index].get_cropbox()
            # Readers differ in where a damaged page inherits its size from; what is on it is what counts.
            if _drawn(document, found[number - 1], box) != _drawn(some, index, box):
                return number
    return 0


def _drawn(pdf: Any, index: int, box: tuple[float, float, float, float]) -> tuple[int, int, bytes]:
    page = pdf[index]
    try:
        if page.get_cropbox() != box:
            page.set_mediabox(*box)
            page.set_cropbox(*box)
        bitmap = page.render(scale=_SIDE / max(*page.get_size(), 1), grayscale=True)
        try:
            return bitmap.width, bitmap.height, bytes(bitmap.buffer)
        finally:
            bitmap.close()
    finally:
        page.close()
