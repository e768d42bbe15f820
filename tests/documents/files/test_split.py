"""Pages are taken out exactly, and a long document is divided within the limits; damage is the document's fault."""

import io
import random
import re
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.documents.files.formats import BMP, JPEG, PDF, PNG, TIFF, Format
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_as, inspect_document
from tasks.documents.files.split import Part, divide, extract_pages
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
from tests.sample_documents import docx, jpeg, png, text_pdf, tiff

PIXELS = 200_000_000


def count_pages(file: Path, form: Format, pixels: int) -> int | None:
    return inspect_as(file, form, InspectionLimits(pixels, 150)).pages


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


def small_bmp() -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), 128).save(out, "BMP")
    return out.getvalue()


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
        (small_bmp(), BMP),
    ],
)
def test_no_damage_is_anything_but_the_documents_fault(tmp_path: Path, content: bytes, form: Format) -> None:
    outcomes = {"sent": 0, "refused": 0}
    # What is divided, and a PDF that is repaired, keep processes of their own busy: fewer of these.
    for copy in damaged(content, {PDF: 40, TIFF: 80}.get(form, 300)):
        file = written(tmp_path, copy)
        try:
            pages = count_pages(file, form, 10_000_000)
            assert pages
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


def inspected(file: Path) -> Inspected:
    return inspect_document(file, "a", InspectionLimits(PIXELS, 150))


def whole(pages: int) -> list[PageRange]:
    return [PageRange(first=1, last=pages)]


def test_a_pdf_of_2345_pages_is_three_parts(tmp_path: Path) -> None:
    file = written(tmp_path, text_pdf([f"page {number}" for number in range(1, 2346)]))
    parts = divide(file, inspected(file), whole(2345), 1000, 50_000_000, tmp_path)
    assert [str(part.pages) for part in parts] == ["1-1000", "1001-2000", "2001-2345"]
    assert pdf_texts(parts[2].file)[0] == "page 2001"
    assert [len(pdf_texts(part.file)) for part in parts] == [1000, 1000, 345]


def test_a_document_within_the_limits_is_sent_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, tiff(["a", "b"]))
    assert divide(file, inspected(file), whole(2), 1000, 50_000_000, tmp_path) == [Part(file, whole(2)[0])]


@pytest.mark.parametrize("content", [text_pdf(list("abcdefgh")), tiff(list("abcdefgh"))])
def test_parts_are_within_the_size_limit_and_cover_what_was_wanted(tmp_path: Path, content: bytes) -> None:
    file = written(tmp_path, content)
    limit = len(content) // 2
    wanted = [PageRange(first=1, last=3), PageRange(first=5, last=8)]
    parts = divide(file, inspected(file), wanted, 1000, limit, tmp_path)
    assert all(part.file.stat().st_size <= limit for part in parts)
    pages = [number for part in parts if part.pages for number in range(part.pages.first, part.pages.last + 1)]
    assert pages == [1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text_pdf(["a", "b"]), "page 1 alone is 0.0 MB, but the API accepts 0.0002 MB: compress it"),
        (tiff(["a", "b"]), "page 1 alone is 0.0 MB, but the API accepts 0.0002 MB: compress it"),
        (png("a"), "the PNG is 0.0 MB, but the API accepts 0.0002 MB: compress it"),
        (docx(["a"]), "the DOCX is 0.0 MB, but the API accepts 0.0002 MB: compress it, or convert it to PDF"),
    ],
)
def test_what_cannot_be_made_small_enough_says_which_page_and_what_to_do(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = written(tmp_path, content)
    found = inspected(file)
    with pytest.raises(DocumentFault, match=re.escape(words)) as caught:
        divide(file, found, whole(found.estimate), 1000, 200, tmp_path)
    assert caught.value.code == "too-large"


def test_a_part_of_a_tiff_is_packed_as_it_was(tmp_path: Path) -> None:
    out = io.BytesIO()
    pictures = [Image.effect_noise((300, 300), 80).convert("RGB") for _ in range(3)]
    pictures[0].save(out, "TIFF", save_all=True, append_images=pictures[1:], compression="jpeg")
    file = written(tmp_path, out.getvalue())
    extract_pages(file, TIFF, PageRange(first=2, last=2), tmp_path / "part")
    assert (tmp_path / "part").stat().st_size < len(out.getvalue()) / 2.5
    with Image.open(tmp_path / "part") as part:
        assert part.info["compression"] == "jpeg"
    assert frames(tmp_path / "part") == frames(file)[1:2]


def test_a_tiff_whose_frames_form_a_ring_ends(tmp_path: Path) -> None:
    content = bytearray(tiff(["a", "b"]))
    first = struct.unpack_from("<L", content, 4)[0]
    second = struct.unpack_from("<L", content, first + 2 + 12 * struct.unpack_from("<H", content, first)[0])[0]
    struct.pack_into("<L", content, second + 2 + 12 * struct.unpack_from("<H", content, second)[0], first)
    file = written(tmp_path, bytes(content))
    assert count_pages(file, TIFF, PIXELS) == 2
    extract_pages(file, TIFF, PageRange(first=1, last=1), tmp_path / "part")
    assert frames(tmp_path / "part") == frames(file)[:1]
