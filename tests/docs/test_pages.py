"""Pages are counted and taken out exactly; what is damaged is one document's fault and never the run's."""

import io
import random
import resource
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.documents.formats import BMP, JPEG, PDF, PNG, TIFF, Format
from tasks.documents.pages import count_pages, extract_pages
from tasks.faults import DocumentFault
from tasks.models import PageRange
from tests.documents import encrypted_pdf, jpeg, png, text_pdf, tiff, truncated_pdf

PIXELS = 200_000_000


def written(folder: Path, content: bytes) -> Path:
    file = folder / "document"
    file.write_bytes(content)
    return file


def pdf_texts(file: Path) -> list[str]:
    with pypdfium2.PdfDocument(file) as pdf:
        return [page.get_textpage().get_text_range() for page in pdf]


def frames(file: Path) -> list[bytes]:
    found = []
    with Image.open(file) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(f"{image.mode} {image.size}".encode() + image.tobytes())
    return found


def huge_png(width: int, height: int) -> bytes:
    """Nothing but the header of a picture: whoever decodes it fails."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"IDAT"
    chunks = [struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bmp() -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), 128).save(out, "BMP")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "form", "pages"),
    [
        (text_pdf(["one"]), PDF, 1),
        (text_pdf(["x"] * 250), PDF, 250),
        (png("a"), PNG, 1),
        (jpeg("a"), JPEG, 1),
        (bmp(), BMP, 1),
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
        (no_pages(), PDF, "holds no pages"),
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


@settings(max_examples=30)
@given(st.data())
def test_a_part_of_a_pdf_holds_the_right_pages_in_order_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 15))
    first = data.draw(st.integers(1, total))
    last = data.draw(st.integers(first, total))
    file, part = written(tmp_path, text_pdf([f"page {n} of {total}" for n in range(1, total + 1)])), tmp_path / "part"
    extract_pages(file, PDF, PageRange(first=first, last=last), part)
    assert pdf_texts(part) == [f"page {n} of {total}" for n in range(first, last + 1)]
    assert count_pages(part, PDF, PIXELS) == last - first + 1


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "I;16"])
@pytest.mark.parametrize(("first", "last"), [(1, 1), (2, 4), (5, 5), (1, 5)])
def test_a_part_of_a_tiff_holds_the_right_frames_pixel_by_pixel(
    tmp_path: Path, mode: str, first: int, last: int
) -> None:
    out = io.BytesIO()
    pictures = [Image.effect_noise((60 + n, 40), 50).convert("L").convert(mode) for n in range(5)]
    pictures[0].save(out, "TIFF", save_all=True, append_images=pictures[1:])
    file, part = written(tmp_path, out.getvalue()), tmp_path / "part"
    extract_pages(file, TIFF, PageRange(first=first, last=last), part)
    assert frames(part) == frames(file)[first - 1 : last]


@pytest.mark.parametrize(("content", "form"), [(text_pdf(list("abcdef")), PDF), (tiff(list("abcdef")), TIFF)])
def test_the_same_part_is_the_same_bytes_every_time(tmp_path: Path, content: bytes, form: Format) -> None:
    file = written(tmp_path, content)
    made = []
    for name in ("one", "two"):
        extract_pages(file, form, PageRange(first=2, last=4), tmp_path / name)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_a_part_does_not_carry_what_belongs_to_the_other_pages(tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        pictures = {f"/P{n}": pdf.make_stream(random.Random(n).randbytes(100_000)) for n in range(4)}
        shared = pdf.make_indirect(pikepdf.Dictionary(XObject=pikepdf.Dictionary(pictures)))
        for name in pictures:
            page = pdf.add_blank_page()
            page.Resources = shared
            page.Contents = pdf.make_stream(f"{name} Do".encode())
        pdf.save(tmp_path / "document")
    extract_pages(tmp_path / "document", PDF, PageRange(first=2, last=2), tmp_path / "part")
    assert 100_000 < (tmp_path / "part").stat().st_size < 150_000


def damaged(content: bytes, times: int) -> Sequence[bytes]:
    """The content with bytes knocked over and ends cut off, in many ways that are the same every time."""
    chance = random.Random(7)
    made = []
    for _ in range(times):
        copy = bytearray(content)
        for _ in range(chance.choice([1, 3, 20])):
            copy[chance.randrange(len(copy))] = chance.randrange(256)
        made.append(bytes(copy[: chance.randrange(len(copy))] if chance.random() < 0.3 else copy))
    return made


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (text_pdf(["a", "b", "c"]), PDF),
        (tiff(["a", "b"]), TIFF),
        (png("a"), PNG),
        (jpeg("a"), JPEG),
        (bmp(), BMP),
    ],
)
def test_no_damage_is_anything_but_the_documents_fault(tmp_path: Path, content: bytes, form: Format) -> None:
    outcomes = {"sent": 0, "refused": 0}
    for copy in damaged(content, 300):
        file = written(tmp_path, copy)
        try:
            pages = count_pages(file, form, 10_000_000)
            assert pages > 0
            if form in (PDF, TIFF):
                extract_pages(file, form, PageRange(first=1, last=pages), tmp_path / "part")
            outcomes["sent"] += 1
        except DocumentFault as fault:
            assert "repair or replace" in str(fault) or "scale it down" in str(fault)  # noqa: PT017  # any other breaks
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0  # the damage is of both kinds, or the test proves nothing


@pytest.mark.parametrize(("content", "form"), [(tiff(["a", "b"]), TIFF), (text_pdf(["a", "b"]), PDF)])
def test_a_disk_that_takes_no_more_is_not_blamed_on_the_document(tmp_path: Path, content: bytes, form: Format) -> None:
    file = written(tmp_path, content)
    normal = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, normal[1]))
    try:
        with pytest.raises(OSError):  # noqa: PT011  # any will do that is not a DocumentFault
            extract_pages(file, form, PageRange(first=1, last=2), tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, normal)
    extract_pages(file, form, PageRange(first=1, last=2), tmp_path / "part")
