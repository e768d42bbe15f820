"""Exports hold every word in its place, are valid in their formats, and other programs read them."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from alto_tools import alto_tools
from hocr_spec.validate import HocrValidator
from hypothesis import given
from hypothesis import strategies as st

from tasks.documents.results.read import read_pages
from tasks.faults import DocumentFault
from tasks.outputs.exports import ExportedFrom, ExportFormat, export_result
from tasks.outputs.page_layout import drawn_layout, place_words
from tests.outputs.result_samples import HEIGHT, SHAPES, WIDTH, answer, write_result

PAGES = [["Annual Report 2024", "of Harbour & Sons <Ltd>"], [], ["서울 시청에서", "검색을 하다"], ["東京タワー"]]
WORDS = [" ".join(page).split() for page in PAGES]
ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"


def exported(result: Path, to: ExportFormat, document: str = "scan.pdf") -> str:
    out = io.StringIO()
    assert export_result(result, to, out, ExportedFrom(document, f"s3://out/{document}.ocr.json")) >= 1
    return out.getvalue()


@pytest.fixture(params=SHAPES)
def result(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_result(tmp_path / "scan.pdf.ocr.json", PAGES, request.param)


def test_hocr_is_valid_and_every_word_is_in_its_place(result: Path, tmp_path: Path) -> None:
    text = exported(result, "hocr")
    file = tmp_path / "scan.hocr"
    file.write_text(text, encoding="utf-8")
    report = HocrValidator("standard").validate(str(file))
    assert report.is_valid(), report.format("text")
    root = ElementTree.fromstring(text)
    pages = [element for element in root.iter() if element.get("class") == "ocr_page"]
    lines = [
        [" ".join(word.text or "" for word in line) for line in page if line.get("class") == "ocr_line"]
        for page in pages
    ]
    assert lines == PAGES
    # The nominal page of results with nothing but ratios is A4 at 150 DPI.
    size = re.search(r"bbox 0 0 (\d+) (\d+); ppageno 0", pages[0].get("title", ""))
    assert size is not None
    width, height = int(size[1]), int(size[2])
    assert (width, height) in ((WIDTH, HEIGHT), (1240, 1754))
    (word,) = (word for word in pages[0].iter() if word.text == "Report")
    title = re.fullmatch(r"bbox (\d+) (\d+) (\d+) (\d+); x_wconf 55", word.get("title", ""))
    assert title is not None
    left, top, right, bottom = (int(value) for value in title.groups())
    assert (left / width, right / width) == pytest.approx((0.24, 0.36), abs=0.001)
    assert (top / height, bottom / height) == pytest.approx((100 / HEIGHT, 130 / HEIGHT), abs=0.001)


# Of ALTO 4.4: what each element that is written may hold, in this order, and which attributes it may and must have.
PLACE = {"HPOS", "VPOS", "WIDTH", "HEIGHT"}
CONTENT: dict[str, tuple[str, set[str], set[str]]] = {
    "alto": (r"(Description)?(Layout)", {"SCHEMAVERSION"}, set()),
    "Description": (r"(MeasurementUnit)(sourceImageInformation)?(Processing)*", set(), set()),
    "MeasurementUnit": ("", set(), set()),
    "sourceImageInformation": (r"(fileName)?", set(), set()),
    "fileName": ("", set(), set()),
    "Processing": (r"(processingCategory)?(processingSoftware)?", {"ID"}, {"ID"}),
    "processingCategory": ("", set(), set()),
    "processingSoftware": (r"(softwareName)?(softwareVersion)?", set(), set()),
    "softwareName": ("", set(), set()),
    "softwareVersion": ("", set(), set()),
    "Layout": (r"(Page)+", set(), set()),
    "Page": (
        r"(PrintSpace)?",
        {"ID", "PHYSICAL_IMG_NR", "PC", "PROCESSINGREFS", "WIDTH", "HEIGHT"},
        {"ID", "PHYSICAL_IMG_NR"},
    ),
    "PrintSpace": (r"(TextBlock)*", PLACE, set()),
    "TextBlock": (r"(TextLine)+", PLACE | {"ID"}, {"ID"}),
    "TextLine": (r"((String)(SP)?)+", PLACE | {"ID"}, set()),
    "String": (r"(Shape)?", PLACE | {"ID", "CONTENT", "WC"}, {"CONTENT"}),
    "SP": ("", PLACE, set()),
    "Shape": (r"(Polygon)", set(), set()),
    "Polygon": ("", {"POINTS"}, {"POINTS"}),
}


def check_alto(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    identifiers: list[str] = []
    for element in root.iter():
        name = element.tag.removeprefix(ALTO)
        children, allowed, required = CONTENT[name]
        assert re.fullmatch(children, "".join(child.tag.removeprefix(ALTO) for child in element)), name
        attributes = {key for key in element.keys() if not key.startswith("{")}  # noqa: SIM118  # no dict
        assert required <= attributes <= allowed, name
        identifiers += [value for key, value in element.items() if key == "ID"]
        for key in PLACE | {"PC", "WC"}:
            value = float(element.get(key, 0))
            assert value >= 0
            assert key not in ("PC", "WC") or value <= 1
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", identifier) for identifier in identifiers)
    return root


def test_alto_is_valid_and_another_tool_reads_it(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = exported(result, "alto")
    root = check_alto(text)
    assert [float(page.get("PHYSICAL_IMG_NR", 0)) for page in root.iter(f"{ALTO}Page")] == [1, 2, 3, 4]
    file = tmp_path / "scan.alto.xml"
    file.write_text(text, encoding="utf-8")
    with file.open(encoding="utf-8") as opened:
        _, tree, namespace = alto_tools.alto_parse(opened)
    capsys.readouterr()
    alto_tools.alto_text(tree, namespace)
    assert [line.strip() for line in capsys.readouterr().out.splitlines() if line] == [
        line for page in PAGES for line in page
    ]
    alto_tools.alto_confidence(_Named(str(file)), tree, namespace)
    known = (word.confidence for page in read_pages(result) for word in page.words)
    confidences = [confidence for confidence in known if confidence is not None]
    mean = 100 * sum(confidences) / len(confidences)
    assert float(capsys.readouterr().out.rpartition(" ")[2]) == pytest.approx(mean, abs=0.02)


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def test_jsonl_has_a_page_a_line_with_what_a_search_engine_wants(result: Path) -> None:
    records = [json.loads(line) for line in exported(result, "jsonl").splitlines()]
    assert [record["page"] for record in records] == [1, 2, 3, 4]
    assert [record["text"].split() for record in records] == WORDS
    assert records[0] | {"text": ""} == {
        "id": "s3://out/scan.pdf.ocr.json#page=1", "text": "", "document": "scan.pdf",
        "result": "s3://out/scan.pdf.ocr.json", "page": 1, "words": 8,
        "confidence": 0.675, "lowest_confidence": 0.5,
    }  # fmt: skip
    assert (records[1]["words"], records[1]["confidence"]) == (0, None)


def test_text_is_the_text_of_the_pages(result: Path) -> None:
    pages = exported(result, "text").split("\f")
    assert [page.split() for page in pages] == WORDS


@pytest.mark.parametrize("to", ["text", "hocr", "alto", "jsonl"])
def test_what_is_no_result_is_refused(to: ExportFormat, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"some": "thing"}')
    with pytest.raises(DocumentFault, match="not a result"):
        export_result(file, to, io.StringIO(), ExportedFrom("other"))


@given(st.text(max_size=30), st.text(max_size=20))
def test_hostile_text_stays_text(tmp_path_factory: pytest.TempPathFactory, text: str, document: str) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.ocr.json"
    box = {"vertices": [{"x": 0.1, "y": 0.1}, {"x": 0.2, "y": 0.1}, {"x": 0.2, "y": 0.2}, {"x": 0.1, "y": 0.2}]}
    words = [{"text": text, "confidence": 7, "bounding_box": box}, {"text": "next"}]
    file.write_text(json.dumps({"pages": [{"text": text, "words": words}]}))
    hocr = ElementTree.fromstring(exported(file, "hocr", document))
    assert [word.text for word in hocr.iter() if word.get("class") == "ocrx_word"][1] == "next"
    alto = check_alto(exported(file, "alto", document))
    (shown, _) = (word.get("CONTENT") for word in alto.iter(f"{ALTO}String"))
    assert shown is not None
    assert len(shown) == len(text), "every letter is there, or U+FFFD in its place"


def test_lines_of_a_result_without_line_breaks_are_told_by_the_boxes(tmp_path: Path) -> None:
    made = answer([["first line here", "second one"]])
    made["pages"][0]["text"] = "first line here second one"
    file = tmp_path / "a.ocr.json"
    file.write_text(json.dumps(made))
    (page,) = read_pages(file)
    assert [[word.text for word in line] for line in place_words(page).lines()] == [
        ["first", "line", "here"],
        ["second", "one"],
    ]


def test_words_without_boxes_are_exported_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.ocr.json"
    file.write_text(json.dumps({"pages": [{"text": "no box", "words": [{"text": "no"}, {"text": "box"}]}]}))
    (page,) = read_pages(file)
    assert [word.line for word in place_words(page).words] == [None, None]
    assert "HPOS" not in exported(file, "alto").partition("<TextBlock")[2].partition("</TextBlock")[0]
    assert exported(file, "hocr").count("ocrx_word") == 3  # with the capability


def test_turned_words_keep_their_corners(tmp_path: Path) -> None:
    corners = [{"x": 100, "y": 200}, {"x": 100, "y": 100}, {"x": 130, "y": 100}, {"x": 130, "y": 200}]
    word = {"text": "up", "confidence": 0.9, "boundingBox": {"vertices": corners}}
    file = tmp_path / "a.ocr.json"
    file.write_text(json.dumps({"pages": [{"width": 500, "height": 500, "text": "up", "words": [word]}]}))
    (page,) = read_pages(file)
    assert drawn_layout(page).words[0].ratios[1] == (0.2, 0.2)
    assert "bbox 100 100 130 200; x_wconf 90; textangle 90" in exported(file, "hocr")
    tilted = [{"x": 100, "y": 100}, {"x": 200, "y": 110}, {"x": 197, "y": 140}, {"x": 97, "y": 130}]
    word["boundingBox"] = {"vertices": tilted}
    file.write_text(json.dumps({"pages": [{"width": 500, "height": 500, "text": "up", "words": [word]}]}))
    assert 'POINTS="100,100 200,110 197,140 97,130"' in exported(file, "alto")
