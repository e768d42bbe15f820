"""Taking pages out of a PDF or a TIFF, as a program of its own: `part.py FORMAT FILE FIRST LAST TO`.

Run by `tasks.documents.parts`. Imports nothing of the project, and no more libraries than the format needs, so
that it starts fast and from anywhere.
"""

import io
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

BROKEN, ENCRYPTED, MACHINE = 10, 11, 12  # how it ends, other than well
_MOST_INFLATED = 64 << 20
_MOST_MEMORY = 1 << 30  # beyond the document itself, which is mapped
_MOST_SHARED = 64 << 20  # bytes that the pages of a TIFF may share: each gets its own


def bound_memory() -> None:
    """Let qpdf inflate no stream beyond what a document can need for its own structure. Images are not inflated."""
    import pikepdf

    # Older releases of pikepdf have no such settings.
    set_limits = getattr(pikepdf.settings, "set_qpdf_limits", None)
    if set_limits is not None:
        set_limits(
            flate_max_memory=_MOST_INFLATED,
            run_length_max_memory=_MOST_INFLATED,
            png_max_memory=_MOST_INFLATED,
            tiff_max_memory=_MOST_INFLATED,
        )


class _FailureKeeper(io.RawIOBase):
    """Keeps a failed write for later: qpdf ends the whole process when it meets one (a full disk)."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        length = len(data)
        if self.failure is None:
            try:
                self._out.write(data)
            except OSError as error:
                self.failure = error
        return length


def extract_pdf(file: Path, first: int, last: int, to: Path) -> None:
    """Write some pages of a PDF as a PDF."""
    import pikepdf

    bound_memory()
    # Mapped, not read: a long document costs no memory.
    with pikepdf.open(file, access_mode=pikepdf.AccessMode.mmap) as pdf, pikepdf.new() as part:
        for page in range(first - 1, last):
            part.pages.append(pdf.pages[page])
        part.remove_unreferenced_resources()
        with to.open("wb") as out:
            keeper = _FailureKeeper(out)
            part.save(cast(BinaryIO, keeper), deterministic_id=True, stream_decode_level=pikepdf.StreamDecodeLevel.none)
            if keeper.failure is not None:
                raise keeper.failure


def extract_tiff(file: Path, first: int, last: int, to: Path) -> None:
    """Write some frames of a TIFF as a TIFF, packed as they are."""
    import tifftools

    with file.open("rb") as content:
        frames = _Frames(content, first, last)
        # It asks for the frames one by one, and a frame's list of strips may be longer than the frame.
        tifftools.write_tiff(frames, to, bigEndian=frames.order == ">", bigtiff=frames.big, allowExisting=True)


class _Frugal:
    """A TIFF of which no more is read than it is long: a list of frames within a frame can be a ring."""

    _LEAST = 64  # what reading a few bytes counts as, since it takes its time
    _MORE = 1 << 20  # what frames may share, such as a palette, is read more than once

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = self._size = file.seek(0, os.SEEK_END)
        self.renew()

    def renew(self) -> None:
        """Grant the reading anew, for another frame."""
        self._left = self._size + self._MORE

    def read(self, size: int) -> bytes:
        self._left -= max(size, self._LEAST)
        if self._left < 0:
            raise ValueError("one of its frames has no end")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Frames:
    """Some frames, and where the data of each lies: read when they are asked for, as often as they are asked for.

    tifftools' own reading ends when the chain of frames does, which may be a ring.
    """

    def __init__(self, tiff: BinaryIO, first: int, last: int) -> None:
        self._tiff, self._first, self._last = tiff, first, last
        self._size = tiff.seek(0, os.SEEK_END)
        tiff.seek(0)
        header = tiff.read(16)
        self.order = ">" if header[:2] == b"MM" else "<"
        self.big = header[2:4] in (b"+\0", b"\0+")
        self._start = self._number(header[8:] if self.big else header[4:8], "Q" if self.big else "L")

    def __iter__(self) -> Iterator[Any]:
        from tifftools.tifftools import read_ifd

        tiff, offset, held = _Frugal(self._tiff), self._start, 0
        info = {
            "path_or_fobj": self._tiff,
            "size": self._size,
            "bigEndian": self.order == ">",
            "endianPack": self.order,
            "bigtiff": self.big,
        }
        for number in range(1, self._last + 1):
            if not 0 < offset < self._size:
                raise ValueError(f"page {number} cannot be found")
            if number < self._first:
                offset = self._following(offset)
                continue
            tiff.renew()
            frame: list[Any] = []
            offset = read_ifd(tiff, info, offset, frame) or 0
            if not frame:
                raise ValueError(f"page {number} cannot be found")
            held += _held(frame[0])
            if held > 2 * self._size + _MOST_SHARED:  # it would fill the disk
                raise ValueError("its pages are of the same data, many times over")
            yield frame[0]

    def _following(self, offset: int) -> int:
        """Where the next frame is described; the description of this one is passed over."""
        count, entry, place = ("Q", 20, "Q") if self.big else ("H", 12, "L")
        self._tiff.seek(offset)
        length = self._number(self._tiff.read(struct.calcsize(f"={count}")), count) * entry
        if self._tiff.tell() + length > self._size:
            raise ValueError("the descriptions of its pages are longer than it is")
        self._tiff.seek(length, os.SEEK_CUR)
        return self._number(self._tiff.read(struct.calcsize(f"={place}")), place)

    def _number(self, data: bytes, kind: str) -> int:
        return int(struct.unpack(self.order + kind, data)[0])


def _held(frame: Any) -> int:
    """How many bytes a frame's strips and tiles are, those of the frames within it included."""
    tags, held = frame["tags"], 0
    for places, lengths in ((273, 279), (324, 325)):
        if places in tags and lengths in tags:
            held += sum(length for _, length in set(zip(tags[places]["data"], tags[lengths]["data"], strict=False)))
    inner = (each for tag in tags.values() for chain in tag.get("ifds", ()) for each in chain)
    return held + sum(map(_held, inner))


def _main(form: str, file: str, first: str, last: str, to: str) -> int:
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _MOST_MEMORY + 2 * Path(file).stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        extract = extract_tiff if form == "TIFF" else extract_pdf
        extract(Path(file), int(first), int(last), Path(to))
    except OSError as error:
        print(error.errno or 0)
        return MACHINE
    except Exception as error:  # noqa: BLE001  # whatever a damaged document makes a library raise
        print((str(error) or type(error).__name__).encode("ascii", "replace").decode())
        return ENCRYPTED if type(error).__name__ == "PasswordError" else BROKEN
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
