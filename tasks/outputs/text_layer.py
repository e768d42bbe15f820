"""Lines of text as invisible text of a PDF's page."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tasks.outputs.glyphless_font import DESCENT, WIDTHS, Glyph, GlyphlessFont
from tasks.outputs.text_lines import TextLine

_STEEP = 0.5  # the sine of 30 degrees
_THOUSAND = 1000  # what positions in a line are told in: thousandths of the font's size


@dataclass(frozen=True)
class PageFrame:
    """How a page of a PDF is seen.

    Attributes:
        left: the edge of its crop box, in its own space.
        bottom: the same.
        right: the same.
        top: the same.
        rotation: by how many degrees it is turned clockwise when it is shown: 0, 90, 180 or 270.
    """

    left: float
    bottom: float
    right: float
    top: float
    rotation: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as it is seen, in units of its own space."""
        size = self.right - self.left, self.top - self.bottom
        return size if self.rotation % 180 == 0 else (size[1], size[0])

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the page as it is seen, from its top left corner, in the page's own space."""
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
        """A direction of the page as it is seen, clockwise from its upper edge, in the page's own space."""
        turned = -angle + math.radians(self.rotation % 360)
        return math.cos(turned), math.sin(turned)


class TextLayer:
    """The text layers of a document's pages, and their fonts."""

    def __init__(self) -> None:
        self.fonts = [GlyphlessFont()]

    def content(self, lines: Iterable[TextLine], frame: PageFrame, name: Callable[[int], str]) -> bytes:
        """The operators that put lines on a page, with a graphics state of their own.

        Args:
            lines: the lines.
            frame: how the page is seen.
            name: gives the name that a font, by its number, has among the page's resources.
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
            # pdfium sorts what begins at the same height from left to right, such as whole lines that run downwards.
            yield from (f"[{number(run.back)} <{font.encode(run.glyphs)}>] TJ" for run in runs)
        else:
            yield "[" + " ".join(f"{number(run.back)} <{font.encode(run.glyphs)}>" for run in runs) + "] TJ"


@dataclass(frozen=True)
class _Run:
    """Glyphs in a row.

    Attributes:
        back: by how much they begin before the end of what comes before, in thousandths of the font's size.
        glyphs: the glyphs.
    """

    back: float
    glyphs: list[Glyph]


def _runs(line: TextLine) -> list[_Run]:
    """The words of a line and the spaces between them, each where it belongs, to a twentieth of the font's size."""
    # As programs that extract text expect it: what is written from right to left stands as it is seen.
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
            if not spaced:  # a gap would be taken for a space
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
    """The characters of a text, together as wide as that, in units."""
    ends = [width * place // len(text) for place in range(len(text) + 1)]
    return [(character, ends[place + 1] - ends[place]) for place, character in enumerate(text)]


def number(value: float, digits: int = 2) -> str:
    """A number as content streams have it."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
