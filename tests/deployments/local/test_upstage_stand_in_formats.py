"""The stand-in takes every format of the contract, lays office documents out to pages, and refuses damaged ones."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import docx as python_docx
import pytest
from docx.enum.text import WD_BREAK

from deployments.local.upstage import containers, hwp
from deployments.local.upstage.errors import CorruptedDocumentError
from deployments.local.upstage.formats import Format, contradicts, sniff
from deployments.local.upstage.office import open_office
from tests import sample_documents as documents
from tests.compound import compound
from tests.deployments.local.process import StandIn

TEXTS = ["Harbour dues\nfor März 항구", "", "The last page"]
HWPX_TYPE = b"application/hwp+zip"
MAKERS = {
    Format.DOCX: documents.docx,
    Format.PPTX: documents.pptx,
    Format.XLSX: documents.xlsx,
    Format.HWP: documents.hwp,
    Format.HWPX: documents.hwpx,
}


def archive(members: dict[str, bytes]) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return out.getvalue()


def patched(document: bytes, member: str, change: Callable[[bytes], bytes]) -> bytes:
    """The zip archive with one member changed."""
    with zipfile.ZipFile(io.BytesIO(document)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    changed = change(members[member])
    assert changed != members[member]
    return archive({**members, member: changed})


def hwp_of(section: bytes | None, *, compressed: bool = False, preview: str = "") -> bytes:
    """An HWP document with this body as it stands."""
    header = struct.pack("<32sII", b"HWP Document File", 5 << 24, int(compressed)).ljust(256, b"\0")
    body = {} if section is None else {"BodyText/Section0": section}
    return compound({"FileHeader": header, **body, "PrvText": preview.encode("utf-16-le")})


def texts_of(tmp_path: Path, document: bytes, form: Format) -> list[list[str]]:
    """The lines of each page, as they stand in the text layer."""
    path = tmp_path / "document"
    path.write_bytes(document)
    assert sniff(path) is form
    pages = open_office(path, form)
    layers = [pages.text_layer(index) for index in range(len(pages))]
    return [[" ".join(word for word, _ in line) for line in layer] for layer in layers]


@pytest.mark.parametrize("form", MAKERS)
def test_an_office_document_comes_back_page_by_page(stand_in: StandIn, form: Format) -> None:
    stand_in.set(face="recorded")
    request_id = stand_in.submit(MAKERS[form](TEXTS), f"a.{form}")
    assert stand_in.finished(request_id)["total_pages"] == 3
    [body] = stand_in.results(request_id)
    assert [page["text"] for page in body["pages"]] == [text.replace("\n", " \n") for text in TEXTS]
    assert [(page["width"], page["height"]) for page in body["pages"]] == [(1242, 1755), (1240, 1755), (1242, 1755)]
    first = body["pages"][0]
    assert [word["text"] for word in first["words"]] == ["Harbour", "dues", "for", "März", "항구"]
    harbour, dues, below = (word["boundingBox"]["vertices"] for word in first["words"][:3])
    assert 0 < harbour[0]["x"] < harbour[1]["x"] < dues[0]["x"] < dues[1]["x"] < 1240
    assert 0 < harbour[0]["y"] < harbour[2]["y"] <= below[0]["y"] < below[2]["y"] < 1754


@pytest.mark.parametrize(
    ("document", "name", "pages"),
    [
        (documents.heic("x"), "a.heic", 1),
        (documents.heic("x", images=3), "a.heif", 3),
        (documents.bmp("x"), "a.bmp", 1),
    ],
)
def test_every_image_of_a_file_is_a_page(stand_in: StandIn, document: bytes, name: str, pages: int) -> None:
    stand_in.set(face="recorded")
    [body] = stand_in.results(stand_in.submit(document, name))
    assert [(page["width"], page["height"]) for page in body["pages"]] == [(800, 300)] * pages
    assert len({page["text"] for page in body["pages"]} - {""}) == pages


def test_text_in_pictures_is_really_read(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "data", "--face", "recorded")
    try:
        page = stand_in.post("", documents.png("Invoice number 4711"), "scan.png").json()["pages"][0]
        photo = stand_in.post("", documents.heic("Taken in Busan"), "photo.heic").json()["pages"][0]
        [rendered] = stand_in.results(stand_in.submit(documents.text_pdf(["Forty tonnes of gravel"])))
        [letter] = stand_in.results(
            stand_in.submit(documents.docx(["Dear Sir\nwe regret", "Yours faithfully"]), "a.docx")
        )
    finally:
        assert stand_in.stop() == 0
    assert [word["text"] for word in page["words"]] == ["Invoice", "number", "4711"]
    assert page["text"] == "Invoice number 4711"
    assert page["confidence"] > 0.9
    assert photo["text"] == "Taken in Busan"
    assert "gravel" in rendered["text"]
    assert [page["text"] for page in letter["pages"]] == ["Dear Sir \nwe regret", "Yours faithfully"]
    for word in (rendered["pages"][0]["words"][0], letter["pages"][0]["words"][0]):
        assert all(0 < v["x"] < 1240 and 0 < v["y"] < 1754 for v in word["boundingBox"]["vertices"])
    assert stand_in.log.read_text() == ""


def cut(document: bytes, member: str | None = None) -> bytes:
    """A document, or one member of its archive, that ends in its middle."""
    if member is None:
        return document[: len(document) // 2]
    return patched(document, member, cut)


def unfinished(content: bytes) -> bytes:
    """All of the content, deflated, without the mark at the end."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        *((f"half.{form}", cut(make(["x"]))) for form, make in MAKERS.items()),
        ("half.heic", cut(documents.heic("x"))),
        ("text.docx", cut(documents.docx(["x"]), "word/document.xml")),
        ("types.docx", cut(documents.docx(["x"]), "[Content_Types].xml")),
        ("slide.pptx", cut(documents.pptx(["x"]), "ppt/slides/slide1.xml")),
        ("sheet.xlsx", cut(documents.xlsx(["x"]), "xl/workbook.xml")),
        ("section.hwpx", cut(documents.hwpx(["x"]), "Contents/section0.xml")),
        ("garbled.hwp", hwp_of(b"\xff" * 20, compressed=True)),
        ("cut-stream.hwp", hwp_of(unfinished(bytes(96)), compressed=True)),
        ("cut-record.hwp", hwp_of(struct.pack("<I", 67 | 8 << 20) + b"cut")),
        ("empty.pptx", documents.pptx([])),
        ("encrypted.docx", documents.encrypted_docx()),
        ("encrypted.hwp", documents.encrypted_hwp()),
        ("encrypted.hwpx", archive({"mimetype": HWPX_TYPE, "META-INF/manifest.xml": b"<odf:encryption-data/>"})),
    ],
)
def test_a_damaged_or_encrypted_document_is_refused_and_costs_nothing(
    stand_in: StandIn, name: str, document: bytes
) -> None:
    before = stand_in.control("bill")
    answer = stand_in.post("/async", document, name)
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert ("encrypted" in answer.json()["message"]) == name.startswith("encrypted")
    assert stand_in.control("bill") == before


def with_macros(types: bytes) -> bytes:
    main = b"vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    assert main in types
    return types.replace(main, b"vnd.ms-word.document.macroEnabled.main+xml")


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("older.doc", documents.legacy_doc()),
        ("other.hwp", compound({"FileHeader": b"somebody else's"})),
        ("macros.docm", patched(documents.docx(["x"]), "[Content_Types].xml", with_macros)),
        ("archive.zip", archive({"readme.txt": b"no document"})),
        ("a.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64)),
        ("a.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(64)),
    ],
)
def test_a_relative_of_the_formats_is_none_of_them(stand_in: StandIn, name: str, document: bytes) -> None:
    assert stand_in.post("/async", document, name).status_code == 415


@pytest.mark.parametrize(
    ("name", "form", "lies"),
    [
        ("a.docx", Format.DOCX, False),
        ("A.HWPX", Format.HWPX, False),
        ("a.heif", Format.HEIC, False),
        ("a.unknown", Format.XLSX, False),
        ("a", Format.HWP, False),
        ("a.docx", Format.PDF, True),
        ("a.pdf", Format.DOCX, True),
        ("a.xlsx", Format.PPTX, True),
        ("a.hwp", Format.HWPX, True),
        ("a.jpg", Format.HEIC, True),
        ("a.heic", Format.JPEG, True),
    ],
)
def test_a_name_may_contradict_the_content(name: str, form: Format, lies: bool) -> None:
    assert contradicts(name, form) is lies


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "UNPACKED_BYTES", 10_000)
    monkeypatch.setattr(hwp, "UNPACKED_BYTES", 10_000)
    path = tmp_path / "document"
    path.write_bytes(patched(documents.hwpx(["x"]), "version.xml", lambda _: bytes(10_000)))
    with pytest.raises(CorruptedDocumentError, match="too much"):
        sniff(path)
    path.write_bytes(hwp_of(zlib.compress(bytes(10_001), wbits=-15), compressed=True))
    with pytest.raises(CorruptedDocumentError, match="too much"):
        open_office(path, Format.HWP)


def test_text_flows_over_pages_of_45_lines(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(100)]
    flowed = [lines[:45], lines[45:90], lines[90:]]
    for form in (Format.DOCX, Format.XLSX, Format.HWP, Format.HWPX):
        assert texts_of(tmp_path, MAKERS[form](["\n".join(lines), "new page"]), form) == [*flowed, ["new page"]]
    assert texts_of(tmp_path, documents.pptx(["\n".join(lines)]), Format.PPTX) == [lines]


def test_a_sheet_is_as_large_as_its_rows_and_not_as_it_claims(tmp_path: Path) -> None:
    document = patched(
        documents.xlsx(["one cell"]),
        "xl/worksheets/sheet1.xml",
        lambda content: content.replace(b'ref="A1:B1"', b'ref="A1:XFD1048576"'),
    )
    assert texts_of(tmp_path, document, Format.XLSX) == [["one cell"]]


def test_long_lines_and_words_stay_on_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(documents.docx(["many words " * 30 + "W" * 500]))
    pages = open_office(path, Format.DOCX)
    words = [(word, left, right) for line in pages.text_layer(0) for word, (left, _, right, _) in line]
    assert len(pages) == 1
    assert "".join(word for word, _, _ in words) == "manywords" * 30 + "W" * 500
    assert all(0 < left < right < 1240 for _, left, right in words)


def test_a_word_document_may_break_its_pages_anywhere(tmp_path: Path) -> None:
    document = python_docx.Document()
    document.add_paragraph("before").paragraph_format.page_break_before = True  # it is on a new page anyway
    run = document.add_paragraph().add_run("left")
    run.add_tab()
    run.add_text("right")
    run.add_break()
    run.add_text("below")
    run.add_break(WD_BREAK.PAGE)
    run.add_text("after")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip((cell for row in table.rows for cell in row.cells), "abcd", strict=True):
        cell.text = text
    out = io.BytesIO()
    document.save(out)
    assert texts_of(tmp_path, out.getvalue(), Format.DOCX) == [
        ["before", "left right", "below"],
        ["after", "a b", "c d"],
    ]


def test_what_a_word_document_says_twice_is_read_once(tmp_path: Path) -> None:
    box = b"<w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>"
    both = b"<mc:Choice>%s</mc:Choice><mc:Fallback>%s</mc:Fallback>" % (box, box)
    office = b"http://schemas.openxmlformats.org/markup-compatibility/2006"
    inside = b'<w:t>own</w:t><mc:AlternateContent xmlns:mc="%s">%s</mc:AlternateContent>' % (office, both)
    document = patched(
        documents.docx(["placeholder"]),
        "word/document.xml",
        lambda content: content.replace(b"<w:t>placeholder</w:t>", inside),
    )
    assert texts_of(tmp_path, document, Format.DOCX) == [["own", "box"]]


def test_what_stands_in_a_box_of_a_hwpx_paragraph_comes_after_it(tmp_path: Path) -> None:
    box = b"<hp:tbl><hp:tr><hp:tc><hp:subList><hp:p><hp:t>%s</hp:t></hp:p></hp:subList></hp:tc></hp:tr></hp:tbl>"
    inside = b"<hp:t>own<hp:lineBreak/>text</hp:t>" + box % b"cell" + b"<hp:t> goes on</hp:t>"
    document = patched(
        documents.hwpx(["placeholder"]),
        "Contents/section0.xml",
        lambda content: content.replace(b"<hp:t>placeholder</hp:t>", inside),
    )
    assert texts_of(tmp_path, document, Format.HWPX) == [["own", "text goes on", "cell"]]


def test_control_characters_of_hwp_are_skipped_with_what_belongs_to_them(tmp_path: Path) -> None:
    table = "\x0b" + "Akgo" + "\0\0" + "\x0b"
    tab = "\t" + "......" + "\t"
    text = f"{table}left{tab}right\nbelow\x18\r"
    section = struct.pack("<I", 66 | 12 << 20) + bytes(12)
    section += struct.pack("<I", 67 | 1 << 10 | len(text) * 2 << 20) + text.encode("utf-16-le")
    assert texts_of(tmp_path, hwp_of(section), Format.HWP) == [["left right", "below"]]


def test_the_preview_of_hwp_stands_in_for_a_body_without_text(tmp_path: Path) -> None:
    for section in (None, struct.pack("<I", 66 | 12 << 20) + bytes(12)):
        document = hwp_of(section, preview="first\r\nsecond")
        assert texts_of(tmp_path, document, Format.HWP) == [["first", "second"]]


def test_builders_give_the_same_bytes_in_every_process() -> None:
    script = (
        "import hashlib; from tests import sample_documents as d; one = ['a b', 'c'];"
        "made = [d.heic('a', 2), d.bmp('a'), d.encrypted_docx(), d.encrypted_hwp(), d.legacy_doc()];"
        "made += [make(one) for make in (d.docx, d.pptx, d.xlsx, d.hwp, d.hwpx)];"
        "print([hashlib.sha256(picture).hexdigest() for picture in made])"
    )
    prints = [
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert prints[0] == prints[1]
    for document in (documents.docx(["x"]), documents.pptx(["x"]), documents.xlsx(["x"]), documents.hwpx(["x"])):
        with zipfile.ZipFile(io.BytesIO(document)) as opened:
            assert {member.date_time[0] for member in opened.infolist()} == {1980}
