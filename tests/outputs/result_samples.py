"""Results with words in real places, in every answer shape."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Lines = Sequence[str]
"""The lines of a page, their words divided by spaces."""

WIDTH, HEIGHT = 1000, 1400
SHAPES = ("newer", "older", "clova", "google responses", "google document")


def corners(line: int, first: int, length: int) -> list[tuple[float, float]]:
    """The box, in pixels, of a word on a line that begins after so many letters."""
    left, top, right, bottom = 100 + 20 * first, 100 + 50 * line, 100 + 20 * (first + length), 130 + 50 * line
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def placed(lines: Lines) -> list[list[tuple[str, float, list[tuple[float, float]]]]]:
    """The words of each line: text, confidence, corners."""
    found, number = [], 0
    for at, line in enumerate(lines):
        words, first = [], 0
        for text in line.split():
            words.append((text, round(0.5 + 0.05 * (number % 10), 2), corners(at, first, len(text))))
            first += len(text) + 1
            number += 1
        found.append(words)
    return found


def _vertices(box: Sequence[tuple[float, float]], across: float = 1, down: float = 1) -> Json:
    return {"vertices": [{"x": x / across, "y": y / down} for x, y in box]}


def _own(lines: Lines, number: int, *, older: bool) -> Json:
    words: list[Json] = []
    for text, confidence, box in (word for line in placed(lines) for word in line):
        place = {"boundingBox": _vertices(box)} if older else {"bounding_box": _vertices(box, WIDTH, HEIGHT)}
        words.append({"id": len(words), "text": text, "confidence": confidence, **place})
    page: Json = {"id": number, "text": " \n".join(lines), "words": words}
    return page | ({"width": WIDTH, "height": HEIGHT, "confidence": 0.9} if older else {})


def _clova(lines: Lines) -> Json:
    fields = [
        {"inferText": text, "inferConfidence": confidence, "boundingPoly": _vertices(box), "lineBreak": n == len(line)}
        for line in placed(lines)
        for n, (text, confidence, box) in enumerate(line, 1)
    ]
    size = {"width": WIDTH, "height": HEIGHT, "pageIndex": 0}
    return {"inferResult": "SUCCESS", "fields": fields, "convertedImageInfo": size}


def _google_page(lines: Lines) -> Json:
    words = []
    for line in placed(lines):
        for n, (text, confidence, box) in enumerate(line, 1):
            mark = {"detectedBreak": {"type": "LINE_BREAK" if n == len(line) else "SPACE"}}
            symbols: list[Json] = [{"text": letter} for letter in text]
            symbols[-1]["property"] = mark
            words.append({"boundingBox": _vertices(box), "confidence": confidence, "symbols": symbols})
    return {"width": WIDTH, "height": HEIGHT, "blocks": [{"paragraphs": [{"words": words}]}]}


def answer(pages: Sequence[Lines], shape: str = "newer") -> Json:
    """An answer with these pages."""
    match shape:
        case "newer":
            return {"api": "2.0", "pages": [_own(lines, n, older=False) for n, lines in enumerate(pages)]}
        case "older":
            return {"apiVersion": "1.1", "pages": [_own(lines, n, older=True) for n, lines in enumerate(pages)]}
        case "clova":
            return {"version": "V2", "images": [_clova(lines) for lines in pages]}
        case "google responses":
            texts = ["".join(f"{line}\n" for line in lines) for lines in pages]
            return {
                "responses": [
                    {"fullTextAnnotation": {"pages": [_google_page(lines)], "text": text}}
                    for lines, text in zip(pages, texts, strict=True)
                ]
            }
        case _:
            return {"fullTextAnnotation": {"pages": [_google_page(lines) for lines in pages]}}


def write_result(file: Path, pages: Sequence[Lines], shape: str = "newer") -> Path:
    """Write a result."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(answer(pages, shape), ensure_ascii=False), encoding="utf-8")
    return file
