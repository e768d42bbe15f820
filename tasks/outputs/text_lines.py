"""The words of a page as lines: what stands on one baseline, in reading order, with its place along that line.

Programs that extract text from a PDF tell words and lines by geometry. So words of one line share a baseline and a
size here, whatever small differences their boxes have, and the space to the next word is part of the line.

All coordinates are those of the page as it is seen, from its top left corner, y pointing down.
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
_STRAIGHT = math.radians(0.2)  # boxes with edges along the page's, whatever the text's slope
_SLOPED = math.radians(0.4)
_WIDE_GAP = 3.0  # in heights of a line: columns and cells of tables are lines of their own
_LEAST = 0.01  # points: a box has some width and height


@dataclass(frozen=True, slots=True)
class LineWord:
    """A word on a line.

    Attributes:
        text: without control characters.
        start: where it begins, along the line, in points from the line's origin.
        width: how long it is, in points.
        after: what stands between it and the next word of the line: a space, or nothing.
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
        x: where the bottom of the line begins, in points from the page's left edge.
        y: the same from its upper edge.
        angle: the line's direction, in radians, clockwise from the page's upper edge.
        height: of the words, in points.
        words: the words, in reading order.
    """

    x: float
    y: float
    angle: float
    height: float
    words: tuple[LineWord, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A word and its box: the middle, the direction and the extent along it and across it."""

    text: str
    x: float
    y: float
    angle: float
    width: float
    height: float
    separator: str  # before it: a space, a line break, nothing, or "?" where that is not known
    leftward: bool


def text_lines(page: ResultPage, width: float, height: float, pixels: Size | None = None) -> list[TextLine]:
    """Put the words of a page into lines.

    Args:
        page: the page of a result. Words without a box are left out.
        width: of the page as it is seen, in points.
        height: the same.
        pixels: the size of the picture that boxes in pixels are measured on, where the result does not tell.
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
    """Points to a unit of the boxes, across and down."""
    farthest = max((abs(value) for word in page.words for corner in word.box for value in corner), default=0)
    if farthest <= _RATIOS:
        return width, height
    size = page.size or pixels
    if size is None:  # the words fill the page, as far as anybody knows
        right = max(x for word in page.words for x, _ in word.box)
        bottom = max(y for word in page.words for _, y in word.box)
        size = right, bottom
    return width / size[0], height / size[1]


def clean(text: str) -> str:
    """A text that can stand in a line: no control characters, and U+FFFD for half a character."""
    if text.isprintable():
        return text
    return "".join(
        " " if character.isspace() else "\ufffd" if "\ud800" <= character <= "\udfff" else character
        for character in text
        if character.isspace() or unicodedata.category(character) != "Cc"
    )


def _separators(text: str, words: Sequence[str]) -> list[str]:
    """What stands before each word in the text of its page; "?" where the text does not tell."""
    found, at = [], 0
    plain = clean(text.replace("\n", "\x0b")).replace("\x0b", " ") if "\x0b" not in text else clean(text)
    for word in words:
        place = plain.find(word, at) if word else -1
        if place < 0 or plain[at:place].strip():
            found.append("?")
            continue
        between = text[at:place] if len(plain) == len(text) else plain[at:place]
        found.append("\n" if "\n" in between else " " if between else "")
        at = place + len(word)
    return found


def _frame(corners: Sequence[tuple[float, float]], text: str) -> tuple[float, float, float, float, float]:
    """The middle of a box, the direction of its text, its width along that and its height across."""
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    width, height, angle = max(xs) - min(xs), max(ys) - min(ys), 0.0
    if len(corners) == 4:
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
        along = ((bx - ax + cx - dx) / 2, (by - ay + cy - dy) / 2)
        across = ((dx - ax + cx - bx) / 2, (dy - ay + cy - by) / 2)
        if along[0] * across[1] - along[1] * across[0] > 0:  # corners in the order of a reader, not mirrored
            middle = (sum(xs) / 4, sum(ys) / 4)
            width, height, angle = math.hypot(*along), math.hypot(*across), math.atan2(along[1], along[0])
            angle = 0.0 if abs(angle) < _STRAIGHT else angle
    if _is_vertical(text, width, height):
        width, height, angle = height, width, angle + math.pi / 2
    return *middle, angle, max(width, _LEAST), max(height, _LEAST)


def _is_vertical(text: str, width: float, height: float) -> bool:
    """Whether characters stand one below the other: a box that is much too tall for so many side by side."""
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
    """Whether a word goes on with a line."""
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
    # On a sloping page the next word stands higher or lower, the farther away the more.
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
    found = tuple(
        LineWord(word.text, start - first, word.width, between, word.leftward)
        for word, start, between in zip(words, starts, after, strict=True)
    )
    return TextLine(first * cos - bottom * sin, first * sin + bottom * cos, angle, height, found)


def _slope(words: Sequence[_Placed]) -> float:
    """The direction of a line: that of its boxes, or where these are straight, that of the row of their middles."""
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
