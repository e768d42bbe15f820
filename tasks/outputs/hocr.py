"""Writes hOCR, HTML with the position and confidence of each word."""

import math
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import IO
from urllib.parse import quote

from tasks.outputs.page_layout import PageLayout, PlacedWord, bounds
from tasks.outputs.xml_text import xml_attribute, xml_text

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="und" lang="und">
<head>
<title>{title}</title>
<meta http-equiv="Content-Type" content="text/html;charset=utf-8" />
<meta name="ocr-system" content="bulk-ocr {version}" />
<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocrp_wconf" />
</head>
<body>
"""


def write_hocr(pages: Iterable[PageLayout], out: IO[str], document: str) -> int:
    """Write pages as hOCR 1.2, one `ocr_page` each.

    Args:
        pages: the pages; each needs a size, and its words in pixels.
        out: the output.
        document: the document's name, for the title and the `image` property of the pages.

    Returns:
        The number of pages.
    """
    out.write(_HEAD.format(title=xml_text(document), version=version("bulk-ocr")))
    # Readers split properties at semicolons and values at quotation marks, even if they are quoted.
    image = quote(document, safe="/:!$&'()*+,=@~ ") if any(sign in document for sign in ';"\\%') else document
    count = 0
    for page in pages:
        count += 1
        width, height = page.size or (0.0, 0.0)
        title = f'image "{image}"; bbox 0 0 {math.ceil(width)} {math.ceil(height)}; ppageno {page.number - 1}'
        out.write(f'<div class="ocr_page" id="page_{page.number}" title={xml_attribute(title)}>\n')
        for line, words in enumerate(page.lines(), 1):
            out.writelines(_line(page.number, line, words))
        out.write("</div>\n")
    out.write("</body>\n</html>\n")
    return count


def _line(page: int, line: int, words: tuple[PlacedWord, ...]) -> Iterator[str]:
    around = _bbox([corner for word in words for corner in word.pixels])
    # hOCR requires a box for each line, so a line without any known position gets an empty one.
    yield f'<span class="ocr_line" id="line_{page}_{line}" title="{around or "bbox 0 0 0 0"}">'
    shown = []
    for number, word in enumerate(words, 1):
        title = _bbox(word.pixels) or "bbox 0 0 0 0"
        if word.confidence is not None:
            title += f"; x_wconf {min(max(round(word.confidence * 100), 0), 100)}"
        if angle := _angle(word):
            title += f"; textangle {angle:g}"
        shown.append(
            f'<span class="ocrx_word" id="word_{page}_{line}_{number}" title="{title}">{xml_text(word.text)}</span>'
        )
    yield " ".join(shown)
    yield "</span>\n"


def _bbox(corners: Iterable[tuple[float, float]]) -> str:
    box = bounds(tuple(corners))
    if box is None:
        return ""
    left, top, right, bottom = (max(value, 0) for value in box)
    return f"bbox {math.floor(left)} {math.floor(top)} {math.ceil(right)} {math.ceil(bottom)}"


def _angle(word: PlacedWord) -> float:
    """Return the rotation of a word in degrees counter-clockwise; 0 if it is almost upright."""
    if len(word.pixels) != 4:
        return 0.0
    (x, y), (right_x, right_y) = word.pixels[:2]
    angle = round(math.degrees(math.atan2(y - right_y, right_x - x)), 1)
    return angle if abs(angle) >= 1 and (right_x, right_y) != (x, y) else 0.0
