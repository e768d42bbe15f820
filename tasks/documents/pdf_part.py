"""Taking pages out of a PDF, as a program of its own: `pdf_part.py FILE FIRST LAST TO`.

Run by `tasks.documents.pages`. Imports nothing of the project, so that it starts fast and from anywhere.
"""

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import pikepdf

BROKEN, ENCRYPTED, MACHINE = 10, 11, 12  # how it ends, other than well
# What the library was seen to raise over damaged documents; qpdf's errors that are no PdfError are RuntimeErrors.
BROKEN_PDF = (pikepdf.PdfError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
_MOST_INFLATED = 64 << 20
_MOST_MEMORY = 1 << 30  # beyond the document itself, which is mapped


def bound_memory() -> None:
    """Let qpdf inflate no stream beyond what a document can need for its own structure. Images are not inflated."""
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


def extract(file: Path, first: int, last: int, to: Path) -> None:
    """Write some pages of a PDF as a PDF."""
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


def _main(file: str, first: str, last: str, to: str) -> int:
    bound_memory()
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _MOST_MEMORY + 2 * Path(file).stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        extract(Path(file), int(first), int(last), Path(to))
    except pikepdf.PasswordError:
        return ENCRYPTED
    except BROKEN_PDF as error:
        print(str(error).encode("ascii", "replace").decode())
        return BROKEN
    except OSError as error:
        print(error.errno or 0)
        return MACHINE
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
