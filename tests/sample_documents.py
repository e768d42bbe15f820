"""Small documents for tests, made in memory; the same call gives the same bytes."""

import datetime
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import docx as python_docx
import openpyxl
import pikepdf
import pillow_heif
import pptx as python_pptx
from PIL import Image, ImageDraw, ImageFont
from pptx.util import Emu

from tests.compound import compound

_A4 = (595, 842)
_LONG_AGO = datetime.datetime(2020, 1, 1)  # no zone: python-docx and python-pptx take it for UTC
_HWP_COMPRESSED, _HWP_ENCRYPTED = 1, 2


def text_pdf(texts: Sequence[str]) -> bytes:
    """A PDF with a real text layer, one page a text; line breaks in a text are kept."""
    out = io.BytesIO()
    _pdf(texts).save(out, deterministic_id=True)
    return out.getvalue()


def encrypted_pdf(password: str = "secret") -> bytes:
    """A PDF of one page that cannot be opened without its password."""
    out = io.BytesIO()
    # RC4 and a fixed identifier: newer ciphers draw random numbers, and the bytes would differ every time.
    protection = pikepdf.Encryption(owner=password, user=password, R=3, aes=False, metadata=False)
    _pdf(["For your eyes only."]).save(out, static_id=True, encryption=protection)
    return out.getvalue()


def truncated_pdf() -> bytes:
    """A PDF cut off in its middle, as by a broken upload: it begins like one and cannot be repaired."""
    out = io.BytesIO()
    # What leads to the pages is packed into the part cut off; unpacked, repair finds it in what is left.
    _pdf(["The end is missing."]).save(out, deterministic_id=True, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return out.getvalue()[: len(out.getvalue()) // 2]


def png(text: str) -> bytes:
    """An image with the text in it, as PNG."""
    return _encode(_page(text), "PNG")


def jpeg(text: str) -> bytes:
    """An image with the text in it, as JPEG."""
    return _encode(_page(text), "JPEG")


def tiff(texts: Sequence[str]) -> bytes:
    """A TIFF with one frame a text."""
    first, *rest = [_page(text).convert("1") for text in texts]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=rest, compression="group4")
    return out.getvalue()


def bmp(text: str) -> bytes:
    """An image with the text in it, as BMP."""
    return _encode(_page(text), "BMP")


def heic(text: str, images: int = 1) -> bytes:
    """A HEIC with so many images; the first has the text in it, the others the text and their number."""
    container = pillow_heif.from_pillow(_page(text))
    for number in range(2, images + 1):
        container.add_from_pillow(_page(f"{text} {number}"))
    out = io.BytesIO()
    container.save(out, quality=80)
    return out.getvalue()


def docx(texts: Sequence[str]) -> bytes:
    """A Word document with one page a text, between explicit page breaks; each line is a paragraph."""
    document = python_docx.Document()
    for number, text in enumerate(texts):
        for row, line in enumerate(text.split("\n")):
            document.add_paragraph(line).paragraph_format.page_break_before = number > 0 and row == 0
    document.core_properties.created = document.core_properties.modified = _LONG_AGO
    out = io.BytesIO()
    document.save(out)
    return _dateless(out.getvalue())


def pptx(texts: Sequence[str]) -> bytes:
    """A presentation with one slide a text."""
    presentation = python_pptx.Presentation()
    blank = presentation.slide_layouts[6]
    for text in texts:
        box = presentation.slides.add_slide(blank).shapes.add_textbox(Emu(0), Emu(0), Emu(9_000_000), Emu(6_000_000))
        box.text_frame.text = text
    presentation.core_properties.created = presentation.core_properties.modified = _LONG_AGO
    out = io.BytesIO()
    presentation.save(out)
    return _dateless(out.getvalue())


def xlsx(texts: Sequence[str]) -> bytes:
    """A workbook with one sheet a text; each line is a row, each word a cell."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for text in texts:
        sheet = book.create_sheet()
        for line in text.split("\n"):
            sheet.append(line.split())
    out = io.BytesIO()
    book.save(out)
    return _dateless(out.getvalue())


def hwp(texts: Sequence[str]) -> bytes:
    """A compressed HWP 5 document with one page a text, between explicit page breaks; each line is a paragraph."""
    return _hwp(texts, _HWP_COMPRESSED)


def encrypted_hwp() -> bytes:
    """An HWP document that says of itself that it has a password."""
    return _hwp(["For your eyes only."], _HWP_COMPRESSED | _HWP_ENCRYPTED)


def hwpx(texts: Sequence[str]) -> bytes:
    """An HWPX document with one page a text, between explicit page breaks; each line is a paragraph."""
    paragraphs = [
        f'<hp:p id="0" pageBreak="{int(number > 0 and row == 0)}"><hp:run><hp:t>{escape(line)}</hp:t></hp:run></hp:p>'
        for number, text in enumerate(texts)
        for row, line in enumerate(text.split("\n"))
    ]
    head, owpml = '<?xml version="1.0" encoding="UTF-8"?>', "http://www.hancom.co.kr/hwpml/2011"
    section = f'<hs:sec xmlns:hs="{owpml}/section" xmlns:hp="{owpml}/paragraph">{"".join(paragraphs)}</hs:sec>'
    version = '<hv:HCFVersion xmlns:hv="http://www.hancom.co.kr/hwpml/2011/version" major="5" minor="1"/>'
    container = (
        '<ocf:container xmlns:ocf="urn:oasis:names:tc:opendocument:xmlns:container"><ocf:rootfiles>'
        '<ocf:rootfile full-path="Contents/content.hpf" media-type="application/hwpml-package+xml"/>'
        "</ocf:rootfiles></ocf:container>"
    )
    package = (
        '<opf:package xmlns:opf="http://www.idpf.org/2007/opf/"><opf:manifest>'
        '<opf:item id="section0" href="Contents/section0.xml" media-type="application/xml"/>'
        '</opf:manifest><opf:spine><opf:itemref idref="section0"/></opf:spine></opf:package>'
    )
    return _zip(
        {
            "mimetype": b"application/hwp+zip",
            "version.xml": (head + version).encode(),
            "META-INF/container.xml": (head + container).encode(),
            "Contents/content.hpf": (head + package).encode(),
            "Contents/section0.xml": (head + section).encode(),
        }
    )


def encrypted_docx() -> bytes:
    """A Word document behind a password, as Office packs it; no key opens this one."""
    agile = (
        struct.pack("<HHI", 4, 4, 0x40) + b'<encryption xmlns="http://schemas.microsoft.com/office/2006/encryption"/>'
    )
    secret = b"".join(struct.pack("<Q", number * 0x9E3779B97F4A7C15 % 2**64) for number in range(1, 1025))
    return compound({"EncryptionInfo": agile, "EncryptedPackage": struct.pack("<Q", len(secret)) + secret})


def legacy_doc() -> bytes:
    """A Word document in the format before DOCX, as far as its container tells."""
    return compound({"WordDocument": struct.pack("<HH", 0xA5EC, 193).ljust(4096, b"\0"), "1Table": bytes(4096)})


def _pdf(texts: Sequence[str]) -> pikepdf.Pdf:
    pdf = pikepdf.new()
    font = pdf.make_indirect(
        pikepdf.Dictionary(
            Type=pikepdf.Name.Font,
            Subtype=pikepdf.Name.Type1,
            BaseFont=pikepdf.Name.Helvetica,
            Encoding=pikepdf.Name.WinAnsiEncoding,
        )
    )
    for text in texts:
        page = pdf.add_blank_page(page_size=_A4)
        page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        shown = [b"<" + line.encode("cp1252").hex().encode() + b"> Tj T*" for line in text.split("\n")]
        page.Contents = pdf.make_stream(b"BT /F1 12 Tf 15 TL 50 780 Td " + b" ".join(shown) + b" ET")
    return pdf


def _page(text: str) -> Image.Image:
    image = Image.new("L", (800, 300), 255)
    ImageDraw.Draw(image).multiline_text((30, 30), text, fill=0, font=ImageFont.load_default(28))
    return image


def _encode(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def _hwp(texts: Sequence[str], flags: int) -> bytes:
    records = b"".join(
        _hwp_paragraph(line, begins_page=number > 0 and row == 0, begins_section=number == row == 0)
        for number, text in enumerate(texts)
        for row, line in enumerate(text.split("\n"))
    )
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    section = packer.compress(records) + packer.flush()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    info = packer.compress(_hwp_record(16, 0, struct.pack("<7H3I", 1, 1, 1, 1, 1, 1, 1, 0, 0, 0))) + packer.flush()
    version = 5 << 24 | 1 << 8
    return compound(
        {
            "FileHeader": struct.pack("<32sII", b"HWP Document File", version, flags).ljust(256, b"\0"),
            "DocInfo": info,
            "BodyText/Section0": section,
            "PrvText": "\r\n".join(texts)[:1000].encode("utf-16-le"),
        }
    )


def _hwp_paragraph(line: str, *, begins_page: bool, begins_section: bool) -> bytes:
    # A section begins with a control of eight units that defines it.
    control = struct.pack("<HIIIH", 2, 0x73656364, 0, 0, 2) if begins_section else b""
    content = control + line.encode("utf-16-le") + b"\r\0"
    breaks = 3 if begins_section else 4 if begins_page else 0
    header = struct.pack("<IIHBBHHHIH", len(content) // 2, 4 if control else 0, 0, 0, breaks, 1, 0, 0, 0, 0)
    return _hwp_record(66, 0, header) + _hwp_record(67, 1, content)


def _hwp_record(tag: int, level: int, content: bytes) -> bytes:
    if len(content) < 0xFFF:
        return struct.pack("<I", tag | level << 10 | len(content) << 20) + content
    return struct.pack("<II", tag | level << 10 | 0xFFF << 20, len(content)) + content


def _zip(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            # What is named `mimetype` is to be read without unpacking.
            member.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return out.getvalue()


def _dateless(document: bytes) -> bytes:
    """An office document without the moment it was made at; openpyxl always writes that."""
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    core = "docProps/core.xml"
    members[core] = re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"2020-01-01T00:00:00Z", members[core])
    return _zip(members)
