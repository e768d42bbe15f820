"""A document is what its content says, whatever its name says, and is sent under a name that cannot hang a job."""

import io
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tasks.documents.formats import (
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
from tasks.documents.sniff import format_of
from tasks.faults import DocumentFault
from tests.documents import (
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
    with pytest.raises(DocumentFault, match=r"is \w+, and BMP, DOCX, .*, TIFF, XLSX can be sent") as caught:
        format_of(file, "letters/lying.pdf")
    assert "letters/lying.pdf" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not caught.value.retry_helps


def test_a_format_of_an_earlier_age_is_named(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(legacy_doc())
    with pytest.raises(DocumentFault, match=r"the content of 'a\.docx' is DOC, and"):
        format_of(file, "a.docx")


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
