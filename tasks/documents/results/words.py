"""Extracts the recognised text and words of a page from any answer form.

Values of the wrong type are treated like a missing text or box.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import IO, Any

from tasks.documents.results.batch import Form, annotated_pages, box_name
from tasks.faults import DocumentFault, FailureCode

Box = tuple[tuple[float, float], ...]
Node = Mapping[str, Any]

ASK_OTHERWISE = "request the API's own answer shape (omit --schema), which can always be merged"


@dataclass(frozen=True, slots=True)
class ResultWord:
    """A recognised word. Its box is in the unit of the answer, ratios or pixels; empty if there is none."""

    text: str
    confidence: float | None
    box: Box


Size = tuple[float, float]
"""The width and height of a page's picture, in pixels."""


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of a result, numbered from 1. Its size is that of the recognised picture, if the answer has it."""

    number: int
    text: str
    words: tuple[ResultWord, ...]
    size: Size | None = dataclass_field(default=None, compare=False)


def page_texts(form: Form, unit: Node) -> list[str]:
    """Return the text of each page of a unit. Depending on the form, a unit is a page, an image or a response.

    Raises:
        DocumentFault: a response has one text for several pages that cannot be divided.
    """
    match form:
        case Form.OWN:
            return [_own_text(unit)]
        case Form.CLOVA:
            return [_clova_text(unit)]
        case Form.RESPONSES:
            pages = annotated_pages(unit)
            if len(pages) > 1:
                if _text(unit.get("fullTextAnnotation"), "text").strip() and not count_words(form, unit):
                    raise undivided()
                return [_google_text(page) for page in pages]
            return [_response_text(unit, pages)]
        case Form.DOCUMENT:
            return [_google_text(unit)]


def page_words(form: Form, unit: Node) -> list[tuple[ResultWord, ...]]:
    """Return the words of each page of a unit."""
    match form:
        case Form.OWN:
            return [tuple(_own_word(word) for word in _nodes(unit, "words"))]
        case Form.CLOVA:
            return [tuple(_clova_word(field) for field in _nodes(unit, "fields"))]
        case Form.RESPONSES:
            pages = annotated_pages(unit) or ({},)
            words_of_pages = [tuple(_google_word(word) for word in _google_words(page)) for page in pages]
            if not any(words_of_pages) and len(words_of_pages) == 1:
                return [tuple(_annotation_word(entry) for entry in _nodes(unit, "textAnnotations")[1:])]
            return words_of_pages
        case Form.DOCUMENT:
            return [tuple(_google_word(word) for word in _google_words(unit))]


def page_sizes(form: Form, unit: Node) -> list[Size | None]:
    """Return the size of each page of a unit; None if the answer has none."""
    match form:
        case Form.OWN | Form.DOCUMENT:
            return [_size(unit)]
        case Form.CLOVA:
            return [_size(unit.get("convertedImageInfo"))]
        case Form.RESPONSES:
            return [_size(page) for page in annotated_pages(unit) or ({},)]


def count_words(form: Form, unit: Node) -> int:
    """Count the words of a unit, without creating `ResultWord` objects."""
    match form:
        case Form.OWN:
            return len(_nodes(unit, "words"))
        case Form.CLOVA:
            return len(_nodes(unit, "fields"))
        case Form.RESPONSES:
            pages = annotated_pages(unit)
            count = sum(count_words(Form.DOCUMENT, page) for page in pages)
            return count or (max(0, len(_nodes(unit, "textAnnotations")) - 1) if len(pages) < 2 else 0)
        case Form.DOCUMENT:
            return sum(len(_nodes(paragraph, "words")) for paragraph in _google_paragraphs(unit))


def page_confidences(form: Form, unit: Node) -> list[tuple[list[Any], bool]]:
    """Return for each page of a unit the confidences of its words (None if missing) and whether the page is blank.

    It creates no `ResultWord` objects, because it is called for every page of every result.
    """
    match form:
        case Form.OWN:
            words = _nodes(unit, "words")
            return [([word.get("confidence") for word in words], not words and not _own_text(unit).strip())]
        case Form.CLOVA:
            fields = _nodes(unit, "fields")
            return [([field.get("inferConfidence") for field in fields], not fields)]
        case Form.DOCUMENT:
            confidences = [word.get("confidence") for word in _google_words(unit)]
            return [(confidences, not confidences and not _google_text(unit).strip())]
        case Form.RESPONSES:
            pages = annotated_pages(unit) or ({},)
            by_page = [[word.get("confidence") for word in _google_words(page)] for page in pages]
            if not any(by_page) and len(by_page) == 1:
                by_page = [[None] * (len(_nodes(unit, "textAnnotations")) - 1)]
            text = bool(_text(unit.get("fullTextAnnotation"), "text").strip()) and not any(by_page)
            return [(confidences, not confidences and not text) for confidences in by_page]


def is_wordless_page(pages: Sequence[Node]) -> bool:
    """Return whether a Google document has at most one page, and no words on it: its text is only in the annotation.

    It is then read like a response, which has the same structure.
    """
    return not pages or (len(pages) == 1 and not count_words(Form.DOCUMENT, pages[0]))


def undivided() -> DocumentFault:
    """Return the fault for several pages without words that have one text in common."""
    return DocumentFault(
        FailureCode.UNMERGEABLE,
        "the answer has one text for several pages and no words, so the text of a single page is unknown: omit "
        f"the plain text, or {ASK_OTHERWISE}",
    )


class PlainText:
    """Writes the plain text of a document page by page.

    Args:
        out: the text file.

    Attributes:
        pages: the number of pages written.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self.pages = 0

    def add(self, text: str) -> None:
        """Write a page. Form feeds in its text become line breaks, because a form feed separates pages."""
        if self.pages:
            self._out.write("\f")
        self._out.write(text.replace("\f", "\n"))
        self.pages += 1


@contextmanager
def plain_text(to: Path) -> Iterator[PlainText]:
    """Open a plain text file in UTF-8. Lone surrogates, which UTF-8 cannot represent, become question marks."""
    with to.open("w", encoding="utf-8", errors="replace", newline="") as out:
        yield PlainText(out)


def _own_text(page: Node) -> str:
    text = page.get("text")
    if isinstance(text, str):
        return text
    return " ".join(filter(None, (_text(word, "text") for word in _nodes(page, "words"))))


def _own_word(word: Node) -> ResultWord:
    name = box_name(word)
    return ResultWord(_text(word, "text"), _number(word.get("confidence")), _box(word[name]) if name else ())


def _clova_text(image: Node) -> str:
    pieces, between = [], ""
    for field in _nodes(image, "fields"):
        pieces += [between, _text(field, "inferText")]
        between = "\n" if field.get("lineBreak") is True else " "
    return "".join(pieces)


def _clova_word(field: Node) -> ResultWord:
    box = _box(field.get("boundingPoly"))
    return ResultWord(_text(field, "inferText"), _number(field.get("inferConfidence")), box)


def _response_text(response: Node, pages: Sequence[Node]) -> str:
    """Return the text of a response with one page, from the first member that has a text."""
    text = _text(response.get("fullTextAnnotation"), "text")
    for page in pages:
        text = text or _google_text(page)
    for entry in _nodes(response, "textAnnotations")[:1]:
        text = text or _text(entry, "description")
    return text


def _annotation_word(entry: Node) -> ResultWord:
    return ResultWord(_text(entry, "description"), None, _google_box(entry.get("boundingPoly")))


# The text after a symbol, by the name of its detectedBreak or its number in Google's protocol. A HYPHEN is printed on
# the page, but is not a symbol.
_BREAKS = {"SPACE": " ", "SURE_SPACE": " ", "EOL_SURE_SPACE": "\n", "HYPHEN": "-\n", "LINE_BREAK": "\n"}
_BREAK_NUMBERS = dict(enumerate(_BREAKS.values(), 1))


def _google_text(page: Node) -> str:
    """Assemble the text of a page from its symbols. If the answer has no breaks at all, words are joined by spaces."""
    any_break, paragraphs = False, []
    for paragraph in _google_paragraphs(page):
        words = []
        for word in _nodes(paragraph, "words"):
            pieces = []
            for symbol in _nodes(word, "symbols"):
                before, after = _breaks(symbol)
                any_break = any_break or bool(before or after)
                pieces += [before, _text(symbol, "text"), after]
            words.append("".join(pieces) if pieces else _text(word, "text"))
        paragraphs.append(words)
    if any_break:
        return "".join("".join(words) for words in paragraphs)
    return "\n".join(" ".join(words) for words in paragraphs)


def _breaks(symbol: Node) -> tuple[str, str]:
    """Return the break before and the break after a symbol, as text."""
    properties = symbol.get("property")
    detected = properties.get("detectedBreak") if isinstance(properties, dict) else None
    if not isinstance(detected, dict):
        return "", ""
    kind = detected.get("type")
    mark = _BREAKS.get(kind, "") if isinstance(kind, str) else ""
    mark = _BREAK_NUMBERS.get(kind, "") if isinstance(kind, int) else mark
    return (mark, "") if detected.get("isPrefix") is True else ("", mark)


def _google_word(word: Node) -> ResultWord:
    text = "".join(_text(symbol, "text") for symbol in _nodes(word, "symbols")) or _text(word, "text")
    return ResultWord(text, _number(word.get("confidence")), _google_box(word.get("boundingBox")))


def _google_words(page: Node) -> Iterator[Node]:
    for paragraph in _google_paragraphs(page):
        yield from _nodes(paragraph, "words")


def _google_paragraphs(page: Node) -> Iterator[Node]:
    for block in _nodes(page, "blocks"):
        yield from _nodes(block, "paragraphs")


def _google_box(box: Any) -> Box:
    # Google omits coordinates that are 0.
    return _box(box, missing=0) or _box(box, "normalizedVertices", missing=0)


def _box(box: Any, key: str = "vertices", missing: float | None = None) -> Box:
    corners = []
    for vertex in _nodes(box, key):
        x, y = _number(vertex.get("x", missing)), _number(vertex.get("y", missing))
        if x is None or y is None:
            return ()
        corners.append((x, y))
    return tuple(corners)


def _size(node: Any) -> Size | None:
    if not isinstance(node, dict):
        return None
    width, height = _number(node.get("width")), _number(node.get("height"))
    return (width, height) if width and height and min(width, height) > 0 else None


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(node: Any, key: str) -> str:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, str) else ""


def _nodes(node: Any, key: str) -> list[dict[str, Any]]:
    value = node.get(key) if isinstance(node, dict) else None
    return [node for node in value if isinstance(node, dict)] if isinstance(value, list) else []
