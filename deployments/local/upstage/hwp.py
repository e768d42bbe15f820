"""Reads the text of HWP 5 documents, which are compound files with streams of records."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.local.upstage.containers import UNPACKED_BYTES, open_ole
from deployments.local.upstage.errors import CorruptedDocumentError

_COMPRESSED, _ENCRYPTED = 1, 2
_PARA_HEADER, _PARA_TEXT = 66, 67
_BREAK_AT, _PAGE_BREAK = 11, 4

# These control characters are single units; every other one is the first of a group of eight.
_SINGLE = {0, 10, 13, *range(24, 32)}
_SHOWN = {9: " ", 10: "\n", 30: " ", 31: " "}


def hwp_texts(path: Path) -> list[str]:
    """Read a document's text, divided at page breaks. Each section begins a new page.

    Args:
        path: the file.

    Returns:
        The texts; the text of the preview if the body has none.

    Raises:
        CorruptedDocumentError: it is encrypted or damaged.
    """
    with open_ole(path) as container:
        header: bytes = container.openstream("FileHeader").read()
        (flags,) = struct.unpack_from("<I", header, 36)
        if flags & _ENCRYPTED:
            raise CorruptedDocumentError("the document is encrypted")
        texts: list[str] = []
        unpacked = 0
        for stream in _sections(container):
            data: bytes = container.openstream(stream).read()
            data = _inflated(data, UNPACKED_BYTES - unpacked) if flags & _COMPRESSED else data
            unpacked += len(data)
            texts += "\n".join(_paragraphs(data)).split("\f")
        if not any(text.strip() for text in texts) and container.exists("PrvText"):
            texts = [container.openstream("PrvText").read().decode("utf-16-le", "replace")]
        return texts


def _sections(container: Any) -> list[str]:
    names = ("/".join(entry) for entry in container.listdir())
    matches = (re.fullmatch(r"BodyText/Section(\d+)", name) for name in names)
    return [name for _, name in sorted((int(match[1]), match[0]) for match in matches if match)]


def _inflated(data: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    result = unpacker.decompress(data, most + 1)
    if len(result) > most:
        raise CorruptedDocumentError("the document unpacks to too much")
    if not unpacker.eof:
        raise CorruptedDocumentError("a section is cut off")
    return result


def _paragraphs(data: bytes) -> Iterator[str]:
    """Yield the text of each paragraph, with a form feed before it if it begins a page."""
    text: str | None = None
    first = True
    for tag, content in _records(data):
        if tag == _PARA_HEADER:
            if text is not None:
                yield text
                first = False
            breaks = len(content) > _BREAK_AT and content[_BREAK_AT] & _PAGE_BREAK
            text = "\f" if breaks and not first else ""
        elif tag == _PARA_TEXT:
            text = (text or "") + _text(content)
    if text is not None:
        yield text


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        (header,) = struct.unpack_from("<I", data, at)
        at += 4
        tag, size = header & 0x3FF, header >> 20
        if size == 0xFFF:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
        if at + size > len(data):
            raise CorruptedDocumentError("a record is cut off")
        yield tag, data[at : at + size]
        at += size


def _text(content: bytes) -> str:
    units = struct.unpack(f"<{len(content) // 2}H", content[: len(content) // 2 * 2])
    kept: list[int] = []
    at = 0
    while at < len(units):
        unit = units[at]
        if unit >= 32:
            kept.append(unit)
        elif unit in _SHOWN:
            kept.append(ord(_SHOWN[unit]))
        at += 1 if unit >= 32 or unit in _SINGLE else 8
    return struct.pack(f"<{len(kept)}H", *kept).decode("utf-16-le", "replace")
