"""A document is what its content says, whatever its name says, and is sent under a name that cannot hang a job."""

import io
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tasks.documents.files.formats import (
    BMP,
    DOCX,
    FORMATS,
    HEIC,
    HWP,
    HWPX,
    JPEG,
    PDF,
    PNG,
    PPTX,
    TIFF,
    XLSX,
    Format,
    upload_name,
)
from tasks.documents.files.sniff import format_of
from tasks.faults import DocumentFault
from tests.compound import compound
from tests.hostile.bombs import Member, archive
from tests.sample_documents import (
    docx,
    encrypted_docx,
    encrypted_hwp,
    heic,
    hwp,
    hwpx,
    jpeg,
    legacy_doc,
    png,
    pptx,
    text_pdf,
    tiff,
    truncated_pdf,
    xlsx,
)


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    return out.getvalue()


CONTENTS = [
    (text_pdf(["a"]), PDF),
    (truncated_pdf(), PDF),
    (png("a"), PNG),
    (jpeg("a"), JPEG),
    (picture("MPO"), JPEG),
    (picture("BMP"), BMP),
    (tiff(["a", "b"]), TIFF),
    (b"MM\x00*" + bytes(8), TIFF),
    (heic("a"), HEIC),
    (heic("a", images=2), HEIC),
    (docx(["a", "b"]), DOCX),
    (pptx(["a"]), PPTX),
    (xlsx(["a"]), XLSX),
    (hwp(["a"]), HWP),
    (hwpx(["a"]), HWPX),
]


@pytest.mark.parametrize(
    "name", ["document", "wrong.pdf", "wrong.png", "wrong.jpg", "wrong.txt", "wrong.docx", "w.tif"]
)
@pytest.mark.parametrize(("content", "form"), CONTENTS)
def test_the_content_decides_under_any_name(tmp_path: Path, name: str, content: bytes, form: Format) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert format_of(file, name) == form


@pytest.mark.parametrize("name", ["document", "lying.pdf", "lying.png", "lying.tif", "lying.jpeg", "lying.bmp"])
@pytest.mark.parametrize(
    "content",
    [
        b"Dear Sir or Madam",
        b"\x00" * 100,
        b"\x01",
        b"\xef\xbb\xbf",
        b"<html><body>404</body></html>",
        b"PK\x03\x04" + bytes(40),
        picture("GIF"),
        picture("WEBP"),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
        b"\0\0\0\x1cftypisom\0\0\0\0isomiso2mp41",
        legacy_doc(),
        docx(["cut off"])[:-200],
    ],
)
def test_no_name_makes_other_content_sendable(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DocumentFault, match=r"is \w+; supported are BMP, DOCX, .*, TIFF, XLSX") as caught:
        format_of(file, "letters/lying.pdf")
    assert "letters/lying.pdf" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not caught.value.retry_helps


def test_a_format_of_an_earlier_age_is_named(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(legacy_doc())
    with pytest.raises(DocumentFault, match=r"the content of 'a\.docx' is DOC; supported are"):
        format_of(file, "a.docx")


def opc(main: bytes) -> bytes:
    """An Office Open XML package, by the content type of its main part."""
    part = b'<Override PartName="/main.xml" ContentType="application/vnd.%s"/>' % main
    return archive([Member(b"[Content_Types].xml", b"<Types>" + part + b"</Types>"), Member(b"main.xml", b"<x/>")])


def with_mimetype(kind: bytes) -> bytes:
    """An archive that says what it is in its first member, as OpenDocument and EPUB do."""
    return archive([Member(b"mimetype", kind, stored=True), Member(b"content.xml", b"<x/>")])


_OPEN_DOCUMENT = b"application/vnd.oasis.opendocument."
_OOXML = b"openxmlformats-officedocument."
DOCX_OR_PDF, XLSX_OR_PDF, PPTX_OR_PDF = "save it as DOCX or PDF", "save it as XLSX or PDF", "save it as PPTX or PDF"


@pytest.mark.parametrize(
    ("content", "seen", "what_to_do"),
    [
        (b"HWP Document File V3.00 \x1a\1\2\3\4\5" + bytes(300), "HWP 3", "save it as HWP 5, HWPX or PDF"),
        (b"HWP Document File V2.10 \x1a\1\2\3\4\5" + bytes(300), "HWP 2", "save it as HWP 5, HWPX or PDF"),
        (with_mimetype(_OPEN_DOCUMENT + b"text"), "ODT", DOCX_OR_PDF),
        (with_mimetype(_OPEN_DOCUMENT + b"text-template"), "OTT", DOCX_OR_PDF),
        (with_mimetype(_OPEN_DOCUMENT + b"spreadsheet"), "ODS", XLSX_OR_PDF),
        (with_mimetype(_OPEN_DOCUMENT + b"presentation"), "ODP", PPTX_OR_PDF),
        (with_mimetype(_OPEN_DOCUMENT + b"graphics"), "ODG", "convert it to PDF"),
        (with_mimetype(b"application/epub+zip"), "EPUB", "convert it to PDF"),
        (opc(b"ms-word.document.macroEnabled.main+xml"), "DOCM", DOCX_OR_PDF),
        (opc(_OOXML + b"wordprocessingml.template.main+xml"), "DOTX", DOCX_OR_PDF),
        (opc(b"ms-word.template.macroEnabledTemplate.main+xml"), "DOTM", DOCX_OR_PDF),
        (opc(b"ms-excel.sheet.macroEnabled.main+xml"), "XLSM", XLSX_OR_PDF),
        (opc(b"ms-excel.sheet.binary.macroEnabled.main"), "XLSB", XLSX_OR_PDF),
        (opc(_OOXML + b"spreadsheetml.template.main+xml"), "XLTX", XLSX_OR_PDF),
        (opc(b"ms-powerpoint.presentation.macroEnabled.main+xml"), "PPTM", PPTX_OR_PDF),
        (opc(_OOXML + b"presentationml.template.main+xml"), "POTX", PPTX_OR_PDF),
        (opc(b"ms-visio.drawing.main+xml"), "VSDX", "convert it to PDF"),
        (legacy_doc(), "DOC", DOCX_OR_PDF),
        (compound({"Workbook": bytes(5000)}), "XLS", XLSX_OR_PDF),
        (compound({"PowerPoint Document": bytes(5000)}), "PPT", PPTX_OR_PDF),
        (compound({"__properties_version1.0": bytes(5000)}), "MSG", "upload its attachments, or print it to PDF"),
        (b"{\\rtf1\\ansi Dear Sir}", "RTF", DOCX_OR_PDF),
        (picture("GIF"), "GIF", "convert it to PNG or PDF"),
        (picture("WEBP"), "WEBP", "convert it to PNG or PDF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF", "convert it to PNG or PDF"),
        (b"<html><body>404</body></html>", "HTML", "convert it to PDF"),
        (archive([Member(b"a.pdf", b"%PDF-1.7")]), "ZIP", "unpack it and upload its documents"),
        (archive([Member(b"Index/Document.iwa", b"x")]), "iWork", "convert it to PDF"),
    ],
)
@pytest.mark.parametrize("name", ["a", "a.docx", "a.hwp", "a.pdf"])
def test_what_cannot_be_sent_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, seen: str, what_to_do: str, name: str
) -> None:
    file = tmp_path / "document"
    file.write_bytes(content)
    with pytest.raises(DocumentFault) as caught:
        format_of(file, name)
    assert caught.value.code == "unsupported-format"
    assert str(caught.value) == (
        f"unsupported format: the content of '{name}' is {seen}; supported are BMP, DOCX, HEIC, HWP, HWPX, JPEG, PDF, "
        f"PNG, PPTX, TIFF, XLSX: {what_to_do}"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encrypted_docx(), "the Office document is encrypted with a password: remove the password first"),
        (encrypted_hwp(), "the HWP is encrypted with a password: remove the password first"),
    ],
)
def test_an_encrypted_office_document_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "document"
    file.write_bytes(content)
    with pytest.raises(DocumentFault, match=words) as caught:
        format_of(file, "a.docx")
    assert caught.value.code == "encrypted"


@pytest.mark.parametrize(
    ("content", "name"),
    [(docx(["a"]), "a.docx"), (pptx(["a"]), "A.PPTX"), (xlsx(["a"]), "a.xlsx"), (hwpx(["a"]), "a.hwpx")],
)
def test_a_damaged_archive_is_broken_where_its_name_promises_a_document(
    tmp_path: Path, content: bytes, name: str
) -> None:
    file = tmp_path / "document"
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DocumentFault, match=r"is broken \(.*\): repair or replace it") as caught:
        format_of(file, name)
    assert caught.value.code == "broken"
    with pytest.raises(DocumentFault, match="unsupported format"):
        format_of(file, "backup.zip")


@pytest.mark.parametrize("content", [hwp(["a"]), encrypted_docx()])
def test_no_damage_to_a_compound_file_is_anything_but_the_documents_fault(tmp_path: Path, content: bytes) -> None:
    chance, file = random.Random(3), tmp_path / "document"
    seen = set()
    for _ in range(300):
        copy = bytearray(content)
        for _ in range(chance.choice([1, 5, 40])):
            copy[chance.randrange(len(copy))] = chance.randrange(256)
        file.write_bytes(copy[: chance.randrange(9, len(copy))] if chance.random() < 0.3 else copy)
        try:
            seen.add(format_of(file, "a.hwp").name)
        except DocumentFault as fault:
            seen.add(fault.code)
    assert seen & {"HWP", "encrypted"}
    assert "broken" in seen


def test_an_empty_document_is_told_apart_from_an_unknown_one(tmp_path: Path) -> None:
    file = tmp_path / "empty.pdf"
    file.touch()
    with pytest.raises(DocumentFault, match="empty"):
        format_of(file, "empty.pdf")


@given(st.binary(min_size=1, max_size=300))
@example(b"BM")
@example(b"%PDF-")
@example(b"II*\x00")
def test_no_content_breaks_the_look_at_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "document"
    file.write_bytes(content)
    try:
        assert format_of(file, "x") in FORMATS
    except DocumentFault as fault:
        assert "unsupported format" in str(fault)  # noqa: PT017  # either outcome is fine, nothing else is


@given(st.text(st.characters(codec=None), max_size=1200), st.sampled_from(FORMATS))
@example("a/b/" + "x" * 5000 + ".pdf", PDF)
@example("a/", PNG)
@example("", PNG)
@example(".pdf", PDF)
@example("..", TIFF)
@example('quote".pdf\r\nX-Injected: 1', PDF)
@example("日本語.pdf", PDF)
@example("../../etc/passwd", PDF)
def test_an_upload_name_is_short_plain_and_agrees_with_the_content(key: str, form: Format) -> None:
    name = upload_name(key, form)
    stem = name.removesuffix(form.extension)
    assert stem + form.extension == name
    assert 1 <= len(stem) <= 100
    assert name.isascii()
    assert all(letter.isalnum() or letter in "._-" for letter in name)
    assert name[0] not in "._-"


@pytest.mark.parametrize(
    ("key", "form", "name"),
    [
        ("in/2026/Rechnung Nr. 7.pdf", PDF, "Rechnung_Nr._7.pdf"),
        ("in/Übersicht.PDF", PDF, "Ubersicht.pdf"),
        ("scan.pdf", TIFF, "scan.tif"),
        ("no-extension", JPEG, "no-extension.jpg"),
        ("日本語.png", PNG, "document.png"),
        ("archive.tar.bmp", BMP, "archive.tar.bmp"),
    ],
)
def test_an_upload_name_still_says_which_document_it_is(key: str, form: Format, name: str) -> None:
    assert upload_name(key, form) == name
