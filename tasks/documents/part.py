"""Taking pages out of a PDF or a TIFF, as a program of its own: `part.py FORMAT FILE FIRST LAST TO`.

Run by `tasks.documents.parts`. Imports nothing of the project, and no more libraries than the format needs, so
that it starts fast and from anywhere.
"""

import io
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

BROKEN, ENCRYPTED, MACHINE = 10, 11, 12  # how it ends, other than well
_MOST_INFLATED = 64 << 20
_MOST_MEMORY = 1 << 30  # beyond the document itself, which is mapped


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
        frames = _frames(content, last)
        if last > len(frames):
            raise ValueError(f"page {len(frames) + 1} cannot be found")
        tifftools.write_tiff(frames[first - 1 : last], to, allowExisting=True)


def _frames(tiff: BinaryIO, most: int) -> list[Any]:
    """Read where the data of the first frames lies. tifftools' own reading ends when the chain of frames does."""
    from tifftools.tifftools import read_ifd

    size = tiff.seek(0, os.SEEK_END)
    tiff.seek(0)
    header = tiff.read(16)
    order = ">" if header[:2] == b"MM" else "<"
    big = header[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack_from(f"{order}Q", header, 8)[0] if big else struct.unpack_from(f"{order}L", header, 4)[0]
    info = {"path_or_fobj": tiff, "size": size, "bigEndian": order == ">", "endianPack": order, "bigtiff": big}
    frames: list[Any] = []
    while offset and len(frames) < most:
        offset = read_ifd(tiff, info, offset, frames)
    return frames


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
