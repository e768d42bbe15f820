"""The supported formats, and the file names to send documents under."""

import re
import unicodedata
from dataclasses import dataclass

_LONGEST_STEM = 100


@dataclass(frozen=True)
class Format:
    """A supported format.

    Attributes:
        name: its common name.
        extension: the extension to send it under.
        media_type: its MIME type.
        divisible: whether pages can be extracted, so that a long document can be sent in parts.
        laid_out: whether it has no fixed pages: the page count is known only after the API has laid it out.
    """

    name: str
    extension: str
    media_type: str
    divisible: bool = False
    laid_out: bool = False


_OOXML = "application/vnd.openxmlformats-officedocument"

PDF = Format("PDF", ".pdf", "application/pdf", divisible=True)
PNG = Format("PNG", ".png", "image/png")
JPEG = Format("JPEG", ".jpg", "image/jpeg")
BMP = Format("BMP", ".bmp", "image/bmp")
TIFF = Format("TIFF", ".tif", "image/tiff", divisible=True)
HEIC = Format("HEIC", ".heic", "image/heic")
DOCX = Format("DOCX", ".docx", f"{_OOXML}.wordprocessingml.document", laid_out=True)
PPTX = Format("PPTX", ".pptx", f"{_OOXML}.presentationml.presentation", laid_out=True)
XLSX = Format("XLSX", ".xlsx", f"{_OOXML}.spreadsheetml.sheet", laid_out=True)
HWP = Format("HWP", ".hwp", "application/x-hwp", laid_out=True)
HWPX = Format("HWPX", ".hwpx", "application/hwp+zip", laid_out=True)

FORMATS = (PDF, PNG, JPEG, BMP, TIFF, HEIC, DOCX, PPTX, XLSX, HWP, HWPX)

BY_NAME = {form.name: form for form in FORMATS}
BY_EXTENSION = {form.extension: form for form in FORMATS} | {
    ".jpeg": JPEG, ".dib": BMP, ".tiff": TIFF, ".heif": HEIC,
}  # fmt: skip
EXTENSIONS = frozenset(BY_EXTENSION)
"""The supported file extensions, in lower case."""


def upload_name(key: str, form: Format) -> str:
    """A file name for the API: plain ASCII, short, and with the extension that matches the content.

    The API was seen to leave jobs hanging if the name has more than 900 characters or its extension contradicts the
    content.
    """
    stem = key.rpartition("/")[2].rpartition(".")[0] or key.rpartition("/")[2]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_stem).strip("._-")[:_LONGEST_STEM]
    return f"{safe or 'document'}{form.extension}"
