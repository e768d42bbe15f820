"""Classification of the API's error answers: transient, about the document, or about the account."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from tasks.faults import (
    AccountFault,
    AnswerLost,
    DocumentFault,
    FailureCode,
    Fault,
    NotOffered,
    TimedOut,
    TransientFault,
)
from tasks.upstage.rates import wait_asked

Submission = Literal["async", "sync"]

_LONGEST = 300
_WRONG_MODEL = re.compile(
    r"\b(invalid|unknown|unsupported|no such)\s+model\b|\bnot allowed\b.*\bmodel\b"
    r"|\bmodel\b.{0,60}\b(not|unknown|invalid|unsupported)\b",
    re.IGNORECASE,
)
# The refusal of async access is not documented: match any message that mentions the model or the mode.
_MODEL_OR_MODE = re.compile(r"\bmodels?\b|\ba?sync\b|\ba?synchronous(ly)?\b", re.IGNORECASE)
_TOO_MANY_PAGES = re.compile(r"\bpage limit\b|\btoo many pages\b|\bmaximum number of pages\b", re.IGNORECASE)

# Slashes may be escaped, as in quoted JSON.
_URL_QUERY = re.compile(r"(\bhttps?:(?:\\?/){2}[^\s?#]*)[?#]\S*", re.IGNORECASE)
_QUERY = re.compile(r"\?(?=[^\s=]*(?:=|%3D|\\u003d))\S*", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"((?:signature|credential|token|access-?key(?:-?id)?|key-pair-id|policy|(?:\b|%3F|%26|u0026)(?:sig|key))"
    r"(?:=|%3D|\\u003d))[^\s&\"'<>]+",
    re.IGNORECASE,
)


def clean_words(text: str) -> str:
    """Make untrusted text safe to show and store.

    The result is one line of limited length, without control characters (they would reach the reader's terminal) and
    without lone surrogates (they cannot be stored as UTF-8). The query of a presigned URL is a credential, so queries
    are removed, even if the URL has lost its scheme or its beginning. If the question mark is missing as well,
    signatures and tokens are removed.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST])
    line = " ".join(printable.split())
    line = _QUERY.sub("?…", _URL_QUERY.sub(r"\1?…", line))
    return _SECRET_PARAMETER.sub(r"\1…", line)[:_LONGEST]


def message_of(body: bytes) -> str:
    """Extract the message from an error body: either of the API's two formats, or any other text."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    words: object = None
    if isinstance(data, dict):
        error = data.get("error")
        words = error.get("message") if isinstance(error, dict) else data.get("message") or error
    return clean_words(words if isinstance(words, str) and words else body[: 4 * _LONGEST].decode("utf-8", "replace"))


def fault_of(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    now: datetime,
    *,
    submitting: Submission | None,
    sent_whole: bool = True,
    jobs_accepted: bool = False,
) -> Fault:
    """Return the fault for an answer whose status is not 2xx.

    Args:
        status: the HTTP status.
        body: the answer's body.
        headers: the answer's headers, case-insensitive.
        now: the server's time, for headers with absolute times.
        submitting: the mode of the submission; None for any other call.
        sent_whole: whether the document was fully sent before the answer arrived. If it was, any 5xx status except 503
            may follow work that was accepted and billed.
        jobs_accepted: whether the API has accepted a job for this model before, which proves async access.
    """
    message = message_of(body)
    words = f"the API answered {status}" + (f" ({message})" if message else "")
    if status == 401:
        return AccountFault(f"{words}: the API key was rejected; check UPSTAGE_API_KEY, or the block that has it")
    if status in (402, 403):
        return AccountFault(f"{words}: the account has no credit or no permission; top it up or use another key")
    if status == 405:
        return NotOffered(f"{words}: check UPSTAGE_BASE_URL; it must begin with https://")
    if status == 429 or status == 503 or status in (408, 425):
        return TransientFault(words, wait_asked(headers, now))
    if status >= 500:
        if not submitting or not sent_whole:
            return TransientFault(words, wait_asked(headers, now))
        # For a synchronous request, 504 means that recognition took too long.
        kind = TimedOut if submitting == "sync" and status == 504 else AnswerLost
        return kind(f"{words}; the document may or may not have been accepted")
    if 300 <= status < 400:
        return AccountFault(f"{words}, a redirect, which is not followed to protect the key: correct UPSTAGE_BASE_URL")
    if status == 400 and _WRONG_MODEL.search(message):
        return NotOffered(f"{words}: the account cannot use this model; choose another with --model")
    if not submitting:
        return TransientFault(words)
    if status == 413 or (status == 400 and _TOO_MANY_PAGES.search(message)):
        return DocumentFault(
            FailureCode.TOO_LARGE,
            f"{words}: too many bytes or pages for one request; lower --limits.pages, --limits.sync-pages or "
            "--limits.megabytes, or split the document if it is not a PDF or TIFF",
        )
    if status == 400 and submitting == "async" and not jobs_accepted and _MODEL_OR_MODE.search(message):
        return NotOffered(f"{words}: the account has no async access to this model; choose another with --model")
    if status == 404:
        return NotOffered(f"{words}: there is no such endpoint; check UPSTAGE_BASE_URL")
    if status == 415:
        return DocumentFault(
            FailureCode.UNSUPPORTED_FORMAT, f"{words}: the API does not accept this format; convert the document"
        )
    if status == 422:
        return DocumentFault(
            FailureCode.BROKEN, f"{words}: the API reports the document as corrupted; repair or replace it"
        )
    return DocumentFault(
        FailureCode.REFUSED_BY_API, f"{words}: the API does not accept this document", retry_helps=True
    )
