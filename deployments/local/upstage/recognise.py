"""Turns a page into words: by optical character recognition, or quickly and predictably for tests."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy
from PIL import Image
from pydantic import BaseModel, ConfigDict

from deployments.local.upstage.layout import TextPages
from deployments.local.upstage.pages import LineOfWords, Pages

Point = tuple[int, int]


class Word(BaseModel):
    """A word with its confidence and its corners in pixels, clockwise from the top left."""

    model_config = ConfigDict(frozen=True)

    text: str
    confidence: float
    corners: tuple[Point, Point, Point, Point]


class Page(BaseModel):
    """A recognised page."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    text: str
    words: list[Word]


class Recogniser(Protocol):
    """Reads pages. Called by several threads."""

    def page(self, pages: Pages, index: int) -> Page:
        """Recognise one page, counted from 0."""


class OcrRecogniser:
    """Optical character recognition with the models in the rapidocr package.

    Args:
        threads: the number of cores for one page.
    """

    # Lines are scaled to one height before they are read, so more pixels only take more time to find them: 10-point
    # print on A4 is read without mistakes at this size.
    LONGEST_SIDE = 1240
    FIND_LINES_AT = 960

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._engine: Any = None
        self._lock = threading.Lock()

    def page(self, pages: Pages, index: int) -> Page:
        """Recognise one page. Office documents are read from their text: no font here has every script."""
        if isinstance(pages, TextPages):
            return TextRecogniser().page(pages, index)
        width, height = pages.size(index)
        picture = pages.picture(index, self.LONGEST_SIDE)
        across, down = width / picture.width, height / picture.height
        blue_green_red = numpy.asarray(picture)[:, :, ::-1]
        with self._lock:
            lines, words = self._read(blue_green_red)
        return Page(
            width=width,
            height=height,
            text="\n".join(lines),
            words=[
                Word(text=text, confidence=round(score, 4), corners=_scaled(corners, across, down))
                for text, score, corners in words
            ],
        )

    def _read(self, picture: Any) -> tuple[list[str], list[tuple[str, float, Any]]]:
        if self._engine is None:
            self._engine = _engine(self._threads)
        try:
            output = self._engine(picture, return_word_box=True)
        except IndexError:
            # rapidocr 3.10 fails if a line has no word boxes; the lines themselves are good.
            output = self._engine(picture, return_word_box=False)
        if output.txts is None or output.boxes is None:
            return [], []
        words = [word for line in output.word_results if isinstance(line, tuple) for word in line]
        if not words or any(len(word) != 3 or word[2] is None for word in words):
            words = list(zip(output.txts, output.scores, output.boxes, strict=True))
        return list(output.txts), [(text, float(score), corners) for text, score, corners in words if text.strip()]


def _engine(threads: int) -> Any:
    import rapidocr

    models = Path(rapidocr.__file__).parent / "models"
    engine = rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            # Explicit paths: a missing model is then an error instead of a download.
            "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
            "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
            "Det.limit_side_len": OcrRecogniser.FIND_LINES_AT,
            "Det.limit_type": "max",
            # Lines in a batch are padded to the longest. One by one is a quarter faster, and the result of a line does
            # not depend on its neighbours.
            "Rec.rec_batch_num": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    # A page without text must not cause a warning on the terminal.
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return engine


def _scaled(corners: Any, across: float, down: float) -> tuple[Point, Point, Point, Point]:
    first, second, third, fourth = ((round(float(x) * across), round(float(y) * down)) for x, y in corners)
    return first, second, third, fourth


class TextRecogniser:
    """Uses the text of PDFs and office documents; for pictures, it makes up words from a hash of the pixels.

    A page always has the same words, whether alone or in a longer document. A page of a single colour has no words.
    """

    LONGEST_SIDE = 248

    def page(self, pages: Pages, index: int) -> Page:
        """Return the words of one page."""
        width, height = pages.size(index)
        lines = pages.text_layer(index)
        if not lines:
            lines = _words_from_pixels(pages.picture(index, self.LONGEST_SIDE), width, height)
        return Page(
            width=width,
            height=height,
            text="\n".join(" ".join(text for text, _ in line) for line in lines),
            words=[
                Word(
                    text=text,
                    confidence=round(0.9 + (sum(text.encode()) % 1000) / 10_000, 4),
                    corners=((left, top), (right, top), (right, bottom), (left, bottom)),
                )
                for line in lines
                for text, (left, top, right, bottom) in line
            ],
        )


def _words_from_pixels(picture: Image.Image, width: int, height: int) -> list[LineOfWords]:
    grey = picture.convert("L")
    darkest, lightest = grey.getextrema()
    if darkest == lightest:
        return []
    digest = hashlib.sha256(f"{width}x{height}".encode() + grey.tobytes()).hexdigest()
    texts = [digest[start : start + 5] for start in range(0, 60, 5)]
    lines: list[LineOfWords] = []
    for row in range(2):
        top, bottom = height * (2 * row + 1) // 10, height * (2 * row + 2) // 10
        boxes = [(width * (2 * i + 1) // 14, top, width * (2 * i + 2) // 14, bottom) for i in range(6)]
        lines.append(list(zip(texts[row * 6 : row * 6 + 6], boxes, strict=True)))
    return lines
