"""TIFFs of any byte order and kind, written tag by tag, and what lies in them; no library proves itself right."""

import io
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

SHORT, LONG, IFD, LONG8, IFD8 = 3, 4, 13, 16, 18
STRUCT = {1: "B", SHORT: "H", LONG: "L", IFD: "L", 7: "B", LONG8: "Q", IFD8: "Q"}
STRIPS, TILES, INNER = (273, 279), (324, 325), 330


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
        kind = LONG8 if self.big else LONG
        inner = [self._frame(inner_frame)[0] for inner_frame in frame.inner]
        places, lengths = TILES if frame.tiled else STRIPS
        tags = dict(frame.tags)
        tags[places] = kind, [self._append(block) for block in frame.blocks]
        tags[lengths] = kind, [len(block) for block in frame.blocks]
        if inner:
            tags[INNER] = (IFD8 if self.big else IFD), inner
        room, entries = 8 if self.big else 4, []
        for tag, (typed, values) in sorted(tags.items()):
            data = struct.pack(f"{self.order}{len(values)}{STRUCT[typed]}", *values)
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
        256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, bits), 259: (SHORT, [compression]),
        262: (SHORT, [photometric]), 277: (SHORT, [len(bits)]),
    }  # fmt: skip
    return found | {int(tag.removeprefix("t")): (LONG, [value]) for tag, value in more.items()}


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
        shape, where = f"{order}{values}{STRUCT[typed]}", at + entry - room
        if struct.calcsize(shape) > room:
            where = struct.unpack_from(order + ("Q" if big else "L"), content, where)[0]
        found[tag] = struct.unpack_from(shape, content, where)
    return found, struct.unpack_from(order + ("Q" if big else "L"), content, end)[0]


def blocks(content: bytes, tags: dict[int, tuple[int, ...]]) -> list[bytes]:
    places, lengths = TILES if TILES[0] in tags else STRIPS
    return [content[at : at + size] for at, size in zip(tags[places], tags[lengths], strict=True)]


def described(file: Path) -> list[tuple[dict[int, tuple[int, ...]], list[bytes]]]:
    """Each frame's tags, other than those that say where it lies, and its strips or tiles."""
    content = file.read_bytes()
    order, big = "<" if content[:2] == b"II" else ">", 43 in content[2:4]
    place, found = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0], []
    while place:
        tags, place = read_tags(content, place)
        found.append(({tag: tags[tag] for tag in tags if tag not in (*STRIPS, *TILES, INNER)}, blocks(content, tags)))
    return found


def pixels(file: Path) -> list[tuple[str, tuple[int, int], bytes]]:
    with Image.open(file) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append((image.mode, image.size, image.tobytes()))
        return found


def directories(content: bytes) -> list[int]:
    """Where the frames are described."""
    order, big = "<" if content[:2] == b"II" else ">", 43 in content[2:4]
    place, found = struct.unpack_from(order + ("Q" if big else "L"), content, 8 if big else 4)[0], []
    while place:
        found.append(place)
        place = read_tags(content, place)[1]
    return found


def with_entry(content: bytes, directory: int, tag: int, entry: bytes) -> bytes:
    """The file with another entry (12 bytes) for a tag of the frame described at a place; for little-endian TIFFs."""
    for at in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", content, directory)[0], 12):
        if struct.unpack_from("<H", content, at)[0] == tag:
            return content[:at] + entry + content[at + 12 :]
    raise AssertionError(f"there is no tag {tag}")
