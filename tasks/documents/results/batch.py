"""Detects the form of an answer from its content, and reads a batch in any form.

The vendor has published no samples of its output in the forms of other services. Therefore everything that those
services would write is accepted, and nothing else.
"""

import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from tasks.faults import TransientFault


class BatchUnreadable(TransientFault):
    """A download is not an answer of the API: truncated, or the storage host's maintenance page. Retry later."""


class BatchIncomplete(BatchUnreadable):
    """A download is an answer but lacks pages that it should contain: those must be recognised again."""


class Form(StrEnum):
    """The structure of an answer."""

    OWN = "own"  # pages[], in a newer and an older shape
    CLOVA = "clova"  # images[] with fields[]
    RESPONSES = "google responses"  # responses[], each of one or several pages
    DOCUMENT = "google document"  # one fullTextAnnotation.pages[] and one textAnnotations[] for all pages


def form_of(answer: Any) -> Form | None:
    """Detect the form of an answer; None if it is unknown."""
    if not isinstance(answer, dict):
        return None
    for key, form in (("pages", Form.OWN), ("images", Form.CLOVA), ("responses", Form.RESPONSES)):
        if isinstance(answer.get(key), list):
            return form
    if isinstance(answer.get("fullTextAnnotation"), dict) or isinstance(answer.get("textAnnotations"), list):
        return Form.DOCUMENT
    return None


def shape_of(answer: dict[str, Any]) -> str:
    """Return the form of an answer from `read_batch`; for the API's own form, its shape: newer, older or unknown.

    The newer shape has a word's box in `bounding_box` and page counts in `usage`; the older one has `boundingBox`,
    `numBilledPages` and `metadata.pages`. If there are boxes, they decide: they hold ratios or pixels, which must not
    be mixed in one result. An answer with blank pages only can be "unknown".
    """
    form = form_of(answer)
    if form is not Form.OWN:
        return str(form)
    for page in answer["pages"]:
        for word in page.get("words") or ():
            name = box_name(word) if isinstance(word, dict) else None
            if name is not None:
                return "newer" if name == "bounding_box" else "older"
    if isinstance(answer.get("usage"), dict):
        return "newer"
    if "numBilledPages" in answer or isinstance(answer.get("metadata"), dict):
        return "older"
    return "unknown"


def box_name(word: Mapping[str, Any]) -> str | None:
    """Return the member that holds the box of a word in the API's own form; None if it has no box, or a null."""
    return next((name for name in ("bounding_box", "boundingBox") if isinstance(word.get(name), dict)), None)


def page_count(answer: dict[str, Any]) -> int:
    """Return the number of pages in an answer from `read_batch`.

    Google's forms represent a blank page only by omitting its content. A response without pages counts as one page, and
    so does a document without pages.
    """
    match form_of(answer):
        case Form.OWN:
            return len(answer["pages"])
        case Form.CLOVA:
            return len(answer["images"])
        case Form.RESPONSES:
            return sum(max(1, len(annotated_pages(response))) for response in answer["responses"])
        case _:
            return max(1, len(annotated_pages(answer)))


def annotated_pages(response: Mapping[str, Any]) -> Sequence[Any]:
    """Return the pages of a Google response, or of a Google document, which has the same structure."""
    annotation = response.get("fullTextAnnotation")
    pages = annotation.get("pages") if isinstance(annotation, dict) else None
    return pages if isinstance(pages, list) else ()


def read_batch(file: Path, pages: int | None) -> dict[str, Any]:
    """Read a downloaded batch and check that it has the expected pages.

    Args:
        file: the download.
        pages: the number of pages according to the status answer; None if it is not known beforehand.

    Returns:
        The answer.

    Raises:
        BatchUnreadable: it is truncated, garbled or in an unknown form.
        BatchIncomplete: it has too few or too many pages, or reports that a page was not recognised.
    """
    try:
        answer = _parse(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BatchUnreadable(f"a batch is not JSON: {type(error).__name__}") from error
    match form_of(answer):
        case Form.OWN:
            _check_own(answer["pages"])
        case Form.CLOVA:
            _check_clova(answer["images"])
        case Form.RESPONSES:
            _check_responses(answer["responses"])
        case Form.DOCUMENT:
            _check_response(answer)
        case None:
            raise BatchUnreadable("a batch has no list of pages in any of the API's answer forms")
    page_total = page_count(answer)
    if not page_total:
        raise BatchIncomplete("a batch has no pages")
    if pages is not None and page_total != pages:
        raise BatchIncomplete(f"a batch has {page_total} pages instead of {pages}")
    return dict(answer)


def _check_own(pages: list[Any]) -> None:
    if not all(isinstance(page, dict) for page in pages):
        raise BatchUnreadable("a batch has no list of pages")
    if not all(isinstance(page.get("words") or [], list) for page in pages):
        raise BatchIncomplete("a page of a batch has no list of words")


def _check_clova(images: list[Any]) -> None:
    if not all(isinstance(image, dict) for image in images):
        raise BatchUnreadable("a batch has no list of images")
    for place, image in enumerate(images, 1):
        infer_result = image.get("inferResult")
        if infer_result is not None and str(infer_result).upper() != "SUCCESS":
            raise BatchIncomplete(
                f"page {place} of a batch was not recognised: its inferResult is {infer_result!r:.80}"
            )
        if not isinstance(image.get("fields") or [], list):
            raise BatchIncomplete("an image of a batch has no list of fields")


def _check_responses(responses: list[Any]) -> None:
    for response in responses:
        # Google nests responses for several files; which pages belong to which file is undocumented.
        if not isinstance(response, dict) or isinstance(response.get("responses"), list):
            raise BatchUnreadable("a batch has no list of responses")
        _check_response(response)


def _check_response(response: dict[str, Any]) -> None:
    if response.get("error"):
        raise BatchIncomplete(f"a page of a batch was not recognised: {response['error']!r:.200}")
    annotation = response.get("fullTextAnnotation")
    if not isinstance(annotation, dict | None):
        raise BatchIncomplete("a fullTextAnnotation of a batch is not an object")
    annotated = (annotation or {}).get("pages") or []
    if not isinstance(annotated, list) or not all(isinstance(page, dict) for page in annotated):
        raise BatchIncomplete("a fullTextAnnotation of a batch has no list of pages")
    if not isinstance((annotation or {}).get("text"), str | None):
        raise BatchIncomplete("the text of a batch is not a string")
    if not isinstance(response.get("textAnnotations"), list | None):
        raise BatchIncomplete("the textAnnotations of a batch are not a list")


# Python's parser accepts NaN and 1e999, which it would write back as invalid JSON. To call Python for each number would
# make reading half as fast again. So an outline of the digits (every digit as 0, E as e, anything but the plus sign as
# a blank) is searched at once, and numbers are checked one by one only if one may be too large.
_OUTLINE = bytes(
    ord("0") if chr(c) in "0123456789" else ord("e") if chr(c) in "eE" else c if c == ord("+") else ord(" ")
    for c in range(256)
)
# Below 1e100 it takes more than 200 digits before the point to exceed what a float can hold.
_TOO_LARGE = (b"0e000", b"0e+000", b"0" * 200)
_LONG_NUMBER = b"0" * 18  # an integer that orjson may not hold


def _parse(raw: bytes) -> Any:
    outline = raw.translate(_OUTLINE)
    if _LONG_NUMBER not in outline and b"0e" not in outline:  # orjson agrees with Python here, five times as fast
        try:
            return orjson.loads(raw)
        except ValueError:  # lone surrogates, or deep nesting: Python's parser decides, and has the better message
            pass
    if any(mark in outline for mark in _TOO_LARGE) or b"\0" in raw:  # a zero byte: not UTF-8, so no outline
        return json.loads(raw, parse_constant=_refuse, parse_float=_finite)
    return json.loads(raw, parse_constant=_refuse)


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
