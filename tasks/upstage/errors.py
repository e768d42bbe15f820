"""What an error answer of the API means: for the moment, for the document, or for the account."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from tasks.faults import AccountFault, AnswerLost, DocumentFault, Fault, MomentFault, NotOffered, TimedOut
from tasks.upstage.words import clean_words

Submission = Literal["async", "sync"]

_LONGEST_BODY = 300
_WRONG_MODEL = re.compile(
    r"\b(invalid|unknown|unsupported|no such)\s+model\b|\bnot allowed\b.*\bmodel\b"
    r"|\bmodel\b.{0,60}\b(not|unknown|invalid|unsupported)\b",
    re.IGNORECASE,
)


def message_of(body: bytes) -> str:
    """The API's own words, from either of its two error bodies, or from whatever else came."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    words: object = None
    if isinstance(data, dict):
        error = data.get("error")
        words = error.get("message") if isinstance(error, dict) else data.get("message") or error
    return clean_words(words if isinstance(words, str) and words else body[:_LONGEST_BODY].decode("utf-8", "replace"))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for; it may hold seconds or a date."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def fault_of(
    status: int, body: bytes, headers: Mapping[str, str], now: datetime, *, submitting: Submission | None
) -> Fault:
    """The fault that an answer other than 2xx means.

    Args:
        status: the HTTP status.
        body: the answer's body.
        headers: the answer's headers, case-insensitive.
        now: the time, for a Retry-After that is a date.
        submitting: how the call sent a document, if it did. A gateway's 502 or 504 then says nothing about
            whether the API behind it took the document.
    """
    said = message_of(body)
    words = f"the API answered {status}" + (f" ({said})" if said else "")
    if status == 401:
        return AccountFault(f"{words}: the API key is refused; check UPSTAGE_API_KEY, or the block that holds it")
    if status in (402, 403):
        return AccountFault(f"{words}: the account has no credit or no permission; top it up or use another key")
    if status == 405:
        return NotOffered(f"{words}: check UPSTAGE_BASE_URL; it must begin with https://")
    if status == 400 and _WRONG_MODEL.search(said):
        return NotOffered(f"{words}: the account cannot use this model; choose another with --model")
    if submitting and status in (502, 504):
        # Of a synchronous request, 504 says that recognising took too long.
        kind = TimedOut if submitting == "sync" and status == 504 else AnswerLost
        return kind(f"{words}, which leaves open whether the document was accepted")
    if status == 429 or status >= 500 or status in (408, 425):
        return MomentFault(words, retry_after(headers, now))
    if 300 <= status < 400:
        return AccountFault(f"{words}, a redirect, which is not followed with a key: correct UPSTAGE_BASE_URL")
    if not submitting:
        return MomentFault(words)
    if status == 404:
        return NotOffered(f"{words}: there is no such endpoint; check UPSTAGE_BASE_URL")
    if status == 413:
        return DocumentFault(
            "too-large",
            f"{words}: too many bytes or pages for one request; lower --limits.pages, --limits.sync-pages or "
            "--limits.megabytes, or divide the document, if it is no PDF or TIFF",
        )
    if status == 415:
        return DocumentFault("unsupported-format", f"{words}: the API does not take this format; convert the document")
    if status == 422:
        return DocumentFault("broken", f"{words}: the API finds the document corrupted; repair or replace it")
    return DocumentFault("refused-by-api", f"{words}: the API does not take this document", retry_helps=True)
