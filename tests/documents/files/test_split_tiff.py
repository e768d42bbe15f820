"""A part of any TIFF holds its frames as they are: both byte orders, classic and BigTIFF, however a frame is packed."""

import struct
from pathlib import Path

import pytest
from PIL import Image

from tasks.documents.files.formats import TIFF
from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.documents.files.split import divide, extract_pages
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
from tests.documents.files.tiff_files import (
    INNER,
    LONG,
    STRIPS,
    Frame,
    Writer,
    bilevel,
    blocks,
    described,
    jpeg,
    noise,
    pixels,
    read_tags,
    stripped,
    tags_of,
    tiled,
    with_thumbnails,
)

UNREAD = (">", True)  # Pillow reads no big-endian BigTIFF
KINDS = [("<", False), (">", False), ("<", True), (">", True)]


MAKERS = {
    "one strip": lambda number: stripped(number, 40),
    "many strips": lambda number: stripped(number, 7),
    "a strip a row": lambda number: stripped(number, 1),
    "tiles": tiled,
    "jpeg": jpeg,
    "group4": bilevel,
    "frames within": with_thumbnails,
}


@pytest.mark.parametrize(("order", "big"), KINDS)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_part_holds_the_right_frames_pixel_by_pixel(tmp_path: Path, maker: str, order: str, big: bool) -> None:
    frames = [MAKERS[maker](number) for number in range(5)]
    file, part = tmp_path / "document", tmp_path / "part"
    file.write_bytes(Writer(order, big).write(frames))
    whole = described(file)
    assert len({frame[1][0] for frame in whole}) == 5
    for first, last in ((1, 1), (2, 4), (5, 5), (1, 5)):
        extract_pages(file, TIFF, PageRange(first=first, last=last), part)
        assert described(part) == whole[first - 1 : last]  # nothing is decoded on the way: the very bytes are there
        assert part.read_bytes()[:4] == file.read_bytes()[:4]
        if (order, big) != UNREAD:
            assert inspect_document(file, "a.tif", InspectionLimits(200_000_000, 150)).pages == 5
            assert pixels(part) == pixels(file)[first - 1 : last]


def test_what_pillow_cannot_read_is_counted_by_its_structure(tmp_path: Path) -> None:
    (tmp_path / "document").write_bytes(Writer(*UNREAD).write([stripped(1, 7), stripped(2, 7)]))
    assert inspect_document(tmp_path / "document", "a.tif", InspectionLimits(200_000_000, 150)).pages == 2


@pytest.mark.parametrize(("order", "big"), [kind for kind in KINDS if kind != UNREAD])
@pytest.mark.parametrize("maker", ["one strip", "many strips", "a strip a row", "tiles", "frames within", "group4"])
def test_the_frames_are_those_that_were_written(tmp_path: Path, maker: str, order: str, big: bool) -> None:
    file, part = tmp_path / "document", tmp_path / "part"
    file.write_bytes(Writer(order, big).write([MAKERS[maker](number) for number in range(3)]))
    extract_pages(file, TIFF, PageRange(first=2, last=3), part)
    expected = [noise(number, (200, 100)) for number in (1, 2)] if maker == "group4" else [noise(1), noise(2)]
    if maker == "group4":
        expected = [image.convert("1", dither=Image.Dither.NONE) for image in expected]
    assert [frame[2] for frame in pixels(part)] == [frame.tobytes() for frame in expected]


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_frames_within_a_frame_come_along(tmp_path: Path, order: str, big: bool) -> None:
    frames = [with_thumbnails(number) for number in range(3)]
    file, part = tmp_path / "document", tmp_path / "part"
    file.write_bytes(Writer(order, big).write(frames))
    extract_pages(file, TIFF, PageRange(first=2, last=2), part)
    content = part.read_bytes()
    start = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0]
    inner = [read_tags(content, place)[0] for place in read_tags(content, start)[0][INNER]]
    assert [blocks(content, tags) for tags in inner] == [inner.blocks for inner in frames[1].inner]


def test_parts_by_size_hold_every_frame_once(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(Writer("<", True).write([stripped(number % 40, 5) for number in range(100)]))
    inspected = inspect_document(file, "a.tif", InspectionLimits(200_000_000, 150))
    most = file.stat().st_size // 7
    parts = divide(file, inspected, [PageRange(first=1, last=100)], 1000, most, tmp_path)
    assert [frame for part in parts for frame in pixels(part.file)] == pixels(file)
    assert all(part.file.stat().st_size <= most for part in parts)
    assert 7 <= len(parts) <= 16


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_a_chain_of_frames_within_a_frame_that_is_a_ring_is_the_documents_fault(
    tmp_path: Path, order: str, big: bool
) -> None:
    writer = Writer(order, big)
    content = bytearray(writer.write([with_thumbnails(1)]))
    start = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0]
    inner = read_tags(bytes(content), start)[0][INNER][0]
    entries = len(read_tags(bytes(content), inner)[0])
    following = inner + (8 + 20 * entries if big else 2 + 12 * entries)
    struct.pack_into(order + ("Q" if big else "L"), content, following, inner)
    (tmp_path / "document").write_bytes(content)
    with pytest.raises(DocumentFault, match=r"the TIFF is broken \(one of its frames has no end\): repair"):
        extract_pages(tmp_path / "document", TIFF, PageRange(first=1, last=1), tmp_path / "part")


def test_strips_that_overlap_do_not_fill_the_disk(tmp_path: Path) -> None:
    frame = Frame(tags_of((1000, 1_000_000), [8], 1, 1, t278=1000), [bytes(1000)])
    content = bytearray(Writer("<", False).write([frame]) + bytes(1_000_000))
    strips = 10_000
    lists = len(content)
    content += struct.pack(f"<{strips}L", *range(8, 8 + strips)) + struct.pack(f"<{strips}L", *[1_000_000] * strips)
    place = struct.unpack_from("<L", content, 4)[0]
    for at in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", content, place)[0], 12):
        tag = struct.unpack_from("<H", content, at)[0]
        if tag in STRIPS:
            struct.pack_into("<HLL", content, at + 2, LONG, strips, lists + (tag == 279) * 4 * strips)
    (tmp_path / "document").write_bytes(content)
    with pytest.raises(DocumentFault, match=r"the TIFF is broken \(its pages repeat the same data many times\)"):
        extract_pages(tmp_path / "document", TIFF, PageRange(first=1, last=1), tmp_path / "part")
    assert not (tmp_path / "part").exists() or (tmp_path / "part").stat().st_size < 1000


@pytest.mark.parametrize(("order", "big"), KINDS)
@pytest.mark.parametrize("what", ["first", "count", "following"])
def test_places_outside_of_the_document_are_its_fault(tmp_path: Path, order: str, big: bool, what: str) -> None:
    content = bytearray(Writer(order, big).write([stripped(1, 7), stripped(2, 7)]))
    pointer, wide = (8, "Q") if big else (4, "L")
    start = struct.unpack_from(order + wide, content, pointer)[0]
    entries = len(read_tags(bytes(content), start)[0])
    places = {
        "first": (pointer, wide),
        "count": (start, "Q" if big else "H"),
        "following": (start + (8 + 20 * entries if big else 2 + 12 * entries), wide),
    }
    where, kind = places[what]
    for number in (2**63 - 1, 2**64 - 1, 2**32, len(content), 3):
        copy, most = bytearray(content), 256 ** struct.calcsize("=" + kind) - 1
        struct.pack_into(order + kind, copy, where, min(number, most))
        (tmp_path / "document").write_bytes(copy)
        with pytest.raises(DocumentFault, match="the TIFF is broken"):
            extract_pages(tmp_path / "document", TIFF, PageRange(first=2, last=2), tmp_path / "part")
