"""Opens documents with the libraries that read them, and turns whatever they raise into one fault: broken."""

import errno
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pikepdf
import pillow_heif
from PIL import Image, UnidentifiedImageError

from tasks.documents.files.formats import HEIC, Format
from tasks.documents.files.qpdf import bound_memory
from tasks.faults import DocumentFault, FailureCode

# The API's own pixel limit is checked from the header, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# A stream of a few KB can inflate to gigabytes.
bound_memory()

_MOST_HEIC = 256 << 20  # bytes; the file is read into memory

ENCRYPTED_PDF = "the PDF is encrypted with a password: remove the password first"
# Errors that the libraries were seen to raise for damaged documents; some of qpdf's are RuntimeErrors.
BROKEN_PDF = (pikepdf.PdfError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
_BROKEN_IMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    struct.error,
)  # fmt: skip


class Unreadable(Exception):
    """qpdf cannot read a PDF, with qpdf's message. Another reader may be able to.

    Args:
        reason: qpdf's message.
        password: whether it asks for a password.
    """

    def __init__(self, reason: str, *, password: bool = False) -> None:
        super().__init__(reason)
        self.password = password


@contextmanager
def opened_pdf(file: Path | BinaryIO) -> Iterator[pikepdf.Pdf]:
    """Open a PDF that needs no password.

    Args:
        file: the document, on disk or as something that can be read anywhere.

    Raises:
        Unreadable: qpdf cannot read it, or it needs one.
    """
    try:
        # Memory-mapped, so that a long document costs no memory.
        mode = pikepdf.AccessMode.mmap if isinstance(file, Path) else pikepdf.AccessMode.stream
        with pikepdf.open(file, access_mode=mode) as pdf:
            yield pdf
    except pikepdf.PasswordError as error:
        raise Unreadable(first_line(str(error)), password=True) from error
    except BROKEN_PDF as error:
        raise Unreadable(first_line(str(error))) from error


@contextmanager
def opened_image(file: Path | BinaryIO, form: Format) -> Iterator[Image.Image]:
    """Open a picture in a format that Pillow reads."""
    with _faults_of(form), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata does not prevent recognition
        with Image.open(file, formats=[form.name]) as image:
            yield image


@contextmanager
def opened_heic(file: Path) -> Iterator[pillow_heif.HeifFile]:
    """Open a HEIC file without decoding its pictures."""
    size = file.stat().st_size
    if size > _MOST_HEIC:
        raise DocumentFault(
            FailureCode.TOO_LARGE,
            f"the HEIC is {size / 1e6:.1f} MB, but only {_MOST_HEIC / 1e6:.1f} MB can be read: compress it",
        )
    with _faults_of(HEIC):
        yield pillow_heif.open_heif(file)


@contextmanager
def _faults_of(form: Format) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise DocumentFault(
            FailureCode.BROKEN, f"the {form.name} is broken (it has no readable header): repair or replace it"
        ) from error
    except _BROKEN_IMAGE as error:
        # An error of the machine (a full disk), not of the picture. EINVAL is the picture's: an impossible offset.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DocumentFault(
            FailureCode.BROKEN, f"the {form.name} is broken ({first_line(str(error))}): repair or replace it"
        ) from error


def first_line(text: str) -> str:
    """The first line of a library's message, without paths of temporary files, which would not help the reader."""
    line = text.split("\n")[0]
    return line.rpartition(": ")[2][:120] if "/" in line else line[:120]
