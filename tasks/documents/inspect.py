"""What a document on disk is, whether it can be sent, and how many pages it has: before anything is paid."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import pikepdf
from PIL import Image

from tasks.documents.containers import estimated_pages
from tasks.documents.formats import HEIC, PDF, TIFF, Format
from tasks.documents.opened import BROKEN_PDF, opened_heic, opened_image, opened_pdf
from tasks.documents.sniff import format_of
from tasks.faults import DocumentFault

_MOST_FRAMES = 20_000  # what finding the next one costs grows with those before
_POINTS = 72  # a PDF measures in points, 72 to the inch


@dataclass(frozen=True)
class InspectionLimits:
    """What a page may hold.

    Attributes:
        pixels: the most pixels on a page.
        dpi: dots per inch at which the pages of a PDF become pixels.
    """

    pixels: int
    dpi: int


@dataclass(frozen=True)
class Inspected:
    """What is known of a document before it is sent.

    Attributes:
        form: its format.
        pages: how many pages it has; None where only the API can say.
        estimate: the pages to reckon with.
    """

    form: Format
    pages: int | None
    estimate: int


def inspect_document(file: Path, name: str, limits: InspectionLimits) -> Inspected:
    """Tell the format and count the pages, reading no more than needed.

    Args:
        file: the document.
        name: what it is called.
        limits: what a page may hold.

    Raises:
        DocumentFault: it is empty, encrypted, broken, without pages, of another format, or a page is too large.
    """
    return inspect_as(file, format_of(file, name), limits)


def inspect_as(file: Path, form: Format, limits: InspectionLimits) -> Inspected:
    """Count the pages of a document whose format is known; see `inspect_document`."""
    if form.laid_out:
        return Inspected(form, None, estimated_pages(file, form.name))
    if form is HEIC:
        pictures = _count_pictures(file, limits)
        # Whether the further pictures of a burst count as pages, nobody has published.
        return Inspected(form, 1 if pictures == 1 else None, pictures)
    pages = _count_pdf(file, limits) if form is PDF else _count_frames(file, form, limits)
    return Inspected(form, pages, pages)


def _count_pdf(file: Path, limits: InspectionLimits) -> int:
    with opened_pdf(file) as pdf:
        if pdf.is_encrypted:  # opens without a password, but forbids this or that; the API says nothing about it
            raise DocumentFault("encrypted", "the PDF is protected with an owner password: remove it first")
        pages = len(pdf.pages)
        if pages == 0:
            raise DocumentFault("no-pages", "the PDF holds no pages: repair or replace it")
        for number, page in enumerate(pdf.pages, 1):
            _check_pixels(number, _rendered_pixels(page, limits.dpi), limits, f", rendered at {limits.dpi} DPI,")
        return pages


def _rendered_pixels(page: pikepdf.Page, dpi: int) -> float:
    try:
        left, bottom, right, top = (float(value) for value in page.cropbox)
        scale = float(page.obj.get("/UserUnit", 1)) * dpi / _POINTS
        return abs(right - left) * scale * abs(top - bottom) * scale
    except (*BROKEN_PDF, ArithmeticError):
        return 0  # a page without a size that can be read is for the API to judge


def _count_pictures(file: Path, limits: InspectionLimits) -> int:
    with opened_heic(file) as pictures:
        for number, picture in enumerate(pictures, 1):
            if min(picture.size) < 1:  # what is claimed beyond two billion arrives as a negative number
                raise DocumentFault("broken", f"the HEIC is broken (page {number} has no size): repair or replace it")
            _check_pixels(number, picture.size[0] * picture.size[1], limits)
        if len(pictures) == 0:  # pictures that are made of one another are left out by the library
            raise DocumentFault("broken", "the HEIC is broken (it holds no picture): repair or replace it")
        return len(pictures)


def _count_frames(file: Path, form: Format, limits: InspectionLimits) -> int:
    with opened_image(file, form) as image:
        frames = 0
        for frame in itertools.count() if form is TIFF else range(1):
            if frame and not _next_frame(image, frame):
                break
            if frame == _MOST_FRAMES:
                raise DocumentFault(
                    "too-many-pages", f"the TIFF holds more than {_MOST_FRAMES:,} pages: divide it into several"
                )
            width, height = image.size
            _check_pixels(frame + 1, width * height, limits)
            frames += 1
        return frames


def _check_pixels(number: int, pixels: float, limits: InspectionLimits, how: str = "") -> None:
    if pixels > limits.pixels:
        raise DocumentFault(
            "too-many-pixels",
            f"page {number}{how} has {pixels:,.0f} pixels, and the API takes {limits.pixels:,}: scale it down",
        )


def _next_frame(image: Image.Image, frame: int) -> bool:
    try:
        image.seek(frame)
    except EOFError:
        if getattr(image, "n_frames", 1) != frame:  # not the end, but damage
            raise
        return False
    return True
