"""Writes files through C++ libraries, which cannot report a failed write."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast


class _FailureKeeper(io.RawIOBase):
    """Remembers a failed write (a full disk), because qpdf would abort the whole process."""

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


@contextmanager
def written(to: Path) -> Iterator[BinaryIO]:
    """Open a new file for a library to write to.

    Raises:
        OSError: a write failed; raised when the library is done.
    """
    with to.open("wb") as out:
        keeper = _FailureKeeper(out)
        yield cast(BinaryIO, keeper)
        if keeper.failure is not None:
            raise keeper.failure
