"""A PDF that some reader opens is counted, sent and divided, and no page is dropped: pdfium and poppler tell the truth.

What its readers are not meant to see, such as the cover of a portfolio, is not paid for.
"""

import io
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from tasks.documents.files.formats import PDF
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.documents.files.split import Part, divide
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
from tests.documents.files.pdf_corpus import CORPUS, HELVETICA
from tests.documents.files.rendering import drawn_by_pdfium, drawn_by_poppler, is_blank
from tests.hostile.bombs import pdf, stream
from tests.sample_documents import text_pdf

LIMITS = InspectionLimits(200_000_000, 150)
REFUSING = InspectionLimits(200_000_000, 150, refuse_restricted=True)
LARGE = 50_000_000
Q = b"[ q1 q2 q3 q4 q5 q6 q7 q8 q9 ]"  # so many unknown words that qpdf gives the object up


def inspected(content: bytes, folder: Path, name: str = "a.pdf", limits: InspectionLimits = LIMITS) -> Inspected:
    (folder / "document").write_bytes(content)
    return inspect_document(folder / "document", name, limits)


def sent(content: bytes, folder: Path, longest: int = 1000) -> list[Part]:
    found = inspected(content, folder)
    return divide(folder / "document", found, [PageRange(first=1, last=found.estimate)], longest, LARGE, folder)


def looks(parts: list[Part], draw: Callable[[Path], list[bytes]] = drawn_by_pdfium) -> list[bytes]:
    return [page for part in parts for page in draw(part.file)]


def fault_of(content: bytes, folder: Path, limits: InspectionLimits = LIMITS) -> DocumentFault:
    with pytest.raises(DocumentFault) as caught:
        inspected(content, folder, limits=limits)
    return caught.value


def three_pages(others: Mapping[int, bytes] | None = None, count: int = 3, kids: bytes = b"3 0 R 4 0 R 5 0 R") -> bytes:
    """Pages 3, 4 and 5, each with text of its own; an object of `others` takes the place of one of these."""
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[%s]/Count %d/MediaBox[0 0 200 200]>>" % (kids, count),
        6: HELVETICA,
        7: b"<</Font<</F1 6 0 R>>>>",
    }
    for n in range(3):
        objects[3 + n] = b"<</Type/Page/Parent 2 0 R/Resources 7 0 R/Contents %d 0 R>>" % (10 + n)
        objects[10 + n] = stream(b"", b"BT /F1 40 Tf 20 %d Td (Page %d) Tj ET" % (30 * n + 20, n + 1))
    return pdf({**objects, **(others or {})})


PLAIN = three_pages()
JUNK = {
    "a line break": b"\n",
    "a byte order mark": b"\xef\xbb\xbf",
    "headers of a server": b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n",
    "a printer's banner": b"\x1b%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE = PDF\r\n",
    "zeros": bytes(100),
    "1,019 bytes": b"x" * 1019,
    "1,024 bytes": b"x" * 1024,
}


@pytest.mark.parametrize("name", ["a.pdf", "a"])
@pytest.mark.parametrize("junk", JUNK)
def test_a_pdf_is_sent_without_what_comes_before_it(tmp_path: Path, junk: str, name: str) -> None:
    content = JUNK[junk] + PLAIN
    found = inspected(content, tmp_path, name)
    length = len(JUNK[junk])
    assert (found.form, found.pages, found.begins_at) == (PDF, 3, length)
    assert found.note == f"the {length:,} bytes before the PDF header are not sent"
    (part,) = sent(content, tmp_path)
    assert part.file.read_bytes() == PLAIN
    assert (tmp_path / "document").read_bytes() == content
    assert looks(sent(content, tmp_path, 2)) == drawn_by_pdfium(part.file)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"x" * 1025 + PLAIN, "a.pdf"),
        (b"A PDF begins with %PDF-1.7 or another version. " * 100, "letter.txt"),
    ],
)
def test_what_only_mentions_a_pdf_is_none(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "document").write_bytes(content)
    with pytest.raises(DocumentFault) as caught:
        inspect_document(tmp_path / "document", name, LIMITS)
    assert caught.value.code == "unsupported-format"


def test_a_damaged_pdf_after_junk_is_broken_by_its_name(tmp_path: Path) -> None:
    assert fault_of(b"\n%PDF-1.7\nnothing", tmp_path).code == "broken"


def restricted(content: bytes, **how: Any) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(content)) as opened:
        opened.save(out, encryption=pikepdf.Encryption(owner="owner", user="", allow=pikepdf.Permissions(), **how))
    return out.getvalue()


@pytest.mark.parametrize("how", [{"R": 2, "aes": False, "metadata": False}, {"R": 3, "aes": False, "metadata": False},
                                 {"R": 4}, {"R": 6}])  # fmt: skip
def test_a_restricted_pdf_is_sent_as_a_copy_without_encryption(tmp_path: Path, how: dict[str, Any]) -> None:
    content = restricted(PLAIN, **how)
    found = inspected(content, tmp_path)
    assert (found.pages, found.restricted) == (3, True)
    assert found.note == "a copy without its owner password is sent"
    (whole,) = sent(content, tmp_path)
    parts = sent(content, tmp_path, 2)
    for part in (whole, *parts):
        with pikepdf.open(part.file) as opened:
            assert not opened.is_encrypted
    for draw in (drawn_by_pdfium, drawn_by_poppler):
        expected = draw(tmp_path / "document")
        assert len(set(expected)) == 3
        assert looks([whole], draw) == looks(parts, draw) == expected


def test_a_restricted_pdf_is_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    fault = fault_of(restricted(PLAIN), tmp_path, REFUSING)
    assert fault.code == "restricted"
    assert "and --refuse-restricted is set: remove the password" in str(fault)
    assert inspected(PLAIN, tmp_path, limits=REFUSING).pages == 3


@pytest.mark.parametrize("feature", ["fields on several pages", "hidden layers"])
def test_a_restricted_pdf_keeps_what_decides_how_it_looks(tmp_path: Path, feature: str) -> None:
    content = restricted(CORPUS[feature]())
    (whole,) = sent(content, tmp_path)
    assert looks([whole]) == looks(sent(content, tmp_path, 2)) == drawn_by_pdfium(tmp_path / "document")


def renumbered(content: bytes, by: int) -> bytes:
    """The same document, its objects numbered from far above on."""
    body = content[: content.rindex(b"xref\n0 ")]
    body = re.sub(rb"(\d+) 0 (obj|R)\b", lambda found: b"%d 0 %s" % (int(found[1]) + by, found[2]), body)
    places = {int(found[1]): found.start() for found in re.finditer(rb"(\d+) 0 obj", body)}
    table = b"".join(b"%d 1\n%010d 00000 n \n" % place for place in sorted(places.items()))
    end = b"trailer <</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (max(places) + 1, by + 1, len(body))
    return body + b"xref\n0 1\n0000000000 65535 f \n" + table + end


@pytest.mark.parametrize("by", [20_000, 3_000_000])
@pytest.mark.parametrize("feature", ["forms that share resources", "fields on several pages", "hidden layers"])
def test_objects_numbered_far_above_what_the_size_suggests(tmp_path: Path, feature: str, by: int) -> None:
    content = renumbered(CORPUS[feature](), by)
    with pytest.raises(pikepdf.PdfError):
        pikepdf.open(io.BytesIO(content))
    found = inspected(content, tmp_path)
    expected = drawn_by_pdfium(tmp_path / "document")
    assert (found.pages, found.reader) == (len(expected), "pdfium")
    assert found.note.startswith("qpdf cannot read it (unable to find /Root dictionary); pages are read with pdfium")
    (whole,) = sent(content, tmp_path)
    assert whole.file == tmp_path / "document"  # what only one of our libraries cannot read is sent as it is
    parts = sent(content, tmp_path, 2)
    assert looks(parts) == expected
    assert looks(parts, drawn_by_poppler) == drawn_by_poppler(tmp_path / "document")
    for part in parts:
        with pikepdf.open(part.file) as opened:
            assert part.pages is not None
            assert len(opened.pages) == len(part.pages)


def test_an_encryption_that_is_none_is_none(tmp_path: Path) -> None:
    content = PLAIN.replace(b"/Root 1 0 R", b"/Encrypt 5/Root 1 0 R")
    assert inspected(content, tmp_path).pages == 3
    (whole,) = sent(content, tmp_path)
    assert whole.file == tmp_path / "document"
    assert looks(sent(content, tmp_path, 2)) == drawn_by_pdfium(tmp_path / "document")


@pytest.mark.parametrize("kind", [b"Adobe.PubSec/SubFilter/adbe.pkcs7.s4", b"FOPN_foweb", b"Unknown"])
def test_an_encryption_without_a_password_is_named(tmp_path: Path, kind: bytes) -> None:
    content = pdf({
        1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>", 4: b"<</Filter/%s/V 2/Length 128>>" % kind,
    }, b"/Encrypt 4 0 R/ID[<00><00>]")  # fmt: skip
    fault = fault_of(content, tmp_path)
    assert (fault.code, str(fault)) == (
        "encrypted",
        "the PDF is encrypted with a certificate or by a rights service: remove the encryption first",
    )


def test_a_page_that_qpdf_cannot_parse_is_not_dropped(tmp_path: Path) -> None:
    page = b"<</Type/Page/Parent 2 0 R/Resources 7 0 R/Contents 11 0 R/A %s>>" % Q
    content = three_pages({4: page})
    with pikepdf.open(io.BytesIO(content)) as opened:
        assert len(opened.pages) == 2
    found = inspected(content, tmp_path)
    assert (found.pages, found.reader) == (3, "pdfium")
    assert found.note == "it is damaged; pages are read with pdfium, which finds more of them than qpdf"
    expected = drawn_by_pdfium(tmp_path / "document")
    assert len(set(expected)) == 3
    (whole,) = sent(content, tmp_path)
    assert whole.file == tmp_path / "document"
    for longest in (1, 2):
        parts = sent(content, tmp_path, longest)
        assert looks(parts) == expected
        assert looks(parts, drawn_by_poppler) == drawn_by_poppler(tmp_path / "document")


def test_what_qpdf_cannot_parse_on_a_page_is_not_dropped(tmp_path: Path) -> None:
    shape = stream(b"/Type/XObject/Subtype/Form/BBox[0 0 200 200]/A %s" % Q, b"0 100 200 50 re f")
    content = three_pages(
        {7: b"<</Font<</F1 6 0 R>>/XObject<</Shape 8 0 R>>>>", 8: shape, 11: stream(b"", b"/Shape Do")}
    )
    assert inspected(content, tmp_path).reader == "qpdf"
    expected = drawn_by_pdfium(tmp_path / "document")
    assert not any(map(is_blank, expected))
    parts = sent(content, tmp_path, 2)
    assert looks(parts) == expected
    assert looks(parts, drawn_by_poppler) == drawn_by_poppler(tmp_path / "document")


@pytest.mark.parametrize(
    ("content", "pages", "claim"),
    [
        (three_pages(count=9), 3, "9"),
        (three_pages(count=0), 3, "0"),
        (three_pages(count=2), 3, "2"),
        (three_pages(count=10**6), 3, "1,000,000"),
        (three_pages({4: b"null"}), 2, "3"),
        (three_pages(kids=b"3 0 R 99 0 R 5 0 R"), 2, "3"),
        (three_pages().replace(b"/Count 3", b"/Coumt 3"), 3, "no number of"),
    ],
)
def test_where_the_page_tree_is_wrong_a_copy_of_the_pages_is_sent(
    tmp_path: Path, content: bytes, pages: int, claim: str
) -> None:
    found = inspected(content, tmp_path)
    assert (found.pages, found.disputed) == (pages, True)
    assert found.note.endswith(f"its page tree claims {claim} pages; a copy of the {pages} actual pages is sent")
    (part,) = sent(content, tmp_path)
    for draw in (drawn_by_pdfium, drawn_by_poppler):
        shown = draw(part.file)
        assert len(set(shown)) == pages
        assert not any(map(is_blank, shown))


def form(xfa: bytes, more: bytes = b"", others: Mapping[int, bytes] | None = None) -> bytes:
    catalogue = b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[]/XFA %s>>%s>>" % (xfa, more)
    return three_pages({1: catalogue, **(others or {})})


CONFIG = b"<config><present><pdf><dynamicRender>%s</dynamicRender></pdf></present></config>"


@pytest.mark.parametrize(
    "content",
    [
        form(b"[(template) 20 0 R]", b"/NeedsRendering true", {20: stream(b"", b"<template/>")}),
        form(b"[(template) 21 0 R(config) 20 0 R]", b"", {20: stream(b"", CONFIG % b"required"), 21: stream(b"", b"")}),
        form(b"20 0 R", b"", {20: stream(b"", b"<xdp:xdp>" + CONFIG % b" required " + b"</xdp:xdp>")}),
        renumbered(form(b"[(template) 20 0 R]", b"/NeedsRendering true", {20: stream(b"", b"<template/>")}), 20_000),
    ],
)  # fmt: skip
def test_a_dynamic_form_is_not_paid_for(tmp_path: Path, content: bytes) -> None:
    fault = fault_of(content, tmp_path)
    assert (fault.code, str(fault)) == (
        "dynamic-form",
        "the PDF is a dynamic XFA form, which only Adobe's programs can lay out: print it to PDF and upload that",
    )


@pytest.mark.parametrize(
    "content",
    [
        form(b"[(config) 20 0 R]", b"", {20: stream(b"", CONFIG % b"forbidden")}),
        form(b"[(template) 20 0 R]", b"/NeedsRendering false", {20: stream(b"", CONFIG % b"required")}),
        form(b"20 0 R", b"", {20: b"null"}),
        form(b"[(config)]"),
        form(b"[1 2 3]"),
        three_pages({1: b"<</Type/Catalog/Pages 2 0 R/NeedsRendering true>>"}),
    ],
)
def test_a_form_with_pages_of_its_own_is_counted(tmp_path: Path, content: bytes) -> None:
    assert inspected(content, tmp_path).pages == 3


ATTACHED = b"/Names<</EmbeddedFiles<</Names[(a.pdf) 20 0 R]>>>>"
FILE = {20: b"<</Type/Filespec/F(a.pdf)/EF<</F 21 0 R>>>>", 21: stream(b"/Type/EmbeddedFile", b"%PDF-1.7")}


def with_attachment(more: bytes) -> bytes:
    return three_pages({1: b"<</Type/Catalog/Pages 2 0 R%s>>" % more, **FILE})


@pytest.mark.parametrize("collection", [b"<<>>", b"<</View/D>>", b"<</Type/Collection/View/T>>"])
def test_a_portfolio_is_not_paid_for(tmp_path: Path, collection: bytes) -> None:
    fault = fault_of(with_attachment(b"/Collection %s%s" % (collection, ATTACHED)), tmp_path)
    assert (fault.code, str(fault)) == (
        "portfolio",
        "the PDF is a portfolio, a cover page with attached documents: upload the attached documents instead",
    )


@pytest.mark.parametrize("more", [ATTACHED, b"/Collection<</View/H>>" + ATTACHED, b"/Collection<<>>", b"/Collection 7"])
def test_a_pdf_with_attachments_is_counted(tmp_path: Path, more: bytes) -> None:
    assert inspected(with_attachment(more), tmp_path).pages == 3


def test_parts_of_what_is_shared_are_not_much_larger_than_the_whole(tmp_path: Path) -> None:
    pages, noise = 10, random.Random(1)
    others = {100 + n: stream(b"/Type/XObject/Subtype/Image/Width 100/Height 100/BitsPerComponent 8"
                              b"/ColorSpace/DeviceGray", noise.randbytes(10_000)) for n in range(pages)}  # fmt: skip
    fields = b" ".join(b"%d 0 R" % (200 + n) for n in range(pages))
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>",
        2: b"<</Type/Pages/Kids[%s]/Count %d/MediaBox[0 0 200 200]>>"
        % (b" ".join(b"%d 0 R" % (300 + n) for n in range(pages)), pages),
        3: b"<</XObject<<%s>>>>" % b"".join(b"/I%d %d 0 R" % (n, 100 + n) for n in range(pages)),
        4: b"<</FT/Tx/T(f)/V(x)/Kids[%s]>>" % fields,
        5: b"<</XObject<<%s>>>>" % b"".join(b"/Fm%d %d 0 R" % (n, 400 + n) for n in range(pages)),
        **others,
    }
    for n in range(pages):
        appearance = stream(
            b"/Subtype/Form/BBox[0 0 50 50]/Resources<<>>", b"%" + noise.randbytes(10_000).hex().encode()
        )
        objects[500 + n] = appearance
        objects[200 + n] = (
            b"<</Type/Annot/Subtype/Widget/Parent 4 0 R/F 4/Rect[0 0 50 50]/AP<</N %d 0 R>>/P %d 0 R>>"
            % (500 + n, 300 + n)
        )
        objects[400 + n] = stream(
            b"/Type/XObject/Subtype/Form/BBox[0 0 200 200]/Resources 3 0 R", b"200 0 0 200 0 0 cm /I%d Do" % n
        )
        objects[300 + n] = b"<</Type/Page/Parent 2 0 R/Resources 5 0 R/Contents %d 0 R/Annots[%d 0 R]>>" % (
            600 + n,
            200 + n,
        )
        objects[600 + n] = stream(b"", b"/Fm%d Do" % n)
    content = pdf(objects)
    parts = sent(content, tmp_path, 1)
    assert len(parts) == pages
    assert sum(part.file.stat().st_size for part in parts) < 1.1 * len(content)
    assert looks(parts) == drawn_by_pdfium(tmp_path / "document")


def test_what_is_sent_whole_is_made_once(tmp_path: Path) -> None:
    (first,) = sent(b"\n" + PLAIN, tmp_path)
    made = first.file.stat()
    (second,) = sent(b"\n" + PLAIN, tmp_path)
    assert (second.file, second.file.stat().st_mtime_ns) == (first.file, made.st_mtime_ns)


def test_a_document_that_is_as_it_should_be_has_no_note(tmp_path: Path) -> None:
    assert inspected(text_pdf(["a", "b"]), tmp_path) == Inspected(PDF, 2, 2)
