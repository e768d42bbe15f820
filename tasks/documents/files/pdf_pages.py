"""Counts the pages of a PDF with qpdf, and also with pdfium if qpdf cannot read or had to repair it.

qpdf omits pages that it cannot parse, and refuses some documents that every viewer opens. The reader that finds more
pages also splits the document.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import pikepdf

from tasks.documents.files.apart import NoAnswer, look_at
from tasks.documents.files.open import BROKEN_PDF, ENCRYPTED_PDF, Unreadable, opened_pdf
from tasks.documents.files.qpdf import repairs
from tasks.faults import DocumentFault, FailureCode

Reader = Literal["qpdf", "pdfium"]

_PASSWORD, _SECURITY = 4, 5  # pdfium's error codes
_OTHER_ENCRYPTION = "unsupported encryption filter"  # qpdf's words
_DYNAMIC = re.compile(rb"<dynamicRender>\s*required\s*<")
_MOST_XFA = 8 << 20  # bytes of an XFA form that are searched for its layout mode


@dataclass(frozen=True)
class PdfPages:
    """The pages of a PDF.

    Attributes:
        pages: the number of pages.
        claimed: the number of pages in its page tree; None if missing.
        sizes: each distinct page size (width and height in points), keyed by the first page of that size.
        restricted: whether it opens without a password but has an owner password.
        reader: the library that counted.
        refusal: qpdf's message if it cannot read the document.
    """

    pages: int
    claimed: int | None
    sizes: dict[int, tuple[float, float]]
    restricted: bool
    reader: Reader = "qpdf"
    refusal: str = ""

    @property
    def disputed(self) -> bool:
        """Whether the page tree claims a wrong number of pages."""
        return self.claimed != self.pages


def count_pages(file: Path) -> PdfPages:
    """Count the pages of a PDF.

    Raises:
        DocumentFault: it is encrypted, broken, has no pages, or its pages are only a cover for other content.
    """
    try:
        first, repaired = _by_qpdf(file)
    except Unreadable as unreadable:
        return _where_qpdf_cannot(file, unreadable)
    if repaired or first.disputed:
        second = _by_pdfium(file)
        if isinstance(second, PdfPages):
            if second.pages > first.pages:
                return second
            if not first.disputed:
                first = replace(first, claimed=second.claimed)  # qpdf may have corrected the claim before it was read
    if first.pages == 0:
        raise DocumentFault(FailureCode.NO_PAGES, "the PDF has no pages: repair or replace it")
    return first


def count_without_doubt(content: BinaryIO) -> PdfPages | None:
    """Count the pages of a PDF by reading only the parts that describe them.

    Returns:
        The pages; None if the count is in doubt (damage, a password, a page tree that disagrees, a form or a
        portfolio), so that the whole document has to be read.
    """
    try:
        pdf, repaired = _by_qpdf(content)
    except (Unreadable, DocumentFault):
        return None
    return None if repaired or pdf.disputed or pdf.pages == 0 else pdf


def _where_qpdf_cannot(file: Path, unreadable: Unreadable) -> PdfPages:
    second = _by_pdfium(file)
    if isinstance(second, PdfPages) and second.pages:
        return replace(second, refusal=str(unreadable))
    if second == _PASSWORD or unreadable.password:
        raise DocumentFault(FailureCode.ENCRYPTED, ENCRYPTED_PDF) from unreadable
    if second == _SECURITY or _OTHER_ENCRYPTION in str(unreadable):
        raise DocumentFault(
            FailureCode.ENCRYPTED,
            "the PDF is encrypted with a certificate or by a rights service: remove the encryption first",
        ) from unreadable
    raise DocumentFault(FailureCode.BROKEN, f"the PDF is broken ({unreadable}): repair or replace it") from unreadable


def _by_qpdf(file: Path | BinaryIO) -> tuple[PdfPages, bool]:
    """qpdf's page count, and whether it had to repair the document."""
    with opened_pdf(file) as pdf:
        claimed = _claimed(pdf)  # read first: qpdf corrects it when it accesses the pages
        if _is_dynamic_form(pdf):
            raise _dynamic_form()
        if _is_portfolio(pdf):
            raise DocumentFault(
                FailureCode.PORTFOLIO,
                "the PDF is a portfolio, a cover page with attached documents: upload the attached documents instead",
            )
        sizes: dict[tuple[float, float], int] = {}
        for number, page in enumerate(pdf.pages, 1):
            size = _size(page)
            if size is not None:  # the API decides about a page without a readable size
                sizes.setdefault(size, number)
        counted = PdfPages(
            len(pdf.pages), claimed, {number: size for size, number in sizes.items()}, restricted=pdf.is_encrypted
        )
        return counted, bool(repairs(pdf))


def _by_pdfium(file: Path) -> PdfPages | int | None:
    """pdfium's page count, or its error code; None if it crashed or exceeded its limits."""
    try:
        findings = json.loads(look_at("count", file))
    except NoAnswer:
        return None
    if "refused" in findings:
        return int(findings["refused"])
    if findings["dynamic"]:
        raise _dynamic_form()
    sizes = {int(first): (float(width), float(height)) for width, height, first in findings["sizes"]}
    return PdfPages(findings["pages"], findings["claimed"], sizes, restricted=findings["restricted"], reader="pdfium")


def _claimed(pdf: pikepdf.Pdf) -> int | None:
    try:
        return int(pdf.Root.Pages.Count)
    except (*BROKEN_PDF, AttributeError):
        return None


def _size(page: pikepdf.Page) -> tuple[float, float] | None:
    try:
        left, bottom, right, top = (float(value) for value in page.cropbox)
        unit = float(page.obj.get("/UserUnit", 1))
        return abs(right - left) * unit, abs(top - bottom) * unit
    except (*BROKEN_PDF, ArithmeticError):
        return None


def _is_dynamic_form(pdf: pikepdf.Pdf) -> bool:
    """Whether only Adobe's programs can lay out the form; its page just says "please wait" or asks for another
    viewer.
    """
    try:
        xfa = pdf.Root.AcroForm.XFA
        needs_rendering: object = pdf.Root.get("/NeedsRendering")
        if needs_rendering is True:
            return True
        packets = list(xfa) if isinstance(xfa, pikepdf.Array) else [pikepdf.String("config"), xfa]
        return any(
            str(name) == "config" and _DYNAMIC.search(_beginning(packet)) is not None
            for name, packet in zip(packets[::2], packets[1::2], strict=False)
        )
    except (*BROKEN_PDF, AttributeError):
        return False


def _beginning(packet: pikepdf.Object) -> bytes:
    if not isinstance(packet, pikepdf.Stream) or "LZW" in str(packet.get("/Filter", "")):
        return b""
    return packet.read_bytes()[:_MOST_XFA]


def _is_portfolio(pdf: pikepdf.Pdf) -> bool:
    """Whether the attached documents are the content, and the page is only a cover for other viewers."""
    try:
        collection = pdf.Root.Collection
        hidden = collection.get("/View") == pikepdf.Name.H
        return not hidden and isinstance(pdf.Root.Names.EmbeddedFiles, pikepdf.Dictionary)
    except (*BROKEN_PDF, AttributeError):
        return False


def _dynamic_form() -> DocumentFault:
    return DocumentFault(
        FailureCode.DYNAMIC_FORM,
        "the PDF is a dynamic XFA form, which only Adobe's programs can lay out: print it to PDF and upload that",
    )
