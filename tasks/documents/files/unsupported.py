"""Unsupported formats by their common name, and how to convert such a document."""

_TEXTS = "save it as DOCX or PDF"
_SHEETS = "save it as XLSX or PDF"
_SLIDES = "save it as PPTX or PDF"
_HANGUL = "save it as HWP 5, HWPX or PDF"
_PICTURE = "convert it to PNG or PDF"
_PRINT = "convert it to PDF"
_UNPACK = "unpack it and upload its documents"
_MAIL = "upload its attachments, or print it to PDF"

_ADVICE = {
    **dict.fromkeys(("DOC", "DOCM", "DOTX", "DOTM", "ODT", "OTT", "RTF"), _TEXTS),
    **dict.fromkeys(("XLS", "XLSM", "XLSB", "XLTX", "XLTM", "ODS", "OTS"), _SHEETS),
    **dict.fromkeys(("PPT", "PPTM", "POTX", "POTM", "PPSM", "ODP", "OTP"), _SLIDES),
    **dict.fromkeys(("HWP 2", "HWP 3"), _HANGUL),
    **dict.fromkeys(("GIF", "WEBP", "AVIF", "JP2", "JPF", "JXL", "PSD", "SVG", "WMF", "EMF", "DJVU", "DCM"), _PICTURE),
    **dict.fromkeys(("ODG", "iWork", "VSDX", "VSD", "PUB", "XPS", "EPUB", "EPS", "PS", "HTML", "XML"), _PRINT),
    **dict.fromkeys(("ZIP", "RAR", "7Z", "GZ", "TAR"), _UNPACK),
    **dict.fromkeys(("MSG", "EML"), _MAIL),
}

OOXML = {
    b"ms-word.document.macroEnabled.main+xml": "DOCM",
    b"wordprocessingml.template.main+xml": "DOTX",
    b"ms-word.template.macroEnabledTemplate.main+xml": "DOTM",
    b"ms-excel.sheet.macroEnabled.main+xml": "XLSM",
    b"ms-excel.sheet.binary.macroEnabled.main": "XLSB",
    b"spreadsheetml.template.main+xml": "XLTX",
    b"ms-excel.template.macroEnabled.main+xml": "XLTM",
    b"ms-powerpoint.presentation.macroEnabled.main+xml": "PPTM",
    b"presentationml.template.main+xml": "POTX",
    b"ms-powerpoint.template.macroEnabled.main+xml": "POTM",
    b"ms-powerpoint.slideshow.macroEnabled.main+xml": "PPSM",
    b"ms-visio.drawing.main+xml": "VSDX",
    b"ms-package.xps-fixeddocumentsequence+xml": "XPS",
}
"""The content type of the main part of an Office Open XML package."""

MIMETYPES = {
    b"application/vnd.oasis.opendocument.text": "ODT",
    b"application/vnd.oasis.opendocument.text-template": "OTT",
    b"application/vnd.oasis.opendocument.spreadsheet": "ODS",
    b"application/vnd.oasis.opendocument.spreadsheet-template": "OTS",
    b"application/vnd.oasis.opendocument.presentation": "ODP",
    b"application/vnd.oasis.opendocument.presentation-template": "OTP",
    b"application/vnd.oasis.opendocument.graphics": "ODG",
    b"application/epub+zip": "EPUB",
}
"""Formats by the content of an archive's `mimetype` member."""

OLE_STREAMS = {
    "WordDocument": "DOC",
    "Workbook": "XLS",
    "Book": "XLS",
    "PowerPoint Document": "PPT",
    "VisioDocument": "VSD",
    "Quill": "PUB",
    "__properties_version1.0": "MSG",
}
"""Streams and storages that identify the format of a compound file."""


def advice(name: str) -> str:
    """How to convert a document of an unsupported format; empty if there is no general advice."""
    return _ADVICE.get(name, "")
