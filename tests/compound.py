"""Writes OLE compound files, the container of HWP and of old and encrypted Office documents."""

import struct
from collections.abc import Mapping, Sequence

_SECTOR, _MINI_SECTOR, _CUTOFF, _ENTRY = 512, 64, 4096, 128
_FAT, _END, _FREE = 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF
_STORAGE, _STREAM, _ROOT = 1, 2, 5


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of these streams; `storage/stream` puts one into a storage."""
    folders = {path.rpartition("/")[0] for path in streams} - {""}
    paths = sorted(folders | set(streams))
    body, mini = _Sectors(_SECTOR), _Sectors(_MINI_SECTOR)
    starts = {path: (mini if len(data) < _CUTOFF else body).append(data) for path, data in streams.items()}
    root_start, mini_start = body.append(bytes(mini.data)), body.append(mini.table())

    links: dict[str, tuple[int, int]] = {}
    number = {path: 1 + index for index, path in enumerate(paths)}
    tops = {
        folder: _tree([path for path in paths if _folder(path) == folder], number, links) for folder in ["", *folders]
    }
    entries = [_entry("Root Entry", _ROOT, (_FREE, _FREE, tops[""]), root_start, len(mini.data))]
    for path in paths:
        name = path.rpartition("/")[2]
        if path in streams:
            entries.append(_entry(name, _STREAM, (*links[path], _FREE), starts[path], len(streams[path])))
        else:
            entries.append(_entry(name, _STORAGE, (*links[path], tops[path]), 0, 0))
    entries += [_entry("", 0, (_FREE, _FREE, _FREE), 0, 0)] * (-len(entries) % (_SECTOR // _ENTRY))
    directory = body.append(b"".join(entries))

    fat_sectors = 1
    while fat_sectors * _SECTOR // 4 < len(body.chain) + fat_sectors:
        fat_sectors += 1
    first_fat = len(body.chain)
    body.chain += [_FAT] * fat_sectors
    places = struct.pack("<109I", *range(first_fat, first_fat + fat_sectors), *[_FREE] * (109 - fat_sectors))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H6x", 62, 3, 0xFFFE, 9, 6)
    header += struct.pack("<5I", 0, fat_sectors, directory, 0, _CUTOFF)
    header += struct.pack("<4I", mini_start, len(mini.table()) // _SECTOR, _END, 0)
    return header + places + bytes(body.data) + body.table()


class _Sectors:
    """Sectors of one size, and which follows which."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.chain: list[int] = []

    def append(self, content: bytes) -> int:
        """Add a stream, and return its first sector."""
        if not content:
            return _END
        first, count = len(self.chain), -(-len(content) // self.size)
        self.chain += [*range(first + 1, first + count), _END]
        self.data += content.ljust(count * self.size, b"\0")
        return first

    def table(self) -> bytes:
        """The allocation table, in full sectors of the file."""
        table = struct.pack(f"<{len(self.chain)}I", *self.chain)
        return table.ljust(-(-len(table) // _SECTOR) * _SECTOR, b"\xff")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _tree(paths: Sequence[str], number: Mapping[str, int], links: dict[str, tuple[int, int]]) -> int:
    """Arrange siblings as the binary tree that the format asks for, and return its top."""
    if not paths:
        return _FREE
    ordered = sorted(paths, key=lambda path: (len(path), path.upper()))
    middle = len(ordered) // 2
    links[ordered[middle]] = _tree(ordered[:middle], number, links), _tree(ordered[middle + 1 :], number, links)
    return number[ordered[middle]]


def _entry(name: str, kind: int, links: tuple[int, int, int], start: int, size: int) -> bytes:
    encoded = (name + "\0").encode("utf-16-le") if name else b""
    black = 1
    return struct.pack("<64sHBB3I36xIQ", encoded, len(encoded), kind, black, *links, start, size)
