"""Looking into the two boxes that office documents come in: zip archives and OLE compound files.

Only names and a few small parts are read; nothing is unpacked to disk, and XML is searched, not parsed. Strangers
write these files, so no number in them decides how much is read.
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
_OLE_HEADER, _OLE_SECTOR = 512, 30  # bytes; where the header tells the length of a sector, as a power of two
_PART = 1 << 20  # the parts that are read are a few KB long
# The most that is read of a file, in bytes: far beyond what a document that can be sent needs, and little enough
# that what the libraries do with each entry takes a second or two, some of it with the square of their number.
_ZIP_TABLE, _OLE_TABLES = 4 << 20, 2 << 20  # 30,000 members of an archive; the sectors of a compound file of 200 MB
_PARTS = 32 << 20  # of the parts, all together: small streams of a compound file lie in one that is read whole
_MOST_PAGES = 10_000  # an estimate is a document's own claim
_MAIN_PARTS = {
    b"wordprocessingml.document.main+xml": "DOCX",
    b"presentationml.presentation.main+xml": "PPTX",
    b"presentationml.slideshow.main+xml": "PPTX",
    b"spreadsheetml.sheet.main+xml": "XLSX",
}
_CONTENT_TYPES = "[Content_Types].xml"
_LOCKED = 1 << 0  # the flag of a member of a zip archive that has a password
_ZIP_OFFICE = ("DOCX", "PPTX", "XLSX", "HWPX")
# Found at the beginning of HWP's FileHeader stream: the signature, 32 bytes long, a version, and flags.
_HWP_SIGNATURE = b"HWP Document File"
_HWP_FLAGS = 36
_HWP_PASSWORD, _HWP_RIGHTS = 1 << 1, 1 << 4
_HWP_PAGES = 14  # the property of the summary that holds the page count (PIDSI_PAGECOUNT)
_SECTION, _NUMBER = 44, 3  # where the summary says where its properties begin; the type that a count has
# What the libraries were seen to raise over damaged containers.
_BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError, struct.error,
)  # fmt: skip
_BROKEN_OLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip
_Box = TypeVar("_Box")


class _Frugal:
    """A file of which no more is read than is granted, whatever the file says of the length of its parts."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self.left = most

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            here = self._file.tell()
            size = self._file.seek(0, os.SEEK_END) - here
            self._file.seek(here)
        self.left -= size
        if self.left < 0:  # before it is read: the size may be one that no memory has
            raise ValueError("it is built unlike any real document")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset < 1 << 63:  # the system's own words for it are those of a bad disk
            raise ValueError("a part of it lies outside of it")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return self._file.closed


def look_into(content: BinaryIO, promised: str) -> str:
    """Tell what is in the box.

    Args:
        content: the file, at its beginning.
        promised: the format that its name promises.

    Returns:
        The name of the format, also of one that cannot be sent; "" when it is no such box, or nothing known is in it.

    Raises:
        DocumentFault: it is encrypted; or it is damaged, and its name promises an office document.
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
            other = "iWork" if "Index/Document.iwa" in archive.NameToInfo else "ZIP"
            return next((name for part, name in (_MAIN_PARTS | OOXML).items() if part in types), other)
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
    """How many pages an office document says it has, or is likely to have: at least one. The API counts.

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
    except _BROKEN_OLE as error:  # it is an estimate: the document itself may be whole
        _not_of_the_machine(error)
        return 1


def _number(summary: bytes, wanted: int) -> int:
    """A property of a summary. olefile can read them, too, but counts to four billion where a list claims as many."""
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
        raise ValueError("its sectors have no length that there is")
    return _opened_within(_OLE_TABLES, content, olefile.OleFileIO)


def _zip(content: BinaryIO) -> zipfile.ZipFile:
    return _opened_within(_ZIP_TABLE, content, zipfile.ZipFile)


def _opened_within(tables: int, content: BinaryIO, opening: Callable[[Any], _Box]) -> _Box:
    """Open a container of which the tables are within a bound; the parts that are then read are within another."""
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
        raise zipfile.BadZipFile(f"{name} is packed in a way that office documents are not")
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
    """Let an error of the disk through: it says nothing about the document."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _encrypted(what: str) -> DocumentFault:
    return DocumentFault(FailureCode.ENCRYPTED, f"the {what} is encrypted with a password: remove the password first")


def _broken(name: str, error: Exception) -> DocumentFault:
    words = " ".join(str(error).split())[:120] or type(error).__name__
    return DocumentFault(FailureCode.BROKEN, f"the {name} is broken ({words}): repair or replace it")
