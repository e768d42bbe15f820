"""Puts requests and pages into the API's JSON."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

from deployments.local.upstage.jobs import model_snapshot
from deployments.local.upstage.recognise import Page
from deployments.local.upstage.schemas import Json, clova, google, mean
from deployments.local.upstage.settings import Settings
from deployments.local.upstage.store import AnswerSchema, Batch, OcrRequest, plan_batches


def expired(request: OcrRequest, settings: Settings) -> bool:
    """Say whether a request is so old that the API has forgotten it."""
    return request.completed is not None and time.time() > request.completed + settings.limits.result_seconds


def request_list(requests: Iterable[OcrRequest], settings: Settings) -> Json:
    """All asynchronous requests, newest first."""
    known = [r for r in requests if r.mode == "async" and not expired(r, settings)]
    fields = ("id", "status", "model", "requested_at", "completed_at")
    return {"requests": [{field: getattr(request, field) for field in fields} for request in reversed(known)]}


def status(request: OcrRequest, settings: Settings, sign: Callable[[int], str]) -> Json:
    """The answer to a status call.

    Args:
        request: what is asked about.
        settings: how it is to look.
        sign: makes a fresh download URL for a batch.

    Returns:
        The JSON.
    """
    answer: Json = {
        "id": request.id,
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
            "model": model_snapshot(request.model),
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
    """The result of a sync request or of one batch.

    Args:
        request: what was asked for: which model, which schema.
        pages: the pages.
        first_page: where the first of them stands in the document, from 1.
        settings: which shape, and how pages are numbered.

    Returns:
        The JSON.
    """
    start = {"restart": 0, "document": first_page - 1, "one": 1}[settings.page_ids]
    first_number = first_page if settings.page_ids == "document" else 1
    if request.answer_schema is AnswerSchema.CLOVA:
        return clova(request, pages, start)
    if request.answer_schema is AnswerSchema.GOOGLE:
        return google(pages, first_number, settings.google_form)
    if settings.shape == "new":
        return {
            "api": "2.0",
            "model": model_snapshot(request.model),
            "pages": [_new_page(page, start + index) for index, page in enumerate(pages)],
            "usage": {"pages": len(pages)},
        }
    return {
        "apiVersion": "1.1",
        "confidence": mean(_confidence(page) for page in pages),
        "metadata": {
            "pages": [
                {"page": first_number + index, "width": page.width, "height": page.height}
                for index, page in enumerate(pages)
            ]
        },
        "mimeType": "multipart/form-data",
        "modelVersion": model_snapshot(request.model),
        "numBilledPages": len(pages),
        "pages": [_old_page(page, start + index) for index, page in enumerate(pages)],
        "stored": True,
        "text": "\n".join(page.text for page in pages),
    }


def _old_page(page: Page, number: int) -> Json:
    return {
        "id": number,
        "width": page.width,
        "height": page.height,
        "confidence": _confidence(page),
        "text": page.text,
        "words": [
            {
                "id": index,
                "text": word.text,
                "confidence": word.confidence,
                "boundingBox": {"vertices": [{"x": x, "y": y} for x, y in word.corners]},
            }
            for index, word in enumerate(page.words)
        ],
    }


def _new_page(page: Page, number: int) -> Json:
    return {
        "id": number,
        "text": page.text,
        "words": [
            {
                "id": index,
                "text": word.text,
                "confidence": word.confidence,
                "bounding_box": {
                    "vertices": [
                        {"x": round(x / page.width, 6), "y": round(y / page.height, 6)} for x, y in word.corners
                    ]
                },
            }
            for index, word in enumerate(page.words)
        ],
    }


def _confidence(page: Page) -> float:
    return mean(word.confidence for word in page.words)
