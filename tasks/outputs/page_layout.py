"""The positions of words on a page: in pixels, as ratios of the page, and in lines, as far as the result has them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, repeat

from tasks.documents.results.words import Box, ResultPage, ResultWord, Size

# A ratio may slightly exceed 1, and no picture of a page is only two pixels wide.
_LARGEST_RATIO = 2.0
_SAME_LINE = 0.6  # of a word's height: the maximum vertical distance between the centres of neighbours in a line
_A4_AT_150_DPI: Size = (1240.0, 1754.0)


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A recognised word and its position.

    Attributes:
        text: the word.
        confidence: from 0 to 1; None if the result has none.
        pixels: the corners in pixels of the recognised picture; empty if unknown.
        ratios: the corners as ratios of the page's width and height; empty if unknown.
        line: the number of its line on the page, from 1; None if lines are unknown.
    """

    text: str
    confidence: float | None
    pixels: Box
    ratios: Box
    line: int | None


@dataclass(frozen=True, slots=True)
class PageLayout:
    """A page and the positions of its words.

    Attributes:
        number: the page number, from 1.
        text: the page's text.
        size: width and height of the recognised picture in pixels; None if unknown.
        words: the words, in the order of the result.
    """

    number: int
    text: str
    size: Size | None
    words: tuple[PlacedWord, ...]

    def lines(self) -> Iterator[tuple[PlacedWord, ...]]:
        """Yield the words line by line; if lines are unknown, the page is one line."""
        for _, words in groupby(self.words, key=lambda word: word.line):
            yield tuple(words)

    def mean_confidence(self) -> float | None:
        """The mean confidence of the words; None if no word has one."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return math.fsum(known) / len(known) if known else None


def place_words(page: ResultPage, size: Size | None = None) -> PageLayout:
    """Determine the positions of the words of a page.

    Args:
        page: the page as read from a result.
        size: the size of its picture in pixels, used if the result does not have it.
    """
    page_size = page.size or size
    ratios = _are_ratios(page.words)
    numbers = _lines_of_text(page) or _lines_of_boxes(page.words)
    lines: Iterable[int | None] = numbers or repeat(None, len(page.words))
    words = tuple(_placed(word, line, page_size, ratios=ratios) for word, line in zip(page.words, lines, strict=True))
    return PageLayout(page.number, page.text, page_size, words)


def drawn_layout(page: ResultPage, size: Size | None = None) -> PageLayout:
    """Like `place_words`, but always with a size and pixels: if the size is unknown, that of A4 at 150 DPI."""
    page_size = page.size or size
    if page_size is None and _are_ratios(page.words):
        page_size = _A4_AT_150_DPI
    elif page_size is None:
        # Only the words are known: assume A4 at that resolution, or larger if the words need more room.
        corners = [corner for word in page.words for corner in word.box]
        width, height = (max((corner[axis] for corner in corners), default=0.0) for axis in (0, 1))
        page_size = max(width, _A4_AT_150_DPI[0]), max(height, _A4_AT_150_DPI[1])
    return place_words(page, page_size)


def bounds(box: Box) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom of a box; None if it has no corners."""
    if not box:
        return None
    across, down = [x for x, _ in box], [y for _, y in box]
    return min(across), min(down), max(across), max(down)


def _are_ratios(words: Sequence[ResultWord]) -> bool:
    """Return whether a page's boxes are ratios. Member names show it only in some answer forms, so values decide."""
    return all(abs(value) <= _LARGEST_RATIO for word in words for corner in word.box for value in corner)


def _placed(word: ResultWord, line: int | None, size: Size | None, *, ratios: bool) -> PlacedWord:
    box = word.box
    if ratios:
        pixels = tuple((x * size[0], y * size[1]) for x, y in box) if size else ()
        return PlacedWord(word.text, word.confidence, pixels, box, line)
    shares = tuple((x / size[0], y / size[1]) for x, y in box) if size else ()
    return PlacedWord(word.text, word.confidence, box, shares, line)


def _lines_of_text(page: ResultPage) -> list[int] | None:
    """Return each word's line from the line breaks of the page's text; None without breaks, or if a word is missing."""
    if "\n" not in page.text.strip():
        return None
    lines: list[int] = []
    at, line = 0, 1
    for word in page.words:
        text = word.text.strip()
        place = page.text.find(text, at)
        if place < 0:
            return None
        if lines and "\n" in page.text[at:place]:
            line += 1
        lines.append(line)
        at = place + len(text)
    return lines


def _lines_of_boxes(words: Sequence[ResultWord]) -> list[int] | None:
    """Return each word's line from the words' positions; None if a word has no box with four corners."""
    if not words or any(len(word.box) != 4 for word in words):
        return None
    line = 1
    lines = [line]
    for before, word in pairwise(words):
        line += not _goes_on(before.box, word.box)
        lines.append(line)
    return lines


def _goes_on(before: Box, box: Box) -> bool:
    """Return whether a word continues the line of the previous word, in the writing direction of that word."""
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
