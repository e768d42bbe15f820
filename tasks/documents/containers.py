"""Looking into the two boxes that office documents come in: zip archives and OLE compound files.

Only names and a few small parts are read; nothing is unpacked to disk, and XML is searched, not parsed.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import olefile

from tasks.faults import DocumentFault

_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_HEADER, _OLE_SECTOR = 512, 30  # bytes; where the header tells the length of a sector, as a power of two
_PART = 1 << 20  # the parts that are read are a few KB long
_MOST_PAGES = 10_000  # an estimate is a document's own claim
_MAIN_PARTS = {
    b"wordprocessingml.document.main+xml": "DOCX",
    b"presentationml.presentation.main+xml": "PPTX",
    b"presentationml.slideshow.main+xml": "PPTX",
    b"spreadsheetml.sheet.main+xml": "XLSX",
}
_CONTENT_TYPES = "[Content_Types].xml"
_ZIP_OFFICE = ("DOCX", "PPTX", "XLSX", "HWPX")
# Found at the beginning of HWP's FileHeader stream: the signature, 32 bytes long, a version, and flags.
_HWP_SIGNATURE = b"HWP Document File"
_HWP_FLAGS = 36
_HWP_PASSWORD, _HWP_RIGHTS = 1 << 1, 1 << 4
_HWP_PAGES = 14  # the property of the summary that holds the page count (PIDSI_PAGECOUNT)
_LEGACY = {"WordDocument": "DOC", "Workbook": "XLS", "Book": "XLS", "PowerPoint Document": "PPT"}
# What the libraries were seen to raise over damaged containers.
_BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError, struct.error,
)  # fmt: skip
_BROKEN_OLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error)


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
        with zipfile.ZipFile(content) as archive:
            names = set(archive.namelist())
            if "mimetype" in names and _part(archive, "mimetype").strip() == b"application/hwp+zip":
                if b"encryption-data" in _part(archive, "META-INF/manifest.xml"):
                    raise _encrypted("HWPX")
                return "HWPX"
            types = _part(archive, _CONTENT_TYPES)
            return next((name for part, name in _MAIN_PARTS.items() if part in types), "ZIP")
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
            return next((name for stream, name in _LEGACY.items() if box.exists(stream)), "OLE")
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
            claim = box.getproperties("\x05HwpSummaryInformation").get(_HWP_PAGES)
    except _BROKEN_OLE as error:  # it is an estimate: the document itself may be whole
        _not_of_the_machine(error)
        return 1
    return claim if isinstance(claim, int) else 1


def _ole(content: BinaryIO) -> olefile.OleFileIO:
    header = content.read(_OLE_HEADER)
    content.seek(0)
    # olefile reads a sector of whatever length the header names.
    if int.from_bytes(header[_OLE_SECTOR : _OLE_SECTOR + 2], "little") not in (9, 12):
        raise ValueError("its sectors have no length that there is")
    return olefile.OleFileIO(content)


@contextmanager
def _opened(file: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _BROKEN_ZIP as error:
        raise _broken(name, error) from error


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.NameToInfo:
        return b""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{name} is packed in a way that office documents are not")
    with archive.open(name) as part:
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
    return DocumentFault("encrypted", f"the {what} is encrypted with a password: remove the password first")


def _broken(name: str, error: Exception) -> DocumentFault:
    words = " ".join(str(error).split())[:120] or type(error).__name__
    return DocumentFault("broken", f"the {name} is broken ({words}): repair or replace it")
