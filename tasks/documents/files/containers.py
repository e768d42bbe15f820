"""Looks into the two containers of office documents: zip archives and OLE compound files.

Only names and a few small parts are read; nothing is unpacked to disk, and XML is searched, not parsed. The files are
untrusted, so no number in them decides how much is read.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import olefile

from tasks.documents.files.unsupported import MIMETYPES, OLE_STREAMS, OOXML
from tasks.faults import DocumentFault, FailureCode

_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_HEADER, _OLE_SECTOR = 512, 30  # bytes; the offset of the sector length, a power of two
_PART = 1 << 20  # bytes; the parts of interest are a few KB long
# Read limits in bytes: far more than a document within the API's limits needs, but little enough that the libraries,
# some of which take quadratic time in the number of entries, finish within a second or two.
_ZIP_TABLE, _OLE_TABLES = 4 << 20, 2 << 20  # 30,000 members of an archive; the sectors of a compound file of 200 MB
_PARTS = 32 << 20  # all parts together: a compound file keeps small streams in one stream, which is read completely
_MOST_PAGES = 10_000  # bounds the estimate, which is the document's own claim
_MAIN_PARTS = {
    b"wordprocessingml.document.main+xml": "DOCX",
    b"presentationml.presentation.main+xml": "PPTX",
    b"presentationml.slideshow.main+xml": "PPTX",
    b"spreadsheetml.sheet.main+xml": "XLSX",
}
_CONTENT_TYPES = "[Content_Types].xml"
_LOCKED = 1 << 0  # the flag of an encrypted zip member
_ZIP_OFFICE = ("DOCX", "PPTX", "XLSX", "HWPX")
# Found at the beginning of HWP's FileHeader stream: the signature, 32 bytes long, a version, and flags.
_HWP_SIGNATURE = b"HWP Document File"
_HWP_FLAGS = 36
_HWP_PASSWORD, _HWP_RIGHTS = 1 << 1, 1 << 4
_HWP_PAGES = 14  # the summary property with the page count (PIDSI_PAGECOUNT)
_SECTION, _NUMBER = 44, 3  # offset of the pointer to the summary's properties; the type of a count
# Errors that the libraries were seen to raise for damaged containers.
_BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError, struct.error,
)  # fmt: skip
_BROKEN_OLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip
_Box = TypeVar("_Box")


class _Frugal:
    """A file with a read quota, whatever lengths the file claims for its parts."""

    def __init__(self, file: BinaryIO, quota: int) -> None:
        self._file = file
        self.left = quota

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            position = self._file.tell()
            size = self._file.seek(0, os.SEEK_END) - position
            self._file.seek(position)
        self.left -= size
        if self.left < 0:  # checked before reading: the size may exceed the memory
            raise ValueError("its structure is not that of a real document")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset < 1 << 63:  # the system's own error would look like a disk fault
            raise ValueError("one of its parts lies outside the file")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return self._file.closed


def look_into(content: BinaryIO, promised: str) -> str:
    """Detect the format of a container.

    Args:
        content: the file, at its beginning.
        promised: the format that its extension suggests.

    Returns:
        The name of the format, including unsupported ones; "" if the file is not a container or its content is unknown.

    Raises:
        DocumentFault: it is encrypted, or it is damaged and its extension is that of an office document.
    """
    start = content.read(8)
    content.seek(0)
    if start.startswith(_ZIP):
        return _zip_format(content, promised)
    if start.startswith(_OLE):
        return _ole_format(content, promised)
    return ""


def _zip_format(content: BinaryIO, promised: str) -> str:
    try:
        with _zip(content) as archive:
            kind = _part(archive, "mimetype").strip()
            if kind in MIMETYPES:
                return MIMETYPES[kind]
            if kind == b"application/hwp+zip":
                if b"encryption-data" in _part(archive, "META-INF/manifest.xml"):
                    raise _encrypted("HWPX")
                return "HWPX"
            types = _part(archive, _CONTENT_TYPES)
            fallback = "iWork" if "Index/Document.iwa" in archive.NameToInfo else "ZIP"
            return next((name for part, name in (_MAIN_PARTS | OOXML).items() if part in types), fallback)
    except _BROKEN_ZIP as error:
        if promised in _ZIP_OFFICE:
            raise _broken(promised, error) from error
        return ""


def _ole_format(content: BinaryIO, promised: str) -> str:
    try:
        with _ole(content) as box:
            if box.exists("EncryptedPackage"):
                raise _encrypted("Office document")
            if box.exists("FileHeader"):
                header = _stream(box, "FileHeader")
                if header.startswith(_HWP_SIGNATURE):
                    flags = int.from_bytes(header[_HWP_FLAGS : _HWP_FLAGS + 4], "little")
                    if flags & (_HWP_PASSWORD | _HWP_RIGHTS):
                        raise _encrypted("HWP")
                    return "HWP"
            return next((name for stream, name in OLE_STREAMS.items() if box.exists(stream)), "OLE")
    except _BROKEN_OLE as error:
        _not_of_the_machine(error)
        if promised == "HWP":
            raise _broken(promised, error) from error
        return ""


def estimated_pages(file: Path, name: str) -> int:
    """Estimate the pages of an office document from its own claim or its structure, at least one. The API has the final
    count.

    Raises:
        DocumentFault: it is broken.
    """
    if name == "HWP":
        return _clamped(_hwp_claim(file))
    with _opened(file, name) as archive:
        names = archive.namelist()
        if name == "HWPX":
            return _clamped(_count(names, r"Contents/section\d+\.xml"))
        if name == "PPTX":
            return _clamped(_count(names, r"ppt/slides/slide\d+\.xml"))
        if name == "XLSX":
            return _clamped(_count(names, r"xl/worksheets/sheet\d+\.xml"))
        claim = re.search(rb"<(?:\w+:)?Pages>(\d{1,6})</", _part(archive, "docProps/app.xml"))
        return _clamped(int(claim[1]) if claim else 1)


def _hwp_claim(file: Path) -> int:
    try:
        with file.open("rb") as content, _ole(content) as box:
            return _number(_stream(box, "\x05HwpSummaryInformation"), _HWP_PAGES)
    except _BROKEN_OLE as error:  # only an estimate: the document itself may be intact
        _not_of_the_machine(error)
        return 1


def _number(summary: bytes, wanted: int) -> int:
    """Read a summary property. olefile can do it too, but would iterate four billion times if a list claims that many
    entries.
    """
    section = struct.unpack_from("<I", summary, _SECTION)[0]
    count = struct.unpack_from("<4xI", summary, section)[0]
    for place in range(section + 8, section + 8 + 8 * count, 8):  # or until the summary ends
        name, offset = struct.unpack_from("<II", summary, place)
        if name == wanted:
            kind, value = struct.unpack_from("<Ii", summary, section + offset)
            return int(value) if kind == _NUMBER else 1
    return 1


def _ole(content: BinaryIO) -> olefile.OleFileIO:
    header = content.read(_OLE_HEADER)
    content.seek(0)
    # olefile reads a sector of whatever length the header names.
    if int.from_bytes(header[_OLE_SECTOR : _OLE_SECTOR + 2], "little") not in (9, 12):
        raise ValueError("its sector size is invalid")
    return _opened_within(_OLE_TABLES, content, olefile.OleFileIO)


def _zip(content: BinaryIO) -> zipfile.ZipFile:
    return _opened_within(_ZIP_TABLE, content, zipfile.ZipFile)


def _opened_within(tables: int, content: BinaryIO, opening: Callable[[Any], _Box]) -> _Box:
    """Open a container with one read quota for its tables and another for the parts read later."""
    frugal = _Frugal(content, tables)
    box = opening(frugal)
    frugal.left = _PARTS
    return box


@contextmanager
def _opened(file: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with file.open("rb") as content, _zip(content) as archive:
            yield archive
    except _BROKEN_ZIP as error:
        raise _broken(name, error) from error


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.NameToInfo:
        return b""
    member = archive.getinfo(name)
    if member.flag_bits & _LOCKED:
        raise _encrypted("document")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{name} uses a compression method that office documents do not use")
    with archive.open(member) as part:
        return part.read(_PART)


def _stream(box: olefile.OleFileIO, name: str) -> bytes:
    with box.openstream(name) as stream:
        return bytes(stream.read(_PART))


def _count(names: list[str], pattern: str) -> int:
    return sum(1 for name in names if re.fullmatch(pattern, name))


def _clamped(pages: int) -> int:
    return min(max(pages, 1), _MOST_PAGES)


def _not_of_the_machine(error: Exception) -> None:
    """Re-raise an error of the disk, which says nothing about the document."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _encrypted(label: str) -> DocumentFault:
    return DocumentFault(FailureCode.ENCRYPTED, f"the {label} is encrypted with a password: remove the password first")


def _broken(name: str, error: Exception) -> DocumentFault:
    words = " ".join(str(error).split())[:120] or type(error).__name__
    return DocumentFault(FailureCode.BROKEN, f"the {name} is broken ({words}): repair or replace it")
