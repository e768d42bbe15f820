"""Encodes lines of text as invisible text on a PDF page."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tasks.outputs.glyphless_font import DESCENT, WIDTHS, Glyph, GlyphlessFont
from tasks.outputs.text_lines import TextLine

_STEEP = 0.5  # the sine of 30 degrees
_THOUSAND = 1000  # positions in a line are in thousandths of the font's size


@dataclass(frozen=True)
class PageFrame:
    """The visible frame of a PDF page.

    Attributes:
        left: the left edge of its crop box, in page space.
        bottom: the bottom edge.
        right: the right edge.
        top: the top edge.
        rotation: the clockwise rotation at which it is displayed, in degrees: 0, 90, 180 or 270.
    """

    left: float
    bottom: float
    right: float
    top: float
    rotation: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as displayed, in units of page space."""
        size = self.right - self.left, self.top - self.bottom
        return size if self.rotation % 180 == 0 else (size[1], size[0])

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point of the displayed page, relative to its top left corner, to page space."""
        match self.rotation % 360:
            case 90:
                return self.left + y, self.bottom + x
            case 180:
                return self.right - x, self.bottom + y
            case 270:
                return self.right - y, self.top - x
            case _:
                return self.left + x, self.top - y

    def direction(self, angle: float) -> tuple[float, float]:
        """Convert a direction on the displayed page, clockwise from its upper edge, to page space."""
        turned = -angle + math.radians(self.rotation % 360)
        return math.cos(turned), math.sin(turned)


class TextLayer:
    """The text layers of a document's pages, and their fonts."""

    def __init__(self) -> None:
        self.fonts = [GlyphlessFont()]

    def content(self, lines: Iterable[TextLine], frame: PageFrame, name: Callable[[int], str]) -> bytes:
        """Return the operators that draw lines on a page, with a graphics state of their own.

        Args:
            lines: the lines.
            frame: the visible frame of the page.
            name: returns the resource name of a font, given its number.
        """
        parts = ["q BT 3 Tr"]  # neither filled nor stroked
        for line in lines:
            parts += self._line(line, frame, name)
        return "\n".join((*parts, "ET Q\n")).encode("ascii")

    def _line(self, line: TextLine, frame: PageFrame, name: Callable[[int], str]) -> Iterator[str]:
        runs = _runs(line)
        glyphs = [glyph for run in runs for glyph in run.glyphs]
        if not self.fonts[-1].has_room(glyphs):
            self.fonts.append(GlyphlessFont())
        font, size = self.fonts[-1], line.height
        rise = size * DESCENT
        # From the bottom of the line up to its baseline.
        x, y = frame.point(line.x + rise * math.sin(line.angle), line.y - rise * math.cos(line.angle))
        cos, sin = frame.direction(line.angle)
        yield f"/{name(len(self.fonts) - 1)} {number(size)} Tf"
        yield f"{number(cos, 6)} {number(sin, 6)} {number(-sin, 6)} {number(cos, 6)} {number(x)} {number(y)} Tm"
        if abs(sin) > _STEEP:
            # pdfium sorts texts that start at the same height from left to right, even lines that run downwards.
            yield from (f"[{number(run.back)} <{font.encode(run.glyphs)}>] TJ" for run in runs)
        else:
            yield "[" + " ".join(f"{number(run.back)} <{font.encode(run.glyphs)}>" for run in runs) + "] TJ"


@dataclass(frozen=True)
class _Run:
    """Glyphs in a row.

    Attributes:
        back: how far they start before the end of the previous glyphs, in thousandths of the font's size.
        glyphs: the glyphs.
    """

    back: float
    glyphs: list[Glyph]


def _runs(line: TextLine) -> list[_Run]:
    """Return the words and spaces of a line at their positions, to a twentieth of the font's size."""
    # Text written from right to left is stored in visual order, as programs that extract text expect.
    leftward = line.words[0].leftward
    words = line.words[::-1] if leftward else line.words
    unit = line.height / WIDTHS
    runs, at = [], 0  # in units
    for place, word in enumerate(words):
        start = round(word.start / unit)
        text = word.text[::-1] if leftward else word.text
        following = words[place + 1] if place + 1 < len(words) else None
        end = word.start + word.width
        spaced = False
        if following is not None:
            spaced = bool((following if leftward else word).after)
            if not spaced:  # a gap would be mistaken for a space
                end = max(end, following.start)
        end_unit = max(round(end / unit), start + len(text))
        glyphs = _stretched(text, end_unit - start)
        back = (at - start) * _THOUSAND / WIDTHS
        at = end_unit
        if spaced and following is not None:
            space = max(round(following.start / unit) - at, 1)
            glyphs.append((" ", space))
            at += space
        runs.append(_Run(back, glyphs))
    return runs


def _stretched(text: str, width: int) -> list[Glyph]:
    """Return the characters of a text as glyphs with the given total width, in units."""
    ends = [width * place // len(text) for place in range(len(text) + 1)]
    return [(character, ends[place + 1] - ends[place]) for place, character in enumerate(text)]


def number(value: float, digits: int = 2) -> str:
    """Format a number for a content stream."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
