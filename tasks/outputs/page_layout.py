"""Where the words of a page are: in pixels, as shares of the page, and in lines, as far as the result tells."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, repeat

from tasks.documents.results.words import Box, ResultPage, ResultWord, Size

# No picture of a page is two pixels wide, and a ratio may be a little more than 1.
_LARGEST_RATIO = 2.0
_SAME_LINE = 0.6  # of a word's height: how far the middle of the next one may be from its own
_A4_AT_150_DPI: Size = (1240.0, 1754.0)


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A recognised word and where it is.

    Attributes:
        text: the word.
        confidence: from 0 to 1, where the result tells.
        pixels: the corners in pixels of the recognised picture; empty where they are not known.
        ratios: the corners as shares of the page's width and height; empty where they are not known.
        line: its line's number on the page, from 1; None where the lines cannot be told.
    """

    text: str
    confidence: float | None
    pixels: Box
    ratios: Box
    line: int | None


@dataclass(frozen=True, slots=True)
class PageLayout:
    """A page with its words in their places.

    Attributes:
        number: the page's, from 1.
        text: its text.
        size: width and height of the recognised picture in pixels, where they are known.
        words: the words, in the order of the result.
    """

    number: int
    text: str
    size: Size | None
    words: tuple[PlacedWord, ...]

    def lines(self) -> Iterator[tuple[PlacedWord, ...]]:
        """The words in lines; a page whose lines cannot be told is one line."""
        for _, words in groupby(self.words, key=lambda word: word.line):
            yield tuple(words)

    def mean_confidence(self) -> float | None:
        """The mean of its words' confidences; None where no word has one."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return math.fsum(known) / len(known) if known else None


def place_words(page: ResultPage, size: Size | None = None) -> PageLayout:
    """Find out where the words of a page are.

    Args:
        page: the page, as it was read from a result.
        size: the size of its picture, where the result does not have it.
    """
    known = page.size or size
    ratios = _are_ratios(page.words)
    found = _lines_of_text(page) or _lines_of_boxes(page.words)
    lines: Iterable[int | None] = found or repeat(None, len(page.words))
    words = tuple(_placed(word, line, known, ratios=ratios) for word, line in zip(page.words, lines, strict=True))
    return PageLayout(page.number, page.text, known, words)


def drawn_layout(page: ResultPage, size: Size | None = None) -> PageLayout:
    """The same, with a size and pixels in any case: where nobody knows the size, that of A4 at 150 DPI."""
    known = page.size or size
    if known is None and _are_ratios(page.words):
        known = _A4_AT_150_DPI
    elif known is None:
        # Nothing is known but the words: the page is as large as A4 at that resolution, or as they need.
        corners = [corner for word in page.words for corner in word.box]
        width, height = (max((corner[axis] for corner in corners), default=0.0) for axis in (0, 1))
        known = max(width, _A4_AT_150_DPI[0]), max(height, _A4_AT_150_DPI[1])
    return place_words(page, known)


def bounds(box: Box) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a box; None when it has no corner."""
    if not box:
        return None
    across, down = [x for x, _ in box], [y for _, y in box]
    return min(across), min(down), max(across), max(down)


def _are_ratios(words: Sequence[ResultWord]) -> bool:
    """Whether a page's boxes are in ratios: the forms of an answer tell it by names only in part."""
    return all(abs(value) <= _LARGEST_RATIO for word in words for corner in word.box for value in corner)


def _placed(word: ResultWord, line: int | None, size: Size | None, *, ratios: bool) -> PlacedWord:
    box = word.box
    if ratios:
        pixels = tuple((x * size[0], y * size[1]) for x, y in box) if size else ()
        return PlacedWord(word.text, word.confidence, pixels, box, line)
    shares = tuple((x / size[0], y / size[1]) for x, y in box) if size else ()
    return PlacedWord(word.text, word.confidence, box, shares, line)


def _lines_of_text(page: ResultPage) -> list[int] | None:
    """Each word's line by the line breaks of the page's text; None where it has none, or not all of the words."""
    if "\n" not in page.text.strip():
        return None
    found: list[int] = []
    at, line = 0, 1
    for word in page.words:
        text = word.text.strip()
        place = page.text.find(text, at)
        if place < 0:
            return None
        if found and "\n" in page.text[at:place]:
            line += 1
        found.append(line)
        at = place + len(text)
    return found


def _lines_of_boxes(words: Sequence[ResultWord]) -> list[int] | None:
    """Each word's line by where the words are; None where not all have a box of four corners."""
    if not words or any(len(word.box) != 4 for word in words):
        return None
    line = 1
    found = [line]
    for before, word in pairwise(words):
        line += not _goes_on(before.box, word.box)
        found.append(line)
    return found


def _goes_on(before: Box, box: Box) -> bool:
    """Whether a word stands in the line of the one before, in the direction in which that one is written."""
    (x, y), (right_x, right_y), _, (left_x, left_y) = before
    length, height = math.hypot(right_x - x, right_y - y), math.hypot(left_x - x, left_y - y)
    if not length or not height:
        return False
    along = (right_x - x) / length, (right_y - y) / length
    middle_x, middle_y = (box[0][0] + box[2][0]) / 2, (box[0][1] + box[2][1]) / 2
    own_x, own_y = (x + before[2][0]) / 2, (y + before[2][1]) / 2
    ahead = (middle_x - own_x) * along[0] + (middle_y - own_y) * along[1]
    aside = abs((middle_y - own_y) * along[0] - (middle_x - own_x) * along[1])
    return aside <= _SAME_LINE * height and ahead > 0
