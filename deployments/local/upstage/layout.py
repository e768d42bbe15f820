"""Lays out text on pages, for documents without fixed pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from deployments.local.upstage.pages import DPI, LineOfWords, Size

LINES = 45
"""The number of lines on a page."""

_WIDTH, _HEIGHT = round(8.27 * DPI), round(11.69 * DPI)  # A4
_MARGIN = 90
_PITCH = 35
_FONT_SIZE = 24
_SPACE = 10  # wider than the font's space: recognition loses narrow ones
_LONGEST_PIECE = 40  # letters of a piece of a word that is wider than the page; that many always fit

_Line = list[tuple[str, int, int]]  # words, with left and right


class TextPages:
    """The pages filled by texts, in one font size.

    Letters that the font lacks, mainly Korean ones, are drawn as boxes, but are in the text layer.

    Args:
        texts: each one begins on a new page and fills as many as it needs.
        endless: put each text on a single page, as tall as needed.
    """

    def __init__(self, texts: Iterable[str], *, endless: bool = False) -> None:
        self._pages: list[list[_Line]] = []
        for text in texts:
            lines = [line for paragraph in text.splitlines() for line in _wrapped(paragraph)]
            step = max(LINES, len(lines)) if endless else LINES
            self._pages += [lines[start : start + step] for start in range(0, max(1, len(lines)), step)]

    def __len__(self) -> int:
        return len(self._pages)

    def size(self, index: int) -> Size:
        """Return width and height of a page in pixels."""
        return _WIDTH, max(_HEIGHT, len(self._pages[index]) * _PITCH + 2 * _MARGIN)

    def picture(self, index: int, longest_side: int) -> Image.Image:
        """Return a page as an RGB picture whose sides are at most this long."""
        image = Image.new("L", self.size(index), 255)
        pen = ImageDraw.Draw(image)
        for row, line in enumerate(self._pages[index]):
            for word, left, _ in line:
                pen.text((left, _MARGIN + row * _PITCH), word, fill=0, font=_font())
        image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
        return image.convert("RGB")

    def text_layer(self, index: int) -> list[LineOfWords]:
        """Return the words of a page, line by line, with left, top, right and bottom in pixels."""
        lines: list[LineOfWords] = []
        for row, line in enumerate(self._pages[index]):
            top = _MARGIN + row * _PITCH
            if line:
                lines.append([(word, (left, top, right, top + _PITCH)) for word, left, right in line])
        return lines


@cache
def _font() -> Any:
    return ImageFont.load_default(_FONT_SIZE)


@lru_cache(maxsize=100_000)
def _width(word: str) -> int:
    length: float = _font().getlength(word)
    return max(1, round(length))


def _wrapped(paragraph: str) -> Iterator[_Line]:
    line: _Line = []
    left = _MARGIN
    for word in _pieces(paragraph):
        width = _width(word)
        if line and left + width > _WIDTH - _MARGIN:
            yield line
            line, left = [], _MARGIN
        line.append((word, left, left + width))
        left += width + _SPACE
    yield line


def _pieces(paragraph: str) -> Iterator[str]:
    for word in paragraph.split():
        # Measuring a text of megabytes without a space would take long.
        if len(word) > 10 * _LONGEST_PIECE or _width(word) > _WIDTH - 2 * _MARGIN:
            yield from re.findall(rf".{{1,{_LONGEST_PIECE}}}", word)
        else:
            yield word
