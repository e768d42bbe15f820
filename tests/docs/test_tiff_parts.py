"""A part of any TIFF holds its frames as they are: both byte orders, classic and BigTIFF, however a frame is packed."""

import io
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.documents.formats import TIFF
from tasks.documents.inspect import InspectionLimits, inspect_document
from tasks.documents.parts import divide, extract_pages
from tasks.faults import DocumentFault
from tasks.models import PageRange

_SHORT, _LONG, _IFD, _LONG8, _IFD8 = 3, 4, 13, 16, 18
_STRUCT = {1: "B", _SHORT: "H", _LONG: "L", _IFD: "L", 7: "B", _LONG8: "Q", _IFD8: "Q"}
_STRIPS, _TILES, _INNER = (273, 279), (324, 325), 330
UNREAD = (">", True)  # Pillow reads no big-endian BigTIFF
KINDS = [("<", False), (">", False), ("<", True), (">", True)]


@dataclass(frozen=True)
class Frame:
    """A frame as it lies in the file: its tags, its strips or tiles, and the frames within it."""

    tags: dict[int, tuple[int, Sequence[int]]]
    blocks: Sequence[bytes]
    tiled: bool = False
    inner: Sequence["Frame"] = field(default=())


class Writer:
    """Writes a TIFF of either byte order and kind; by itself, so that no library proves itself right."""

    def __init__(self, order: str, big: bool) -> None:
        self.order, self.big = order, big
        mark = b"II" if order == "<" else b"MM"
        self.out = bytearray(
            mark + struct.pack(order + ("HHHQ" if big else "HL"), *((43, 8, 0, 0) if big else (42, 0)))
        )
        self.pointer = 8 if big else 4

    def write(self, frames: Sequence[Frame]) -> bytes:
        """The whole file."""
        for frame in frames:
            place, following = self._frame(frame)
            self._put(self.pointer, place)
            self.pointer = following
        return bytes(self.out)

    def _put(self, where: int, number: int) -> None:
        struct.pack_into(self.order + ("Q" if self.big else "L"), self.out, where, number)

    def _append(self, data: bytes) -> int:
        self.out += b"\0" * (len(self.out) % 2)
        place = len(self.out)
        self.out += data
        return place

    def _frame(self, frame: Frame) -> tuple[int, int]:
        kind = _LONG8 if self.big else _LONG
        inner = [self._frame(each)[0] for each in frame.inner]
        places, lengths = _TILES if frame.tiled else _STRIPS
        tags = dict(frame.tags)
        tags[places] = kind, [self._append(block) for block in frame.blocks]
        tags[lengths] = kind, [len(block) for block in frame.blocks]
        if inner:
            tags[_INNER] = (_IFD8 if self.big else _IFD), inner
        room, entries = 8 if self.big else 4, []
        for tag, (typed, values) in sorted(tags.items()):
            data = struct.pack(f"{self.order}{len(values)}{_STRUCT[typed]}", *values)
            word = (
                struct.pack(self.order + ("Q" if self.big else "L"), self._append(data)) if len(data) > room else data
            )
            head = struct.pack(self.order + ("HHQ" if self.big else "HHL"), tag, typed, len(values))
            entries.append(head + word.ljust(room, b"\0"))
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        place = self._append(count + b"".join(entries) + bytes(room))
        return place, len(self.out) - room


def tags_of(
    size: tuple[int, int], bits: Sequence[int], compression: int, photometric: int, **more: int
) -> dict[int, Any]:
    width, height = size
    found: dict[int, Any] = {
        256: (_LONG, [width]), 257: (_LONG, [height]), 258: (_SHORT, bits), 259: (_SHORT, [compression]),
        262: (_SHORT, [photometric]), 277: (_SHORT, [len(bits)]),
    }  # fmt: skip
    return found | {int(tag.removeprefix("t")): (_LONG, [value]) for tag, value in more.items()}


def noise(number: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    """A grey picture that nothing can pack, the same for the same number."""
    width, height = size[0] + number, size[1]
    return Image.frombytes("L", (width, height), random.Random(number).randbytes(width * height))


def stripped(number: int, rows: int) -> Frame:
    """A grey frame in strips of so many rows."""
    image = noise(number)
    blocks = [
        image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
        for top in range(0, image.height, rows)
    ]
    return Frame(tags_of(image.size, [8], 1, 1, t278=rows), blocks)


def tiled(number: int) -> Frame:
    image = noise(number)
    places = [(left, top) for top in range(0, image.height, 16) for left in range(0, image.width, 16)]
    blocks = [image.crop((left, top, left + 16, top + 16)).tobytes() for left, top in places]
    return Frame(tags_of(image.size, [8], 1, 1, t322=16, t323=16), blocks, tiled=True)


def packed(image: Image.Image, **how: Any) -> Frame:
    """A frame as libtiff packs it; its strips are the same bytes in every order and kind of TIFF."""
    out = io.BytesIO()
    image.save(out, "TIFF", **how)
    with Image.open(io.BytesIO(out.getvalue())) as read:
        found: Any = read.tag_v2  # type: ignore[attr-defined]  # of TIFFs alone
        strips = [out.getvalue()[at : at + size] for at, size in zip(found[273], found[279], strict=True)]
        kept: dict[int, Any] = {
            tag: (found.tagtype[tag], [value] if isinstance(value, int) else list(value))
            for tag, value in found.items()
            if tag in (256, 257, 258, 259, 262, 266, 277, 278, 284, 347, 530)
        }
    return Frame(kept, strips)


def jpeg(number: int) -> Frame:
    return packed(noise(number, (64, 48)).convert("RGB"), compression="jpeg")


def bilevel(number: int) -> Frame:
    return packed(noise(number, (200, 100)).convert("1", dither=Image.Dither.NONE), compression="group4")


def with_thumbnails(number: int) -> Frame:
    frame = stripped(number, 40)
    return Frame(frame.tags, frame.blocks, inner=[stripped(number + 30, 8), tiled(number + 60)])


def read_tags(content: bytes, place: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """The numbers in the tags of the frame described at a place, and where the next one is."""
    order, big = "<" if content[:2] == b"II" else ">", 43 in content[2:4]
    count, head, entry, room = ("Q", "HHQ", 20, 8) if big else ("H", "HHL", 12, 4)
    entries = struct.unpack_from(order + count, content, place)[0]
    start, found = place + struct.calcsize("=" + count), {}
    end = start + entry * entries
    for at in range(start, end, entry):
        tag, typed, values = struct.unpack_from(order + head, content, at)
        shape, where = f"{order}{values}{_STRUCT[typed]}", at + entry - room
        if struct.calcsize(shape) > room:
            where = struct.unpack_from(order + ("Q" if big else "L"), content, where)[0]
        found[tag] = struct.unpack_from(shape, content, where)
    return found, struct.unpack_from(order + ("Q" if big else "L"), content, end)[0]


def blocks(content: bytes, tags: dict[int, tuple[int, ...]]) -> list[bytes]:
    places, lengths = _TILES if _TILES[0] in tags else _STRIPS
    return [content[at : at + size] for at, size in zip(tags[places], tags[lengths], strict=True)]


def described(file: Path) -> list[tuple[dict[int, tuple[int, ...]], list[bytes]]]:
    """Each frame's tags, other than those that say where it lies, and its strips or tiles."""
    content = file.read_bytes()
    order, big = "<" if content[:2] == b"II" else ">", 43 in content[2:4]
    place, found = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0], []
    while place:
        tags, place = read_tags(content, place)
        found.append(
            ({tag: tags[tag] for tag in tags if tag not in (*_STRIPS, *_TILES, _INNER)}, blocks(content, tags))
        )
    return found


def pixels(file: Path) -> list[tuple[str, tuple[int, int], bytes]]:
    with Image.open(file) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append((image.mode, image.size, image.tobytes()))
        return found


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
    assert len({each[1][0] for each in whole}) == 5
    for first, last in ((1, 1), (2, 4), (5, 5), (1, 5)):
        extract_pages(file, TIFF, PageRange(first=first, last=last), part)
        assert described(part) == whole[first - 1 : last]  # nothing is decoded on the way: the very bytes are there
        assert part.read_bytes()[:4] == file.read_bytes()[:4]
        if (order, big) != UNREAD:
            assert inspect_document(file, "a.tif", InspectionLimits(200_000_000, 150)).pages == 5
            assert pixels(part) == pixels(file)[first - 1 : last]


def test_what_cannot_be_read_here_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "document").write_bytes(Writer(*UNREAD).write([stripped(1, 7)]))
    with pytest.raises(DocumentFault, match=r"the content of 'a\.tif' is a big-endian BigTIFF, and BMP") as caught:
        inspect_document(tmp_path / "document", "a.tif", InspectionLimits(200_000_000, 150))
    assert caught.value.code == "unsupported-format"


@pytest.mark.parametrize(("order", "big"), [kind for kind in KINDS if kind != UNREAD])
@pytest.mark.parametrize("maker", ["one strip", "many strips", "a strip a row", "tiles", "frames within", "group4"])
def test_the_frames_are_those_that_were_written(tmp_path: Path, maker: str, order: str, big: bool) -> None:
    file, part = tmp_path / "document", tmp_path / "part"
    file.write_bytes(Writer(order, big).write([MAKERS[maker](number) for number in range(3)]))
    extract_pages(file, TIFF, PageRange(first=2, last=3), part)
    expected = [noise(number, (200, 100)) for number in (1, 2)] if maker == "group4" else [noise(1), noise(2)]
    if maker == "group4":
        expected = [each.convert("1", dither=Image.Dither.NONE) for each in expected]
    assert [each[2] for each in pixels(part)] == [each.tobytes() for each in expected]


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_frames_within_a_frame_come_along(tmp_path: Path, order: str, big: bool) -> None:
    frames = [with_thumbnails(number) for number in range(3)]
    file, part = tmp_path / "document", tmp_path / "part"
    file.write_bytes(Writer(order, big).write(frames))
    extract_pages(file, TIFF, PageRange(first=2, last=2), part)
    content = part.read_bytes()
    start = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0]
    inner = [read_tags(content, place)[0] for place in read_tags(content, start)[0][_INNER]]
    assert [blocks(content, tags) for tags in inner] == [each.blocks for each in frames[1].inner]


def test_parts_by_size_hold_every_frame_once(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(Writer("<", True).write([stripped(number % 40, 5) for number in range(100)]))
    inspected = inspect_document(file, "a.tif", InspectionLimits(200_000_000, 150))
    most = file.stat().st_size // 7
    parts = divide(file, inspected, [PageRange(first=1, last=100)], 1000, most, tmp_path)
    assert [each for part in parts for each in pixels(part.file)] == pixels(file)
    assert all(part.file.stat().st_size <= most for part in parts)
    assert 7 <= len(parts) <= 16


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_a_chain_of_frames_within_a_frame_that_is_a_ring_is_the_documents_fault(
    tmp_path: Path, order: str, big: bool
) -> None:
    writer = Writer(order, big)
    content = bytearray(writer.write([with_thumbnails(1)]))
    start = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0]
    inner = read_tags(bytes(content), start)[0][_INNER][0]
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
        if tag in _STRIPS:
            struct.pack_into("<HLL", content, at + 2, _LONG, strips, lists + (tag == 279) * 4 * strips)
    (tmp_path / "document").write_bytes(content)
    with pytest.raises(DocumentFault, match=r"the TIFF is broken \(its pages are of the same data, many times over\)"):
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
