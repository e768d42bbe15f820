"""Groups the words of a page into lines: words on one baseline in reading order, each with its position on the line.

Programs that extract text from a PDF derive words and lines from geometry. Therefore the words of a line get the same
baseline and size, even if their boxes differ slightly, and the space to the next word is part of the line.

All coordinates refer to the displayed page: the origin is its top left corner, and y points down.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tasks.documents.results.words import ResultPage, Size

_RATIOS = 2.0  # coordinates beyond this are pixels
_SAME_DIRECTION = math.radians(8)
_STRAIGHT = math.radians(0.2)  # below this angle, boxes are parallel to the page whatever the slope of the text
_SLOPED = math.radians(0.4)
_WIDE_GAP = 3.0  # in line heights: a wider gap separates columns or table cells, which are separate lines
_LEAST = 0.01  # points: the minimum width and height of a box


@dataclass(frozen=True, slots=True)
class LineWord:
    """A word on a line.

    Attributes:
        text: the word, without control characters.
        start: its start along the line, in points from the line's origin.
        width: its width in points.
        after: the text between it and the next word of the line: a space, or empty.
        leftward: whether it is written from right to left.
    """

    text: str
    start: float
    width: float
    after: str = " "
    leftward: bool = False


@dataclass(frozen=True, slots=True)
class TextLine:
    """Words on one baseline.

    Attributes:
        x: the start of the line's bottom edge, in points from the page's left edge.
        y: the start of the line's bottom edge, in points from the page's upper edge.
        angle: the line's direction, in radians clockwise from the page's upper edge.
        height: the height of the words in points.
        words: the words, in reading order.
    """

    x: float
    y: float
    angle: float
    height: float
    words: tuple[LineWord, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A word and its box: centre, direction, and the extents along and across that direction."""

    text: str
    x: float
    y: float
    angle: float
    width: float
    height: float
    separator: str  # before the word: a space, a line break, empty, or "?" if unknown
    leftward: bool


def text_lines(page: ResultPage, width: float, height: float, pixels: Size | None = None) -> list[TextLine]:
    """Group the words of a page into lines.

    Args:
        page: the page of a result. Words without a box are omitted.
        width: the width of the displayed page in points.
        height: the height of the displayed page in points.
        pixels: the size of the picture that boxes in pixels refer to, if the result does not have it.
    """
    lines: list[list[_Placed]] = []
    for word in _placed(page, width, height, pixels):
        if lines and _continues(lines[-1], word):
            lines[-1].append(word)
        else:
            lines.append([word])
    return [_line(words) for words in lines]


def _placed(page: ResultPage, width: float, height: float, pixels: Size | None) -> Iterator[_Placed]:
    across, down = _scale(page, width, height, pixels)
    texts = [clean(word.text) for word in page.words]
    for word, text, separator in zip(page.words, texts, _separators(page.text, texts), strict=True):
        if text.strip() and word.box:
            corners = [(x * across, y * down) for x, y in word.box]
            x, y, angle, length, extent = _frame(corners, text)
            yield _Placed(text, x, y, angle, length, extent, separator, _is_leftward(text))


def _scale(page: ResultPage, width: float, height: float, pixels: Size | None) -> tuple[float, float]:
    """Return the points per unit of the boxes, horizontally and vertically."""
    farthest = max((abs(value) for word in page.words for corner in word.box for value in corner), default=0)
    if farthest <= _RATIOS:
        return width, height
    size = page.size or pixels
    if size is None:  # assume that the words fill the page
        right = max(x for word in page.words for x, _ in word.box)
        bottom = max(y for word in page.words for _, y in word.box)
        size = right, bottom
    return width / size[0], height / size[1]


def clean(text: str) -> str:
    """Make a text fit for a line: without control characters, and with U+FFFD for lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        " " if character.isspace() else "\ufffd" if "\ud800" <= character <= "\udfff" else character
        for character in text
        if character.isspace() or unicodedata.category(character) != "Cc"
    )


def _separators(text: str, words: Sequence[str]) -> list[str]:
    """Return the separator before each word in the page's text; "?" if the word is not found there."""
    separators, at = [], 0
    plain = clean(text.replace("\n", "\x0b")).replace("\x0b", " ") if "\x0b" not in text else clean(text)
    for word in words:
        place = plain.find(word, at) if word else -1
        if place < 0 or plain[at:place].strip():
            separators.append("?")
            continue
        between = text[at:place] if len(plain) == len(text) else plain[at:place]
        separators.append("\n" if "\n" in between else " " if between else "")
        at = place + len(word)
    return separators


def _frame(corners: Sequence[tuple[float, float]], text: str) -> tuple[float, float, float, float, float]:
    """Return the centre of a box, the direction of its text, and its extents along and across that direction."""
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    width, height, angle = max(xs) - min(xs), max(ys) - min(ys), 0.0
    if len(corners) == 4:
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
        along = ((bx - ax + cx - dx) / 2, (by - ay + cy - dy) / 2)
        across = ((dx - ax + cx - bx) / 2, (dy - ay + cy - by) / 2)
        if along[0] * across[1] - along[1] * across[0] > 0:  # corners in reading order, not mirrored
            middle = (sum(xs) / 4, sum(ys) / 4)
            width, height, angle = math.hypot(*along), math.hypot(*across), math.atan2(along[1], along[0])
            angle = 0.0 if abs(angle) < _STRAIGHT else angle
    if _is_vertical(text, width, height):
        width, height, angle = height, width, angle + math.pi / 2
    return *middle, angle, max(width, _LEAST), max(height, _LEAST)


def _is_vertical(text: str, width: float, height: float) -> bool:
    """Return whether text is vertical: its box is much too tall for that many characters side by side."""
    letters = sum(not character.isspace() for character in text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    if letters >= 2 and wide == letters:
        return height > 1.3 * width
    return letters >= 4 and height > 1.5 * width


def _is_leftward(text: str) -> bool:
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return True
        if kind == "L":
            return False
    return False


def _continues(line: Sequence[_Placed], word: _Placed) -> bool:
    """Return whether a word continues a line."""
    last = line[-1]
    if word.separator == "\n" or word.leftward != last.leftward:
        return False
    turned = math.remainder(word.angle - last.angle, math.tau)
    if abs(turned) > _SAME_DIRECTION:
        return False
    cos, sin = math.cos(last.angle), math.sin(last.angle)
    dx, dy = word.x - last.x, word.y - last.y
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    tall, low = max(word.height, last.height), min(word.height, last.height)
    along = -along if word.leftward else along
    gap = along - (word.width + last.width) / 2
    # On a skewed page, the next word is higher or lower in proportion to its distance.
    drift = abs(along) * math.tan(_SAME_DIRECTION) if gap > 0 else 0.0
    return along > 0 and -tall < gap < _WIDE_GAP * tall and abs(across) < tall / 2 + min(drift, low / 4)


def _line(words: Sequence[_Placed]) -> TextLine:
    angle = _slope(words)
    cos, sin = math.cos(angle), math.sin(angle)
    places = [(word.x * cos + word.y * sin, word.y * cos - word.x * sin) for word in words]
    bottom = median(across + word.height / 2 for word, (_, across) in zip(words, places, strict=True))
    height = max(median(word.height for word in words), _LEAST)
    starts = [along - word.width / 2 for word, (along, _) in zip(words, places, strict=True)]
    first = min(starts)
    after = ["" if following.separator == "" else " " for following in words[1:]] + [""]
    line_words = tuple(
        LineWord(word.text, start - first, word.width, between, word.leftward)
        for word, start, between in zip(words, starts, after, strict=True)
    )
    return TextLine(first * cos - bottom * sin, first * sin + bottom * cos, angle, height, line_words)


def _slope(words: Sequence[_Placed]) -> float:
    """Return the direction of a line: that of its boxes or, if these are straight, that of their centres."""
    angle = math.atan2(
        sum(word.width * math.sin(word.angle) for word in words),
        sum(word.width * math.cos(word.angle) for word in words),
    )
    straight = all(abs(math.remainder(word.angle, math.pi / 2)) < _STRAIGHT for word in words)
    if len(words) < 3 or not straight:
        return angle
    cos, sin = math.cos(angle), math.sin(angle)
    along = [word.x * cos + word.y * sin for word in words]
    across = [word.y * cos - word.x * sin for word in words]
    if max(along) - min(along) < 4 * max(word.height for word in words):
        return angle
    mean_along, mean_across = sum(along) / len(along), sum(across) / len(across)
    spread = sum((value - mean_along) ** 2 for value in along)
    rise = sum((a - mean_along) * (b - mean_across) for a, b in zip(along, across, strict=True)) / spread
    steady = all(second > first for first, second in pairwise(along)) or words[0].leftward
    return angle + math.atan(rise) if steady and abs(math.atan(rise)) > _SLOPED else angle
