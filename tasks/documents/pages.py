"""Pages of a document on disk: how many there are, whether they can be sent, and some as a file of their own."""

import itertools
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pikepdf
from PIL import Image, ImageSequence, UnidentifiedImageError

from tasks.documents import pdf_part
from tasks.documents.formats import PDF, TIFF, Format
from tasks.faults import DocumentFault
from tasks.models import PageRange

# The limit on pixels is the API's and is checked below, from the header alone, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
_MOST_FRAMES = 20_000  # what finding the next one costs grows with those before
_PART_SECONDS = 600.0

# A stream of a few KB can inflate to gigabytes.
pdf_part.bound_memory()

_ENCRYPTED = "the PDF is encrypted with a password: remove the password first"
# What the library was seen to raise over damaged pictures.
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
        frames = 0
        for frame in itertools.count() if form is TIFF else range(1):
            if frame and not _next_frame(image, frame):
                break
            if frame == _MOST_FRAMES:
                raise DocumentFault(
                    "too-many-pages", f"the TIFF holds more than {_MOST_FRAMES:,} pages: divide it into several"
                )
            width, height = image.size
            if width * height > most_pixels:
                raise DocumentFault(
                    "too-many-pixels",
                    f"page {frame + 1} has {width * height:,} pixels, and the API takes {most_pixels:,}: scale it down",
                )
            frames += 1
        return frames


def extract_pages(file: Path, form: Format, pages: PageRange, to: Path) -> None:
    """Write some pages of a document as a document of the same format.

    Raises:
        DocumentFault: it cannot be taken apart.
    """
    if form is PDF:
        _extract_pdf(file, pages, to)
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


def _next_frame(image: Image.Image, frame: int) -> bool:
    try:
        image.seek(frame)
    except EOFError:
        if getattr(image, "n_frames", 1) != frame:  # not the end, but damage
            raise
        return False
    return True


def _extract_pdf(file: Path, pages: PageRange, to: Path) -> None:
    """Take pages out in a process of its own: objects that hang together deep enough end qpdf with a crash."""
    # -P: nothing beside the script is imported in place of the real thing.
    arguments = [sys.executable, "-P", pdf_part.__file__, str(file), str(pages.first), str(pages.last), str(to)]
    try:
        ended = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PART_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DocumentFault("broken", "the PDF takes too long to take apart: repair or replace it") from error
    words = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode == pdf_part.MACHINE:
        raise OSError(int(words), "the pages cannot be written")
    if ended.returncode == pdf_part.ENCRYPTED:
        raise DocumentFault("encrypted", _ENCRYPTED)
    if ended.returncode:
        reason = _first_line(words) if ended.returncode == pdf_part.BROKEN else "it cannot be taken apart"
        raise DocumentFault("broken", f"the PDF is broken ({reason}): repair or replace it")


@contextmanager
def _opened_pdf(file: Path) -> Iterator[pikepdf.Pdf]:
    try:
        # Mapped, not read: a long document costs no memory.
        with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
            yield pdf
    except pikepdf.PasswordError as error:
        raise DocumentFault("encrypted", _ENCRYPTED) from error
    except pdf_part.BROKEN_PDF as error:
        raise DocumentFault("broken", f"the PDF is broken ({_first_line(str(error))}): repair or replace it") from error


@contextmanager
def _opened_image(file: Path, form: Format) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata is no reason not to recognise the picture
            with Image.open(file, formats=[form.name]) as image:
                yield image
    except UnidentifiedImageError as error:
        raise DocumentFault(
            "broken", f"the {form.name} is broken (it has no readable header): repair or replace it"
        ) from error
    except _BROKEN_IMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's (a full disk), not the picture's
        raise DocumentFault(
            "broken", f"the {form.name} is broken ({_first_line(str(error))}): repair or replace it"
        ) from error


def _first_line(text: str) -> str:
    # Temporary paths would be of no use to the reader.
    line = text.split("\n")[0]
    return line.rpartition(": ")[2][:120] if "/" in line else line[:120]
