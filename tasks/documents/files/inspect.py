"""Inspects a document before anything is paid: its format, whether it can be sent, and how many pages it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tasks.documents.files import pictures, tiff
from tasks.documents.files.containers import estimated_pages
from tasks.documents.files.formats import BMP, HEIC, JPEG, PDF, PNG, TIFF, Format
from tasks.documents.files.open import opened_heic, opened_image
from tasks.documents.files.pdf_pages import PdfPages, Reader, count_pages, count_without_doubt
from tasks.documents.files.sniff import format_of, pdf_start
from tasks.faults import DocumentFault, FailureCode

_MOST_FRAMES = 20_000
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_STARTS = ((b"\x89PNG\r\n\x1a\n", PNG), (b"\xff\xd8\xff", JPEG))
_POINTS = 72  # points an inch, the unit of a PDF


@dataclass(frozen=True)
class InspectionLimits:
    """Limits on pages, and documents to refuse.

    Attributes:
        pixels: the maximum number of pixels on a page.
        dpi: the resolution at which PDF pages are rendered, in dots per inch.
        refuse_restricted: whether to refuse a PDF with an owner password instead of sending an unrestricted copy.
    """

    pixels: int
    dpi: int
    refuse_restricted: bool = False


@dataclass(frozen=True)
class Inspected:
    """The facts about a document before it is sent.

    Attributes:
        form: its format.
        pages: its number of pages; None if only the API can count them.
        estimate: the number of pages to budget for.
        note: anything unusual about it and how it is sent; empty for most documents.
        begins_at: the number of bytes before the document itself, which are not sent.
        restricted: whether it is a PDF with an owner password; an unencrypted copy is sent.
        disputed: whether it is a PDF whose page tree claims a wrong number of pages; a rebuilt copy is sent.
        reader: the library that counted the pages of a PDF and splits it.
        text_pages: the number of its pages with a usable text layer, if counted.
        partly: whether only the parts that show its pages were read.
    """

    form: Format
    pages: int | None
    estimate: int
    note: str = ""
    begins_at: int = 0
    restricted: bool = False
    disputed: bool = False
    reader: Reader = "qpdf"
    text_pages: int = 0
    partly: bool = False


def inspect_document(file: Path, name: str, limits: InspectionLimits) -> Inspected:
    """Detect the format and count the pages, reading no more than needed.

    Args:
        file: the document.
        name: its name.
        limits: limits on pages, and documents to refuse.

    Raises:
        DocumentFault: it is empty, encrypted, broken, has no pages, has an unsupported format or too large a page, or
            its pages are only a cover for other content.
    """
    return inspect_as(file, format_of(file, name), limits)


def inspect_partly(content: BinaryIO, limits: InspectionLimits) -> Inspected | None:
    """Count the pages of a document without reading it completely.

    Args:
        content: the document, readable at any position.
        limits: limits on pages, and documents to refuse.

    Returns:
        The same facts as `inspect_document`; None if that needs the whole document or raises a fault.
    """
    try:
        start = content.read(16)
        content.seek(0)
        if start.startswith(b"%PDF-"):
            pdf = count_without_doubt(content)
            return None if pdf is None else replace(_inspected_pdf(pdf, 0, limits), partly=True)
        if start.startswith(_TIFF_STARTS):
            pages, note = _frames_of(content, limits)
            return Inspected(TIFF, pages, pages, note, partly=True)
        form = next((form for beginning, form in _PICTURE_STARTS if start.startswith(beginning)), None)
        if form is None:
            return None
        with opened_image(content, form) as image:
            _check_pixels(1, image.size[0] * image.size[1], limits)
        return Inspected(form, 1, 1, partly=True)
    except (DocumentFault, ValueError, OSError):
        return None


def inspect_as(file: Path, form: Format, limits: InspectionLimits) -> Inspected:
    """Count the pages of a document whose format is known.

    Raises:
        DocumentFault: as `inspect_document`.
    """
    if form.laid_out:
        return Inspected(form, None, estimated_pages(file, form.name))
    if form is HEIC:
        count = _count_pictures(file, limits)
        return Inspected(form, 1 if count == 1 else None, count)
    if form is PDF:
        return _inspect_pdf(file, limits)
    pages, note = _count_frames(file, limits) if form is TIFF else (1, _look_at_picture(file, form, limits))
    return Inspected(form, pages, pages, note)


def _inspect_pdf(file: Path, limits: InspectionLimits) -> Inspected:
    return _inspected_pdf(count_pages(file), pdf_start(file), limits)


def _inspected_pdf(pdf: PdfPages, begins_at: int, limits: InspectionLimits) -> Inspected:
    if pdf.restricted and limits.refuse_restricted:
        raise DocumentFault(
            FailureCode.RESTRICTED,
            "the PDF is restricted by an owner password, and --refuse-restricted is set: remove the password, or omit "
            "the option",
        )
    for number, (width, height) in pdf.sizes.items():
        scale = limits.dpi / _POINTS
        _check_pixels(number, width * scale * height * scale, limits, f", rendered at {limits.dpi} DPI,")
    return Inspected(
        PDF,
        pdf.pages,
        pdf.pages,
        _note(pdf, begins_at),
        begins_at,
        restricted=pdf.restricted,
        disputed=pdf.disputed,
        reader=pdf.reader,
    )


def _note(pdf: PdfPages, begins_at: int) -> str:
    notes = []
    if begins_at:
        notes.append(f"the {begins_at:,} bytes before the PDF header are not sent")
    if pdf.restricted:
        notes.append("a copy without its owner password is sent")
    if pdf.refusal:
        notes.append(f"qpdf cannot read it ({pdf.refusal}); pages are read with pdfium")
    elif pdf.reader == "pdfium":
        notes.append("it is damaged; pages are read with pdfium, which finds more of them than qpdf")
    if pdf.disputed:
        claimed = "no number of" if pdf.claimed is None else f"{pdf.claimed:,}"
        notes.append(f"its page tree claims {claimed} pages; a copy of the {pdf.pages:,} actual pages is sent")
    return "; ".join(notes)


def _count_pictures(file: Path, limits: InspectionLimits) -> int:
    with opened_heic(file) as pictures:
        for number, picture in enumerate(pictures, 1):
            if min(picture.size) < 1:  # sizes above two billion arrive as negative numbers
                raise DocumentFault(
                    FailureCode.BROKEN, f"the HEIC is broken (page {number} has no size): repair or replace it"
                )
            _check_pixels(number, picture.size[0] * picture.size[1], limits)
        if len(pictures) == 0:  # the library omits pictures that are derived from each other
            raise DocumentFault(FailureCode.BROKEN, "the HEIC is broken (it contains no picture): repair or replace it")
        return len(pictures)


def _count_frames(file: Path, limits: InspectionLimits) -> tuple[int, str]:
    """Count the frames of a TIFF without decoding, and return a note if their pixels are unusual."""
    with _structure(file, TIFF) as content:
        return _frames_of(content, limits)


def _frames_of(content: BinaryIO, limits: InspectionLimits) -> tuple[int, str]:
    unusual, pages = "", 0
    for frame in tiff.frames(content):
        if pages == _MOST_FRAMES:
            raise DocumentFault(
                FailureCode.TOO_MANY_PAGES,
                f"the TIFF has more than {_MOST_FRAMES:,} pages: split it into several files",
            )
        pages += 1
        _check_pixels(pages, frame.width * frame.height, limits)
        unusual = unusual or frame.unusual
    return pages, _unusual(unusual)


def _look_at_picture(file: Path, form: Format, limits: InspectionLimits) -> str:
    """Check the size of a picture, and return a note if its pixels are unusual."""
    unusual = ""
    if form is BMP:
        with _structure(file, form) as content:
            picture = pictures.read_bmp(content)
        size, unusual = (picture.width, picture.height), picture.unusual
    else:
        try:
            with opened_image(file, form) as image:
                size = image.size
        except DocumentFault:
            if form is not JPEG:
                raise
            with _structure(file, form) as content:
                picture = pictures.read_jpeg(content)
            size, unusual = (picture.width, picture.height), picture.unusual
    _check_pixels(1, size[0] * size[1], limits)
    return _unusual(unusual)


def _unusual(pixels: str) -> str:
    return f"few programs can read its pixel format ({pixels}); it is sent unchanged" if pixels else ""


@contextmanager
def _structure(file: Path, form: Format) -> Iterator[BinaryIO]:
    """Open a picture, turning structural errors into faults."""
    try:
        with file.open("rb") as content:
            yield content
    except ValueError as error:
        raise DocumentFault(FailureCode.BROKEN, f"the {form.name} is broken ({error}): repair or replace it") from error


def _check_pixels(number: int, pixels: float, limits: InspectionLimits, how: str = "") -> None:
    if pixels > limits.pixels:
        raise DocumentFault(
            FailureCode.TOO_MANY_PIXELS,
            f"page {number}{how} has {pixels:,.0f} pixels, but the API accepts {limits.pixels:,}: scale it down",
        )
