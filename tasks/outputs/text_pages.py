"""Writes pages that show only the text of a result, for documents that are unavailable or have no fixed pages.

Latin words are in Helvetica, which every reader has. Other scripts have no font that all readers share, so their words
are invisible inside a frame: they can be searched and copied like the others.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pikepdf import Dictionary, Name, ObjectStreamMode, Pdf

from tasks.documents.files.writing import written
from tasks.documents.results.words import ResultPage
from tasks.outputs.glyphless_font import DESCENT
from tasks.outputs.text_layer import PageFrame, TextLayer, number
from tasks.outputs.text_lines import LineWord, TextLine, text_lines

_A4 = (595.0, 842.0)
_NOTE = 8  # points, the font size of the sentence that gives the reason
_MARGIN = 12
_RENDERED_DPI, _POINTS = 150, 72
_MOST_SIDE = 14_400.0  # points: the largest page that PDF readers accept
_LATIN, _OTHER = "Latin", "Other"
# Widths in Helvetica, in thousandths of its size: accurate enough to stretch a word to its box.
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[]/\\ "), frozenset("mwMW@%")


def write_text_pages(pages: Iterable[ResultPage], reason: str, to: Path) -> tuple[int, int]:
    """Write a PDF with the words of a result at their positions.

    Args:
        pages: the pages of the result.
        reason: why the document's own pages are not shown; printed at the top of each page.
        to: the file to write.

    Returns:
        The number of pages, and the number of words on them.

    Raises:
        OSError: the file cannot be written.
    """
    with Pdf.new() as pdf:
        writer = _Writer(pdf, f"Text only: {reason}")
        words = sum(writer.add(page) for page in pages)
        writer.end()
        with written(to) as out:
            pdf.save(out, deterministic_id=True, object_stream_mode=ObjectStreamMode.generate)
        return len(pdf.pages), words


class _Writer:
    def __init__(self, pdf: Pdf, note: str) -> None:
        self._pdf = pdf
        self._note = note
        self._layer = TextLayer()
        self._hidden = pdf.make_indirect(Dictionary())
        latin = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding)
        fonts = Dictionary({f"/{_LATIN}": latin, f"/{_OTHER}": self._hidden})
        self._resources = pdf.make_indirect(Dictionary(Font=fonts))

    def add(self, result: ResultPage) -> int:
        """Add a page. Returns its number of words."""
        width, height = _size(result)
        frame = PageFrame(0, 0, width, height)
        lines = text_lines(result, width, height)
        words = [self._word(line, word, frame) for line in lines for word in line.words]
        page = self._pdf.add_blank_page(page_size=(width, height))
        page.obj.Resources = self._resources
        packed = zlib.compress("\n".join((_note(self._note, width, height), *words)).encode("ascii"), 6)
        page.obj.Contents = self._pdf.make_stream(packed, Filter=Name.FlateDecode)
        return len(words)

    def end(self) -> None:
        """Fill in the font of the invisible text."""
        self._layer.fonts[0].write_to(self._pdf, self._hidden)

    def _word(self, line: TextLine, word: LineWord, frame: PageFrame) -> str:
        cos, sin = math.cos(line.angle), math.sin(line.angle)
        x, y = line.x + word.start * cos, line.y + word.start * sin
        codes = _in_latin(word.text + word.after)
        if codes is None:
            alone = replace(line, x=x, y=y, words=(replace(word, start=0.0),))
            hidden = self._layer.content([alone], frame, lambda _: _OTHER).decode("ascii")
            return f"{_frame_around(alone, word.width, frame)}\n{hidden}"
        rise = line.height * DESCENT
        left, bottom = frame.point(x + rise * sin, y - rise * cos)
        natural = sum(map(_latin_width, word.text)) * line.height
        scale = min(max(100 * word.width / natural, 1), 1000)
        across, down = frame.direction(line.angle)
        matrix = " ".join(number(value, 5) for value in (across, down, -down, across, left, bottom))
        return f"BT /{_LATIN} {number(line.height)} Tf {number(scale)} Tz {matrix} Tm <{codes}> Tj ET"


def _size(result: ResultPage) -> tuple[float, float]:
    """Return the size of a page in points: that of the recognised picture, or A4."""
    if result.size is None:
        return _A4
    width, height = (side * _POINTS / _RENDERED_DPI for side in result.size)
    scale = min(1.0, _MOST_SIDE / max(width, height))
    return max(width * scale, 3.0), max(height * scale, 3.0)


def _note(note: str, width: float, height: float) -> str:
    codes = note.encode("cp1252", "replace").hex()
    place = f"1 0 0 1 {_MARGIN} {number(height - _MARGIN - _NOTE)} Tm"
    # A sentence that is wider than the page is condensed.
    scale = min(100.0, 100 * (width - 2 * _MARGIN) / (sum(map(_latin_width, note)) * _NOTE))
    return f"q 0.5 g BT /{_LATIN} {_NOTE} Tf {number(max(scale, 1))} Tz {place} <{codes}> Tj ET Q"


def _frame_around(line: TextLine, width: float, frame: PageFrame) -> str:
    cos, sin = math.cos(line.angle), math.sin(line.angle)
    up = (line.height * sin, -line.height * cos)
    along = (width * cos, width * sin)
    corners = [
        (line.x, line.y), (line.x + along[0], line.y + along[1]),
        (line.x + along[0] + up[0], line.y + along[1] + up[1]), (line.x + up[0], line.y + up[1]),
    ]  # fmt: skip
    points = [" ".join(map(number, frame.point(*corner))) for corner in corners]
    return f"q 0.8 G 0.5 w {points[0]} m {points[1]} l {points[2]} l {points[3]} l s Q"


def _latin_width(character: str) -> float:
    if character in _NARROW:
        return 0.28
    return 0.85 if character in _WIDE else 0.67 if character.isupper() else 0.54


def _in_latin(text: str) -> str | None:
    """Return the codes of a text in Helvetica, in hexadecimal; None if it lacks one of the characters."""
    try:
        return text.encode("cp1252").hex()
    except UnicodeEncodeError:
        return None
