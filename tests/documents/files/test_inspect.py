"""What a document is and how many pages it has is known before it is sent; what is wrong with it, too."""

import io
import struct
import zlib
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from tasks.documents.files.formats import BMP, DOCX, HEIC, HWP, HWPX, JPEG, PDF, PNG, PPTX, TIFF, XLSX, Format
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_as, inspect_document
from tasks.faults import DocumentFault
from tests.sample_documents import (
    bmp,
    docx,
    encrypted_pdf,
    heic,
    hwp,
    hwpx,
    jpeg,
    png,
    pptx,
    text_pdf,
    tiff,
    truncated_pdf,
    xlsx,
)

PIXELS = 200_000_000
LIMITS = InspectionLimits(PIXELS, 150)


def count_pages(file: Path, form: Format, pixels: int) -> int | None:
    return inspect_as(file, form, InspectionLimits(pixels, 150)).pages


def written(folder: Path, content: bytes) -> Path:
    file = folder / "document"
    file.write_bytes(content)
    return file


def huge_png(width: int, height: int) -> bytes:
    """Nothing but the header of a picture: whoever decodes it fails."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"IDAT"
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "form", "pages"),
    [
        (text_pdf(["one"]), PDF, 1),
        (text_pdf(["x"] * 250), PDF, 250),
        (png("a"), PNG, 1),
        (jpeg("a"), JPEG, 1),
        (bmp("a"), BMP, 1),
        (tiff(["a"]), TIFF, 1),
        (tiff(["a", "b", "c"]), TIFF, 3),
    ],
)
def test_pages_are_counted(tmp_path: Path, content: bytes, form: Format, pages: int) -> None:
    assert count_pages(written(tmp_path, content), form, PIXELS) == pages


def no_pages() -> bytes:
    out = io.BytesIO()
    with pikepdf.new() as pdf:
        pdf.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "form", "words"),
    [
        (encrypted_pdf(), PDF, "encrypted with a password: remove"),
        (truncated_pdf(), PDF, "the PDF is broken"),
        (b"%PDF-1.7\n", PDF, "the PDF is broken"),
        (no_pages(), PDF, "has no pages"),
        (png("a")[:20], PNG, "the PNG is broken"),
        (jpeg("a")[:20], JPEG, "the JPEG is broken"),
        (b"BMW owner's manual", BMP, "the BMP is broken"),
        (b"II*\x00", TIFF, "the TIFF is broken"),
        (tiff(["a", "b"])[:20], TIFF, "the TIFF is broken"),
        (png("a"), JPEG, "the JPEG is broken"),
    ],
)
def test_a_document_that_cannot_be_read_says_why_and_hides_where_it_lay(
    tmp_path: Path, content: bytes, form: Format, words: str
) -> None:
    with pytest.raises(DocumentFault, match=words) as caught:
        count_pages(written(tmp_path, content), form, PIXELS)
    assert str(tmp_path) not in str(caught.value)
    assert not caught.value.retry_helps


def test_a_picture_over_the_pixel_limit_is_found_without_decoding_it(tmp_path: Path) -> None:
    file = written(tmp_path, huge_png(20_000, 10_001))
    with pytest.raises(DocumentFault, match=r"page 1 has 200,020,000 pixels.*200,000,000"):
        count_pages(file, PNG, PIXELS)
    assert count_pages(file, PNG, 200_020_000) == 1


def test_one_frame_over_the_pixel_limit_is_named(tmp_path: Path) -> None:
    out = io.BytesIO()
    small, large = Image.new("1", (100, 100)), Image.new("1", (100, 101))
    small.save(out, "TIFF", save_all=True, append_images=[small, large])
    with pytest.raises(DocumentFault, match="page 3 has 10,100 pixels"):
        count_pages(written(tmp_path, out.getvalue()), TIFF, 10_000)


@pytest.mark.parametrize(
    ("content", "form", "estimate"),
    [
        (docx(["a"]), DOCX, 1),
        (pptx(["a", "b", "c"]), PPTX, 3),
        (xlsx(["a", "b"]), XLSX, 2),
        (hwp(["a"]), HWP, 1),
        (hwpx(["a", "b"]), HWPX, 1),
        (heic("a", images=2), HEIC, 2),
    ],
)
def test_where_only_the_api_can_count_there_is_an_estimate(
    tmp_path: Path, content: bytes, form: Format, estimate: int
) -> None:
    found = inspect_document(written(tmp_path, content), f"a{form.extension}", LIMITS)
    assert found == Inspected(form, None, estimate)


def test_a_single_heic_picture_is_one_page(tmp_path: Path) -> None:
    assert inspect_document(written(tmp_path, heic("a")), "a.heic", LIMITS) == Inspected(HEIC, 1, 1)
    with pytest.raises(DocumentFault, match=r"page 1 has \S+ pixels, but the API accepts 10,000: scale it down"):
        inspect_document(written(tmp_path, heic("a")), "a.heic", InspectionLimits(10_000, 150))


@pytest.mark.parametrize(("box", "unit"), [([0, 0, 7_200, 7_200], 1), ([-100, 50, 620, 770], 10)])
def test_a_page_of_a_pdf_counts_as_it_is_rendered(tmp_path: Path, box: list[int], unit: int) -> None:
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        page = pdf.add_blank_page()
        page.MediaBox = box
        page.UserUnit = unit
        pdf.save(tmp_path / "document")
    file = tmp_path / "document"
    with pytest.raises(DocumentFault, match=r"page 2, rendered at 150 DPI, has 225,000,000 pixels.*200,000,000"):
        inspect_document(file, "a.pdf", LIMITS)
    assert inspect_document(file, "a.pdf", InspectionLimits(PIXELS, 100)).pages == 2


@pytest.mark.parametrize("box", ["nothing", [0, 0, 1], ["a", "b", "c", "d"], [0, 0, 10**300, 10**300]])
def test_a_page_whose_size_cannot_be_read_is_left_to_the_api_or_refused(tmp_path: Path, box: object) -> None:
    with pikepdf.new() as pdf:
        page = pdf.add_blank_page()
        if isinstance(box, list):
            page.MediaBox = [pikepdf.String(edge) if isinstance(edge, str) else edge for edge in box if edge != 10**300]
        else:
            del page.MediaBox
        pdf.save(tmp_path / "document")
    assert inspect_document(tmp_path / "document", "a.pdf", LIMITS).pages == 1
