"""Adds text layers to the pages of a PDF without changing what is drawn on them."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf

from tasks.documents.files.qpdf import bound_memory, save_pdf
from tasks.documents.files.text_pages import OwnText
from tasks.documents.results.words import ResultPage, Size
from tasks.outputs.invisible_text import take_off_invisible_text
from tasks.outputs.text_layer import PageFrame, TextLayer
from tasks.outputs.text_lines import text_lines

NO_TEXT = OwnText()
_DEEPEST = 100  # levels of a page tree
_LETTER = (0.0, 0.0, 612.0, 792.0)  # the size assumed for a page without one
_FONT = "BulkOcr"
_RENDERED_DPI, _POINTS = 150, 72  # the resolution at which the API renders PDF pages; points an inch


def add_text_layers(
    bases: Sequence[Path], pages: Iterable[ResultPage], to: Path, own: OwnText = NO_TEXT
) -> tuple[int, int]:
    """Write a PDF with the words of a result as invisible text on its pages.

    The layer is below the page's content and has its own graphics state, so neither affects the other. The compressed
    layers are kept in memory, a few KB a page.

    Args:
        bases: the PDF, or several PDFs whose pages are concatenated.
        pages: the pages of the result.
        to: the file to write.
        own: the pages that contain text. Pages with usable text get no layer; invisible text is replaced.

    Returns:
        The number of pages, and the number of words added.

    Raises:
        ValueError: the result has a different number of pages.
        pikepdf.PdfError: a PDF cannot be read.
        OSError: the file cannot be written.
    """
    bound_memory()
    with _opened(bases) as pdf:
        writer, words, number = _LayerWriter(pdf), 0, 0
        waiting = iter(pdf.pages)
        for number, result in enumerate(pages, 1):
            page = next(waiting, None)
            if page is None:
                raise ValueError(f"it has {number - 1} pages, but the result has more")
            if number in own.invisible:
                take_off_invisible_text(pdf, page)
            if number not in own.usable:
                words += writer.add(page, result)
        if next(waiting, None) is not None:
            raise ValueError(f"it has {len(pdf.pages)} pages, but the result has {number}")
        writer.end()
        save_pdf(pdf, to)
        return number, words


@contextmanager
def _opened(bases: Sequence[Path]) -> Iterator[Pdf]:
    with ExitStack() as stack:
        # Memory-mapped, so that page contents stay in the files until they are written.
        opened = [stack.enter_context(pikepdf.open(base, access_mode=pikepdf.AccessMode.mmap)) for base in bases]
        if len(opened) == 1:
            yield opened[0]
            return
        pdf = stack.enter_context(Pdf.new())
        for base in opened:
            pdf.pages.extend(base.pages)
        yield pdf


class _LayerWriter:
    """Adds layers to pages, and their fonts to the pages' resources."""

    def __init__(self, pdf: Pdf) -> None:
        self._pdf = pdf
        self._layer = TextLayer()
        self._fonts: list[Dictionary] = []
        self._resources: dict[tuple[object, ...], Object] = {}

    def add(self, page: Page, result: ResultPage) -> int:
        """Add the words of a page of the result to a page of the PDF. Returns their number."""
        frame = frame_of(page)
        lines = text_lines(result, *frame.size, _rendered(page, frame))
        if not lines:
            return 0
        resources = _inherited(page.obj, "/Resources")
        existing_fonts = resources.get("/Font") if isinstance(resources, Dictionary) else None
        names: dict[int, str] = {}

        def name(number: int) -> str:
            while number >= len(self._fonts):
                self._fonts.append(self._pdf.make_indirect(Dictionary()))
            return names.setdefault(number, _free_name(existing_fonts, number))

        content = self._layer.content(lines, frame, name)
        stream = self._pdf.make_stream(zlib.compress(content, 6), Filter=Name.FlateDecode)
        page.obj.Resources = self._with_fonts(resources, names)
        page.contents_add(stream, prepend=True)
        return sum(len(line.words) for line in lines)

    def end(self) -> None:
        """Fill in the font objects."""
        for font, glyphs in zip(self._fonts, self._layer.fonts, strict=False):
            glyphs.write_to(self._pdf, font)

    def _with_fonts(self, resources: Object | None, names: dict[int, str]) -> Object:
        """Return a copy of a page's resources with the fonts added: other pages may share the original."""
        shared = isinstance(resources, Dictionary) and resources.is_indirect
        key = (resources.objgen, *sorted(names.items())) if shared and resources is not None else None
        if key is not None and key in self._resources:
            return self._resources[key]
        copied = Dictionary(dict(resources.items())) if isinstance(resources, Dictionary) else Dictionary()
        fonts = copied.get("/Font")
        copied.Font = Dictionary(dict(fonts.items())) if isinstance(fonts, Dictionary) else Dictionary()
        for number, name in names.items():
            copied.Font[f"/{name}"] = self._fonts[number]
        if key is None:
            return copied
        self._resources[key] = self._pdf.make_indirect(copied)
        return self._resources[key]


def _free_name(taken: Object | None, number: int) -> str:
    name = f"{_FONT}{number}"
    while isinstance(taken, Dictionary) and f"/{name}" in taken:  # the document already has such a layer
        name += "x"
    return name


def frame_of(page: Page) -> PageFrame:
    """Return the visible frame of a page: its crop box within its media box, and its rotation."""
    media = _box(_inherited(page.obj, "/MediaBox")) or _LETTER
    crop = _box(_inherited(page.obj, "/CropBox")) or media
    left, bottom = max(media[0], crop[0]), max(media[1], crop[1])
    right, top = min(media[2], crop[2]), min(media[3], crop[3])
    if right <= left or top <= bottom:
        left, bottom, right, top = media
    try:
        rotation = int(_inherited(page.obj, "/Rotate") or 0)
    except (TypeError, ValueError):
        rotation = 0
    return PageFrame(left, bottom, right, top, rotation % 360 if rotation % 90 == 0 else 0)


def _rendered(page: Page, frame: PageFrame) -> Size:
    """Return the size in pixels at which the API renders a page."""
    try:
        unit = float(page.obj.get("/UserUnit", 1)) or 1.0
    except (TypeError, ValueError):
        unit = 1.0
    width, height = frame.size
    scale = unit * _RENDERED_DPI / _POINTS
    return width * scale, height * scale


def _box(value: Object | None) -> tuple[float, float, float, float] | None:
    if not isinstance(value, Array):
        return None
    try:
        first, second, third, fourth = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    box = min(first, third), min(second, fourth), max(first, third), max(second, fourth)
    return box if box[2] > box[0] and box[3] > box[1] else None


def _inherited(node: Object, key: str) -> Object | None:
    """Return an attribute of a page, from the page itself or inherited in the page tree."""
    for _ in range(_DEEPEST):
        value = node.get(key)
        if value is not None:
            return value
        parent = node.get("/Parent")
        if not isinstance(parent, Dictionary):
            return None
        node = parent
    return None
