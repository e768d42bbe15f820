"""BMPs and JPEGs that Pillow does not decode are pages all the same: their headers tell how large they are."""

import struct
from pathlib import Path

import pytest

from tasks.documents.files.formats import BMP, JPEG
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.faults import DocumentFault
from tests.sample_documents import jpeg

LIMITS = InspectionLimits(200_000_000, 150)
FIELDS, ALPHA_FIELDS = 3, 6


def bmp(
    bits: int, packed: int = 0, masks: tuple[int, ...] = (), length: int = 40, size: tuple[int, int] = (6, 4)
) -> bytes:
    """A BMP with a header of any length; its rows are zeros."""
    width, height = size
    if length == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", length, width, height, 1, bits, packed, 0, 2835, 2835, 0, 0)[:length]
        header += struct.pack(f"<{len(masks)}I", *masks)
    rows = bytes(-(-abs(width) * bits // 32) * 4 * abs(height))
    start = 14 + max(length, len(header))
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header.ljust(length, b"\0") + rows


def inspected(content: bytes, name: str, folder: Path) -> Inspected:
    (folder / "document").write_bytes(content)
    return inspect_document(folder / "document", name, LIMITS)


@pytest.mark.parametrize(
    "content",
    [
        bmp(1), bmp(4), bmp(8), bmp(16), bmp(24), bmp(32), bmp(8, 1), bmp(24, length=12), bmp(24, size=(6, -4)),
        bmp(24, length=16), bmp(16, FIELDS, (0xF800, 0x7E0, 0x1F)), bmp(32, FIELDS, (0xFF0000, 0xFF00, 0xFF)),
        bmp(32, FIELDS, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), length=124),
    ],
)  # fmt: skip
def test_a_usual_bmp_is_a_page(tmp_path: Path, content: bytes) -> None:
    assert inspected(content, "a.bmp", tmp_path) == Inspected(BMP, 1, 1)


@pytest.mark.parametrize(
    ("content", "depth"),
    [
        (bmp(16, FIELDS, (0xF00, 0xF0, 0xF)), "16 bits with custom masks"),
        (bmp(16, ALPHA_FIELDS, (0xF00, 0xF0, 0xF, 0xF000)), "16 bits with custom masks"),
        (bmp(32, FIELDS, (0x3FF00000, 0xFFC00, 0x3FF)), "32 bits with custom masks"),
        (bmp(32, FIELDS, (0xE0, 0x1C, 0x3)), "32 bits with custom masks"),
        (bmp(2), "2 bits"),
        (bmp(64), "64 bits"),
        (bmp(0, 5), "PNG within BMP"),
    ],
)
def test_an_unusual_bmp_is_sent_with_a_note(tmp_path: Path, content: bytes, depth: str) -> None:
    note = f"few programs can read its pixel format ({depth}); it is sent unchanged"
    assert inspected(content, "a.bmp", tmp_path) == Inspected(BMP, 1, 1, note)


@pytest.mark.parametrize(
    "content",
    [b"BM", b"BMW owner's manual", bmp(24)[:17], bmp(24)[:20], bmp(7), bmp(24, size=(0, 4)), bmp(24, size=(6, 0)),
     bmp(24, size=(-6, 4)), bmp(24, length=41)],
)  # fmt: skip
def test_a_bmp_without_a_header_is_broken(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DocumentFault, match=r"the BMP is broken \(it has no (readable header|size)\): repair or"):
        inspected(content, "a.bmp", tmp_path)


def with_frame(content: bytes, marker: int, bits: int) -> bytes:
    """A JPEG whose frame is of another process, or depth."""
    at = content.index(b"\xff\xc0")
    return content[:at] + bytes([0xFF, marker]) + content[at + 2 : at + 4] + bytes([bits]) + content[at + 5 :]


@pytest.mark.parametrize(("marker", "bits"), [(0xC1, 12), (0xC3, 16), (0xC9, 12)])
def test_a_jpeg_of_another_process_is_a_page(tmp_path: Path, marker: int, bits: int) -> None:
    found = inspected(with_frame(jpeg("a"), marker, bits), "a.jpg", tmp_path)
    note = f"few programs can read its pixel format ({bits} bits, process {marker - 0xC0})"
    assert (found.form, found.pages, found.estimate) == (JPEG, 1, 1)
    assert found.note.startswith(note)


@pytest.mark.parametrize(
    "content", [b"\xff\xd8" + b"\xff" * 100_000, b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xe0\0\x04ab"]
)
def test_a_jpeg_without_a_frame_is_broken(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DocumentFault, match=r"the JPEG is broken \(it has no readable header\)"):
        inspected(content + jpeg("a")[:2], "a.jpg", tmp_path)
