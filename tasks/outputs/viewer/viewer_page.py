"""The page that shows a result: one HTML file that asks no network for anything, whatever the document says.

with open("scan.html", "w", encoding="utf-8") as out:
    write_viewer(Path("scan.pdf.ocr.json"), out, Viewed("scan.pdf", original=Path("scan.pdf")))
"""

import base64
import hashlib
import html
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from tasks.documents.results.read import read_pages
from tasks.documents.results.words import ResultPage, Size
from tasks.faults import DocumentFault
from tasks.outputs.page_layout import PlacedWord, drawn_layout
from tasks.outputs.results import storable
from tasks.outputs.viewer.page_pictures import PagePictures

_STEPS = 1000  # confidences are counted in steps of a tenth of a percent
_COPY = 1 << 20


@dataclass(frozen=True)
class Viewed:
    """What is looked at.

    Attributes:
        document: the document's name.
        result: the result's address.
        original: the document; None where it is not to be had.
        reason: why there is no original, for whoever looks at the page.
    """

    document: str
    result: str = ""
    original: Path | None = None
    reason: str = ""


@dataclass
class _Written:
    """What is known when all pages have been written."""

    pages: list[tuple[float, float, int, int | None]] = field(default_factory=list)
    histogram: list[int] = field(default_factory=lambda: [0] * (_STEPS + 1))
    notices: list[str] = field(default_factory=list)


def write_viewer(result: Path | str, out: IO[str], viewed: Viewed) -> int:
    """Write the page that shows a result, with the pictures of its pages inside.

    A page is in memory at a time. Opened, it shows pages as they are scrolled to.

    Args:
        result: the result, of any answer shape.
        out: where to, opened as UTF-8.
        viewed: what it is of.

    Returns:
        The number of pages.

    Raises:
        DocumentFault: the file is no result, or ends before it is whole.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as blocks,
        _pictures(viewed) as (
            pictures,
            reason,
        ),
    ):
        written = _Written(notices=[reason] if reason else [])
        for page in read_pages(result):
            size = _write_picture(page.number, pictures, blocks, written)
            _write_page(page, size, blocks, written)
        _write_head(out, viewed, written, pictures="embedded")
        blocks.seek(0)
        while piece := blocks.read(_COPY):
            out.write(piece)
    out.write("</body>\n</html>\n")
    return len(written.pages)


def write_served_viewer(result: Path, out: IO[str], viewed: Viewed, sizes: dict[int, Size], notice: str) -> int:
    """Write the same page for a server that draws the pictures as they are asked for, at `pictures/NUMBER` below it.

    Args:
        result: the result.
        out: where to.
        viewed: what it is of.
        sizes: the sizes of pages, where they are known.
        notice: what is to be said of the pictures; empty where there are some.

    Raises:
        DocumentFault: as for `write_viewer`.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as blocks:
        written = _Written(notices=[notice] if notice else [])
        for page in read_pages(result):
            _write_page(page, sizes.get(page.number), blocks, written)
        _write_head(out, viewed, written, pictures="none" if notice else "served")
        blocks.seek(0)
        while piece := blocks.read(_COPY):
            out.write(piece)
    out.write("</body>\n</html>\n")
    return len(written.pages)


@contextmanager
def _pictures(viewed: Viewed) -> Iterator[tuple[PagePictures | None, str]]:
    """The document's pages as pictures, or why there are none."""
    with ExitStack() as stack:
        if viewed.original is None:
            yield None, without_pictures(viewed.reason or "the document is not at hand")
            return
        try:
            pictures = stack.enter_context(PagePictures(viewed.original, viewed.document))
        except DocumentFault as fault:
            yield None, without_pictures(str(fault))
            return
        yield pictures, ""


def without_pictures(reason: str) -> str:
    """What is said of a document that cannot be shown."""
    return f"Without pictures of the pages: {reason}. The words are shown where they were recognised."


def _write_picture(number: int, pictures: PagePictures | None, out: IO[str], written: _Written) -> Size | None:
    if pictures is None:
        return None
    try:
        picture = pictures.draw(number)
    except DocumentFault as fault:
        if len(written.notices) < 3:  # a broken document has as many as pages
            written.notices.append(f"Page {number} has no picture: {fault}.")
        return None
    data = base64.b64encode(picture.data).decode()
    out.write(f'<script type="text/plain" id="picture-{number}">{data}</script>\n')
    return picture.size


def _write_page(page: ResultPage, size: Size | None, out: IO[str], written: _Written) -> None:
    layout = drawn_layout(page, size)
    width, height = layout.size or (1.0, 1.0)
    mean = layout.mean_confidence()
    summary = (round(width, 1), round(height, 1), len(layout.words), None if mean is None else _permille(mean))
    written.pages.append(summary)
    for word in layout.words:
        if word.confidence is not None:
            written.histogram[_permille(word.confidence)] += 1
    data = {"text": page.text, "words": [_word(word) for word in layout.words]}
    out.write(f'<script type="application/json" id="page-{page.number}">{script_json(data)}</script>\n')


def _word(word: PlacedWord) -> list[Any]:
    """Text, confidence in permille, first corner, length, height, degrees clockwise, line."""
    confidence = None if word.confidence is None else _permille(word.confidence)
    return [word.text, confidence, *_box(word), word.line]


def _box(word: PlacedWord) -> tuple[float, float, float, float, float]:
    corners = word.pixels
    if len(corners) != 4:
        if not corners:
            return 0, 0, 0, 0, 0
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        right, bottom = max(x for x, _ in corners), max(y for _, y in corners)
        return round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1), 0
    (x, y), (right_x, right_y), _, (left_x, left_y) = corners
    length, height = math.hypot(right_x - x, right_y - y), math.hypot(left_x - x, left_y - y)
    angle = math.degrees(math.atan2(right_y - y, right_x - x))
    return round(x, 1), round(y, 1), round(length, 1), round(height, 1), round(angle, 2)


def _permille(confidence: float) -> int:
    return min(max(round(confidence * _STEPS), 0), _STEPS)


def _write_head(out: IO[str], viewed: Viewed, written: _Written, *, pictures: str) -> None:
    style, body, code = (viewer_asset(name) for name in ("viewer.css", "viewer.html", "viewer.js"))
    sources = "'self'" if pictures == "served" else "data:"
    policy = content_policy(style, code, f"img-src {sources}")
    title = storable(viewed.document)
    meta = {
        "title": title,
        "result": storable(viewed.result),
        "notice": " ".join(written.notices),
        "pages": written.pages,
        "histogram": written.histogram,
        "pictures": pictures,
    }
    # The code stands before the pages, so that the first ones are shown while a long file is still being read.
    out.write(
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}"
        f'<script type="application/json" id="document">{script_json(meta)}</script>\n'
        f"<script>{code}</script>\n"
    )


def content_policy(style: str, code: str, *more: str) -> str:
    """A policy that runs this code and no other, and reaches no network."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, code)]
    rules = [
        "default-src 'none'",
        f"style-src 'sha256-{digests[0]}'",
        f"script-src 'sha256-{digests[1]}'",
        "base-uri 'none'",
        "form-action 'none'",
        *more,
    ]
    return "; ".join(rules)


def script_json(value: object) -> str:
    """JSON that no HTML parser takes for markup: it has no angle bracket and no ampersand."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def viewer_asset(name: str) -> str:
    """One of the files that the viewer's pages are made of."""
    return files("tasks.outputs.viewer").joinpath(name).read_text(encoding="utf-8")
