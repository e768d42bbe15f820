"""How many pages a PDF has: by qpdf, and where that one cannot read it or had to repair it, by pdfium as well.

qpdf leaves out pages that it cannot parse, and refuses some documents that every viewer opens. What either of the two
finds counts; which one it was also divides the document.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pikepdf

from tasks.documents.files.apart import NoAnswer, look_at
from tasks.documents.files.open import BROKEN_PDF, ENCRYPTED_PDF, Unreadable, opened_pdf
from tasks.documents.files.qpdf import repairs
from tasks.faults import DocumentFault, FailureCode

Reader = Literal["qpdf", "pdfium"]

_PASSWORD, _SECURITY = 4, 5  # pdfium's numbers of reasons to refuse
_OTHER_ENCRYPTION = "unsupported encryption filter"  # qpdf's words
_DYNAMIC = re.compile(rb"<dynamicRender>\s*required\s*<")
_MOST_XFA = 8 << 20  # bytes of a form that are searched for how it is laid out


@dataclass(frozen=True)
class PdfPages:
    """The pages of a PDF.

    Attributes:
        pages: how many there are.
        claimed: how many its page tree says there are; None where it does not say.
        sizes: width and height in points of each size of page, by the number of the first page of that size.
        restricted: whether it opens without a password, but an owner password forbids this or that.
        reader: who counted.
        refusal: why qpdf cannot read it, in its words.
    """

    pages: int
    claimed: int | None
    sizes: dict[int, tuple[float, float]]
    restricted: bool
    reader: Reader = "qpdf"
    refusal: str = ""

    @property
    def disputed(self) -> bool:
        """Whether readers that believe the page tree count other pages than there are."""
        return self.claimed != self.pages


def count_pages(file: Path) -> PdfPages:
    """Count the pages of a PDF.

    Raises:
        DocumentFault: it is encrypted, broken, without pages, or its pages are not what its readers should see.
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
                first = replace(first, claimed=second.claimed)  # qpdf may have corrected its own before it was asked
    if first.pages == 0:
        raise DocumentFault(FailureCode.NO_PAGES, "the PDF holds no pages: repair or replace it")
    return first


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


def _by_qpdf(file: Path) -> tuple[PdfPages, bool]:
    """What qpdf finds, and whether it had to repair the document for that."""
    with opened_pdf(file) as pdf:
        claimed = _claimed(pdf)  # asked first: qpdf corrects it when it looks at the pages
        if _is_dynamic_form(pdf):
            raise _dynamic_form()
        if _is_portfolio(pdf):
            raise DocumentFault(
                FailureCode.PORTFOLIO,
                "the PDF is a portfolio, a cover page with documents attached: upload these documents themselves",
            )
        sizes: dict[tuple[float, float], int] = {}
        for number, page in enumerate(pdf.pages, 1):
            size = _size(page)
            if size is not None:  # a page without a size that can be read is for the API to judge
                sizes.setdefault(size, number)
        found = PdfPages(
            len(pdf.pages), claimed, {number: size for size, number in sizes.items()}, restricted=pdf.is_encrypted
        )
        return found, bool(repairs(pdf))


def _by_pdfium(file: Path) -> PdfPages | int | None:
    """What pdfium finds, or its number of the reason why it refuses; None where it cannot tell."""
    try:
        found = json.loads(look_at("count", file))
    except NoAnswer:
        return None
    if "refused" in found:
        return int(found["refused"])
    if found["dynamic"]:
        raise _dynamic_form()
    sizes = {int(first): (float(width), float(height)) for width, height, first in found["sizes"]}
    return PdfPages(found["pages"], found["claimed"], sizes, restricted=found["restricted"], reader="pdfium")


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
    """Whether a form is laid out by Adobe's programs alone: its pages ask to please wait, or for another viewer."""
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
    """Whether the documents attached are what its readers see, and the pages are a cover for other programs."""
    try:
        collection = pdf.Root.Collection
        hidden = collection.get("/View") == pikepdf.Name.H
        return not hidden and isinstance(pdf.Root.Names.EmbeddedFiles, pikepdf.Dictionary)
    except (*BROKEN_PDF, AttributeError):
        return False


def _dynamic_form() -> DocumentFault:
    return DocumentFault(
        FailureCode.DYNAMIC_FORM,
        "the PDF is a dynamic XFA form, whose pages only Adobe's programs lay out: print it to PDF, and upload that",
    )
