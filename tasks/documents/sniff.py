"""What a file is, told by its content: names lie. The name counts only where the content is damaged."""

import re
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pillow_heif
import puremagic

from tasks.documents import containers
from tasks.documents.formats import BMP, BY_EXTENSION, BY_NAME, HEIC, JPEG, PDF, PNG, TIFF, Format
from tasks.faults import DocumentFault

# What puremagic tells by a few bytes at the beginning. The others are boxes in which several formats come.
_BY_MAGIC = {
    ".pdf": PDF, ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".bmp": BMP, ".dib": BMP, ".tif": TIFF, ".tiff": TIFF,
}  # fmt: skip
_HEIC_TYPES = ("image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence")
_BIG_TIFF, _UNREAD_TIFF = b"II+\0", b"MM\0+"  # Pillow reads no BigTIFF of the other byte order
_SHOWN = re.compile(r"[A-Za-z0-9]{1,8}")


def format_of(file: Path, name: str) -> Format:
    """Tell the format of a file.

    Args:
        file: the content.
        name: what the document is called: for the message, and to tell a damaged document from another kind of file.

    Raises:
        DocumentFault: it is empty, encrypted, broken, or of no format that can be sent.
    """
    if file.stat().st_size == 0:
        raise DocumentFault("empty", "the document is empty (0 bytes): upload it again")
    with file.open("rb") as content:  # the stream, not the file: puremagic would believe the file's name
        start = content.read(4)
        if start == _BIG_TIFF:  # not among what puremagic knows
            return TIFF
        content.seek(0)
        matches = [] if start == _UNREAD_TIFF else _matches(content)
        for match in matches:
            if match in _BY_MAGIC:
                return _BY_MAGIC[match]
        content.seek(0)
        if pillow_heif.get_file_mimetype(content) in _HEIC_TYPES:
            return HEIC
        content.seek(0)
        promised = BY_EXTENSION.get(PurePosixPath(name).suffix.lower())
        seen = containers.look_into(content, promised.name if promised else "")
    if start == _UNREAD_TIFF:
        seen = "a big-endian BigTIFF"
    if seen in BY_NAME:
        return BY_NAME[seen]
    seen = seen or next((match.lstrip(".").upper() for match in matches if _SHOWN.fullmatch(match[1:])), "unknown")
    supported = ", ".join(sorted(BY_NAME))
    raise DocumentFault(
        "unsupported-format", f"unsupported format: the content of '{name}' is {seen}, and {supported} can be sent"
    )


def _matches(content: BinaryIO) -> list[str]:
    try:
        return [match.extension for match in puremagic.magic_stream(content)]
    except (puremagic.PureError, ValueError, OSError):
        return []
