"""Writes pages of a PDF as a separate PDF that looks exactly the same. Nothing is rendered or decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf

from tasks.documents.files import pdf_resources
from tasks.documents.files.qpdf import bound_memory, repairs, save_pdf

# Page entries that are not drawn: thumbnails, application data, article threads that lead to other pages.
_NOT_DRAWN = ("/Thumb", "/PieceInfo", "/Metadata", "/B")
# Form entries that affect how fields are drawn. Scripts, signatures and XFA are not copied.
_FORM = ("/DR", "/DA", "/Q", "/NeedAppearances")
_DRAWN_BY = ("/OCProperties", "/OutputIntents")  # catalogue entries for visible layers and colours
_MOST_FIELDS = 1_000_000


def page_count(file: Path) -> int:
    """qpdf's page count; 0 if it cannot read the document."""
    bound_memory()
    try:
        with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
            return len(pdf.pages)
    except pikepdf.PdfError:
        return 0


def write_part(file: Path, first: int, last: int, to: Path) -> int:
    """Write a range of pages as a separate PDF.

    Returns:
        The document's number of pages if qpdf had to repair something, so that the part may be incomplete; otherwise 0.

    Raises:
        OSError: the part cannot be written.
        pikepdf.PdfError: the document cannot be read.
    """
    bound_memory()
    # Memory-mapped, so that a long document costs no memory.
    with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf, pikepdf.new() as part:
        pages = [pdf.pages[number] for number in range(first - 1, last)]
        form = _form_of(pdf, pages)
        repaired = pdf_resources.keep_used(pdf, pages)
        for page in pages:
            for key in _NOT_DRAWN:
                if key in page.obj:
                    del page.obj[key]
            part.pages.append(page)
        _carry(pdf, part, form)
        save_pdf(part, to)
        return len(pdf.pages) if repaired or repairs(pdf) or repairs(part) else 0


def write_unrestricted(file: Path, to: Path) -> None:
    """Write an unencrypted copy of a PDF that opens without a password.

    Raises:
        OSError: the copy cannot be written.
        pikepdf.PdfError: the document cannot be read.
    """
    bound_memory()
    with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
        save_pdf(pdf, to)


def _carry(pdf: Pdf, part: Pdf, form: Object | None) -> None:
    """Copy the catalogue entries that affect how pages are drawn."""
    for key in _DRAWN_BY:
        value = pdf.Root.get(key)
        if isinstance(value, Dictionary | Array):
            part.Root[key] = part.copy_foreign(value if value.is_indirect else pdf.make_indirect(value))
    if form is not None:
        part.Root.AcroForm = part.copy_foreign(form)
    for page in part.pages if form is not None else ():
        for annotation in _annotations(page):
            # A field can have widgets on several pages; when the first page is copied, the others do not exist yet.
            if "/P" in annotation:
                annotation.P = page.obj


def _form_of(pdf: Pdf, pages: Sequence[Page]) -> Object | None:
    """The form, reduced to the fields on the given pages; None if they have none.

    Fields are reduced as well, because each references all its widgets, and these their appearances.
    """
    widgets = [item for page in pages for item in _annotations(page) if item.get("/Subtype") == Name.Widget]
    if not widgets:
        return None
    kept = {widget.objgen for widget in widgets if widget.is_indirect}
    for widget in widgets:
        ancestor = widget.get("/Parent")
        while isinstance(ancestor, Dictionary) and ancestor.is_indirect and ancestor.objgen not in kept:
            kept.add(ancestor.objgen)
            ancestor = ancestor.get("/Parent")
    form = pdf.Root.get("/AcroForm")
    fields = form.get("/Fields") if isinstance(form, Dictionary) else None
    roots = _with_kept(fields, kept) if isinstance(fields, Array) else None
    for widget in widgets:
        _leave_others_out(widget, kept)
    if not isinstance(form, Dictionary):
        return None
    reduced = Dictionary({key: form[key] for key in _FORM if key in form})
    if roots is not None:
        reduced.Fields = Array(roots)
    return pdf.make_indirect(reduced)


def _with_kept(fields: Object, kept: set[tuple[int, int]]) -> list[Object]:
    """The fields that are kept or have a kept descendant; these are added to `kept`."""
    # Depth first without recursion: a field is decided after all its descendants.
    pending: list[tuple[Object, bool]] = [(field, False) for field in _dictionaries(fields)]
    visited: set[tuple[int, int]] = set()
    while pending:
        field, decided = pending.pop()
        kids = field.get("/Kids")
        if decided:
            if any(kid.objgen in kept for kid in _dictionaries(kids) if kid.is_indirect):
                kept.add(field.objgen)
        elif field.is_indirect and field.objgen not in visited and len(visited) < _MOST_FIELDS:
            visited.add(field.objgen)
            pending.append((field, True))
            pending += [(kid, False) for kid in _dictionaries(kids)]
    return [field for field in _dictionaries(fields) if not field.is_indirect or field.objgen in kept]


def _leave_others_out(widget: Object, kept: set[tuple[int, int]]) -> None:
    """Remove all kids that are not kept from the ancestors of a widget."""
    ancestor, visited = widget.get("/Parent"), set[tuple[int, int]]()
    while isinstance(ancestor, Dictionary) and ancestor.objgen not in visited:
        visited.add(ancestor.objgen)
        kids = ancestor.get("/Kids")
        if isinstance(kids, Array):
            remaining = [kid for kid in _dictionaries(kids) if not kid.is_indirect or kid.objgen in kept]
            if len(remaining) < len(kids):
                ancestor.Kids = Array(remaining)
        ancestor = ancestor.get("/Parent")


def _annotations(page: Page) -> Iterator[Dictionary]:
    return _dictionaries(page.obj.get("/Annots"))


def _dictionaries(array: Object | None) -> Iterator[Dictionary]:
    for item in array if isinstance(array, Array) else ():
        if isinstance(item, Dictionary):
            yield item
