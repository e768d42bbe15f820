"""Pages of a document on disk: how many there are, whether they can be sent, and some as a file of their own."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pikepdf
from PIL import Image, ImageSequence, UnidentifiedImageError

from tasks.documents.formats import PDF, TIFF, Format
from tasks.faults import DocumentFault
from tasks.models import PageRange

# The limit on pixels is the API's and is checked below, from the header alone, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# What the libraries were seen to raise over damaged documents; qpdf's errors that are no PdfError are RuntimeErrors.
_BROKEN_PDF = (pikepdf.PdfError, RuntimeError, ValueError, TypeError, LookupError)
_BROKEN_IMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error,
)  # fmt: skip


def count_pages(file: Path, form: Format, most_pixels: int) -> int:
    """Count the pages, reading no more than needed.

    Args:
        file: the document.
        form: its format.
        most_pixels: the most pixels an image's page may have.

    Raises:
        DocumentFault: it is encrypted, broken, without pages, or a page is too large.
    """
    if form is PDF:
        with _opened_pdf(file) as pdf:
            if pdf.is_encrypted:  # opens without a password, but forbids this or that; the API says nothing about it
                raise DocumentFault("encrypted", "the PDF is protected with an owner password: remove it first")
            pages = len(pdf.pages)
            if pages == 0:
                raise DocumentFault("no-pages", "the PDF holds no pages: repair or replace it")
            return pages
    with _opened_image(file, form) as image:
        frames = getattr(image, "n_frames", 1) if form is TIFF else 1
        for frame in range(frames):
            if frames > 1:
                image.seek(frame)
            width, height = image.size
            if width * height > most_pixels:
                raise DocumentFault(
                    "too-many-pixels",
                    f"page {frame + 1} has {width * height:,} pixels, and the API takes {most_pixels:,}: scale it down",
                )
        return frames


def extract_pages(file: Path, form: Format, pages: PageRange, to: Path) -> None:
    """Write some pages of a document as a document of the same format.

    Raises:
        DocumentFault: it cannot be taken apart.
    """
    if form is PDF:
        with _opened_pdf(file) as pdf, pikepdf.new() as part:
            for page in range(pages.first - 1, pages.last):
                part.pages.append(pdf.pages[page])
            part.remove_unreferenced_resources()
            with to.open("wb") as out:
                keeper = _FailureKeeper(out)
                part.save(cast(BinaryIO, keeper), deterministic_id=True)
                if keeper.failure is not None:
                    raise keeper.failure
        return
    with _opened_image(file, form) as image:
        # An iterator, so that one frame is decoded at a time.
        frames = (
            frame.copy()
            for number, frame in enumerate(ImageSequence.Iterator(image), 1)
            if pages.first <= number <= pages.last
        )
        first = next(frames)
        # "raw" would blow up bilevel faxes; deflate is lossless for every mode.
        first.save(to, format="TIFF", save_all=True, append_images=frames, compression="tiff_adobe_deflate")


class _FailureKeeper(io.RawIOBase):
    """Keeps a failed write for later: qpdf ends the whole process when it meets one (a full disk)."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        length = len(data)
        if self.failure is None:
            try:
                self._out.write(data)
            except OSError as error:
                self.failure = error
        return length


@contextmanager
def _opened_pdf(file: Path) -> Iterator[pikepdf.Pdf]:
    try:
        # Mapped, not read: a long document costs no memory.
        with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
            yield pdf
    except pikepdf.PasswordError as error:
        raise DocumentFault("encrypted", "the PDF is encrypted with a password: remove the password first") from error
    except _BROKEN_PDF as error:
        raise DocumentFault("broken", f"the PDF is broken ({_first_line(error)}): repair or replace it") from error


@contextmanager
def _opened_image(file: Path, form: Format) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata is no reason not to recognise the picture
            with Image.open(file, formats=["JPEG" if form.name == "JPEG" else form.name]) as image:
                yield image
    except UnidentifiedImageError as error:
        raise DocumentFault(
            "broken", f"the {form.name} is broken (it has no readable header): repair or replace it"
        ) from error
    except _BROKEN_IMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's (a full disk), not the picture's
        raise DocumentFault(
            "broken", f"the {form.name} is broken ({_first_line(error)}): repair or replace it"
        ) from error


def _first_line(error: Exception) -> str:
    # Temporary paths would be of no use to the reader.
    text = str(error).split("\n")[0]
    return text.rpartition(": ")[2][:120] if "/" in text else text[:120]
