"""An object as a file that is read where its reader looks, and nowhere else: a few blocks of a large document."""

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO, cast

_BLOCK = 64 * 1024
_CALL = 512 * 1024
"""Bytes that a call is worth: what could be transferred in the time that it takes."""


class TooManyReads(OSError):
    """Reading it as a whole is cheaper by now."""


class RangedFile(io.RawIOBase):
    """Reads an object in blocks, each of them once.

    Args:
        read: gets so many bytes from a place on.
        size: the object's, in bytes.

    Attributes:
        given_up: whether more was asked for than is worth while. Libraries may hide that they met an exception, so
            whatever was made of this file is to be thrown away then.
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
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; costs nothing."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what lies in the present block.

        Raises:
            TooManyReads: the object is read as a whole instead.
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
    """The same with reads of any length, as libraries expect them of a file."""
    return cast(BinaryIO, io.BufferedReader(ranged, _BLOCK))
