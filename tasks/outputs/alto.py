"""Writes ALTO 4, the XML format of libraries and archives for recognised pages."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import IO

from tasks.outputs.page_layout import PageLayout, PlacedWord, bounds
from tasks.outputs.xml_text import xml_attribute, xml_text

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="{namespace} http://www.loc.gov/standards/alto/v4/alto-4-4.xsd" SCHEMAVERSION="4.4">
<Description>
<MeasurementUnit>pixel</MeasurementUnit>
<sourceImageInformation><fileName>{document}</fileName></sourceImageInformation>
<Processing ID="processing"><processingCategory>contentGeneration</processingCategory>
<processingSoftware><softwareName>bulk-ocr</softwareName><softwareVersion>{version}</softwareVersion>
</processingSoftware></Processing>
</Description>
<Layout>
"""


def write_alto(pages: Iterable[PageLayout], out: IO[str], document: str) -> int:
    """Write pages as ALTO 4.4: a `Page` with one `TextBlock` for each, in pixels.

    Args:
        pages: the pages; each needs a size, and its words in pixels.
        out: the output.
        document: the document's name, for `fileName`.

    Returns:
        The number of pages.
    """
    out.write(_HEAD.format(namespace=_NAMESPACE, document=xml_text(document), version=version("bulk-ocr")))
    count = 0
    for page in pages:
        count += 1
        width, height = page.size or (0.0, 0.0)
        area = f'HEIGHT="{height:g}" WIDTH="{width:g}"'
        confidence = page.mean_confidence()
        shown = "" if confidence is None else f' PC="{_within_one(confidence):.4g}"'
        names = f'ID="page_{page.number}" PHYSICAL_IMG_NR="{page.number}"'
        out.write(f'<Page {names} {area}{shown} PROCESSINGREFS="processing">\n<PrintSpace {area} HPOS="0" VPOS="0">\n')
        if page.words:
            out.write(f'<TextBlock ID="block_{page.number}"{_place(page.words)}>\n')
            for line, words in enumerate(page.lines(), 1):
                out.write(f'<TextLine ID="line_{page.number}_{line}"{_place(words)}>')
                out.write("<SP/>".join(_string(page.number, line, n, word) for n, word in enumerate(words, 1)))
                out.write("</TextLine>\n")
            out.write("</TextBlock>\n")
        out.write("</PrintSpace>\n</Page>\n")
    out.write("</Layout>\n</alto>\n")
    return count


def _string(page: int, line: int, number: int, word: PlacedWord) -> str:
    confidence = "" if word.confidence is None else f' WC="{_within_one(word.confidence):.4g}"'
    head = f'<String ID="word_{page}_{line}_{number}" CONTENT={xml_attribute(word.text)}{_place((word,))}{confidence}'
    upright = len({x for x, _ in word.pixels}) <= 2 and len({y for _, y in word.pixels}) <= 2
    if len(word.pixels) < 3 or upright:
        return f"{head}/>"
    points = " ".join(f"{x:g},{y:g}" for x, y in word.pixels)
    return f'{head}><Shape><Polygon POINTS="{points}"/></Shape></String>'


def _place(words: Iterable[PlacedWord]) -> str:
    box = bounds(tuple(corner for word in words for corner in word.pixels))
    if box is None:
        return ""
    left, top, right, bottom = box
    return f' HPOS="{left:g}" VPOS="{top:g}" WIDTH="{right - left:g}" HEIGHT="{bottom - top:g}"'


def _within_one(confidence: float) -> float:
    return min(max(confidence, 0.0), 1.0)
