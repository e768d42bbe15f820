"""What a file is, told by its content alone: names lie."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import puremagic

from tasks.faults import DocumentFault

_LONGEST_STEM = 100


@dataclass(frozen=True)
class Format:
    """A format that can be sent."""

    name: str
    extension: str
    media_type: str


PDF = Format("PDF", ".pdf", "application/pdf")
PNG = Format("PNG", ".png", "image/png")
JPEG = Format("JPEG", ".jpg", "image/jpeg")
BMP = Format("BMP", ".bmp", "image/bmp")
TIFF = Format("TIFF", ".tif", "image/tiff")

_BY_EXTENSION = {
    ".pdf": PDF, ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".bmp": BMP, ".dib": BMP, ".tif": TIFF, ".tiff": TIFF,
}  # fmt: skip


def format_of(file: Path, name: str) -> Format:
    """Tell the format of a file.

    Args:
        file: the content.
        name: what the document is called, for the message.

    Raises:
        DocumentFault: it is empty, or of no format that can be sent.
    """
    if file.stat().st_size == 0:
        raise DocumentFault("empty", "the document is empty (0 bytes): upload it again")
    try:
        with file.open("rb") as content:  # the stream, not the file: puremagic would believe the file's name
            matches = puremagic.magic_stream(content)
    except (puremagic.PureError, ValueError, OSError):
        matches = []
    for match in matches:
        if match.extension in _BY_EXTENSION:
            return _BY_EXTENSION[match.extension]
    seen = (matches[0].extension.lstrip(".").upper() if matches else "") or "unknown"
    supported = ", ".join(sorted({known.name for known in _BY_EXTENSION.values()}))
    raise DocumentFault(
        "unsupported-format", f"unsupported format: the content of '{name}' is {seen}, and {supported} can be sent"
    )


def upload_name(key: str, form: Format) -> str:
    """A file name for the API: plain ASCII, short, and with the extension of the content.

    The API was seen to leave jobs hanging over names of more than 900 characters, and over extensions that
    contradict the content.
    """
    stem = key.rpartition("/")[2].rpartition(".")[0] or key.rpartition("/")[2]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_stem).strip("._-")[:_LONGEST_STEM]
    return f"{safe or 'document'}{form.extension}"
