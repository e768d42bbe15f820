"""What a document on disk is, whether it can be sent, and how many pages it has: before anything is paid."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.documents.files import pictures, tiff
from tasks.documents.files.containers import estimated_pages
from tasks.documents.files.formats import BMP, HEIC, JPEG, PDF, TIFF, Format
from tasks.documents.files.open import opened_heic, opened_image
from tasks.documents.files.pdf_pages import PdfPages, Reader, count_pages
from tasks.documents.files.sniff import format_of, pdf_start
from tasks.faults import DocumentFault, FailureCode

_MOST_FRAMES = 20_000
_POINTS = 72  # a PDF measures in points, 72 to the inch


@dataclass(frozen=True)
class InspectionLimits:
    """What a page may hold, and what is refused.

    Attributes:
        pixels: the most pixels on a page.
        dpi: dots per inch at which the pages of a PDF become pixels.
        refuse_restricted: whether a PDF with an owner password is refused, rather than sent without it.
    """

    pixels: int
    dpi: int
    refuse_restricted: bool = False


@dataclass(frozen=True)
class Inspected:
    """What is known of a document before it is sent.

    Attributes:
        form: its format.
        pages: how many pages it has; None where only the API can say.
        estimate: the pages to reckon with.
        note: what is unusual about it and how it is sent; empty for most documents.
        begins_at: how many bytes come before the document itself: they are not sent.
        restricted: whether it is a PDF that an owner password restricts: a copy without encryption is sent.
        disputed: whether it is a PDF whose page tree claims other pages than there are: a copy of these is sent.
        reader: which reader counted the pages of a PDF, and divides it.
        text_pages: how many of its pages hold their text, where somebody has counted these.
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


def inspect_document(file: Path, name: str, limits: InspectionLimits) -> Inspected:
    """Tell the format and count the pages, reading no more than needed.

    Args:
        file: the document.
        name: what it is called.
        limits: what a page may hold, and what is refused.

    Raises:
        DocumentFault: it is empty, encrypted, broken, without pages, of another format, a page is too large, or its
            pages are not what its readers should see.
    """
    return inspect_as(file, format_of(file, name), limits)


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
    found = count_pages(file)
    if found.restricted and limits.refuse_restricted:
        raise DocumentFault(
            FailureCode.RESTRICTED,
            "the PDF is restricted by an owner password, and such are refused: remove the password, or leave out "
            "--refuse-restricted",
        )
    for number, (width, height) in found.sizes.items():
        scale = limits.dpi / _POINTS
        _check_pixels(number, width * scale * height * scale, limits, f", rendered at {limits.dpi} DPI,")
    begins_at = pdf_start(file)
    return Inspected(
        PDF,
        found.pages,
        found.pages,
        _note(found, begins_at),
        begins_at,
        restricted=found.restricted,
        disputed=found.disputed,
        reader=found.reader,
    )


def _note(found: PdfPages, begins_at: int) -> str:
    notes = []
    if begins_at:
        notes.append(f"what comes before the PDF ({begins_at:,} bytes) is not sent")
    if found.restricted:
        notes.append("a copy without its owner password is sent")
    if found.refusal:
        notes.append(f"qpdf cannot read it ({found.refusal}); its pages are those that pdfium finds")
    elif found.reader == "pdfium":
        notes.append("it is damaged; its pages are those that pdfium finds, which are more than qpdf finds")
    if found.disputed:
        claimed = "nothing" if found.claimed is None else f"{found.claimed:,}"
        notes.append(f"its page tree says {claimed} of how many pages there are; a copy of the {found.pages:,} is sent")
    return "; ".join(notes)


def _count_pictures(file: Path, limits: InspectionLimits) -> int:
    with opened_heic(file) as pictures:
        for number, picture in enumerate(pictures, 1):
            if min(picture.size) < 1:  # what is claimed beyond two billion arrives as a negative number
                raise DocumentFault(
                    FailureCode.BROKEN, f"the HEIC is broken (page {number} has no size): repair or replace it"
                )
            _check_pixels(number, picture.size[0] * picture.size[1], limits)
        if len(pictures) == 0:  # pictures that are made of one another are left out by the library
            raise DocumentFault(FailureCode.BROKEN, "the HEIC is broken (it holds no picture): repair or replace it")
        return len(pictures)


def _count_frames(file: Path, limits: InspectionLimits) -> tuple[int, str]:
    """The frames of a TIFF, and a note where their pixels are unusual. None is decoded."""
    unusual, pages = "", 0
    with _structure(file, TIFF) as content:
        for frame in tiff.frames(content):
            if pages == _MOST_FRAMES:
                raise DocumentFault(
                    FailureCode.TOO_MANY_PAGES,
                    f"the TIFF holds more than {_MOST_FRAMES:,} pages: divide it into several",
                )
            pages += 1
            _check_pixels(pages, frame.width * frame.height, limits)
            unusual = unusual or frame.unusual
    return pages, _unusual(unusual)


def _look_at_picture(file: Path, form: Format, limits: InspectionLimits) -> str:
    """See that a picture has a size that can be sent; a note where its pixels are unusual."""
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
    return f"its pixels ({pixels}) are of a kind that few programs read; it is sent as it is" if pixels else ""


@contextmanager
def _structure(file: Path, form: Format) -> Iterator[BinaryIO]:
    """A picture whose structure is read here."""
    try:
        with file.open("rb") as content:
            yield content
    except ValueError as error:
        raise DocumentFault(FailureCode.BROKEN, f"the {form.name} is broken ({error}): repair or replace it") from error


def _check_pixels(number: int, pixels: float, limits: InspectionLimits, how: str = "") -> None:
    if pixels > limits.pixels:
        raise DocumentFault(
            FailureCode.TOO_MANY_PIXELS,
            f"page {number}{how} has {pixels:,.0f} pixels, and the API takes {limits.pixels:,}: scale it down",
        )
