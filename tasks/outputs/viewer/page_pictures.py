"""Pictures of a document's pages, small enough for a browser: from PDFs, TIFFs and single pictures."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import pypdfium2 as pdfium
from PIL import Image, ImageOps

from tasks.documents.files.formats import PDF
from tasks.documents.files.sniff import format_of
from tasks.documents.results.words import Size
from tasks.faults import DocumentFault, FailureCode

MEDIA_TYPE = "image/webp"
_LONGEST_SIDE = 1600  # pixels: A4 at about 137 DPI, which is read without effort
_QUALITY = 60
_MOST_PIXELS = 250_000_000  # of a picture; the API takes 200 million
_POINTS_AN_INCH, _DPI = 72, 150
_REOPEN_AFTER = 50  # pages
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A page as a picture.

    Attributes:
        data: the WebP file.
        size: the page's size in pixels at 150 DPI, or that of the picture that it is.
    """

    data: bytes
    size: Size


class _Reader(Protocol):
    """Draws the pages of an opened document."""

    def count(self) -> int:
        """How many pages it has."""

    def size(self, page: int) -> Size:
        """The size of a page, counted from 0: in pixels at 150 DPI, or of the picture that it is."""

    def draw(self, page: int) -> Image.Image:
        """A page, counted from 0."""

    def close(self) -> None:
        """Let go of the file."""


class PagePictures:
    """Draws the pages of a document, whichever is asked for, one at a time. Use it as a context manager.

    Args:
        file: the document.
        name: what it is called, for messages.

    Raises:
        DocumentFault: it is broken, or of a format that has no pages to draw.
    """

    def __init__(self, file: Path, name: str) -> None:
        form = format_of(file, name)
        if form.laid_out:
            raise _undrawable(f"pages of {form.name} files are laid out by the OCR API, and not drawn here")
        with _explained():
            self._reader: _Reader = _Pdf(file) if form is PDF else _Frames(file)
        self._lock = threading.Lock()  # neither pdfium nor a picture's frames are for several threads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def sizes(self) -> dict[int, Size]:
        """The sizes of the pages, as far as they are told without drawing them; by number."""
        found: dict[int, Size] = {}
        with self._lock:
            for page in range(self._reader.count()):
                try:
                    with _explained():
                        found[page + 1] = self._reader.size(page)
                except DocumentFault:  # the page itself says so when it is drawn
                    continue
        return found

    def close(self) -> None:
        """Let go of the document."""
        with self._lock:
            self._reader.close()

    def draw(self, page: int) -> PagePicture:
        """Draw a page, counted from 1.

        Raises:
            DocumentFault: there is no such page, or it cannot be drawn.
        """
        with self._lock, _explained():
            if not 1 <= page <= self._reader.count():
                raise _undrawable(f"the document has {self._reader.count()} pages, and none with the number {page}")
            size = self._reader.size(page - 1)
            return PagePicture(_packed(self._reader.draw(page - 1)), size)


class _Pdf:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._drawn = 0
        self._pdf = self._opened()

    def _opened(self) -> Any:
        pdf = pdfium.PdfDocument(self._file)
        pdf.init_forms()
        return pdf

    def count(self) -> int:
        return len(self._pdf)

    def size(self, page: int) -> Size:
        opened = self._pdf[page]
        try:
            width, height = opened.get_size()
        finally:
            opened.close()
        return width * _DPI / _POINTS_AN_INCH, height * _DPI / _POINTS_AN_INCH

    def draw(self, page: int) -> Image.Image:
        self._drawn += 1
        if self._drawn % _REOPEN_AFTER == 0:  # pdfium keeps what it has read of each page
            self._pdf.close()
            self._pdf = self._opened()
        opened = self._pdf[page]
        try:
            scale = min(_LONGEST_SIDE / max(*opened.get_size(), 1), 8)
            picture: Image.Image = opened.render(scale=scale).to_pil()
        finally:
            opened.close()
        return picture

    def close(self) -> None:
        self._pdf.close()


class _Frames:
    def __init__(self, file: Path) -> None:
        self._picture: Any = Image.open(file)  # a subclass by format; frames are not part of their common type
        self._only_size = self._picture.size  # of a JPEG that is decoded at a fraction, no longer its own

    def count(self) -> int:
        return int(getattr(self._picture, "n_frames", 1))

    def size(self, page: int) -> Size:
        if self.count() > 1:
            self._picture.seek(page)
        width, height = self._picture.size if self.count() > 1 else self._only_size
        if self._picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
            width, height = height, width
        return float(width), float(height)

    def draw(self, page: int) -> Image.Image:
        width, height = self.size(page)
        if width * height > _MOST_PIXELS:
            raise _undrawable(f"the picture has {width:.0f} x {height:.0f} pixels, too many to be drawn here")
        self._picture.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # JPEG: decoded at a fraction of its size
        return ImageOps.exif_transpose(self._picture)

    def close(self) -> None:
        self._picture.close()


def _packed(picture: Image.Image) -> bytes:
    """A picture as WebP, on white, and no larger than is looked at."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        above = picture.convert("RGBA")
        picture = Image.new("RGB", above.size, "white")
        picture.paste(above, mask=above.getchannel("A"))
    elif picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        # More than 8 bits a pixel: a scan's own range becomes black to white.
        low, high = cast("tuple[float, float]", picture.getextrema())
        picture = picture.point(lambda value: (value - low) * 255 / max(high - low, 1)).convert("L")
    else:
        # Bilevel scans are shrunk in shades of grey, or their thin strokes vanish.
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY, method=2)
    return out.getvalue()


def _undrawable(why: str) -> DocumentFault:
    return DocumentFault(FailureCode.BROKEN, why)


@contextmanager
def _explained() -> Iterator[None]:
    """What the libraries raise over broken documents, as one fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DocumentFault:
        raise
    except Exception as error:  # pdfium and Pillow raise whatever their formats' readers do
        raise _undrawable(f"the page cannot be drawn ({type(error).__name__}: {error})"[:300]) from error
