"""Formats requests and pages as the API's JSON."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from itertools import count

from deployments.local.upstage.formats import Format
from deployments.local.upstage.recognise import Page
from deployments.local.upstage.schemas import Json, clova, google, mean
from deployments.local.upstage.settings import Settings
from deployments.local.upstage.store import AnswerSchema, Batch, OcrRequest, plan_batches


def expired(request: OcrRequest, settings: Settings) -> bool:
    """Return whether a request is so old that the API has forgotten it."""
    return request.completed is not None and time.time() > request.completed + settings.limits.result_seconds


_IMAGES = frozenset({Format.PNG, Format.JPEG, Format.BMP, Format.TIFF, Format.HEIC})


def shown_id(request_id: str) -> str | int:
    """Return a request's id as it appears in answers: as a number if it is numeric."""
    return int(request_id) if request_id.isdecimal() else request_id


def _model(asked: str, settings: Settings) -> str:
    """Return the model that is used, which may be requested by an alias."""
    return settings.model_snapshot if asked == "ocr" else asked


def request_list(requests: Iterable[OcrRequest], settings: Settings) -> Json:
    """Return all asynchronous requests, newest first."""
    known = [r for r in requests if r.mode == "async" and not expired(r, settings)]
    fields = ("status", "model", "requested_at", "completed_at")
    return {
        "requests": [
            {"id": shown_id(request.id)} | {field: getattr(request, field) for field in fields}
            for request in reversed(known)
        ]
    }


def status(request: OcrRequest, settings: Settings, sign: Callable[[int], str]) -> Json:
    """Return the answer to a status call.

    Args:
        request: the request.
        settings: the format of the answer.
        sign: creates a fresh download URL for a batch.

    Returns:
        The JSON.
    """
    answer: Json = {
        "id": shown_id(request.id),
        "status": request.status,
        "model": request.model,
        "failure_message": request.failure_message,
        "total_pages": request.pages,
        "completed_pages": request.completed_pages,
        "batches": None,
        "requested_at": request.requested_at,
        "completed_at": request.completed_at,
    }
    if request.batches is not None:
        answer["batches"] = _batches(request, request.batches, settings, sign)
    elif settings.unfinished_batches == "list":
        planned = plan_batches(request.pages, settings.limits.batch_pages, request.requested_at)
        answer["batches"] = _batches(request, planned, settings, sign)
    elif settings.unfinished_batches == "empty":
        answer["batches"] = []
    elif settings.unfinished_batches == "missing":
        del answer["batches"]
    return answer


def _batches(request: OcrRequest, batches: list[Batch], settings: Settings, sign: Callable[[int], str]) -> list[Json]:
    listed: list[Json] = []
    retried: list[Json] = []
    for batch in batches:
        entry: Json = {
            "id": batch.id,
            "model": _model(request.model, settings),
            "status": batch.status,
            "failure_message": batch.failure_message,
            "download_url": sign(batch.id) if batch.status == "completed" else "",
            "start_page": batch.start_page,
            "end_page": batch.end_page,
            "requested_at": batch.requested_at,
            "updated_at": batch.updated_at,
        }
        if batch.fate == "duplicated":
            first_try: Json = {"download_url": "", "status": "retrying" if batch.id % 2 else "failed"}
            listed.append({**entry, **first_try, "failure_message": "recognition failed"})
            retried.append({**entry, "id": len(batches) + batch.id})
        elif batch.fate != "dropped":
            listed.append(entry)
    listed += retried
    if settings.batch_order == "reversed":
        listed.reverse()
    elif settings.batch_order == "shuffled":
        random.Random(request.id).shuffle(listed)
    return listed


def body(request: OcrRequest, pages: list[Page], first_page: int, settings: Settings) -> Json:
    """Return the result of a sync request or of one batch.

    Args:
        request: the request, with model and schema.
        pages: the pages.
        first_page: the number of the first of them in the document, from 1.
        settings: the face, and how pages are numbered.

    Returns:
        The JSON.
    """
    start = {"restart": 0, "document": first_page - 1, "one": 1}[settings.page_ids]
    first_number = first_page if settings.page_ids == "document" else 1
    if request.answer_schema is AnswerSchema.CLOVA:
        return clova(request, pages, start)
    if request.answer_schema is AnswerSchema.GOOGLE:
        return google(pages, first_number, settings.google_form)
    if settings.face == "documented":
        return _documented(pages, start, _model(request.model, settings))
    drawn = request.format not in _IMAGES
    return _recorded(pages, start, first_number, _model(request.model, settings), drawn=drawn)


def _documented(pages: list[Page], start: int, model: str) -> Json:
    """Return the newer shape: coordinates are ratios."""
    words = count()
    return {
        "api": "2.0",
        "model": model,
        "pages": [
            {
                "id": number,
                "text": page.text,
                "words": [
                    {
                        "id": next(words),
                        "text": word.text,
                        "confidence": word.confidence,
                        "bounding_box": {
                            "vertices": [
                                {"x": round(x / page.width, 6), "y": round(y / page.height, 6)} for x, y in word.corners
                            ]
                        },
                    }
                    for word in page.words
                ],
            }
            for number, page in enumerate(pages, start)
        ],
        "usage": {"pages": len(pages)},
    }


def _recorded(pages: list[Page], start: int, first_number: int, model: str, *, drawn: bool) -> Json:
    """Return the older shape: pixel coordinates, words numbered over the whole answer, keys in alphabetical order."""
    sizes = [_recorded_size(page, first_number + place, drawn=drawn) for place, page in enumerate(pages)]
    words = count()
    listed = [
        {
            "confidence": _confidence(page),
            "height": height,
            "id": number,
            "text": _recorded_text(page),
            "width": width,
            "words": [
                {
                    "boundingBox": {"vertices": [{"x": x, "y": y} for x, y in word.corners]},
                    "confidence": word.confidence,
                    "id": next(words),
                    "text": word.text,
                }
                for word in page.words
            ],
        }
        for number, (page, (width, height)) in enumerate(zip(pages, sizes, strict=True), start)
    ]
    return {
        "apiVersion": "1.1",
        "confidence": min(_confidence(page) for page in pages) if pages else 0.0,
        "metadata": {
            "pages": [
                {"height": height, "page": number, "width": width}
                for number, (width, height) in enumerate(sizes, first_number)
            ]
        },
        "mimeType": "multipart/form-data",
        "modelVersion": model,
        "numBilledPages": len(pages),
        "pages": listed,
        "stored": False,
        "text": "".join(_recorded_text(page) for page in pages),
    }


def _recorded_size(page: Page, number: int, *, drawn: bool) -> tuple[int, int]:
    """Return width and height. A4 pages that are not images were recorded as 1240 or 1242 by 1755 pixels, although 150
    DPI gives 1240 by 1754."""
    return (page.width + number % 2 * 2, page.height + 1) if drawn else (page.width, page.height)


def _recorded_text(page: Page) -> str:
    """Return the text of a page, in which each line except the last ends with a space."""
    return " \n".join(page.text.splitlines())


def _confidence(page: Page) -> float:
    return mean(word.confidence for word in page.words)
