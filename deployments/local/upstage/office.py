"""Reads the text of office documents. Their page counts are a guess: only Word itself knows its pages.

Pictures, headers, footers and notes are omitted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from deployments.local.upstage.containers import damage_in, open_zip
from deployments.local.upstage.errors import CorruptedDocumentError
from deployments.local.upstage.formats import Format
from deployments.local.upstage.hwp import hwp_texts
from deployments.local.upstage.layout import TextPages

# The libraries for Office documents are imported where they are used, because most runs never need them.

# Word's older duplicate of the preceding content, text that was moved away, and content that is not text.
_NOT_TEXT = {"Fallback", "moveFrom", "pPr", "rPr"}


def open_office(path: Path, form: Format) -> TextPages:
    """Read a document and lay it out.

    Args:
        path: the file.
        form: its format, one of `OFFICE`.

    Returns:
        Its pages.

    Raises:
        CorruptedDocumentError: it cannot be read, is encrypted, or has no pages.
    """
    with damage_in(f"the {form.upper()} document"):
        pages = TextPages(OFFICE[form](path), endless=form is Format.PPTX)
    if not len(pages):
        raise CorruptedDocumentError("the document has no pages")
    return pages


def _docx_texts(path: Path) -> list[str]:
    """Return the texts between page breaks, the only information about pages in a DOCX."""
    import docx

    with open_zip(path), path.open("rb") as file:
        body = docx.Document(file).element.body
    return "\n".join(_lines(body)).split("\f")


def _pptx_texts(path: Path) -> list[str]:
    """Return the text of each slide."""
    import pptx

    with open_zip(path), path.open("rb") as file:
        return ["\n".join(_shape_texts(slide.shapes)) for slide in pptx.Presentation(file).slides]


def _shape_texts(shapes: Any) -> Iterator[str]:
    from pptx.shapes.group import GroupShape

    for shape in shapes:
        if isinstance(shape, GroupShape):
            yield from _shape_texts(shape.shapes)
        elif shape.has_text_frame:
            yield str(shape.text_frame.text)
        elif shape.has_table:
            yield from (" ".join(" ".join(cell.text.split()) for cell in row.cells) for row in shape.table.rows)


def _xlsx_texts(path: Path) -> list[str]:
    """Return the text of each sheet, without empty rows."""
    import openpyxl

    with open_zip(path), path.open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        texts = []
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # otherwise, each row is padded to the width that the file claims
            rows = ([str(value) for value in row if value is not None] for row in sheet.iter_rows(values_only=True))
            texts.append("\n".join(" ".join(" ".join(row).split()) for row in rows if row))
        return texts


def _hwpx_texts(path: Path) -> list[str]:
    """Return the texts between page breaks; each section begins a new page."""
    with open_zip(path) as archive:
        manifest = "META-INF/manifest.xml"
        if manifest in archive.namelist() and b"encryption-data" in archive.read(manifest):
            raise CorruptedDocumentError("the document is encrypted")
        matches = (re.fullmatch(r"Contents/section(\d+)\.xml", name) for name in archive.namelist())
        sections = sorted((int(match[1]), match[0]) for match in matches if match)
        roots = (ElementTree.fromstring(archive.read(name)) for _, name in sections)
        return [text for root in roots for text in "\n".join(_lines(root)).split("\f")]


OFFICE: dict[Format, Callable[[Path], list[str]]] = {
    Format.DOCX: _docx_texts,
    Format.PPTX: _pptx_texts,
    Format.XLSX: _xlsx_texts,
    Format.HWP: hwp_texts,
    Format.HWPX: _hwpx_texts,
}


def _lines(parent: Any) -> Iterator[str]:
    """Yield the paragraphs below an element of WordprocessingML or OWPML, which use the same element names.

    A table row is one line. A form feed marks the beginning of a page.
    """
    filled = False  # whether there is anything on the page
    for text, breaks_before in _paragraphs(parent):
        yield "\f" + text if breaks_before and filled else text
        filled = True


def _paragraphs(parent: Any) -> Iterator[tuple[str, bool]]:
    for child in parent:
        name = _local(child.tag)
        if name == "p":
            own: list[str] = []
            inside = list(_gather(child, own))
            yield "".join(own), _breaks_before(child)
            yield from inside
        elif name == "tr":
            yield " ".join(" ".join(text.split()) for text, _ in _paragraphs(child)), False
        elif name not in _NOT_TEXT:
            yield from _paragraphs(child)


def _gather(parent: Any, own: list[str]) -> Iterator[tuple[str, bool]]:
    """Add a paragraph's own text to `own`, and yield the paragraphs of tables and text boxes anchored in it."""
    for child in parent:
        name = _local(child.tag)
        if name == "t":
            own.append(child.text or "")
            for mark in child:  # OWPML has tabs and line breaks within a text
                own += ["\n" if _local(mark.tag) == "lineBreak" else " ", mark.tail or ""]
        elif name == "br":
            own.append("\f" if _attribute(child, "type") == "page" else "\n")
        elif name in ("cr", "tab"):
            own.append("\n" if name == "cr" else " ")
        elif name in ("tbl", "txbxContent", "subList"):
            yield from _paragraphs(child)
        elif name not in _NOT_TEXT:
            yield from _gather(child, own)


def _breaks_before(paragraph: Any) -> bool:
    if paragraph.get("pageBreak") == "1":
        return True
    settings = (mark for child in paragraph if _local(child.tag) == "pPr" for mark in child)
    marks = (mark for mark in settings if _local(mark.tag) == "pageBreakBefore")
    return any(_attribute(mark, "val") not in ("0", "false", "off") for mark in marks)


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""  # comments have none


def _attribute(element: Any, name: str) -> str | None:
    return next((str(value) for key, value in element.attrib.items() if _local(key) == name), None)
