"""Splits documents that have too many pages or bytes for one request."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.documents.files.apart import NoAnswer, look_at, work_on
from tasks.documents.files.formats import PDF, Format
from tasks.documents.files.inspect import Inspected
from tasks.faults import DocumentFault, FailureCode
from tasks.job.record import PageRange, page_ranges


@dataclass(frozen=True)
class Part:
    """The content of one request.

    Attributes:
        file: the document itself, or some of its pages.
        pages: its page range; None for a whole document whose page count is unknown.
    """

    file: Path
    pages: PageRange | None


def divide(
    document: Path, inspected: Inspected, wanted: Sequence[PageRange], longest: int, most_bytes: int, folder: Path
) -> list[Part]:
    """Make the files to send: the document itself if it fits, otherwise parts of it.

    Bytes before a PDF's header and the encryption of an owner password are removed. All files are made before the first
    is sent, so that a page that is too large is found before anything is paid.

    Args:
        document: the document.
        inspected: the facts about it.
        wanted: the pages to send; an indivisible document is sent whole.
        longest: maximum pages of a part.
        most_bytes: maximum bytes of a part.
        folder: where the parts go.

    Raises:
        DocumentFault: a part that cannot be split further is still too large, or the document is damaged.
    """
    form, total = inspected.form, inspected.pages
    check_size(inspected, document.stat().st_size, most_bytes)
    if total is None or not form.divisible:
        return [Part(document, None if total is None else PageRange(first=1, last=total))]
    document = _prepared(document, inspected, folder)
    parts: list[Part] = []
    whole = document.stat().st_size
    pending = [part for pages in wanted for part in page_ranges(range(pages.first, pages.last + 1), longest)]
    while pending:
        pages = pending.pop(0)
        if len(pages) > 1 and whole * len(pages) > most_bytes * total:
            # Probably too large: split the range without writing and measuring it first.
            pending[:0] = _halves(pages)
            continue
        file = document
        if len(pages) < total or inspected.disputed:
            file = folder / f"pages-{pages.first}-{pages.last}"
            _extract(document, inspected, pages, file, folder)
        size = file.stat().st_size
        if size <= most_bytes:
            parts.append(Part(file, pages))
            continue
        if len(pages) == 1:
            raise _too_large(f"page {pages} alone", size, most_bytes, "compress it")
        pending[:0] = _halves(pages)
        if file is not document:
            file.unlink()
    return parts


def _prepared(document: Path, inspected: Inspected, folder: Path) -> Path:
    """The document in the form in which it is sent whole: itself or a cleaned copy, made once for each folder."""
    name = inspected.form.name
    if inspected.restricted:
        prepared = folder / "unrestricted"
        if prepared.exists():
            return prepared
        if inspected.reader == "qpdf":
            work_on("unrestricted", name, document, prepared)
        else:
            all_pages = PageRange(first=1, last=inspected.estimate)
            _take_by_pdfium(document, all_pages, inspected.estimate, prepared, folder / "rebuilt")
        return prepared
    if inspected.begins_at:
        prepared = folder / "from-its-header"
        if not prepared.exists():
            with document.open("rb") as content, prepared.open("wb") as out:
                content.seek(inspected.begins_at)
                shutil.copyfileobj(content, out, 1 << 20)
        return prepared
    return document


def _extract(document: Path, inspected: Inspected, pages: PageRange, to: Path, folder: Path) -> None:
    if inspected.reader == "qpdf":
        extract_pages(document, inspected.form, pages, to)
    else:
        _take_by_pdfium(document, pages, inspected.estimate, to, folder / "rebuilt")


def _halves(pages: PageRange) -> list[PageRange]:
    middle = (pages.first + pages.last) // 2
    return [PageRange(first=pages.first, last=middle), PageRange(first=middle + 1, last=pages.last)]


def check_size(inspected: Inspected, size: int, most_bytes: int) -> None:
    """Check that an indivisible document is within the size limit.

    Raises:
        DocumentFault: it is too large.
    """
    if size > most_bytes and not inspected.form.divisible:
        advice = "compress it" if inspected.pages else "compress it, or convert it to PDF, which can be sent in parts"
        raise _too_large(f"the {inspected.form.name}", size, most_bytes, advice)


def _too_large(label: str, size: int, most_bytes: int, advice: str) -> DocumentFault:
    return DocumentFault(
        FailureCode.TOO_LARGE, f"{label} is {size / 1e6:.1f} MB, but the API accepts {most_bytes / 1e6:g} MB: {advice}"
    )


def extract_pages(file: Path, form: Format, pages: PageRange, to: Path) -> None:
    """Write a range of pages of a divisible document as a document of the same format, without decoding anything.

    If qpdf has to repair a PDF, each page is drawn and compared with the original. If one looks different, the pages
    are extracted with pdfium instead. If even pdfium's own copy looks different to pdfium, the comparison is
    meaningless and qpdf's repair stands.

    Raises:
        DocumentFault: it cannot be split without changing a page.
    """
    if form is not PDF:
        work_on("part-tiff", form.name, file, pages.first, pages.last, to)
        return
    total = int(work_on("part-pdf", form.name, file, pages.first, pages.last, to))
    if total and _first_difference(file, to, pages, total):
        rebuilt, by_pdfium = to.with_name(f"{to.name}-rebuilt"), to.with_name(f"{to.name}-by-pdfium")
        try:
            _take_by_pdfium(file, pages, total, by_pdfium, rebuilt)
            by_pdfium.replace(to)
        except DocumentFault:
            if not (rebuilt.exists() and _first_difference(file, rebuilt, pages, total, at=pages.first)):
                raise
        finally:
            rebuilt.unlink(missing_ok=True)
            by_pdfium.unlink(missing_ok=True)


def _take_by_pdfium(file: Path, pages: PageRange, total: int, to: Path, rebuilt: Path) -> None:
    """Write a range of pages of a PDF as pdfium reads it.

    Args:
        file: the PDF.
        pages: the page range.
        total: the document's number of pages.
        to: the file to write.
        rebuilt: a path for a rebuilt copy, which qpdf splits with the catalogue's forms and layers.

    Raises:
        DocumentFault: a page looks different however it is extracted.
    """
    try:
        if not rebuilt.exists():
            work_on("rebuild", PDF.name, file, total, rebuilt)
        work_on("part-pdf", PDF.name, rebuilt, pages.first, pages.last, to)
        if not _first_difference(file, to, pages, total):
            return
    except DocumentFault:
        rebuilt.unlink(missing_ok=True)
    work_on("import", PDF.name, file, pages.first, pages.last, to)
    different = _first_difference(file, to, pages, total)
    if different:
        raise DocumentFault(
            FailureCode.BROKEN,
            f"the PDF is broken (page {different} changes when it is extracted): repair or replace it",
        )


def _first_difference(whole: Path, part: Path, pages: PageRange, total: int, at: int = 1) -> int:
    """The first page that looks different in a part; 0 if there is none or pdfium fails."""
    try:
        return int(look_at("compare", whole, pages.first, pages.last, total, part, at))
    except NoAnswer:
        return 0
