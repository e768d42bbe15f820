"""Formats pages like CLOVA OCR and Google Vision, as documented by those services.

How the API itself fills in these forms is a guess, because no sample is published.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Literal

from deployments.local.upstage.recognise import Page, Word
from deployments.local.upstage.store import OcrRequest

Json = dict[str, object]


def mean(values: Iterable[float]) -> float:
    """Return the mean; 0 without values."""
    numbers = list(values)
    return round(fmean(numbers), 4) if numbers else 0.0


def clova(request: OcrRequest, pages: Sequence[Page], first_index: int) -> Json:
    """Return an answer in the form of CLOVA OCR, version 2.

    Args:
        request: the request.
        pages: the pages.
        first_index: the `pageIndex` of the first of them.

    Returns:
        The JSON.
    """
    return {
        "version": "V2",
        "requestId": request.id,
        "timestamp": round(request.accepted * 1000),  # not that of the answer, so that all downloads are identical
        "images": [_image(request, page, first_index + index) for index, page in enumerate(pages)],
    }


def _image(request: OcrRequest, page: Page, index: int) -> Json:
    return {
        "uid": uuid.uuid5(uuid.NAMESPACE_OID, f"{request.id}/{index}").hex,
        "name": request.file_name,
        "inferResult": "SUCCESS",
        "message": "SUCCESS",
        "validationResult": {"result": "NO_REQUESTED"},
        "convertedImageInfo": {"width": page.width, "height": page.height, "pageIndex": index, "longImage": False},
        "fields": [
            {
                "valueType": "ALL",
                "boundingPoly": {"vertices": [{"x": float(x), "y": float(y)} for x, y in word.corners]},
                "inferText": word.text,
                "inferConfidence": word.confidence,
                "type": "NORMAL",
                "lineBreak": word is line[-1],
            }
            for line in lines_of(page)
            for word in line
        ],
    }


def google(pages: Sequence[Page], first_number: int, form: Literal["responses", "document"]) -> Json:
    """Return an answer in the form of Google Vision's document text detection.

    Args:
        pages: the pages.
        first_number: the `pageNumber` of the first of them.
        form: a list with one response for each page, or one response for all pages.

    Returns:
        The JSON.
    """
    if form == "document":
        return _annotations(pages)
    return {
        "responses": [
            # Google omits empty members.
            {**(_annotations([page]) if page.words else {}), "context": {"pageNumber": first_number + index}}
            for index, page in enumerate(pages)
        ]
    }


def _annotations(pages: Sequence[Page]) -> Json:
    text = "\n".join(page.text for page in pages)
    words = [word for page in pages for word in page.words]
    whole: list[Json] = [{"locale": "und", "description": text, "boundingPoly": _around(words)}] if words else []
    return {
        "textAnnotations": whole + [{"description": word.text, "boundingPoly": _poly(word)} for word in words],
        "fullTextAnnotation": {"pages": [_google_page(page) for page in pages], "text": text},
    }


def _google_page(page: Page) -> Json:
    confidence = mean(word.confidence for word in page.words)
    answer: Json = {"width": page.width, "height": page.height, "blocks": [], "confidence": confidence}
    if page.words:
        around = {"boundingBox": _around(page.words), "confidence": confidence}
        words = [_google_word(word, word is line[-1]) for line in lines_of(page) for word in line]
        answer["blocks"] = [{**around, "paragraphs": [{**around, "words": words}], "blockType": "TEXT"}]
    return answer


def _google_word(word: Word, ends_line: bool) -> Json:
    symbols: list[Json] = [{"text": letter, "confidence": word.confidence} for letter in word.text]
    symbols[-1]["property"] = {"detectedBreak": {"type": "LINE_BREAK" if ends_line else "SPACE"}}
    return {"boundingBox": _poly(word), "symbols": symbols, "confidence": word.confidence}


def _poly(word: Word) -> Json:
    return {"vertices": [{"x": x, "y": y} for x, y in word.corners]}


def _around(words: Sequence[Word]) -> Json:
    across = [x for word in words for x, _ in word.corners]
    down = [y for word in words for _, y in word.corners]
    left, top, right, bottom = min(across), min(down), max(across), max(down)
    return {"vertices": [{"x": x, "y": y} for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]}


def lines_of(page: Page) -> list[list[Word]]:
    """Assign the words of a page to the lines of its text.

    Letters are counted, because recognition may not divide a line at its spaces.
    """
    lengths = (len("".join(line.split())) for line in page.text.splitlines())
    ends = list(accumulate(length for length in lengths if length))
    lines: list[list[Word]] = []
    line: list[Word] = []
    letters = 0
    for word in page.words:
        line.append(word)
        letters += len("".join(word.text.split()))
        if ends and letters >= ends[0]:
            ends = [end for end in ends if end > letters]
            lines.append(line)
            line = []
    return [*lines, line] if line else lines
