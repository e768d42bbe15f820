"""Turns pages with a usable text layer, which need no recognition, into answers like the API's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.documents.files.apart import work_on
from tasks.documents.files.formats import PDF
from tasks.documents.files.inspect import Inspected
from tasks.faults import DocumentFault
from tasks.job.record import PageRange

TEXT_LAYER, RECOGNISED = "text-layer", "ocr"
"""The source of a page whose text came from the document's text layer."""
SOURCE = "source"
"""The field of a result's page that names its source."""

_LONGEST = 50  # pages in a part


@dataclass(frozen=True)
class TextPart:
    """Consecutive pages with a usable text layer.

    Attributes:
        pages: the page range.
        answer: their content in the API's newer answer shape; pages have `width` and `height` in pixels, as in the
            older shape.
    """

    pages: PageRange
    answer: dict[str, Any]


def find_text_pages(
    document: Path, inspected: Inspected, folder: Path, *, trust_ocr_layers: bool
) -> Iterator[TextPart]:
    """Yield the pages of a PDF with a usable text layer, in order; none if the document cannot be judged.

    Args:
        document: the document.
        inspected: the facts about it.
        folder: a folder for a temporary file.
        trust_ocr_layers: whether to accept invisible text over pictures as their text.

    Raises:
        OSError: there is no room for the temporary file.
    """
    if not _can_be_judged(inspected):
        return
    layers = folder / "text-layers"
    try:
        work_on("text-layers", PDF.name, document, layers, int(trust_ocr_layers))
        if _count_lines(layers) != inspected.pages:
            return
        yield from _parts(layers)
    except DocumentFault:  # a document that pdfium cannot read is recognised as usual
        return
    finally:
        layers.unlink(missing_ok=True)


def count_text_pages(document: Path, inspected: Inspected, *, trust_ocr_layers: bool) -> int:
    """Count the pages of a document with a usable text layer."""
    if not _can_be_judged(inspected):
        return 0
    try:
        return int(work_on("count-text-layers", PDF.name, document, int(trust_ocr_layers)))
    except DocumentFault:
        return 0


@dataclass(frozen=True)
class OwnText:
    """Pages of a document that contain text.

    Attributes:
        usable: pages that need no recognition.
        invisible: scans with an invisible text layer, as written by OCR programs.
    """

    usable: frozenset[int] = frozenset()
    invisible: frozenset[int] = frozenset()


def find_own_text(document: Path, inspected: Inspected, folder: Path) -> OwnText:
    """Find the pages of a document that contain text; none if the document cannot be judged.

    Args:
        document: the document.
        inspected: the facts about it.
        folder: a folder for a temporary file.

    Raises:
        OSError: there is no room for the temporary file.
    """
    if not _can_be_judged(inspected):
        return OwnText()
    layers, usable, invisible = folder / "text-layers", set[int](), set[int]()
    try:
        work_on("text-layers", PDF.name, document, layers, 0)
        with layers.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                layer = json.loads(line)
                if layer.get("words"):
                    usable.add(number)
                elif layer.get("invisible"):
                    invisible.add(number)
    except DocumentFault:
        return OwnText()
    finally:
        layers.unlink(missing_ok=True)
    return OwnText(frozenset(usable), frozenset(invisible))


def _can_be_judged(inspected: Inspected) -> bool:
    """Whether both readers agree on the pages."""
    return inspected.form is PDF and inspected.reader == "qpdf" and not inspected.disputed


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _parts(layers: Path) -> Iterator[TextPart]:
    first, pages = 1, list[dict[str, Any]]()
    with layers.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            layer = json.loads(line)
            if pages and ("reason" in layer or len(pages) == _LONGEST):
                yield _part(first, pages)
                pages = []
            if "reason" not in layer:
                first = first if pages else number
                pages.append(_page(layer))
    if pages:
        yield _part(first, pages)


def _part(first: int, pages: list[dict[str, Any]]) -> TextPart:
    numbered = 0
    for place, page in enumerate(pages):
        page["id"] = place
        for word in page["words"]:
            word["id"] = numbered
            numbered += 1
    return TextPart(PageRange(first=first, last=first + len(pages) - 1), {"pages": pages, "usage": {"pages": 0}})


def _page(layer: dict[str, Any]) -> dict[str, Any]:
    words = [
        {
            "id": 0,
            "text": text,
            "bounding_box": {"vertices": [{"x": x, "y": y} for x, y in zip(corners[::2], corners[1::2], strict=True)]},
        }
        for text, corners in layer["words"]
    ]
    size = {"width": layer["width"], "height": layer["height"]}
    return {"id": 0, "text": layer["text"], "words": words, **size, SOURCE: TEXT_LAYER}


def in_shape_of(answer: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    """Convert text-layer pages to the shape of another answer of the same document.

    Args:
        answer: the answer of a text part.
        other: an answer of the API in its own form; None if no page was recognised.
    """
    if other is None:
        return {"pages": [_without_size(page) for page in answer["pages"]], "usage": {"pages": 0}}
    head = {key: value for key, value in other.items() if key != "pages"}
    if not _is_older(other):
        usage = other.get("usage")
        counted = {"usage": {**usage, "pages": 0}} if isinstance(usage, dict) else {}
        return {**head, **counted, "pages": [_without_size(page) for page in answer["pages"]]}
    sizes = [
        {"page": number, "width": page["width"], "height": page["height"]}
        for number, page in enumerate(answer["pages"], 1)
    ]
    totals: dict[str, Any] = (
        {"metadata": {**_dictionary(other.get("metadata")), "pages": sizes}} if "metadata" in other else {}
    )
    totals |= {"numBilledPages": 0} if "numBilledPages" in other else {}
    totals |= {"text": "".join(page["text"] for page in answer["pages"])} if "text" in other else {}
    return {**head, **totals, "pages": [_in_pixels(page) for page in answer["pages"]]}


def _is_older(answer: dict[str, Any]) -> bool:
    from tasks.documents.results.batch import shape_of

    return shape_of(answer) == "older"


def _without_size(page: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in page.items() if key not in ("width", "height")}


def _in_pixels(page: dict[str, Any]) -> dict[str, Any]:
    width, height = page["width"], page["height"]
    words = [
        {
            "id": word["id"],
            "text": word["text"],
            "boundingBox": {
                "vertices": [
                    {"x": round(corner["x"] * width), "y": round(corner["y"] * height)}
                    for corner in word["bounding_box"]["vertices"]
                ]
            },
        }
        for word in page["words"]
    ]
    return {**page, "words": words}


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
