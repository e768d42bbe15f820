"""Reads PDFs with pdfium, for documents that qpdf cannot read or had to repair.

pdfium is not thread-safe, and a damaged document can crash the process, so it only runs in a separate process.
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

_MOST_MISSING = 1000  # consecutive missing pages: a page tree can claim a million
_SIDE = 400  # pixels of the longer side of a compared page
_OBJECTS, _TAIL = re.compile(rb"/Size (\d+)"), 2048  # the number of objects, near the end of the file
_BYTES_AN_OBJECT = 4  # qpdf considers a file with fewer than 3 damaged
_DYNAMIC_FORM = pdfium.FORMTYPE_XFA_FULL


def count(file: Path) -> str:
    """Count the pages of a PDF by accessing each of them.

    Returns:
        JSON: `refused` (pdfium's error code) or `pages`, `claimed`, `sizes` (width and height in points, and
        the first page of that size), `restricted` and `dynamic`.
    """
    try:
        pdf = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        return json.dumps({"refused": error.err_code})
    sizes: dict[tuple[float, float], int] = {}
    pages = 0
    for pages, (_, size) in enumerate(_existing_pages(pdf), 1):
        sizes.setdefault(size, pages)
    counted = {"pages": pages, "claimed": len(pdf), "sizes": [[*size, first] for size, first in sizes.items()]}
    restricted = pdfium.FPDF_GetSecurityHandlerRevision(pdf) != -1
    dynamic = pdfium.FPDF_GetFormType(pdf) == _DYNAMIC_FORM
    return json.dumps({**counted, "restricted": restricted, "dynamic": dynamic})


def _existing_pages(pdf: Any) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yield the index and size in points of each page that exists, of those that the page tree claims."""
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
    """Write a PDF as pdfium reads it, unencrypted, and check that qpdf reads the same number of pages.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
        ValueError: qpdf counts the copy's pages differently.
        OSError: the copy cannot be written.
    """
    from tasks.documents.files import pdf_parts  # imported here: counting does not need qpdf

    with pypdfium2.PdfDocument(file) as pdf, written(to) as out:
        pdf.save(out, flags=pdfium.FPDF_REMOVE_SECURITY)
    _make_room(to)
    if pdf_parts.page_count(to) != pages:
        raise ValueError("its page count is ambiguous")


def write_part(file: Path, first: int, last: int, to: Path) -> None:
    """Write a range of pages as a separate PDF, as pdfium reads them, without the catalogue's forms and layers.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
        OSError: the part cannot be written.
    """
    with pypdfium2.PdfDocument(file) as pdf, pypdfium2.PdfDocument.new() as part:
        part.import_pages(pdf, pages=[index for index, _ in _existing_pages(pdf)][first - 1 : last])
        with written(to) as out:
            part.save(out)


def _make_room(file: Path) -> None:
    """Pad a copy to the minimum length that qpdf expects for its object numbers; most disks store it sparsely."""
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
    """Compare pages of a document with the same pages of a part or copy, drawn small and in grey.

    Args:
        whole: the document.
        first: the first page to compare.
        last: the last page to compare.
        pages: the document's number of pages.
        part: the part or copy.
        at: the page of the part that corresponds to `first`.

    Returns:
        The first page of the document that looks different in the part; 0 if all look the same, or if pdfium counts the
        pages differently.
    """
    with pypdfium2.PdfDocument(whole) as document, pypdfium2.PdfDocument(part) as excerpt:
        indexes = [index for index, _ in _existing_pages(document)]
        if len(indexes) != pages:
            return 0
        for pdf in (document, excerpt):
            pdf.init_forms()
        for number in range(first, last + 1):
            index = at - 1 + number - first
            box = excerpt[index].get_cropbox()
            # Readers differ in where a damaged page inherits its size from; only its content is compared.
            if _drawn(document, indexes[number - 1], box) != _drawn(excerpt, index, box):
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
