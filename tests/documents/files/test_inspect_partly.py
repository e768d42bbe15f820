"""Large documents whose pages are counted by reading a few blocks of them: the same answer, or none."""

import io
import random
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document, inspect_partly
from tasks.store.ranged import RangedFile, opened
from tests.sample_documents import encrypted_pdf, text_pdf

LIMITS = InspectionLimits(pixels=200_000_000, dpi=150)
NOISE = random.Random(1).randbytes(4_000_000)


def large_pdf(pages: int, *, packed: bool) -> bytes:
    """Pages with a picture of 1.3 MB on each; what describes them lies between the pictures, or packed at the end."""
    with pikepdf.Pdf.new() as pdf:
        for number in range(pages):
            pdf.add_blank_page(page_size=(595, 842 + number % 2))
            pdf.pages[-1].Contents = pdf.make_stream(NOISE[number : number + 1_300_000])
        written = io.BytesIO()
        mode = pikepdf.ObjectStreamMode.generate if packed else pikepdf.ObjectStreamMode.disable
        pdf.save(written, object_stream_mode=mode, compress_streams=False)
        return written.getvalue()


def picture(form: str, pages: int = 1) -> bytes:
    """Pictures of noise, which nothing makes smaller."""
    images = [Image.frombytes("RGB", (1200, 1000), NOISE[: 1200 * 1000 * 3]) for _ in range(pages)]
    written, more = io.BytesIO(), {"save_all": True, "append_images": images[1:]} if pages > 1 else {}
    images[0].save(written, form, **more)
    return written.getvalue()


def partly(body: bytes) -> tuple[Inspected | None, int, RangedFile]:
    """What is found by reading a part, and how much was read."""
    read = []

    def take(start: int, length: int) -> bytes:
        read.append(length)
        return body[start : start + length]

    ranged = RangedFile(take, len(body))
    return inspect_partly(opened(ranged), LIMITS), sum(read), ranged


@pytest.mark.parametrize(
    ("name", "body", "pages"),
    [
        ("between.pdf", large_pdf(8, packed=False), 8),
        ("packed.pdf", large_pdf(8, packed=True), 8),
        ("scan.tif", picture("TIFF", 3), 3),
        ("photo.png", picture("PNG"), 1),
    ],
)
def test_a_part_tells_what_the_whole_does(name: str, body: bytes, pages: int, tmp_path: Path) -> None:
    found, read, ranged = partly(body)
    assert found is not None
    assert not ranged.given_up
    assert read < len(body) / 5
    (tmp_path / name).write_bytes(body)
    whole = inspect_document(tmp_path / name, name, LIMITS)
    assert (found.form, found.pages, found.note) == (whole.form, whole.pages, whole.note)
    assert (found.pages, found.partly, whole.partly) == (pages, True, False)


@pytest.mark.parametrize("body", [encrypted_pdf("locked"), text_pdf(["a"])[:-200] + b" " * 5_000_000, NOISE])
def test_what_takes_the_whole_document_to_tell_is_not_guessed(body: bytes) -> None:
    found, _, ranged = partly(body)
    assert found is None or ranged.given_up


def test_reading_is_given_up_where_the_whole_is_cheaper() -> None:
    ranged = RangedFile(lambda _, length: bytes(length), 3_000_000)
    content = opened(ranged)
    for _ in range(5):
        assert content.read(1000)
        content.seek(70_000, 1)
    assert not ranged.given_up
    with pytest.raises(OSError, match="cheaper"):
        content.read(1000)
    assert ranged.given_up
