"""The structure of a TIFF: its chain of directories, and its frames as stored. No pixel is decoded.

The files are untrusted: every directory is read once, and reads for one frame are limited to the file's length.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR, SUBSAMPLING, SAMPLE_FORMAT = (
    256, 257, 258, 259, 262, 277, 278, 284, 530, 339,
)  # fmt: skip
STRIPS, TILES, OLD_JPEG = (273, 279), (324, 325), (513, 514)
_BLOCKS = (STRIPS, TILES, OLD_JPEG)  # tags with the offsets and lengths of a frame's data
_FREE = (288, 289)  # gaps in the file, which a part does not have
_UNCOMPRESSED, _YCBCR, _CMYK, _SEPARATE = 1, 6, 5, 2
_FLOAT = 3
# Storage formats of number types; the other types are text, fractions or bytes.
_NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_FEW = 16  # values of a descriptive tag; further ones are ignored
_SLACK = 1 << 20  # bytes of directories and tags readable beyond the file's length: frames can share them
_LEAST = 64  # minimum bytes charged for a read, because every read takes time
_MOST_SHARED = 64 << 20  # shared bytes that are copied to every page


@dataclass(frozen=True)
class Entry:
    """One tag of a directory.

    Attributes:
        kind: the type of its values.
        count: the number of values.
        place: their offset in the file, if they do not fit into the directory entry.
        word: the bytes in the directory entry: the values or their offset.
    """

    kind: int
    count: int
    place: int | None
    word: bytes

    @property
    def length(self) -> int:
        """The length of the values in bytes; 0 for a type that does not exist."""
        return _SIZES.get(self.kind, 0) * self.count


@dataclass(frozen=True)
class Directory:
    """The description of one frame: its tags, and the offset of the next directory (0 for none)."""

    place: int
    entries: dict[int, Entry]
    following: int


class TiffFile:
    """A TIFF or BigTIFF of either byte order.

    Args:
        content: the file, readable and seekable.

    Raises:
        ValueError: it has no TIFF header.
    """

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self.size = content.seek(0, os.SEEK_END)
        content.seek(0)
        header = content.read(16)
        if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise ValueError("it has no readable header")
        self.order = ">" if header[:2] == b"MM" else "<"
        self.big = header[2:4] in (b"+\0", b"\0+")
        self._pointer = "Q" if self.big else "L"
        place = header[8:16] if self.big else header[4:8]
        if len(place) < struct.calcsize(f"={self._pointer}"):
            raise ValueError("it has no readable header")
        self._first = self._unpack(self._pointer, place)[0]
        self._left = self.size + _SLACK

    def grant(self) -> None:
        """Reset the read quota to the file's length, for another frame."""
        self._left = self.size + _SLACK

    def directories(self) -> Iterator[Directory]:
        """Yield the directories, one a frame, each once even if the chain is a loop.

        Raises:
            ValueError: a directory lies outside the file, or the directories overlap without end.
        """
        place, visited = self._first, set[int]()
        for number in range(1, self.size):
            if number > 1 and (place == 0 or place in visited):
                return
            visited.add(place)
            directory = self.directory(place, f"page {number}")
            yield directory
            place = directory.following

    def directory(self, place: int, name: str) -> Directory:
        """Read the directory at a place in the file.

        Raises:
            ValueError: it is outside the file.
        """
        count_kind, entry_kind, entry_size, room = ("Q", "HHQ8s", 20, 8) if self.big else ("H", "HHL4s", 12, 4)
        head = struct.calcsize(f"={count_kind}")
        if not 8 <= place <= self.size - head:
            raise ValueError(f"{name} cannot be found")
        count = self._unpack(count_kind, self._read(place, head))[0]
        length = count * entry_size
        if place + head + length + room > self.size:
            raise ValueError("the descriptions of its pages are longer than the file")
        data = self._read(place + head, length + room)
        entries: dict[int, Entry] = {}
        for tag, kind, values, word in struct.iter_unpack(self.order + entry_kind, data[:length]):
            outside = _SIZES.get(kind, 0) * values > room
            entries.setdefault(
                tag, Entry(kind, values, self._unpack(self._pointer, word)[0] if outside else None, word)
            )
        return Directory(place, entries, self._unpack(self._pointer, data[length:])[0])

    def numbers(self, directory: Directory, tag: int) -> tuple[int, ...]:
        """The first values of an integer tag; empty if it is missing or outside the file."""
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in _NUMBERS or not self.holds(entry):
            return ()
        first = replace(entry, count=min(entry.count, _FEW))
        data = first.word[: first.length]
        if first.place is not None:  # too few bytes to charge to the quota
            self._content.seek(first.place)
            data = self._content.read(first.length)
        return self._unpack(f"{first.count}{_NUMBERS[first.kind]}", data)

    def data(self, entry: Entry) -> bytes | None:
        """The bytes of a tag's values; None if they are outside the file or of an unknown type."""
        if not self.holds(entry):
            return None
        if entry.place is None:
            return entry.word[: entry.length]
        self._left -= _LEAST
        return self._read(entry.place, entry.length)

    def holds(self, entry: Entry) -> bool:
        """Whether the values of a tag are inside the file and of a known type."""
        return entry.kind in _SIZES and (entry.place is None or 8 <= entry.place <= self.size - entry.length)

    @property
    def exhausted(self) -> bool:
        """Whether the read quota for this frame is used up."""
        return self._left < 0

    def _read(self, place: int, length: int) -> bytes:
        self._left -= length
        if self.exhausted:
            raise ValueError("one of its frames has no end")
        self._content.seek(place)
        return self._content.read(length)

    def _unpack(self, kind: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self.order + kind, data)


@dataclass(frozen=True)
class Frame:
    """The facts about a frame that are known without decoding it.

    Attributes:
        width: in pixels.
        height: in pixels.
        unusual: its pixel format, if few programs decode it; otherwise empty.
    """

    width: int
    height: int
    unusual: str


def frames(content: BinaryIO) -> Iterator[Frame]:
    """Walk the chain of directories.

    Raises:
        ValueError: it is not a TIFF, its chain leaves the file, or a frame has no size or data.
    """
    tiff = TiffFile(content)
    for number, directory in enumerate(tiff.directories(), 1):
        width, height = ((tiff.numbers(directory, tag) or (0,))[0] for tag in (WIDTH, HEIGHT))
        if not (width and height):
            raise ValueError(f"page {number} has no size")
        if not any(tiff.numbers(directory, places) for places, _ in _BLOCKS):
            raise ValueError(f"page {number} has no picture")
        yield Frame(width, height, _unusual(tiff, directory))


def _unusual(tiff: TiffFile, directory: Directory) -> str:
    """The pixel format, if few programs decode it."""
    bits = tiff.numbers(directory, BITS) or (1,)
    samples = (tiff.numbers(directory, SAMPLES) or (1,))[0]
    floating = _FLOAT in tiff.numbers(directory, SAMPLE_FORMAT)
    cmyk = _CMYK in tiff.numbers(directory, PHOTOMETRIC)[:1]
    plain = len(set(bits)) == 1 and (bits[0] in (1, 2, 4, 8, 16) or (bits[0] == 32 and samples == 1))
    if plain and not (floating and bits[0] != 32) and not (cmyk and samples != 4):
        return ""
    depth = "/".join(map(str, sorted(set(bits))))
    counted = "one sample" if samples == 1 else f"{samples} samples"
    return f"{counted} of {depth} bits{', floating point' if floating else ''}{', CMYK' if cmyk else ''}"


def write_frames(file: Path, first: int, last: int, to: Path) -> None:
    """Write a range of frames as a TIFF of the same byte order and kind, without recompressing them.

    Tags with data outside the file are omitted, and strips get the length of their pixels, as readers that display such
    frames do.

    Raises:
        ValueError: a frame cannot be found, or is endless.
    """
    import tifftools

    with file.open("rb") as content:
        chosen = _Chosen(TiffFile(content), content, first, last)
        # tifftools requests frames one by one, and a frame's list of strips may be longer than the frame.
        tifftools.write_tiff(
            chosen, to, bigEndian=chosen.tiff.order == ">", bigtiff=chosen.tiff.big, allowExisting=True
        )


class _Chosen:
    """Frames as tifftools describes them, read anew on every iteration."""

    def __init__(self, tiff: TiffFile, content: BinaryIO, first: int, last: int) -> None:
        self.tiff, self._content, self._first, self._last = tiff, content, first, last

    def __iter__(self) -> Iterator[Any]:
        from tifftools.constants import Tag

        tiff, written = self.tiff, 0
        tiff.grant()
        number = 0
        for number, directory in enumerate(tiff.directories(), 1):
            if number >= self._first:
                tiff.grant()
                frame = self._frame(directory, Tag)
                written += _length(frame)
                if written > 2 * tiff.size + _MOST_SHARED:  # it would fill the disk
                    raise ValueError("its pages repeat the same data many times")
                yield frame
            if number == self._last:
                return
        raise ValueError(f"page {number + 1} cannot be found")

    def _frame(self, directory: Directory, known: Any) -> dict[str, Any]:
        from tifftools.constants import Datatype, get_or_create_tag

        tiff, tags = self.tiff, dict[int, dict[str, Any]]()
        for tag, entry in directory.entries.items():
            data = None if tag in _FREE else tiff.data(entry)
            if data is None:
                continue
            described: dict[str, Any] = {"datatype": entry.kind, "count": entry.count}
            pack = Datatype[entry.kind].pack
            if pack:
                described["data"] = list(struct.unpack(tiff.order + pack * entry.count, data))
            else:
                described["data"] = (
                    data.rstrip(b"\0") if entry.kind == 2 else data
                )  # tifftools appends one \0 to text again
            meaning = get_or_create_tag(tag, known, datatype=Datatype[entry.kind])
            if meaning.isIFD() or entry.kind in (13, 18):
                if entry.kind not in _NUMBERS:
                    continue
                inner = [self._chain(place, getattr(meaning, "tagset", None)) for place in described["data"]]
                if not any(inner):
                    continue
                described["ifds"] = [chain for chain in inner if chain]
            tags[tag] = described
        self._repair(tags)
        return {
            "offset": directory.place, "tags": tags, "path_or_fobj": self._content, "size": tiff.size,
            "bigEndian": tiff.order == ">", "bigtiff": tiff.big, "tagcount": len(tags),
        }  # fmt: skip

    def _chain(self, place: int, known: Any) -> list[dict[str, Any]]:
        """The frames within a frame, such as thumbnails, as far as the chain from an offset can be followed."""
        inner_frames: list[dict[str, Any]] = []
        while 8 <= place < self.tiff.size:
            try:
                directory = self.tiff.directory(place, "a frame")
            except ValueError:
                if self.tiff.exhausted:
                    raise
                break
            inner_frames.append(self._frame(directory, known))
            place = directory.following
        return inner_frames

    def _repair(self, tags: dict[int, dict[str, Any]]) -> None:
        """Make the lists of offsets and lengths consistent with each other, the pixels and the file."""
        for places, lengths in _BLOCKS:
            if places not in tags or tags[places]["datatype"] not in _NUMBERS:
                tags.pop(places, None)
                tags.pop(lengths, None)
                continue
            starts = tags[places]["data"]
            claimed = tags[lengths]["data"] if lengths in tags and tags[lengths]["datatype"] in _NUMBERS else []
            lengths_in_file = self._lengths(tags, starts, claimed, strips=places == STRIPS[0])
            if lengths_in_file != claimed:
                tags[lengths] = {
                    "datatype": 16 if self.tiff.big else 4,
                    "count": len(lengths_in_file),
                    "data": lengths_in_file,
                }

    def _lengths(
        self, tags: dict[int, dict[str, Any]], starts: Sequence[int], claimed: Sequence[int], *, strips: bool
    ) -> list[int]:
        """The lengths of the blocks: as claimed, as their pixels need, or up to the next block, but within the file."""
        pixels = _strip_lengths(tags, len(starts)) if strips else [0] * len(starts)
        order = sorted({*starts, self.tiff.size})
        following = dict(pairwise(order))
        block_lengths = []
        for at, length, needed in zip_longest(starts, claimed[: len(starts)], pixels, fillvalue=0):
            if at:  # 0 stands for an empty block that is omitted
                length = max(length, needed) or following.get(at, 0) - at
                length = max(0, min(length, self.tiff.size - at))
            block_lengths.append(length)
        return block_lengths


def _strip_lengths(tags: dict[int, dict[str, Any]], strips: int) -> list[int]:
    """The lengths in bytes of the strips of an uncompressed frame; zeros for any other frame."""

    def first(tag: int, default: int) -> int:
        values = tags[tag]["data"] if tag in tags else ()
        return values[0] if values and isinstance(values[0], int) else default

    width, height, samples = first(WIDTH, 0), first(HEIGHT, 0), first(SAMPLES, 1)
    rows = min(first(ROWS, height) or height, height)
    if first(COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED or not (width and height):
        return [0] * strips
    bits = first(BITS, 1)
    separate = first(PLANAR, 1) == _SEPARATE
    in_a_plane = -(-height // rows)
    across, down = (tags[SUBSAMPLING]["data"] + [2, 2])[:2] if SUBSAMPLING in tags else (2, 2)
    strip_lengths = []
    for number in range(strips):
        lines = min(rows, max(0, height - number % in_a_plane * rows))
        if first(PHOTOMETRIC, 0) == _YCBCR and samples == 3 and not separate and across and down:
            blocks = -(-width // across) * -(-lines // down)
            strip_lengths.append(blocks * (across * down + 2) * bits // 8)
        else:
            strip_lengths.append(lines * -(-width * bits * (1 if separate else samples) // 8))
    return strip_lengths


def _length(frame: dict[str, Any]) -> int:
    """The length in bytes of a frame's data, including that of the frames within it."""
    tags, length = frame["tags"], 0
    for places, lengths in _BLOCKS:
        if places in tags:
            length += sum(size for _, size in set(zip(tags[places]["data"], tags[lengths]["data"], strict=True)))
    inner = (thumbnail for tag in tags.values() for chain in tag.get("ifds", ()) for thumbnail in chain)
    return length + sum(map(_length, inner))
