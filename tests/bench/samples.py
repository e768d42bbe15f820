"""Answers of any form, as large as those of dense pages."""

import random
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]
Word = tuple[str, float, list[tuple[float, float]]]


def words_of(page: int, count: int) -> list[Word]:
    """The words of a page, the same each time: text, confidence and the corners of a box, as ratios."""
    rolled = random.Random(page)
    made = []
    for _ in range(count):
        x, y = rolled.random(), rolled.random()
        text = "".join(rolled.choices("abcdefghijklmnopqrstuvwxyzäöü가나다라", k=rolled.randint(2, 9)))
        made.append((text, rolled.random(), [(x, y), (x + 0.05, y), (x + 0.05, y + 0.01), (x, y + 0.01)]))
    return made


def _text(words: Sequence[Word]) -> str:
    return " ".join(text for text, _, _ in words) + "\n"


def _ratios(box: list[tuple[float, float]]) -> Json:
    return {"vertices": [{"x": x, "y": y} for x, y in box]}


def _pixels(box: list[tuple[float, float]]) -> Json:
    return {"vertices": [{"x": round(x * 2480), "y": round(y * 3508)} for x, y in box]}


def _newer(pages: Sequence[list[Word]]) -> Json:
    made = [
        {
            "id": number,
            "text": _text(words),
            "words": [
                {"id": place, "text": text, "confidence": confidence, "bounding_box": _ratios(box)}
                for place, (text, confidence, box) in enumerate(words)
            ],
        }
        for number, words in enumerate(pages)
    ]
    return {"api": "2.0", "model": "ocr-250904", "pages": made, "usage": {"pages": len(pages)}}


def _older(pages: Sequence[list[Word]]) -> Json:
    size = {"width": 2480, "height": 3508}
    made = [
        {
            "id": number,
            **size,
            "confidence": 0.9,
            "text": _text(words),
            "words": [
                {"id": place, "text": text, "confidence": confidence, "boundingBox": _pixels(box)}
                for place, (text, confidence, box) in enumerate(words)
            ],
        }
        for number, words in enumerate(pages)
    ]
    return {
        "apiVersion": "1.1",
        "confidence": 0.9,
        "metadata": {"pages": [{"page": number, **size} for number, _ in enumerate(pages, 1)]},
        "numBilledPages": len(pages),
        "pages": made,
        "text": "\n".join(map(_text, pages)),
    }


def _clova(pages: Sequence[list[Word]]) -> Json:
    images = [
        {
            "uid": f"page{number}",
            "inferResult": "SUCCESS",
            "convertedImageInfo": {"width": 2480, "height": 3508, "pageIndex": number},
            "fields": [
                {
                    "valueType": "ALL",
                    "boundingPoly": _pixels(box),
                    "inferText": text,
                    "inferConfidence": confidence,
                    "lineBreak": place % 10 == 9,
                }
                for place, (text, confidence, box) in enumerate(words)
            ],
        }
        for number, words in enumerate(pages)
    ]
    return {"version": "V2", "requestId": "r", "timestamp": 1, "images": images}


def _google_page(words: Sequence[Word]) -> Json:
    made: list[Json] = []
    for text, confidence, box in words:
        symbols: list[Json] = [{"text": letter, "confidence": confidence} for letter in text]
        symbols[-1]["property"] = {"detectedBreak": {"type": "SPACE"}}
        made.append({"boundingBox": _pixels(box), "confidence": confidence, "symbols": symbols})
    made[-1]["symbols"][-1]["property"] = {"detectedBreak": {"type": "LINE_BREAK"}}
    return {"width": 2480, "height": 3508, "blocks": [{"blockType": "TEXT", "paragraphs": [{"words": made}]}]}


def _entries(text: str, words: Sequence[Word]) -> list[Json]:
    whole = {"locale": "ko", "description": text, "boundingPoly": _pixels([(0, 0), (1, 0), (1, 1), (0, 1)])}
    return [whole, *({"description": text, "boundingPoly": _pixels(box)} for text, _, box in words)]


def _responses(pages: Sequence[list[Word]]) -> Json:
    return {
        "responses": [
            {
                "fullTextAnnotation": {"pages": [_google_page(words)], "text": _text(words)},
                "textAnnotations": _entries(_text(words), words),
                "context": {"pageNumber": number},
            }
            for number, words in enumerate(pages, 1)
        ]
    }


def _document(pages: Sequence[list[Word]]) -> Json:
    text = "".join(map(_text, pages))
    return {
        "fullTextAnnotation": {"pages": [_google_page(words) for words in pages], "text": text},
        "textAnnotations": _entries(text, [word for words in pages for word in words]),
    }


FORMS: dict[str, Callable[[Sequence[list[Word]]], Json]] = {
    "newer": _newer,
    "older": _older,
    "clova": _clova,
    "google responses": _responses,
    "google document": _document,
}


def answer(form: str, pages: int, words: int = 500) -> Json:
    """An answer with so many pages of so many words."""
    return FORMS[form]([words_of(page, words) for page in range(pages)])
