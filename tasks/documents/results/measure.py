"""Measures a result while its pages are written: words, blank pages, confidence, billed pages. Only totals are kept."""

from collections.abc import Mapping
from typing import Any

from tasks.documents.results.batch import Form
from tasks.documents.results.words import page_confidences
from tasks.job.coverage import Piece
from tasks.job.record import CONFIDENCE_BINS, Confidence, Measured

_DIGITS = 6


class Measurer:
    """Adds up the measurements of one result."""

    def __init__(self) -> None:
        self._words = self._blank = 0
        self._bins = [0] * CONFIDENCE_BINS
        self._sum, self._least = 0.0, 1.0
        self._billed: int | None = 0
        self._pieces: set[tuple[str, int, int]] = set()

    def add(self, form: Form, unit: Mapping[str, Any]) -> int:
        """Add a unit of a result: a page, an image or a response. Returns its words."""
        bins, words = self._bins, 0
        for confidences, blank in page_confidences(form, unit):
            words += len(confidences)
            self._blank += blank
            for value in confidences:
                if type(value) in (float, int) and 0 <= value <= 1:  # anything else is not a confidence
                    bins[min(int(value * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
                    self._sum += value
                    self._least = min(self._least, value)
        self._words += words
        return words

    def add_billed(self, piece: Piece, billed: Any) -> None:
        """Add the billed pages that an answer reports. An answer that provides several shares counts once."""
        name = (piece.request, piece.pages.first, piece.pages.last)
        if name in self._pieces:
            return
        self._pieces.add(name)
        if type(billed) is not int or billed < 0:
            self._billed = None
        elif self._billed is not None:
            # If an answer reports more pages than it has, the number is that of the whole request.
            self._billed += min(billed, len(piece.pages))

    def measured(self) -> Measured:
        """Return the totals."""
        sure = sum(self._bins)
        confidence = None
        if sure:
            mean = round(self._sum / sure, _DIGITS)
            confidence = Confidence(minimum=self._least, mean=mean, bins=tuple(self._bins))
        return Measured(words=self._words, blank_pages=self._blank, confidence=confidence, billed_pages=self._billed)
