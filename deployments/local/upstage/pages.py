"""The interface of an open document for the recognisers, independent of its format."""

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
        """Return width and height of a page in pixels; at 150 DPI if it is not an image."""

    def picture(self, index: int, longest_side: int) -> Image.Image:
        """Return a page as an RGB picture whose sides are at most this long."""

    def text_layer(self, index: int) -> list[LineOfWords]:
        """Return the words in a page's text layer, with left, top, right and bottom in pixels."""
