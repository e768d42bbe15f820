"""Merging batches into one result of the shape of a single synchronous answer.

One batch is in memory at a time. What the result says about the whole document (page sizes, the full text) is
spooled to disk on the way, so memory does not grow with the document.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks.documents.coverage import Share
from tasks.faults import DocumentFault, MomentFault

# What is said about the whole document, and is made anew for the merged one.
_TOTALS = ("pages", "text", "confidence", "metadata", "usage", "numBilledPages")


class BatchUnreadable(MomentFault):
    """A download was no answer of the API: cut, or the storage host's page about its maintenance. It is for later."""


class BatchIncomplete(BatchUnreadable):
    """A download was an answer, but without the pages that it should hold: those have to be recognised again."""


def read_batch(file: Path, pages: int) -> dict[str, Any]:
    """Read a downloaded batch and prove that it holds the pages it should.

    Args:
        file: the download.
        pages: how many pages the status answer promised.

    Raises:
        BatchUnreadable: it is cut or garbled.
        BatchIncomplete: it lacks pages, or has more.
    """
    try:
        answer = json.loads(file.read_bytes(), parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise BatchUnreadable(f"a batch is no JSON: {type(error).__name__}") from error
    found = answer.get("pages") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(page, dict) for page in found):
        raise BatchUnreadable("a batch holds no list of pages")
    if not all(isinstance(page.get("words") or [], list) for page in found):
        raise BatchIncomplete("a page of a batch holds no list of words")
    if len(found) != pages:
        raise BatchIncomplete(f"a batch holds {len(found)} pages instead of {pages}")
    return dict(answer)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # Python reads NaN and 1e999, and would write what is no JSON
        raise ValueError(text)
    return number


def shape_of(answer: dict[str, Any]) -> str:
    """Which of the API's two shapes an answer has, told by its content.

    The newer one counts pages under `usage` and names boxes `bounding_box`; the older one has
    `numBilledPages`, `metadata.pages` and `boundingBox`.
    """
    if isinstance(answer.get("usage"), dict):
        return "newer"
    if "numBilledPages" in answer or isinstance(answer.get("metadata"), dict):
        return "older"
    for page in answer["pages"]:
        for word in page.get("words") or ():
            if isinstance(word, dict) and ("bounding_box" in word or "boundingBox" in word):
                return "newer" if "bounding_box" in word else "older"
    return "unknown"


@dataclass(frozen=True)
class Merged:
    """What was written."""

    pages: int
    words: int


def merge(shares: Sequence[Share], load: Callable[[Share], dict[str, Any]], to: Path) -> Merged:
    """Write the result of a document from the shares that cover it.

    Pages are numbered `id` 0..N-1 by their place in the document, whatever numbers the batches carry. Other
    fields of the answers are kept as they came; those of the whole answer are the first batch's.

    Args:
        shares: in page order, without holes; see `tasks.documents.coverage`.
        load: gives the batch of a share, as checked by `read_batch`.
        to: the file to write.

    Raises:
        DocumentFault: the batches cannot be one result.
    """
    with (
        to.open("w", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as text,
        tempfile.TemporaryFile("w+", encoding="utf-8") as sizes,
    ):
        writer = _Writer(out, text, sizes)
        try:
            for share in shares:
                writer.add(share, load(share))
            return writer.end()
        except RecursionError as error:  # writing bears a little less than reading did
            raise DocumentFault(
                "wrong-answer", "a batch is nested too deeply to be written", retry_helps=True
            ) from error


class _Writer:
    def __init__(self, out: IO[str], text: IO[str], sizes: IO[str]) -> None:
        self._out, self._text, self._sizes = out, text, sizes
        self._head: dict[str, Any] = {}
        self._shape = ""
        self._pages = 0
        self._words = 0
        self._confidence: float | None = 0.0

    def add(self, share: Share, answer: dict[str, Any]) -> None:
        if share.pages.first != self._pages + 1:
            raise DocumentFault(
                "wrong-answer", f"page {self._pages + 1} is not covered: nothing was published", retry_helps=True
            )
        shape = shape_of(answer)
        if not self._shape:
            self._shape, self._head = shape, {key: value for key, value in answer.items() if key != "pages"}
            self._out.write('{"pages": [')
        elif self._shape == "unknown":  # nothing but blank pages so far
            self._shape = shape
        elif shape not in (self._shape, "unknown"):
            raise DocumentFault(
                "wrong-answer",
                f"pages {share.pages} came in the API's {shape} answer shape and the pages before in its "
                f"{self._shape} one: they cannot be one result, and nothing was published",
                retry_helps=True,
            )
        sizes = _sizes(answer)
        for index in range(share.offset, share.offset + len(share.pages)):
            self._add_page(answer["pages"][index], sizes[index] if index < len(sizes) else None)

    def _add_page(self, page: dict[str, Any], size: Any) -> None:
        first = self._pages == 0
        self._out.write("\n" if first else ",\n")
        self._out.write(_json({**page, "id": self._pages}))
        self._pages += 1
        self._words += len(page.get("words") or ())
        page_text = page.get("text")
        if isinstance(page_text, str):
            # Escaped piece by piece, so that the full text never has to be in memory.
            self._text.write(_json(page_text if first else "\n" + page_text)[1:-1])
        confidence = page.get("confidence")
        if self._confidence is not None and isinstance(confidence, int | float) and 0 <= confidence <= 100:
            self._confidence += confidence
        else:
            self._confidence = None
        if isinstance(size, dict):
            self._sizes.write(("" if self._sizes.tell() == 0 else ", ") + _json({**size, "page": self._pages}))

    def end(self) -> Merged:
        if not self._pages:
            raise DocumentFault("wrong-answer", "there is no page to publish", retry_helps=True)
        self._out.write("\n]")
        for key, value in self._head.items():
            if key not in _TOTALS:
                self._member(key, _json(value))
        if "confidence" in self._head:
            mean = None if self._confidence is None else self._confidence / self._pages
            self._member("confidence", _json(self._head["confidence"] if mean is None else mean))
        if isinstance(self._head.get("metadata"), dict):
            self._end_metadata(self._head["metadata"])
        if isinstance(self._head.get("usage"), dict):
            self._member("usage", _json({**self._head["usage"], "pages": self._pages}))
        if "numBilledPages" in self._head:
            self._member("numBilledPages", _json(self._pages))
        if "text" in self._head:
            self._member("text", '"')
            _copy(self._text, self._out)
            self._out.write('"')
        self._out.write("}\n")
        return Merged(self._pages, self._words)

    def _end_metadata(self, metadata: dict[str, Any]) -> None:
        self._member("metadata", "{")
        others = {key: value for key, value in metadata.items() if key != "pages"}
        self._out.write("".join(f"{_json(key)}: {_json(value)}, " for key, value in others.items()))
        self._out.write('"pages": [')
        _copy(self._sizes, self._out)
        self._out.write("]}")

    def _member(self, key: str, value: str) -> None:
        self._out.write(f",\n{_json(key)}: {value}")


def _sizes(answer: dict[str, Any]) -> Sequence[Any]:
    metadata = answer.get("metadata")
    sizes = metadata.get("pages") if isinstance(metadata, dict) else None
    return sizes if isinstance(sizes, list) else ()


def _json(value: Any) -> str:
    # ASCII escapes: a lone surrogate, which JSON can hold, cannot be written as UTF-8.
    return json.dumps(value, ensure_ascii=True)


def _copy(source: IO[str], target: IO[str]) -> None:
    source.seek(0)
    pieces: Iterable[str] = iter(lambda: source.read(1 << 16), "")
    for piece in pieces:
        target.write(piece)
