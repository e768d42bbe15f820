"""Detects a document's format from its content."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path, PurePath

from deployments.local.upstage.containers import damage_in, open_ole, open_zip
from deployments.local.upstage.errors import CorruptedDocumentError


class Format(StrEnum):
    """The formats that the stand-in can read."""

    PDF = "pdf"
    PNG = "png"
    JPEG = "jpeg"
    BMP = "bmp"
    TIFF = "tiff"
    HEIC = "heic"
    DOCX = "docx"
    PPTX = "pptx"
    XLSX = "xlsx"
    HWP = "hwp"
    HWPX = "hwpx"


_MAGIC: list[tuple[bytes, Format]] = [
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"\xff\xd8\xff", Format.JPEG),
    (b"BM", Format.BMP),
    (b"II*\x00", Format.TIFF),
    (b"MM\x00*", Format.TIFF),
    (b"II+\x00", Format.TIFF),
    (b"MM\x00+", Format.TIFF),
]
_ZIP_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"msf1"}  # these may also contain AVIF or JPEG

# The folder of the main part, and its type, which differs in documents with macros and in templates.
_OFFICE = [
    ("word/", b"wordprocessingml.document.main+xml", Format.DOCX),
    ("ppt/", b"presentationml.presentation.main+xml", Format.PPTX),
    ("xl/", b"spreadsheetml.sheet.main+xml", Format.XLSX),
]
_CONTENT_TYPES = "[Content_Types].xml"

_SUFFIXES = {
    ".pdf": Format.PDF,
    ".png": Format.PNG,
    ".jpg": Format.JPEG,
    ".jpeg": Format.JPEG,
    ".bmp": Format.BMP,
    ".tif": Format.TIFF,
    ".tiff": Format.TIFF,
    ".heic": Format.HEIC,
    ".heif": Format.HEIC,
    ".docx": Format.DOCX,
    ".pptx": Format.PPTX,
    ".xlsx": Format.XLSX,
    ".hwp": Format.HWP,
    ".hwpx": Format.HWPX,
}


def sniff(path: Path) -> Format | None:
    """Detect a document's format from its content.

    Args:
        path: the file.

    Returns:
        The format; None if it is not supported.

    Raises:
        CorruptedDocumentError: it is a damaged container, or contains an encrypted document.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    if start.startswith(_ZIP_MAGIC):
        return _in_zip(path)
    if start.startswith(_OLE_MAGIC):
        return _in_ole(path)
    if _is_heic(start):
        return Format.HEIC
    if b"%PDF-" in start:
        return Format.PDF
    return next((form for magic, form in _MAGIC if start.startswith(magic)), None)


def contradicts(file_name: str, form: Format) -> bool:
    """Return whether a file name suggests a different format than the content."""
    return _SUFFIXES.get(PurePath(file_name).suffix.lower(), form) is not form


def _is_heic(start: bytes) -> bool:
    if start[4:8] != b"ftyp":
        return False
    main, others = start[8:12], start[16 : int.from_bytes(start[:4], "big")]
    compatible = {others[at : at + 4] for at in range(0, len(others), 4)}
    return main in _HEVC_BRANDS or (main in _HEIF_BRANDS and not compatible.isdisjoint(_HEVC_BRANDS))


def _in_zip(path: Path) -> Format | None:
    with open_zip(path) as archive, damage_in("the archive"):
        names = archive.namelist()
        if "mimetype" in names and archive.read("mimetype").strip() == b"application/hwp+zip":
            return Format.HWPX
        if _CONTENT_TYPES not in names:  # a damaged document, or an unsupported format
            return next((form for folder, _, form in _OFFICE if any(name.startswith(folder) for name in names)), None)
        types = archive.read(_CONTENT_TYPES)
        return next((form for _, main_type, form in _OFFICE if main_type in types), None)


def _in_ole(path: Path) -> Format | None:
    with open_ole(path) as container, damage_in("the compound file"):
        if container.exists("EncryptedPackage"):
            raise CorruptedDocumentError("the document is encrypted")
        if not container.exists("FileHeader"):
            return None  # the older Office formats
        signature: bytes = container.openstream("FileHeader").read(32)
        return Format.HWP if signature.rstrip(b"\0") == b"HWP Document File" else None
