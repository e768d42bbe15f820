"""Searchable PDFs: other programs read the recognised words from them, and draw the pages as before."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from tasks.documents.files.apart import run_program
from tasks.documents.results.words import ResultPage, ResultWord
from tasks.faults import DocumentFault
from tasks.outputs import layering
from tasks.outputs.searchable_pdf import write_searchable_pdf
from tasks.outputs.text_layer import PageFrame, TextLayer
from tasks.outputs.text_lines import LineWord, TextLine
from tests.documents.files.pdf_corpus import CORPUS
from tests.documents.files.rendering import drawn_by_pdfium, drawn_by_poppler
from tests.documents.files.text_layer_kinds import kinds
from tests.outputs.written_pages import (
    CHINESE,
    ENGLISH,
    HEBREW,
    HEIGHT,
    JAPANESE,
    KOREAN,
    NUMERALS,
    WIDTH,
    words_by_pdfium,
    words_by_poppler,
    write_result,
    written_page,
)
from tests.sample_documents import bmp, docx, encrypted_pdf, heic, jpeg, png, text_pdf, tiff

Change = Callable[[pikepdf.Page], None]
_PAGES = 3
NO_TEXT = json.dumps({"usable": [], "invisible": []})


def blank_pdf(to: Path, pages: int = _PAGES, size: tuple[float, float] = (WIDTH, HEIGHT), rotation: int = 0) -> Path:
    """A PDF on whose pages a line is drawn, and no text."""
    with pikepdf.Pdf.new() as pdf:
        for _ in range(pages):
            page = pdf.add_blank_page(page_size=size)
            page.obj.Contents = pdf.make_stream(b"0.5 w 50 50 m 200 300 l S")
            if rotation:
                page.obj.Rotate = rotation
        pdf.save(to, deterministic_id=True)
    return to


def searchable(folder: Path, pages: list[ResultPage], document: Path) -> Path:
    to = folder / "searchable.pdf"
    written = write_searchable_pdf(write_result(pages, folder / "result.json"), document, to)
    assert (written.pages, written.words) == (len(pages), sum(len(page.words) for page in pages))
    assert written.text_only == ""
    return to


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (ENGLISH, {}), (KOREAN, {}), (CHINESE, {}), (JAPANESE, {}), (NUMERALS, {}),
        (CHINESE, {"between": ""}), (JAPANESE, {"between": ""}),
        (ENGLISH, {"angle": 180}), (ENGLISH, {"angle": 90}), (HEBREW, {"leftward": True}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else json.dumps(value),
)  # fmt: skip
def test_others_read_the_recognised_words(words: list[str], layout: dict[str, Any], tmp_path: Path) -> None:
    pages = [written_page(number, words, **layout) for number in range(1, _PAGES + 1)]
    to = searchable(tmp_path, pages, blank_pdf(tmp_path / "scan.pdf"))
    expected = [page.text.split() for page in pages]
    assert words_by_pdfium(to) == expected
    assert words_by_poppler(to) == expected


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (ENGLISH, {"angle": 2}), (ENGLISH, {"angle": -2, "straight": True}), (KOREAN, {"angle": 3, "straight": True}),
        (ENGLISH, {"angle": 30}), (KOREAN, {"angle": -90}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else json.dumps(value),
)  # fmt: skip
def test_skewed_lines_stay_lines(words: list[str], layout: dict[str, Any], tmp_path: Path) -> None:
    """Poppler rearranges what is not straight, unless it is asked for the order of the content."""
    pages = [written_page(number, words, **layout) for number in range(1, _PAGES + 1)]
    to = searchable(tmp_path, pages, blank_pdf(tmp_path / "scan.pdf"))
    expected = [page.text.split() for page in pages]
    assert words_by_pdfium(to) == expected
    assert words_by_poppler(to, "-raw") == expected


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pages_that_are_shown_turned_have_their_words_upright(rotation: int, tmp_path: Path) -> None:
    size = (WIDTH, HEIGHT) if rotation == 180 else (HEIGHT, WIDTH)
    pages = [written_page(number, KOREAN) for number in range(1, _PAGES + 1)]
    to = searchable(tmp_path, pages, blank_pdf(tmp_path / "scan.pdf", size=size, rotation=rotation))
    expected = [page.text.split() for page in pages]
    assert words_by_pdfium(to) == expected
    assert words_by_poppler(to) == expected


def test_words_stand_on_their_boxes(tmp_path: Path) -> None:
    """On a page that is cropped and turned, as poppler tells their places."""
    boxes = {"upper": (0.1, 0.1, 0.3, 0.13), "lower": (0.5, 0.8, 0.9, 0.84)}
    words = tuple(
        ResultWord(text, 0.9, ((left, top), (right, top), (right, bottom), (left, bottom)))
        for text, (left, top, right, bottom) in boxes.items()
    )
    scan = tmp_path / "scan.pdf"
    with pikepdf.Pdf.new() as pdf:
        page = pdf.add_blank_page(page_size=(900, 700))
        page.obj.CropBox, page.obj.Rotate = pikepdf.Array([100, 50, 700, 450]), 90
        pdf.save(scan)
    to = searchable(tmp_path, [ResultPage(1, "upper\nlower", words)], scan)
    with pypdfium2.PdfDocument(to) as pdf:
        text = pdf[0].get_textpage()
        for word, (left, top, right, bottom) in boxes.items():
            first = text.get_text_range().index(word)
            corners = [text.get_charbox(place, loose=True) for place in range(first, first + len(word))]
            # Turned by 90 degrees clockwise: what is shown 400 wide and 600 tall.
            expected = (100 + top * 600, 50 + left * 400, 100 + bottom * 600, 50 + right * 400)
            found = (
                min(box[0] for box in corners), min(box[1] for box in corners),
                max(box[2] for box in corners), max(box[3] for box in corners),
            )  # fmt: skip
            assert found == pytest.approx(expected, abs=2)


def _unbalanced(page: pikepdf.Page) -> None:
    page.obj.Contents = pikepdf.Array([page.obj.Contents])
    page.contents_add(b"q 3 Tr 2 0 0 2 10 10 cm /No gs", prepend=False)


def _shared_resources(page: pikepdf.Page) -> None:
    parent = page.obj.Parent
    parent.Resources = page.obj.get("/Resources", pikepdf.Dictionary())
    if "/Resources" in page.obj:
        del page.obj["/Resources"]


@pytest.mark.parametrize("change", [None, _unbalanced, _shared_resources], ids=["plain", "unbalanced", "shared"])
def test_pages_look_as_before_however_often_they_go_through(change: Change | None, tmp_path: Path) -> None:
    document = tmp_path / "document.pdf"
    with pikepdf.open(blank_pdf(tmp_path / "blank.pdf")) as pdf:
        for page in pdf.pages if change else ():
            change(page)  # type: ignore[misc]  # there is one
        pdf.save(document)
    to = searchable(tmp_path, [written_page(number, ENGLISH) for number in range(1, 4)], document)
    assert drawn_by_pdfium(to) == drawn_by_pdfium(document)
    assert drawn_by_poppler(to) == drawn_by_poppler(document)
    pages = [written_page(number, KOREAN) for number in range(1, 4)]
    again = searchable(tmp_path, pages, to.rename(tmp_path / "once.pdf"))
    assert drawn_by_pdfium(again) == drawn_by_pdfium(document)
    if change is not _unbalanced:  # there it cannot be told whether all is invisible
        assert words_by_pdfium(again) == [page.text.split() for page in pages], "the newer layer replaces the older"


def test_the_layer_of_another_program_gives_way(tmp_path: Path) -> None:
    document = tmp_path / "document.pdf"
    document.write_bytes(kinds()["scan with an OCR layer"].body)
    page = written_page(1, KOREAN)
    to = searchable(tmp_path, [page], document)
    assert words_by_pdfium(to) == [page.text.split()]
    assert drawn_by_pdfium(to) == drawn_by_pdfium(document)
    assert drawn_by_poppler(to) == drawn_by_poppler(document)


def test_pages_that_hold_their_text_are_left_as_they_are(tmp_path: Path) -> None:
    """All would be found twice."""
    document, to = tmp_path / "document.pdf", tmp_path / "out.pdf"
    document.write_bytes(text_pdf(["Some text.", "More text."]))
    result = write_result([written_page(number, ENGLISH, lines=1) for number in (1, 2)], tmp_path / "result.json")
    written = write_searchable_pdf(result, document, to)
    assert (written.left, written.words) == (2, 0)
    assert words_by_pdfium(to) == [["Some", "text."], ["More", "text."]]


@pytest.mark.parametrize("name", CORPUS)
def test_what_decides_how_pages_are_drawn_stays(name: str, tmp_path: Path) -> None:
    document = tmp_path / "document.pdf"
    document.write_bytes(CORPUS[name]())
    with pikepdf.open(document) as pdf:
        pages = [written_page(number, ENGLISH, lines=3) for number in range(1, len(pdf.pages) + 1)]
    to = tmp_path / "searchable.pdf"
    write_searchable_pdf(write_result(pages, tmp_path / "result.json"), document, to)
    assert drawn_by_pdfium(to) == drawn_by_pdfium(document)
    assert drawn_by_poppler(to) == drawn_by_poppler(document)


def _picture() -> Image.Image:
    image = Image.effect_noise((300, 420), 60).convert("RGB")
    ImageDraw.Draw(image).rectangle((20, 30, 200, 90), fill=(200, 30, 40))
    return image


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_pictures_keep_their_pixels(form: str, tmp_path: Path) -> None:
    image, file = _picture(), tmp_path / f"scan.{form.lower()}"
    image.save(file, form)
    to = searchable(tmp_path, [written_page(1, KOREAN)], file)
    with pikepdf.open(to) as pdf:
        (stored,) = pdf.pages[0].get_images().values()
        assert isinstance(stored, pikepdf.Stream)
        assert pikepdf.PdfImage(stored).as_pil_image().convert("RGB").tobytes() == image.tobytes()
    assert words_by_pdfium(to) == [written_page(1, KOREAN).text.split()]


def test_a_jpeg_stays_as_it_is_packed(tmp_path: Path) -> None:
    file = tmp_path / "scan.jpg"
    file.write_bytes(jpeg("a photograph"))
    with pikepdf.open(searchable(tmp_path, [written_page(1, ENGLISH)], file)) as pdf:
        (stored,) = pdf.pages[0].get_images().values()
        assert stored.read_raw_bytes() == file.read_bytes()


@pytest.mark.parametrize("form", ["RGBA", "I;16", "F", "LA", "CMYK", "1"])
def test_pictures_of_any_kind_become_pages(form: str, tmp_path: Path) -> None:
    file = tmp_path / "scan.tif"
    (_picture().convert("L").convert("I").convert(form) if form == "I;16" else _picture().convert(form)).save(file)
    to = searchable(tmp_path, [written_page(1, ENGLISH)], file)
    assert words_by_pdfium(to) == [written_page(1, ENGLISH).text.split()]


def test_each_frame_is_a_page(tmp_path: Path) -> None:
    file = tmp_path / "fax.tif"
    file.write_bytes(tiff([f"page {number}" for number in range(1, 46)]))
    pages = [written_page(number, ENGLISH, lines=2) for number in range(1, 46)]
    assert words_by_pdfium(searchable(tmp_path, pages, file)) == [page.text.split() for page in pages]


@pytest.mark.parametrize("body", [png("x"), bmp("x"), heic("x")], ids=["png", "bmp", "heic"])
def test_pictures_are_told_by_their_content(body: bytes, tmp_path: Path) -> None:
    file = tmp_path / "scan"
    file.write_bytes(body)
    assert words_by_pdfium(searchable(tmp_path, [written_page(1, ENGLISH)], file)) == [
        written_page(1, ENGLISH).text.split()
    ]


def test_without_its_document_a_result_becomes_pages_of_text(tmp_path: Path) -> None:
    pages = [written_page(1, ENGLISH), written_page(2, KOREAN), ResultPage(3, "", ())]
    result, to = write_result(pages, tmp_path / "result.json"), tmp_path / "text.pdf"
    written = write_searchable_pdf(result, None, to, reason="s3://b/스캔.pdf is gone")
    assert (written.pages, written.text_only) == (3, "s3://b/스캔.pdf is gone")
    note = ["Text", "only:", "s3://b/??.pdf", "is", "gone"]
    assert words_by_poppler(to) == [note + page.text.split() for page in pages]


def test_office_documents_become_pages_of_text(tmp_path: Path) -> None:
    file = tmp_path / "letter.docx"
    file.write_bytes(docx(["Dear reader"]))
    result = write_result([written_page(1, ENGLISH)], tmp_path / "result.json")
    assert "DOCX" in write_searchable_pdf(result, file, tmp_path / "text.pdf").text_only


def test_older_answers_in_pixels_give_the_same_words(tmp_path: Path) -> None:
    page = written_page(1, KOREAN)
    width, height = 1240, 1755
    words = [
        {
            "text": word.text,
            "boundingBox": {"vertices": [{"x": round(x * width), "y": round(y * height)} for x, y in word.box]},
        }
        for word in page.words
    ]
    for size in ({"width": width, "height": height}, {}):  # without: the API draws pages at 150 dots an inch
        result = tmp_path / "result.json"
        result.write_text(json.dumps({"pages": [{"id": 0, "text": page.text, "words": words, **size}]}))
        write_searchable_pdf(result, blank_pdf(tmp_path / "scan.pdf", 1), tmp_path / "out.pdf")
        assert words_by_pdfium(tmp_path / "out.pdf") == [page.text.split()]


def test_odd_words_do_no_harm(tmp_path: Path) -> None:
    box = [{"x": 0.1, "y": 0.1}, {"x": 0.2, "y": 0.1}, {"x": 0.2, "y": 0.12}, {"x": 0.1, "y": 0.12}]
    odd: list[dict[str, Any]] = [
        {"text": "a\nb\tc\x00\x07", "bounding_box": {"vertices": box}},
        {"text": "\ud800", "bounding_box": {"vertices": box}},
        {"text": ") Tj ET Q (\\", "bounding_box": {"vertices": box}},
        {"text": "", "bounding_box": {"vertices": box}},
        {"text": "point", "bounding_box": {"vertices": [{"x": 0.5, "y": 0.5}] * 4}},
        {"text": "far", "bounding_box": {"vertices": [{"x": -1.5, "y": 1.9}] * 4}},
        {"text": "two", "bounding_box": {"vertices": box[:2]}},
        {"text": "mirrored", "bounding_box": {"vertices": box[::-1]}},
        {"text": "unplaced"},
        {"text": 7, "bounding_box": {"vertices": box}},
    ]
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"pages": [{"words": odd}, {"words": []}, {"text": "no words"}]}))
    write_searchable_pdf(result, blank_pdf(tmp_path / "scan.pdf"), tmp_path / "out.pdf")
    found = words_by_pdfium(tmp_path / "out.pdf")
    assert {"a", "b", "c", "Tj", "ET", "Q", "(\\", "point", "two", "mirrored"} <= set(found[0])
    assert found[1:] == [[], []]
    assert drawn_by_poppler(tmp_path / "out.pdf") == drawn_by_poppler(tmp_path / "scan.pdf")


def test_a_second_font_follows_when_the_codes_of_one_are_used_up() -> None:
    """One font has 65,535 codes: one for each character of each width."""
    layer, used = TextLayer(), set[int]()
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 20_000)]

    def font_name(number: int) -> str:
        used.add(number)
        return f"F{number}"

    for width in (200, 210, 220, 230):
        for start in range(0, len(characters), 20):
            word = LineWord("".join(characters[start : start + 20]), 0, width)
            layer.content([TextLine(0, 10, 0, 10, (word,))], PageFrame(0, 0, 595, 842), font_name)
    assert used == {0, 1}
    assert len(layer.fonts) == 2


@pytest.mark.parametrize("pages", [2, 4])
def test_a_result_of_another_document_is_refused(pages: int, tmp_path: Path) -> None:
    result = write_result([written_page(number, ENGLISH, lines=1) for number in (1, 2, 3)], tmp_path / "result.json")
    with pytest.raises(DocumentFault, match="pages"):
        write_searchable_pdf(result, blank_pdf(tmp_path / "scan.pdf", pages), tmp_path / "out.pdf")
    assert not (tmp_path / "out.pdf").exists()


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    result = write_result([written_page(1, ENGLISH, lines=1)], tmp_path / "result.json")
    locked = tmp_path / "locked.pdf"
    locked.write_bytes(encrypted_pdf())
    with pytest.raises(DocumentFault, match="password"):
        write_searchable_pdf(result, locked, tmp_path / "out.pdf")
    (tmp_path / "cut.json").write_bytes(result.read_bytes()[:300])
    with pytest.raises(DocumentFault, match="not a result"):
        write_searchable_pdf(tmp_path / "cut.json", blank_pdf(tmp_path / "scan.pdf", 1), tmp_path / "out.pdf")


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    pages, scan = [written_page(1, KOREAN)], blank_pdf(tmp_path / "scan.pdf", 1)
    assert searchable(tmp_path, pages, scan).read_bytes() == searchable(tmp_path, pages, scan).read_bytes()


def test_memory_does_not_grow_with_the_document(tmp_path: Path) -> None:
    """A thousand pages in no more memory than the program is allowed; it is less than their layers take unpacked."""
    page = written_page(1, ENGLISH, lines=6)
    result, scan = tmp_path / "result.json", blank_pdf(tmp_path / "scan.pdf", 1000)
    write_result([page] * 1000, result)
    ended: subprocess.CompletedProcess[bytes] = run_program(
        layering.__file__, "layers", 48, 600, result, tmp_path / "out.pdf", "", NO_TEXT, scan
    )
    assert (ended.returncode, json.loads(ended.stdout or b"{}").get("pages")) == (0, 1000)
    assert words_by_pdfium(tmp_path / "out.pdf")[999] == page.text.split()
