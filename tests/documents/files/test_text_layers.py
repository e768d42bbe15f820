"""Text layers of PDFs: usable ones are told from all others, and their words stand where poppler has them."""

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pikepdf
import pytest

from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.documents.files.text_layers import write_text_layers
from tasks.documents.files.text_pages import count_text_pages, find_text_pages, in_shape_of
from tests.documents.files.text_layer_kinds import KOREAN, LINES, embedded, kinds
from tests.sample_documents import text_pdf, truncated_pdf

KINDS = kinds()
PLAIN = KINDS["plain text"].body
_BOXES = "{http://www.w3.org/1999/xhtml}"


def layers_of(body: bytes, folder: Path, *, trusted: bool = False) -> list[dict[str, Any]]:
    file, to = folder / "document.pdf", folder / "layers"
    file.write_bytes(body)
    pages, usable = write_text_layers(file, to, trust_ocr_layers=trusted)
    found = [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]
    assert (len(found), sum("reason" not in page for page in found)) == (pages, usable)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_usable_text_is_told_from_all_other(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    for trusted, usable in ((False, kind.usable), (True, kind.trusted)):
        (page,) = layers_of(kind.body, tmp_path, trusted=trusted)
        assert ("reason" not in page) == usable, page.get("reason", "usable")
        if usable and kind.text:
            assert page["text"].split() == kind.text.split()


def by_poppler(file: Path, rotation: int) -> list[list[tuple[str, list[float]]]]:
    """The words of each page and their boxes in ratios, as poppler tells them."""
    program = shutil.which("pdftotext")
    assert program, "pdftotext is missing: install poppler-utils (Debian) or poppler (Homebrew)"
    ended = subprocess.run(
        [program, "-bbox", "-cropbox", str(file), "-"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    root = ElementTree.fromstring(re.sub(rb"[\x00-\x08]", b"", ended.stdout))
    pages = []
    for page in root.iter(f"{_BOXES}page"):
        size = [float(page.attrib["width"]), float(page.attrib["height"])] * 2
        size = size if rotation % 180 == 0 else size[::-1]  # poppler tells the size as if the page were not turned
        pages.append(
            [
                (
                    word.text or "",
                    [
                        float(word.attrib[side]) / length
                        for side, length in zip(("xMin", "yMin", "xMax", "yMax"), size, strict=True)
                    ],
                )
                for word in page.iter(f"{_BOXES}word")
            ]
        )
    return pages


def turned(body: bytes, rotation: int, crop: bool) -> bytes:
    with pikepdf.open(io.BytesIO(body)) as pdf:
        pdf.pages[0].Rotate = rotation
        if crop:
            pdf.pages[0].CropBox = pikepdf.Array([30, 500, 580, 830])
        out = io.BytesIO()
        pdf.save(out)
        return out.getvalue()


@pytest.mark.parametrize(
    ("body", "rotation", "crop"),
    [
        (PLAIN, 0, False), (PLAIN, 0, True), (PLAIN, 90, False), (PLAIN, 180, True), (PLAIN, 270, True),
        (KINDS["Korean"].body, 0, False), (KINDS["Chinese"].body, 90, True),
        (text_pdf(["one two\n\nthree", "four"]), 0, False),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)  # fmt: skip
def test_words_and_their_boxes_are_those_that_poppler_finds(
    body: bytes, rotation: int, crop: bool, tmp_path: Path
) -> None:
    changed = turned(body, rotation, crop)
    pages = layers_of(changed, tmp_path)
    for page, expected in zip(pages, by_poppler(tmp_path / "document.pdf", rotation), strict=True):
        assert [text for text, _ in page["words"]] == [text for text, _ in expected]
        for (text, corners), (_, (left, top, right, bottom)) in zip(page["words"], expected, strict=True):
            xs, ys = corners[::2], corners[1::2]
            # Along the line to a hundredth of the page; across it the two differ over how tall letters are.
            along = 0.01 if rotation % 180 == 0 else 0.02
            assert (min(xs), max(xs)) == pytest.approx((left, right), abs=along), text
            assert (min(ys), max(ys)) == pytest.approx((top, bottom), abs=0.03 - along + 0.01), text


def test_the_corners_of_a_word_begin_at_its_upper_left_as_it_is_read(tmp_path: Path) -> None:
    (page,) = layers_of(turned(KINDS["plain text"].body, 90, False), tmp_path)
    x = page["words"][0][1][::2]
    y = page["words"][0][1][1::2]
    assert (x[0] > x[2], y[0] < y[1]) == (True, True), "the line goes down, and its letters' tops are to the right"


def test_pages_become_parts_of_the_document(tmp_path: Path) -> None:
    file = tmp_path / "document.pdf"
    with pikepdf.Pdf.new() as pdf:
        bodies = [KINDS["plain text"].body] * 60 + [KINDS["scan"].body] + [KINDS["Korean"].body]
        opened = [pikepdf.open(io.BytesIO(body)) for body in bodies]
        for part in opened:
            pdf.pages.extend(part.pages)
        pdf.save(file)
    inspected = inspect_document(file, file.name, InspectionLimits(1 << 40, 72))
    parts = list(find_text_pages(file, inspected, tmp_path, trust_ocr_layers=False))
    assert [str(part.pages) for part in parts] == ["1-50", "51-60", "62"]
    assert count_text_pages(file, inspected, trust_ocr_layers=False) == 61
    answer = parts[2].answer
    assert answer["pages"][0]["text"].split() == " ".join(KOREAN).split()
    newer = in_shape_of(answer, {"api": "2.0", "pages": [], "usage": {"pages": 3, "tier": 2}})
    assert (newer["usage"], newer["api"], "width" in newer["pages"][0]) == ({"pages": 0, "tier": 2}, "2.0", False)
    box = {"vertices": [{"x": 1, "y": 1}] * 4}
    older = in_shape_of(answer, {"pages": [{"words": [{"boundingBox": box}]}], "numBilledPages": 2, "text": "x"})
    assert (older["numBilledPages"], older["pages"][0]["width"]) == (0, 1240)
    assert all(isinstance(corner["x"], int) for word in older["pages"][0]["words"]
               for corner in word["boundingBox"]["vertices"])  # fmt: skip


def test_what_cannot_be_judged_is_recognised(tmp_path: Path) -> None:
    good = tmp_path / "good.pdf"
    good.write_bytes(embedded(LINES, lambda c: c))
    inspected = inspect_document(good, good.name, InspectionLimits(1 << 40, 72))
    assert count_text_pages(good, inspected, trust_ocr_layers=False) == 1
    for body in (b"%PDF-1.7 nothing", truncated_pdf()):
        broken = tmp_path / "broken.pdf"
        broken.write_bytes(body)
        assert list(find_text_pages(broken, inspected, tmp_path, trust_ocr_layers=False)) == []
        assert count_text_pages(broken, inspected, trust_ocr_layers=False) == 0
