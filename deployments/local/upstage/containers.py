"""Opens the two containers that office documents come in, within bounds."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import olefile

from deployments.local.upstage.errors import CorruptedDocumentError

UNPACKED_BYTES = 128 * 1024 * 1024
"""What a document may unpack to; far more than 50 MB of honest text and pictures do."""

_MEMBERS = 10_000


@contextmanager
def damage_in(what: str) -> Iterator[None]:
    """Report whatever goes wrong in the `with` block as damage to the document.

    Args:
        what: what is being read, for the message.

    Raises:
        CorruptedDocumentError: something went wrong.
    """
    try:
        yield
    except CorruptedDocumentError:
        raise
    except Exception as error:  # the libraries raise whatever they stumble over: KeyError, AttributeError, ...
        raise CorruptedDocumentError(f"{what} cannot be read") from error


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive that promises to unpack to no more than `UNPACKED_BYTES`.

    Nothing more can come out: zipfile reads no member beyond the size that it promises.

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
