"""The pages of a document that need not be recognised, since they hold their text: as answers of the API would be."""

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
"""Where a page of a result came from."""
SOURCE = "source"
"""The name under which a page of a result says so."""

_LONGEST = 50  # pages of a part


@dataclass(frozen=True)
class TextPart:
    """Consecutive pages with a usable text layer.

    Attributes:
        pages: which.
        answer: what is in them, in the API's newer answer shape; pages have their `width` and `height` in pixels, as
            in the older one.
    """

    pages: PageRange
    answer: dict[str, Any]


def find_text_pages(
    document: Path, inspected: Inspected, folder: Path, *, trust_ocr_layers: bool
) -> Iterator[TextPart]:
    """The pages of a PDF with a usable text layer, in order; none of a document that cannot be judged.

    Args:
        document: the document.
        inspected: what is known of it.
        folder: where a temporary file goes.
        trust_ocr_layers: whether invisible text over pictures is taken for their text.

    Raises:
        OSError: there is no room for that file.
    """
    if not _can_be_judged(inspected):
        return
    layers = folder / "text-layers"
    try:
        work_on("text-layers", PDF.name, document, layers, int(trust_ocr_layers))
        if _count_lines(layers) != inspected.pages:
            return
        yield from _parts(layers)
    except DocumentFault:  # one that pdfium cannot read is recognised like any other
        return
    finally:
        layers.unlink(missing_ok=True)


def count_text_pages(document: Path, inspected: Inspected, *, trust_ocr_layers: bool) -> int:
    """How many pages of a document have a usable text layer."""
    if not _can_be_judged(inspected):
        return 0
    try:
        return int(work_on("count-text-layers", PDF.name, document, int(trust_ocr_layers)))
    except DocumentFault:
        return 0


@dataclass(frozen=True)
class OwnText:
    """Pages of a document that hold text of their own.

    Attributes:
        usable: those whose text needs no recognising.
        invisible: scans with invisible text on them, as OCR programs leave it.
    """

    usable: frozenset[int] = frozenset()
    invisible: frozenset[int] = frozenset()


def find_own_text(document: Path, inspected: Inspected, folder: Path) -> OwnText:
    """Tell which pages of a document hold text of their own; none of one that cannot be judged.

    Args:
        document: the document.
        inspected: what is known of it.
        folder: where a temporary file goes.

    Raises:
        OSError: there is no room for that file.
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
    """Whether both readers agree on which pages there are."""
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
    """Pages of a text layer in the shape of another answer of the same document.

    Args:
        answer: a part's.
        other: an answer of the API, in its own form; None where no page was recognised.
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
    told: dict[str, Any] = (
        {"metadata": {**_dictionary(other.get("metadata")), "pages": sizes}} if "metadata" in other else {}
    )
    told |= {"numBilledPages": 0} if "numBilledPages" in other else {}
    told |= {"text": "".join(page["text"] for page in answer["pages"])} if "text" in other else {}
    return {**head, **told, "pages": [_in_pixels(page) for page in answer["pages"]]}


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
