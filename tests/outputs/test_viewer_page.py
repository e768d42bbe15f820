"""The viewer's page: pictures of every format, nothing of a document that a browser would run, no foreign address."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.faults import DocumentFault
from tasks.outputs.viewer.page_pictures import PagePictures
from tasks.outputs.viewer.viewer_page import Viewed, write_viewer
from tests import sample_documents as documents
from tests.outputs import pictured
from tests.outputs.result_samples import HEIGHT, SHAPES, WIDTH, write_result

PAGES = [["Annual Report"], ["서울 시청에서"], []]


def brightness(picture: Image.Image, across: float, down: float) -> int:
    """A pixel of a picture with one channel, from 0 to 255."""
    value = picture.getpixel((round(across), round(down)))
    assert isinstance(value, int)
    return value


class _Blocks(HTMLParser):
    """The scripts of a page, by their ids, as an HTML parser sees them; and every other tag."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[str, str] = {}
        self.types: list[str | None] = []
        self.tags: list[str] = []
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.types.append(dict(attrs).get("type"))
            self._open = dict(attrs).get("id") or "code"
            self.blocks[self._open] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.blocks[self._open] += data


def viewed(result: Path, document: Path | None = None, name: str = "scan.pdf") -> _Blocks:
    out = io.StringIO()
    write_viewer(result, out, Viewed(name, str(result), document, "it is gone"))
    blocks = _Blocks()
    blocks.feed(out.getvalue())
    return blocks


def meta(blocks: _Blocks) -> dict[str, Any]:
    return dict(json.loads(blocks.blocks["document"]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["PDF", "TIFF"])
def test_words_lie_over_the_pictures_of_their_pages(form: str, shape: str, tmp_path: Path) -> None:
    result = write_result(tmp_path / "scan.ocr.json", PAGES, shape)
    document = tmp_path / f"scan.{form.lower()}"
    document.write_bytes(pictured.document(PAGES, form))
    blocks = viewed(result, document)
    assert meta(blocks)["notice"] == ""
    for number, lines in enumerate(PAGES, 1):
        picture = Image.open(io.BytesIO(base64.b64decode(blocks.blocks[f"picture-{number}"]))).convert("L")
        width, height = meta(blocks)["pages"][number - 1][:2]
        assert picture.width / picture.height == pytest.approx(width / height, rel=0.01)
        data = json.loads(blocks.blocks[f"page-{number}"])
        assert [word[0] for word in data["words"]] == " ".join(lines).split()
        for _, _, left, top, wide, high, angle, _ in data["words"]:
            across, down = (left + wide / 2) * picture.width / width, (top + high / 2) * picture.height / height
            assert brightness(picture, across, down) < 40
            assert brightness(picture, across, (top - high / 2) * picture.height / height) > 200
            assert angle == 0


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_single_pictures_are_pages(form: str, tmp_path: Path) -> None:
    document = tmp_path / "scan"
    document.write_bytes(pictured.document([["word"]], form))
    with PagePictures(document, "scan") as pictures:
        assert pictures.sizes() == {1: (WIDTH, HEIGHT)}
        assert Image.open(io.BytesIO(pictures.draw(1).data)).format == "WEBP"
        with pytest.raises(DocumentFault, match="1 pages, and none with the number 2"):
            pictures.draw(2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_every_kind_of_pixel_becomes_a_picture(mode: str, tmp_path: Path) -> None:
    document = tmp_path / "scan.tif"
    if mode in ("I;16", "F"):
        made = Image.new(mode, (60, 40))
        made.paste(3000, (0, 0, 60, 20))
        made.paste(100, (0, 20, 60, 40))
    else:
        made = Image.new("L", (60, 40), "white")
        made.paste(0, (0, 20, 60, 40))
        made = made.convert(mode)
    made.save(document)
    with PagePictures(document, "scan.tif") as pictures:
        drawn = Image.open(io.BytesIO(pictures.draw(1).data)).convert("L")
    assert (brightness(drawn, 30, 5) > 200, brightness(drawn, 30, 35) < 60) == (True, True)


def test_a_turned_page_and_a_turned_photograph_are_drawn_upright(tmp_path: Path) -> None:
    with pikepdf.open(io.BytesIO(pictured.document([["word"]], "PDF"))) as pdf:
        pdf.pages[0].Rotate = 90
        pdf.save(tmp_path / "turned.pdf")
    photograph = Image.new("L", (60, 40), "white")
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "turned.jpg", exif=exif)
    for name, ratio in (("turned.pdf", HEIGHT / WIDTH), ("turned.jpg", 40 / 60)):
        with PagePictures(tmp_path / name, name) as pictures:
            (width, height) = pictures.sizes()[1]
            drawn = Image.open(io.BytesIO(pictures.draw(1).data))
            assert width / height == pytest.approx(ratio, rel=0.01)
            assert drawn.width / drawn.height == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("a.docx", documents.docx(["text"]), "laid out by the OCR API"),
        ("a.pdf", documents.encrypted_pdf(), "password"),
        ("a.pdf", b"%PDF-1.4 and nothing else", "cannot be drawn"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "cannot be drawn"),
        ("a.txt", b"plain text", ""),
    ],
)
def test_what_cannot_be_drawn_is_shown_as_text_with_the_reason(
    name: str, body: bytes, reason: str, tmp_path: Path
) -> None:
    result = write_result(tmp_path / "scan.ocr.json", PAGES)
    (tmp_path / name).write_bytes(body)
    blocks = viewed(result, tmp_path / name)
    notice = meta(blocks)["notice"].lower()
    assert "without pictures of the pages" in notice or "no picture" in notice
    assert reason.lower() in notice
    assert "page-3" in blocks.blocks
    assert "picture-1" not in blocks.blocks


def test_a_missing_original_is_told(tmp_path: Path) -> None:
    blocks = viewed(write_result(tmp_path / "scan.ocr.json", PAGES))
    assert meta(blocks)["notice"].startswith("Without pictures of the pages: it is gone.")
    assert meta(blocks)["pages"] == [[1240, 1754, 2, 525], [1240, 1754, 2, 525], [1240, 1754, 0, None]]


def test_confidences_are_counted(tmp_path: Path) -> None:
    blocks = viewed(write_result(tmp_path / "scan.ocr.json", [["a b c d"]]))
    histogram = meta(blocks)["histogram"]
    assert {at: count for at, count in enumerate(histogram) if count} == {500: 1, 550: 1, 600: 1, 650: 1}


HOSTILE = "</script><script>window.harmed=1</script><img src=x onerror=harmed=1>&lt;<!--<script>\u2028"


@given(st.text(max_size=40) | st.just(HOSTILE), st.text(max_size=20) | st.just(HOSTILE))
def test_nothing_of_a_document_is_markup(tmp_path_factory: pytest.TempPathFactory, text: str, name: str) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.ocr.json"
    file.write_text(json.dumps({"pages": [{"text": text, "words": [{"text": text, "confidence": 1e9}]}]}))
    plain = tmp_path_factory.getbasetemp() / "plain.ocr.json"
    plain.write_text(json.dumps({"pages": [{"text": "a", "words": [{"text": "a", "confidence": 1}]}]}))
    hostile, harmless = viewed(file, name=name), viewed(plain)
    assert hostile.tags == harmless.tags
    assert set(hostile.blocks) == {"document", "code", "page-1"}
    shown = json.loads(hostile.blocks["page-1"])
    assert len(shown["text"]) == len(text)
    assert len(meta(hostile)["title"]) >= len(name)


def test_the_page_reaches_no_network_and_runs_its_own_code_only(tmp_path: Path) -> None:
    out = io.StringIO()
    write_viewer(write_result(tmp_path / "scan.ocr.json", PAGES), out, Viewed("scan.pdf"))
    text = out.getvalue()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#x27;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", rules["script-src"])
    assert rules["img-src"] == "data:"
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text)
