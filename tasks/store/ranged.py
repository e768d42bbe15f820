"""An object as a seekable file that is downloaded block by block: to read small parts of a large document."""

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO, cast

_BLOCK = 64 * 1024
_CALL = 512 * 1024
"""The cost of a call in bytes: what could be transferred in the same time."""


class TooManyReads(OSError):
    """Reading the whole object has become cheaper."""


class RangedFile(io.RawIOBase):
    """Reads an object in blocks, each at most once.

    Args:
        read: reads bytes at an offset: takes start and length.
        size: the object's size in bytes.

    Attributes:
        given_up: whether reading in blocks was given up as too expensive. Libraries may swallow the exception, so
            anything that was read through this file has to be discarded.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read, self._size = read, size
        self._blocks: dict[int, bytes] = {}
        self._at = 0
        self.given_up = False

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Return the offset of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, without any call."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the current block.

        Raises:
            TooManyReads: reading the whole object has become cheaper.
        """
        target = memoryview(buffer).cast("B")
        number, start = divmod(self._at, _BLOCK)
        if self._at >= self._size or not len(target):
            return 0
        piece = self._block(number)[start : start + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if (len(self._blocks) + 1) * (_BLOCK + _CALL) > self._size:
                self.given_up = True
                raise TooManyReads("it is cheaper to read this document as a whole")
            start = number * _BLOCK
            self._blocks[number] = self._read(start, min(_BLOCK, self._size - start))
        return self._blocks[number]


def opened(ranged: RangedFile) -> BinaryIO:
    """Wrap the file so that reads may have any length, as libraries expect."""
    return cast(BinaryIO, io.BufferedReader(ranged, _BLOCK))
