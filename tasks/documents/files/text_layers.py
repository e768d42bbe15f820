"""Finds the pages of a PDF with a usable text layer, and extracts their words and boxes.

A page counts as usable only if nothing on it is likely to be lost. It is sent for recognition if

- a character has no reliable Unicode value: no mapping, U+FFFD, private use, or letters that form no words;
- pictures cover more than a small part of it, unless all its text is an invisible layer and such layers are trusted;
- it has visible annotations: fields, stamps, notes;
- something is drawn where there is no text: outlined letters, pictures in patterns;
- there is text where nothing is drawn: hidden layers, white letters.

pdfium reads the document. A damaged one can crash the process, so this only runs in a separate process.
"""

import ctypes
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageChops, ImageDraw, ImageFilter

_MOST_PICTURES = 0.05  # of a page's area: a logo
_MOST_UNCOVERED = 0.0025  # of a page's pixels: a few letters
_MOST_UNSEEN = 0.05  # of a page's words
_COVERED_BY_LAYER = 0.5  # of the drawn pixels, by a trusted layer of invisible text
_LOOKED_AT = 500  # characters sampled for the direction of a page
_FEW_LETTERS = 50  # too few to judge a language by
_VOWELS = frozenset("aeiouyAEIOUYàáâãäåèéêëìíîïòóôõöùúûüæœøÀÁÂÃÄÅÈÉÊËÌÍÎÏÒÓÔÕÖÙÚÛÜÆŒØ")
_VOWEL_SHARES = (0.2, 0.65)  # of Latin letters, in any language
_DPI, _POINTS, _RECOGNISED_DPI = 36, 72, 150
_CONTRAST, _LEAST_CONTRAST = 40, 12  # of 255: of an edge, and of anything at all
_GRID = 1_000_000  # a page's width and height, for boxes as ratios
_INVISIBLE = 3  # the mode of text that is neither filled nor stroked
_HARMLESS = {
    pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP, pdfium.FPDF_ANNOT_HIGHLIGHT, pdfium.FPDF_ANNOT_UNDERLINE,
    pdfium.FPDF_ANNOT_SQUIGGLY, pdfium.FPDF_ANNOT_STRIKEOUT,
}  # fmt: skip
_BULLETS = range(0xF020, 0xF100)  # of Symbol and Wingdings
_LINE_HYPHEN, _HYPHENS = 0x2, {0x2, 0xAD, 0xFFFE}
_LIGATURES = range(0xFB00, 0xFB07)
_DEEPEST = 20  # forms in forms
_MOST_OBJECTS = 200_000  # of a page

Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom as ratios of the displayed page, from its upper left corner."""


@dataclass
class LayerWord:
    """A word of a text layer.

    Attributes:
        text: its letters.
        box: its rectangle.
        turned: its rotation in clockwise quarter turns.
        ends_line: whether it is the last word of a line.
    """

    text: str
    box: Rectangle
    turned: int = 0
    ends_line: bool = False


@dataclass
class _Drawn:
    """Drawn content of a page other than text."""

    pictures: list[Rectangle] = field(default_factory=list)
    plain: list[Rectangle] = field(default_factory=list)
    objects: int = 0
    invisible: int = 0
    visible: int = 0


def write_text_layers(file: Path, to: Path, *, trust_ocr_layers: bool) -> tuple[int, int]:
    """Write the text layer of each page of a PDF in order, one JSON object a line.

    A usable page has `text`, `words` (text and the eight corner coordinates as ratios, clockwise from the upper left in
    reading direction), `width` and `height` (in pixels as the API would render it). Any other page has `reason`, and
    `invisible` if it has invisible text.

    Args:
        file: the PDF.
        to: the file to write.
        trust_ocr_layers: whether to accept invisible text over pictures as their text.

    Returns:
        The number of pages, and how many of them are usable.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
        OSError: the file cannot be written.
    """
    usable = number = 0
    with pypdfium2.PdfDocument(file) as pdf, to.open("w", encoding="utf-8") as out:
        for number in range(1, len(pdf) + 1):
            page = pdf[number - 1]
            try:
                looked = _look(page, trust_ocr_layers)
            finally:
                page.close()
            usable += "reason" not in looked
            out.write(json.dumps(looked) + "\n")
    return number, usable


def count_text_layers(file: Path, *, trust_ocr_layers: bool) -> int:
    """Count the usable pages of a PDF.

    Raises:
        pypdfium2.PdfiumError: pdfium cannot read it.
    """
    with pypdfium2.PdfDocument(file) as pdf:
        return sum("reason" not in _look(pdf[index], trust_ocr_layers) for index in range(len(pdf)))


def _look(page: Any, trust_ocr_layers: bool) -> dict[str, Any]:
    width, height = page.get_size()
    if min(width, height) <= 0:
        return {"reason": "no size"}
    if _has_annotations(page):
        return {"reason": "annotations"}
    drawn = _drawn(page)
    if drawn.objects > _MOST_OBJECTS:
        return {"reason": "too many objects"}
    scanned = _area(drawn.pictures) > _MOST_PICTURES
    if scanned and not (trust_ocr_layers and drawn.invisible):
        return {"reason": "pictures", "invisible": drawn.invisible > 0}
    if drawn.invisible and not (scanned and trust_ocr_layers):
        return {"reason": "invisible text", "invisible": True}
    try:
        words = _upright_words(page)
    except _NoUnicode as error:
        return {"reason": str(error)}
    if not words:
        if drawn.objects:
            return {"reason": "no text"}
    elif not _plausible(words):
        return {"reason": "letters without words"}
    else:
        reason = _mismatch(page, words, drawn, scanned)
        if reason:
            return {"reason": reason}
    return {
        "text": _text(words),
        "words": [[word.text, _corners(word)] for word in words],
        "width": max(1, round(width * _RECOGNISED_DPI / _POINTS)),
        "height": max(1, round(height * _RECOGNISED_DPI / _POINTS)),
    }


def _has_annotations(page: Any) -> bool:
    for index in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if annotation:
            try:
                hidden = pdfium.FPDFAnnot_GetFlags(annotation) & (pdfium.FPDF_ANNOT_FLAG_HIDDEN)
                if not hidden and pdfium.FPDFAnnot_GetSubtype(annotation) not in _HARMLESS:
                    return True
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)
    return False


def _drawn(page: Any) -> _Drawn:
    drawn = _Drawn()
    for item in page.get_objects(max_depth=_DEEPEST):
        drawn.objects += 1
        if drawn.objects > _MOST_OBJECTS:
            break
        if item.type == pdfium.FPDF_PAGEOBJ_TEXT:
            mode = pdfium.FPDFTextObj_GetTextRenderMode(item)
            drawn.invisible += mode == _INVISIBLE
            drawn.visible += mode != _INVISIBLE
        elif item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            drawn.pictures.append(_bounds(page, item))
        elif item.type == pdfium.FPDF_PAGEOBJ_PATH and _is_plain(item):
            drawn.plain.append(_bounds(page, item))
    return drawn


def _is_plain(path: Any) -> bool:
    """Whether a path is a line or a rectangle and so cannot be a letter."""
    segments = pdfium.FPDFPath_CountSegments(path)
    if segments > 6:
        return False
    kinds = {pdfium.FPDFPathSegment_GetType(pdfium.FPDFPath_GetPathSegment(path, index)) for index in range(segments)}
    return pdfium.FPDF_SEGMENT_BEZIERTO not in kinds


def _bounds(page: Any, item: Any) -> Rectangle:
    left, bottom, right, top = item.get_bounds()
    container = item.container
    while container is not None:  # inside a form, which is placed by its matrix
        left, bottom, right, top = _moved(container.get_matrix(), (left, bottom, right, top))
        container = container.container
    return _seen(page, left, bottom, right, top)


def _moved(matrix: Any, box: Rectangle) -> Rectangle:
    corners = [matrix.on_point(x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
    return (
        min(x for x, _ in corners), min(y for _, y in corners),
        max(x for x, _ in corners), max(y for _, y in corners),
    )  # fmt: skip


def _seen(page: Any, left: float, bottom: float, right: float, top: float, turned_back: int = 0) -> Rectangle:
    """Convert a rectangle from page space to the displayed page, whatever its rotation."""
    xs, ys = [], []
    across, down = ctypes.c_int(), ctypes.c_int()
    for x, y in ((left, bottom), (right, top)):
        pdfium.FPDF_PageToDevice(page, 0, 0, _GRID, _GRID, turned_back, x, y, across, down)
        xs.append(across.value / _GRID)
        ys.append(down.value / _GRID)
    return min(xs), min(ys), max(xs), max(ys)


def _area(boxes: list[Rectangle]) -> float:
    """The share of the page covered by the union of rectangles."""
    if not boxes:
        return 0.0
    side = 200
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    for box in boxes:
        draw.rectangle(_pixels(box, mask.size, 0), fill=255)
    return _count(mask) / side**2


class _NoUnicode(Exception):
    """A character has no reliable Unicode value."""


def _upright_words(page: Any) -> list[LayerWord]:
    """The words of a page in reading order.

    pdfium orders lines by their position on the displayed page, so the page is temporarily rotated until most of its
    text is upright.

    Raises:
        _NoUnicode: a character has no reliable Unicode value.
    """
    rotation = pdfium.FPDFPage_GetRotation(page)
    text = page.get_textpage()
    try:
        letters = min(text.count_chars(), _LOOKED_AT)
        directions = Counter(_quarters(text, index) for index in range(letters))
        upright = -directions.most_common(1)[0][0] % 4 if directions else rotation
        if upright == rotation:
            return list(_words(page, text, 0))
    finally:
        text.close()
    pdfium.FPDFPage_SetRotation(page, upright)
    text = page.get_textpage()
    try:
        return list(_words(page, text, (rotation - upright) % 4))
    finally:
        text.close()
        pdfium.FPDFPage_SetRotation(page, rotation)


def _quarters(text: Any, index: int) -> int:
    """The rotation of a character on the page, in clockwise quarter turns."""
    angle: float = pdfium.FPDFText_GetCharAngle(text, index)
    return round(angle * 2 / math.pi) % 4


def _words(page: Any, text: Any, turned_back: int) -> Iterator[LayerWord]:
    """The words of a page that was rotated back by a number of quarter turns.

    Raises:
        _NoUnicode: a character has no reliable Unicode value.
    """
    letters: list[str] = []
    boxes: list[Rectangle] = []
    turned = 0
    waiting: LayerWord | None = None
    for index in range(text.count_chars()):
        code = pdfium.FPDFText_GetUnicode(text, index)
        if code in (0x20, 0xA0, 0x3000, 0x9, 0xA, 0xD, 0x2028, 0x2029):
            if letters:
                if waiting is not None:
                    yield waiting
                waiting = LayerWord("".join(letters), _union(boxes), turned)
                letters, boxes = [], []
            if waiting is not None and code in (0xA, 0xD, 0x2028, 0x2029):
                waiting.ends_line = True
            continue
        letter = _letter(text, index, code)
        box = _place(page, text, index, turned_back)
        if not letter or box is None:
            continue
        if not letters:
            turned = (_quarters(text, index) + pdfium.FPDFPage_GetRotation(page) + turned_back) % 4
        letters.append(letter)
        boxes.append(box)
    if waiting is not None:
        yield waiting
    if letters:
        yield LayerWord("".join(letters), _union(boxes), turned, ends_line=True)


def _letter(text: Any, index: int, code: int) -> str:
    """A character as text; empty for a bullet in a symbol font."""
    if code in _HYPHENS:
        return "-"
    if pdfium.FPDFText_HasUnicodeMapError(text, index) == 1:
        raise _NoUnicode("no Unicode")
    if code in _BULLETS:
        return ""
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise _NoUnicode("no Unicode")
    letter = chr(code)
    if code == 0xFFFD or unicodedata.category(letter) in ("Co", "Cn", "Cc"):
        raise _NoUnicode("no Unicode")
    return unicodedata.normalize("NFKC", letter) if code in _LIGATURES else letter


def _place(page: Any, text: Any, index: int, turned_back: int) -> Rectangle | None:
    """The rectangle of a character; None if it is outside the page."""
    box = pdfium.FS_RECTF()
    if not pdfium.FPDFText_GetLooseCharBox(text, index, box):
        return None
    left, top, right, bottom = _seen(page, box.left, box.bottom, box.right, box.top, turned_back)
    x, y = (left + right) / 2, (top + bottom) / 2
    return (left, top, right, bottom) if 0 <= x <= 1 and 0 <= y <= 1 else None


def _union(boxes: list[Rectangle]) -> Rectangle:
    return (
        min(box[0] for box in boxes), min(box[1] for box in boxes),
        max(box[2] for box in boxes), max(box[3] for box in boxes),
    )  # fmt: skip


def _plausible(words: list[LayerWord]) -> bool:
    """Whether Latin letters look like natural language: a scrambled mapping has too few or too many vowels."""
    letters = [letter for word in words for letter in word.text if letter.isalpha() and ord(letter) < 0x250]
    if len(letters) < _FEW_LETTERS:
        return True
    share = sum(letter in _VOWELS for letter in letters) / len(letters)
    return _VOWEL_SHARES[0] <= share <= _VOWEL_SHARES[1]


def _mismatch(page: Any, words: list[LayerWord], drawn: _Drawn, scanned: bool) -> str:
    """Why the words of a page do not match its rendering; empty if they do."""
    bitmap = page.render(scale=_DPI / _POINTS, grayscale=True, may_draw_forms=False)
    try:
        rendering = bitmap.to_pil().convert("L")
    finally:
        bitmap.close()
    edges = rendering.filter(ImageFilter.FIND_EDGES).point(lambda value: 255 if value > _CONTRAST else 0)
    ImageDraw.Draw(edges).rectangle(
        (0, 0, rendering.width - 1, rendering.height - 1), outline=0
    )  # the border is an artefact of the filter
    covered = Image.new("L", rendering.size, 0)
    draw = ImageDraw.Draw(covered)
    unseen = 0
    for word in words:
        place = _pixels(word.box, rendering.size, 2)
        draw.rectangle(place, fill=255)
        if any(map(str.isalnum, word.text)):
            low, high = rendering.crop((place[0], place[1], place[2] + 1, place[3] + 1)).getextrema()
            unseen += high - low < _LEAST_CONTRAST
    if unseen > _MOST_UNSEEN * len(words):
        return "invisible text"
    drawn_pixels = _count(edges)
    if scanned:
        inside = _count(ImageChops.multiply(edges, covered))
        return "" if inside >= _COVERED_BY_LAYER * drawn_pixels else "a layer for only a part"
    for box in drawn.pictures:
        draw.rectangle(_pixels(box, rendering.size, 2), fill=255)
    for box in drawn.plain:
        draw.rectangle(_pixels(box, rendering.size, 2), outline=255, width=4)
    uncovered = _count(ImageChops.subtract(edges, covered))
    return "drawn letters" if uncovered > _MOST_UNCOVERED * rendering.width * rendering.height else ""


def _pixels(box: Rectangle, size: tuple[int, int], around: int) -> tuple[int, int, int, int]:
    """A rectangle in pixels with a margin, clipped to the picture."""
    width, height = size
    left = min(max(int(box[0] * width) - around, 0), width - 1)
    top = min(max(int(box[1] * height) - around, 0), height - 1)
    right = max(left, min(int(box[2] * width) + around, width - 1))
    bottom = max(top, min(int(box[3] * height) + around, height - 1))
    return left, top, right, bottom


def _count(mask: Image.Image) -> int:
    return sum(mask.histogram()[128:])


def _text(words: list[LayerWord]) -> str:
    pieces = []
    for word in words:
        pieces += [word.text, "\n" if word.ends_line else " "]
    return "".join(pieces).strip()


def _corners(word: LayerWord) -> list[float]:
    """The corners of a word, clockwise from the upper left in reading direction."""
    left, top, right, bottom = (round(min(max(value, 0.0), 1.0), 6) for value in word.box)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    turned = [corners[(place + word.turned) % 4] for place in range(4)]
    return [value for corner in turned for value in corner]
