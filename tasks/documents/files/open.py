"""Opening documents with the libraries that read them; whatever these raise becomes one fault: it is broken."""

import errno
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pikepdf
import pillow_heif
from PIL import Image, UnidentifiedImageError

from tasks.documents.files.formats import HEIC, Format
from tasks.documents.files.qpdf import bound_memory
from tasks.faults import DocumentFault, FailureCode

# The limit on pixels is the API's and is checked from the header alone, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# A stream of a few KB can inflate to gigabytes.
bound_memory()

_MOST_HEIC = 256 << 20  # bytes; it is read into memory whole

ENCRYPTED_PDF = "the PDF is encrypted with a password: remove the password first"
# What the libraries were seen to raise over damaged documents; qpdf's errors that are no PdfError are RuntimeErrors.
BROKEN_PDF = (pikepdf.PdfError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
_BROKEN_IMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    struct.error,
)  # fmt: skip


class Unreadable(Exception):
    """qpdf cannot read a PDF; its message is qpdf's. Another reader may.

    Args:
        reason: what qpdf says.
        password: whether it asks for a password.
    """

    def __init__(self, reason: str, *, password: bool = False) -> None:
        super().__init__(reason)
        self.password = password


@contextmanager
def opened_pdf(file: Path) -> Iterator[pikepdf.Pdf]:
    """A PDF that needs no password.

    Raises:
        Unreadable: qpdf cannot read it, or it needs one.
    """
    try:
        # Mapped, not read: a long document costs no memory.
        with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
            yield pdf
    except pikepdf.PasswordError as error:
        raise Unreadable(first_line(str(error)), password=True) from error
    except BROKEN_PDF as error:
        raise Unreadable(first_line(str(error))) from error


@contextmanager
def opened_image(file: Path, form: Format) -> Iterator[Image.Image]:
    """A picture of a format that Pillow reads."""
    with _faults_of(form), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata is no reason not to recognise the picture
        with Image.open(file, formats=[form.name]) as image:
            yield image


@contextmanager
def opened_heic(file: Path) -> Iterator[pillow_heif.HeifFile]:
    """The pictures of a HEIC file; none is decoded."""
    size = file.stat().st_size
    if size > _MOST_HEIC:
        raise DocumentFault(
            FailureCode.TOO_LARGE,
            f"the HEIC is {size / 1e6:.1f} MB, and up to {_MOST_HEIC / 1e6:.1f} MB can be read: compress it",
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
        # The machine's (a full disk), not the picture's; but a place that no file has is what the picture says.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DocumentFault(
            FailureCode.BROKEN, f"the {form.name} is broken ({first_line(str(error))}): repair or replace it"
        ) from error


def first_line(text: str) -> str:
    """What a library says, without the paths of temporary files, which would be of no use to the reader."""
    line = text.split("\n")[0]
    return line.rpartition(": ")[2][:120] if "/" in line else line[:120]
