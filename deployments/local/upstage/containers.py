"""Opens the two container formats of office documents, with limits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import olefile

from deployments.local.upstage.errors import CorruptedDocumentError

UNPACKED_BYTES = 128 * 1024 * 1024
"""The maximum unpacked size; real documents of 50 MB unpack to far less."""

_MEMBERS = 10_000


@contextmanager
def damage_in(what: str) -> Iterator[None]:
    """Report any error in the `with` block as damage to the document.

    Args:
        what: what is being read, for the message.

    Raises:
        CorruptedDocumentError: there was an error.
    """
    try:
        yield
    except CorruptedDocumentError:
        raise
    except Exception as error:  # the libraries raise whatever they stumble over: KeyError, AttributeError, ...
        raise CorruptedDocumentError(f"{what} cannot be read") from error


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive that claims to unpack to at most `UNPACKED_BYTES`.

    It cannot exceed that: zipfile reads no member beyond its claimed size.

    Raises:
        CorruptedDocumentError: it cannot be opened, or unpacks to too much.
    """
    with damage_in("the archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        members = archive.infolist()
        if len(members) > _MEMBERS or sum(member.file_size for member in members) > UNPACKED_BYTES:
            raise CorruptedDocumentError("the archive unpacks to too much")
        yield archive


@contextmanager
def open_ole(path: Path) -> Iterator[Any]:
    """Open an OLE compound file.

    Raises:
        CorruptedDocumentError: it cannot be opened.
    """
    with damage_in("the compound file"):
        container = olefile.OleFileIO(path)
    with container:
        yield container
