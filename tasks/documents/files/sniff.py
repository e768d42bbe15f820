"""What a file is, told by its content: names lie. The name counts only where the content is damaged."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pillow_heif
import puremagic

from tasks.documents.files import containers
from tasks.documents.files.formats import BMP, BY_EXTENSION, BY_NAME, HEIC, JPEG, PDF, PNG, TIFF, Format
from tasks.documents.files.unsupported import advice
from tasks.faults import DocumentFault, FailureCode

# What puremagic tells by a few bytes at the beginning. The others are boxes in which several formats come.
_BY_MAGIC = {
    ".pdf": PDF, ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".bmp": BMP, ".dib": BMP, ".tif": TIFF, ".tiff": TIFF,
}  # fmt: skip
_HEIC_TYPES = ("image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence")
_BIG_TIFF = (b"II+\0", b"MM\0+")  # not among what puremagic knows
_SHOWN = re.compile(r"[A-Za-z0-9]{1,8}")
_PDF_HEADER = re.compile(rb"%PDF-\d")
_MOST_JUNK = 1024  # bytes before a PDF's header: every reader looks so far, and none much farther
_PDF_END, _TAIL = b"startxref", 2048  # a PDF says near its end where its table is
_OLD_HANGUL = re.compile(rb"HWP Document File V(\d)\.\d")  # before HWP 5, which is a compound file


def format_of(file: Path, name: str) -> Format:
    """Tell the format of a file.

    Args:
        file: the content.
        name: what the document is called: for the message, and to tell a damaged document from another kind of file.

    Raises:
        DocumentFault: it is empty, encrypted, broken, or of no format that can be sent.
    """
    if file.stat().st_size == 0:
        raise DocumentFault(FailureCode.EMPTY, "the document is empty (0 bytes): upload it again")
    promised = BY_EXTENSION.get(PurePosixPath(name).suffix.lower())
    with file.open("rb") as content:  # the stream, not the file: puremagic would believe the file's name
        start = content.read(_MOST_JUNK)
        if start.startswith(_BIG_TIFF):
            return TIFF
        content.seek(0)
        matches = _matches(content)
        for match in matches:
            if match in _BY_MAGIC:
                return _BY_MAGIC[match]
        content.seek(0)
        pictures = pillow_heif.get_file_mimetype(content)
        if pictures in _HEIC_TYPES:
            return HEIC
        content.seek(0)
        seen = containers.look_into(content, promised.name if promised else "")
        if seen in BY_NAME:
            return BY_NAME[seen]
        if not seen and pdf_start(file) and (promised is PDF or _ends_like_a_pdf(content)):
            return PDF
    old = _OLD_HANGUL.match(start)
    if old:
        seen = f"HWP {int(old[1])}"
    elif pictures == "image/avif":
        seen = "AVIF"
    seen = seen or next(filter(None, map(_shown, matches)), "unknown")
    supported, what_to_do = ", ".join(sorted(BY_NAME)), advice(seen)
    raise DocumentFault(
        FailureCode.UNSUPPORTED_FORMAT,
        f"unsupported format: the content of '{name}' is {seen}, and {supported} can be sent"
        f"{f': {what_to_do}' if what_to_do else ''}",
    )


def pdf_start(file: Path) -> int:
    """How many bytes come before a PDF's header: a line break, a byte order mark, what a server or a printer added.

    Returns:
        0 as well where there is no header within the bytes that readers search.
    """
    with file.open("rb") as content:
        found = _PDF_HEADER.search(content.read(_MOST_JUNK + len(b"%PDF-1")))
    return found.start() if found else 0


def _ends_like_a_pdf(content: BinaryIO) -> bool:
    content.seek(max(0, content.seek(0, os.SEEK_END) - _TAIL))
    return _PDF_END in content.read()


def _shown(extension: str) -> str:
    """What puremagic found, unless it is a format that can be sent: the content was not found to be that."""
    name = extension.lstrip(".").upper()
    return "" if name in BY_NAME or not _SHOWN.fullmatch(name) else name


def _matches(content: BinaryIO) -> list[str]:
    try:
        return [match.extension for match in puremagic.magic_stream(content)]
    except (puremagic.PureError, ValueError, OSError):
        return []
