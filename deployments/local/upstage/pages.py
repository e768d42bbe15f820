"""What an open document is to the recognisers, whatever its format."""

from __future__ import annotations

from typing import Protocol

from PIL import Image

DPI = 150

Size = tuple[int, int]
LineOfWords = list[tuple[str, tuple[int, int, int, int]]]


class Pages(Protocol):
    """The pages of an open document, counted from 0."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> Size:
        """Width and height of a page in pixels; of what is no image, at 150 DPI."""

    def picture(self, index: int, longest_side: int) -> Image.Image:
        """A page as an RGB picture with sides no longer than this."""

    def text_layer(self, index: int) -> list[LineOfWords]:
        """The words that a page holds as text, with left, top, right and bottom in pixels."""
