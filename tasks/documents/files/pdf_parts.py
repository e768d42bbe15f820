"""Pages of a PDF as a PDF of their own, each drawn exactly as in the whole. Nothing is rendered or decoded."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf

from tasks.documents.files import pdf_resources
from tasks.documents.files.qpdf import bound_memory, repairs
from tasks.documents.files.writing import written

# What hangs on a page and is not drawn: previews, data of the program that made it, threads that lead to other pages.
_NOT_DRAWN = ("/Thumb", "/PieceInfo", "/Metadata", "/B")
# What of the form has a say in how its fields are drawn. Not carried along: scripts, signatures and XFA.
_FORM = ("/DR", "/DA", "/Q", "/NeedAppearances")
_DRAWN_BY = ("/OCProperties", "/OutputIntents")  # of the catalogue: which layers are visible, and colours
_MOST_FIELDS = 1_000_000


def page_count(file: Path) -> int:
    """How many pages qpdf counts; 0 where it cannot read the document."""
    bound_memory()
    try:
        with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
            return len(pdf.pages)
    except pikepdf.PdfError:
        return 0


def write_part(file: Path, first: int, last: int, to: Path) -> int:
    """Write some pages of a PDF as a PDF.

    Returns:
        How many pages the document has, where qpdf had to repair something, so that these may have lost something;
        0 where all is well.

    Raises:
        OSError: the part cannot be written.
        pikepdf.PdfError: the document cannot be read.
    """
    bound_memory()
    # Mapped, not read: a long document costs no memory.
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
        _save(part, to)
        return len(pdf.pages) if repaired or repairs(pdf) or repairs(part) else 0


def write_unrestricted(file: Path, to: Path) -> None:
    """Write a PDF that opens without a password as one without encryption.

    Raises:
        OSError: the copy cannot be written.
        pikepdf.PdfError: the document cannot be read.
    """
    bound_memory()
    with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf:
        _save(pdf, to)


def _carry(pdf: Pdf, part: Pdf, form: Object | None) -> None:
    """Carry along what the catalogue says of how pages are drawn."""
    for key in _DRAWN_BY:
        value = pdf.Root.get(key)
        if isinstance(value, Dictionary | Array):
            part.Root[key] = part.copy_foreign(value if value.is_indirect else pdf.make_indirect(value))
    if form is not None:
        part.Root.AcroForm = part.copy_foreign(form)
    for page in part.pages if form is not None else ():
        for annotation in _annotations(page):
            # A field can have widgets on several pages: a page that is copied later is not yet known to the first.
            if "/P" in annotation:
                annotation.P = page.obj


def _form_of(pdf: Pdf, pages: Sequence[Page]) -> Object | None:
    """The form, reduced to the fields on some pages; None where these have none.

    The fields themselves are reduced, too: each leads to all its widgets, and these to their appearances.
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
    """The fields that are kept, or lead to one that is; `kept` grows by these."""
    # Depth first without recursion: a field is decided when all below it are.
    pending: list[tuple[Object, bool]] = [(field, False) for field in _dictionaries(fields)]
    seen: set[tuple[int, int]] = set()
    while pending:
        field, decided = pending.pop()
        kids = field.get("/Kids")
        if decided:
            if any(kid.objgen in kept for kid in _dictionaries(kids) if kid.is_indirect):
                kept.add(field.objgen)
        elif field.is_indirect and field.objgen not in seen and len(seen) < _MOST_FIELDS:
            seen.add(field.objgen)
            pending.append((field, True))
            pending += [(kid, False) for kid in _dictionaries(kids)]
    return [field for field in _dictionaries(fields) if not field.is_indirect or field.objgen in kept]


def _leave_others_out(widget: Object, kept: set[tuple[int, int]]) -> None:
    """Reduce the kids of all ancestors of a widget to those that are kept."""
    ancestor, seen = widget.get("/Parent"), set[tuple[int, int]]()
    while isinstance(ancestor, Dictionary) and ancestor.objgen not in seen:
        seen.add(ancestor.objgen)
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


def _save(pdf: Pdf, to: Path) -> None:
    with written(to) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of widgets that the form does not know: neither does the whole's
        pdf.save(
            out,
            deterministic_id=True,
            encryption=False,
            # Small objects lie packed together: a part of many fields or annotations stays as small as the whole.
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
            stream_decode_level=pikepdf.StreamDecodeLevel.none,
        )
