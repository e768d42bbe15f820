"""Opens documents: page counts, sizes and contents."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pillow_heif
import pypdfium2
import pypdfium2.raw
from PIL import Image

from deployments.local.upstage.containers import damage_in
from deployments.local.upstage.errors import CorruptedDocumentError
from deployments.local.upstage.formats import Format
from deployments.local.upstage.office import OFFICE, open_office
from deployments.local.upstage.pages import DPI, LineOfWords, Pages, Size

# Only one thread at a time may use PDFium, even for different documents.
_pdfium = threading.Lock()

# The API's own limit on pixels is checked separately, with the API's error.
Image.MAX_IMAGE_PIXELS = None

pillow_heif.register_heif_opener()


@contextmanager
def open_pages(path: Path, form: Format) -> Iterator[Pages]:
    """Open a document.

    Args:
        path: the file.
        form: its format.

    Yields:
        Its pages, usable only within the `with` block.

    Raises:
        CorruptedDocumentError: it cannot be opened.
    """
    if form is Format.PDF:
        with _open_pdf(path) as pdf:
            yield _PdfPages(pdf)
        return
    if form in OFFICE:
        yield open_office(path, form)
        return
    with damage_in("the image"):
        image = _open_image(path, form)
    with image:
        yield _ImagePages(path, form, image)


def inspect(path: Path, form: Format) -> tuple[int, int]:
    """Inspect a document, as the API does before it accepts it.

    Args:
        path: the file.
        form: its format.

    Returns:
        The number of pages, and the pixels of the largest page.

    Raises:
        CorruptedDocumentError: it cannot be opened, a page is missing, or it is an image that cannot be read.
    """
    with open_pages(path, form) as pages:
        largest = max(width * height for width, height in (pages.size(index) for index in range(len(pages))))
        if isinstance(pages, _ImagePages):
            pages.picture(0, longest_side=64)
        return len(pages), largest


@contextmanager
def _open_pdf(path: Path) -> Iterator[Any]:
    try:
        with _pdfium:
            pdf = pypdfium2.PdfDocument(path)
            if pdf.get_formtype():
                pdf.init_forms()  # otherwise, the contents of form fields are not drawn
    except pypdfium2.PdfiumError as error:
        raise CorruptedDocumentError("the PDF cannot be opened") from error
    try:
        yield pdf
    finally:
        with _pdfium:
            pdf.close()


class _PdfPages:
    def __init__(self, pdf: Any) -> None:
        self._pdf = pdf
        with _pdfium:
            self._count = len(pdf)
        if not self._count:
            raise CorruptedDocumentError("the PDF has no pages")

    def __len__(self) -> int:
        return self._count

    def size(self, index: int) -> Size:
        try:
            with _pdfium:
                width, height = self._pdf.get_page_size(index)
        except pypdfium2.PdfiumError as error:
            raise CorruptedDocumentError(f"page {index + 1} cannot be read") from error
        return max(1, round(width * DPI / 72)), max(1, round(height * DPI / 72))

    def picture(self, index: int, longest_side: int) -> Image.Image:
        scale = min(1.0, longest_side / max(self.size(index))) * DPI / 72
        with _pdfium, self._page(index) as page:
            bitmap = page.render(scale=scale)
            try:
                picture: Image.Image = bitmap.to_pil().convert("RGB")  # always a copy
            finally:
                bitmap.close()
        return picture

    def text_layer(self, index: int) -> list[LineOfWords]:
        width, height = self.size(index)
        with _pdfium, self._page(index) as page:
            text_page = page.get_textpage()
            try:
                return _words(page, text_page, width, height)
            finally:
                text_page.close()

    @contextmanager
    def _page(self, index: int) -> Iterator[Any]:
        try:
            page = self._pdf[index]
            try:
                yield page
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise CorruptedDocumentError(f"page {index + 1} cannot be read") from error


def _words(page: Any, text_page: Any, width: int, height: int) -> list[LineOfWords]:
    text: str = text_page.get_text_range()
    last_char = text_page.count_chars() - 1
    to_pixels = _to_pixels(page, width, height)
    lines: list[LineOfWords] = []
    for line in re.finditer(r"[^\r\n]+", text):
        words: LineOfWords = []
        for word in re.finditer(r"\S+", line.group()):
            first = min(line.start() + word.start(), last_char)
            last = min(line.start() + word.end() - 1, last_char)
            left, bottom, _, _ = text_page.get_charbox(first)
            _, _, right, top = text_page.get_charbox(last)
            (x1, y1), (x2, y2) = to_pixels(left, top), to_pixels(right, bottom)
            words.append((word.group(), (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))))
        if words:
            lines.append(words)
    return lines


def _to_pixels(page: Any, width: int, height: int) -> Callable[[float, float], tuple[int, int]]:
    """Return a function that maps a point of the page, which may be rotated or cropped, to its picture."""
    finer = 1000  # PDFium returns whole pixels

    def ask(x: float, y: float) -> tuple[float, float]:
        across, down = ctypes.c_int(), ctypes.c_int()
        size = (width * finer, height * finer)
        pypdfium2.raw.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, ctypes.byref(across), ctypes.byref(down))
        return across.value / finer, down.value / finer

    (x0, y0), (x1, y1), (x2, y2) = ask(0, 0), ask(100, 0), ask(0, 100)

    def to_pixels(x: float, y: float) -> tuple[int, int]:
        across = x0 + (x * (x1 - x0) + y * (x2 - x0)) / 100
        down = y0 + (x * (y1 - y0) + y * (y2 - y0)) / 100
        return min(max(round(across), 0), width), min(max(round(down), 0), height)

    return to_pixels


def _open_image(path: Path, form: Format) -> Image.Image:
    return Image.open(path, formats=["HEIF" if form is Format.HEIC else form.upper()])


class _ImagePages:
    def __init__(self, path: Path, form: Format, image: Image.Image) -> None:
        self._path = path
        self._form = form
        self._image = image
        self._lock = threading.Lock()
        self._count: int = getattr(image, "n_frames", 1) if form in (Format.TIFF, Format.HEIC) else 1

    def __len__(self) -> int:
        return self._count

    def size(self, index: int) -> Size:
        with self._lock, damage_in(f"page {index + 1}"):
            self._image.seek(index)
            return self._image.size

    def picture(self, index: int, longest_side: int) -> Image.Image:
        with self._lock, damage_in(f"page {index + 1}"):
            if self._count > 1:
                # The open file knows the offsets of its frames; a new one would search from the start.
                self._image.seek(index)
                return _flat(self._image.copy(), longest_side)
            with _open_image(self._path, self._form) as image:
                if self._form is Format.HEIC:
                    image.load()  # otherwise, an embedded thumbnail would be used
                image.draft("RGB", (longest_side, longest_side))
                return _flat(image, longest_side)

    def text_layer(self, index: int) -> list[LineOfWords]:
        del index
        return []


def _flat(image: Image.Image, longest_side: int) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=3)
    return image.convert("RGB")
