"""Detects a file's format from its content. The file name only counts if the content is damaged."""

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

# Formats that puremagic identifies by their first bytes. The others are containers shared by several formats.
_BY_MAGIC = {
    ".pdf": PDF, ".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".bmp": BMP, ".dib": BMP, ".tif": TIFF, ".tiff": TIFF,
}  # fmt: skip
_HEIC_TYPES = ("image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence")
_BIG_TIFF = (b"II+\0", b"MM\0+")  # unknown to puremagic
_SHOWN = re.compile(r"[A-Za-z0-9]{1,8}")
_PDF_HEADER = re.compile(rb"%PDF-\d")
_MOST_JUNK = 1024  # bytes before a PDF's header; all readers search that far, and none much further
_PDF_END, _TAIL = b"startxref", 2048  # a PDF gives the offset of its table near its end
_OLD_HANGUL = re.compile(rb"HWP Document File V(\d)\.\d")  # versions before HWP 5, which is a compound file


def format_of(file: Path, name: str) -> Format:
    """Detect the format of a file.

    Args:
        file: the content.
        name: the document's name, for messages and to distinguish a damaged document from another kind of file.

    Raises:
        DocumentFault: it is empty, encrypted, broken or in an unsupported format.
    """
    if file.stat().st_size == 0:
        raise DocumentFault(FailureCode.EMPTY, "the document is empty (0 bytes): upload it again")
    promised = BY_EXTENSION.get(PurePosixPath(name).suffix.lower())
    with file.open("rb") as content:  # as a stream: given a path, puremagic would use the file's name
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
        content_format = containers.look_into(content, promised.name if promised else "")
        if content_format in BY_NAME:
            return BY_NAME[content_format]
        if not content_format and pdf_start(file) and (promised is PDF or _ends_like_a_pdf(content)):
            return PDF
    old = _OLD_HANGUL.match(start)
    if old:
        content_format = f"HWP {int(old[1])}"
    elif pictures == "image/avif":
        content_format = "AVIF"
    content_format = content_format or next(filter(None, map(_shown, matches)), "unknown")
    supported, what_to_do = ", ".join(sorted(BY_NAME)), advice(content_format)
    raise DocumentFault(
        FailureCode.UNSUPPORTED_FORMAT,
        f"unsupported format: the content of '{name}' is {content_format}; supported are {supported}"
        f"{f': {what_to_do}' if what_to_do else ''}",
    )


def pdf_start(file: Path) -> int:
    """The number of bytes before a PDF's header, such as a line break, a byte order mark, or data added by a server.

    Returns:
        The number; also 0 if there is no header within the bytes that readers search.
    """
    with file.open("rb") as content:
        header = _PDF_HEADER.search(content.read(_MOST_JUNK + len(b"%PDF-1")))
    return header.start() if header else 0


def _ends_like_a_pdf(content: BinaryIO) -> bool:
    content.seek(max(0, content.seek(0, os.SEEK_END) - _TAIL))
    return _PDF_END in content.read()


def _shown(extension: str) -> str:
    """puremagic's guess, unless it is a supported format, which the checks above have ruled out."""
    name = extension.lstrip(".").upper()
    return "" if name in BY_NAME or not _SHOWN.fullmatch(name) else name


def _matches(content: BinaryIO) -> list[str]:
    try:
        return [match.extension for match in puremagic.magic_stream(content)]
    except (puremagic.PureError, ValueError, OSError):
        return []
