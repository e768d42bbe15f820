"""Writes one result from several answers of the same form, one batch at a time.

What a result says about the whole document (page sizes, the full text, Google's list of all words) comes after its
pages, and is spooled to disk on the way, so memory does not grow with the document.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, ClassVar

from tasks.documents.results.batch import Form
from tasks.documents.results.measure import Measurer
from tasks.documents.results.words import PlainText, page_texts
from tasks.faults import DocumentFault, FailureCode
from tasks.job.coverage import Share
from tasks.job.record import Measured

Answer = Mapping[str, Any]
Spool = Callable[[], IO[str]]


def dumps(value: Any) -> str:
    """JSON as it stands in a result.

    In ASCII escapes: a lone surrogate, which JSON can hold, cannot be written as UTF-8.

    Raises:
        DocumentFault: it cannot be written as JSON.
    """
    try:
        return _encode(value)
    except RecursionError as error:  # writing bears a little less than reading did
        raise DocumentFault(
            FailureCode.WRONG_ANSWER, "a batch is nested too deeply to be written", retry_helps=True
        ) from error
    except ValueError as error:
        raise DocumentFault(
            FailureCode.WRONG_ANSWER,
            "a batch has a number that JSON cannot represent: nothing was published",
            retry_helps=True,
        ) from error


_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


class ResultWriter(ABC):
    """A result of one form: a list of units (pages, images, responses), then what is said of the whole document.

    Args:
        out: the result.
        spool: makes a temporary file.
        plain: the document's plain text, when it is wanted.
        alone: whether one whole batch is the whole document, which is then written as it came.
    """

    form: ClassVar[Form]
    opening: ClassVar[str]
    key: ClassVar[str]

    def __init__(self, out: IO[str], spool: Spool, plain: PlainText | None, alone: bool) -> None:
        self.pages = 0
        self.words = 0
        self._out, self._spool, self._plain, self._alone = out, spool, plain, alone
        self._head: dict[str, Any] | None = None
        self._units = 0
        self._billed = dict.fromkeys(_BILLED, 0)
        self._measurer = Measurer()

    @property
    def measured(self) -> Measured:
        """What the pages written so far hold."""
        return self._measurer.measured()

    def add(self, answer: Answer, share: Share) -> None:
        """Write the pages of a batch that are in the share."""
        if self._head is None:
            self._head = {key: value for key, value in answer.items() if key != self.key}
        self._measurer.add_billed(
            share.piece, next((told for key in _BILLED if (told := _billed_pages(answer, key)) is not None), None)
        )
        for key in self._billed:
            told = _billed_pages(answer, key)
            # Pages that the API says it did not bill are not billed because they stand in a longer result.
            free = told == 0 and not isinstance(told, bool)
            self._billed[key] += 0 if free else len(share.pages)
        self._add(answer, share)

    @abstractmethod
    def _add(self, answer: Answer, share: Share) -> None: ...

    def _write_unit(self, unit: Answer, pages: int = 1) -> None:
        self._out.write(",\n" if self._units else self.opening + "\n")
        self._out.write(dumps(unit))
        self._units += 1
        self.pages += pages
        self.words += self._measurer.add(self.form, unit)
        if self._plain is not None:
            for text in page_texts(self.form, unit):
                self._plain.add(text)

    def end(self) -> None:
        """Write what is said of the whole document."""
        self._out.write("\n]")
        self._end(self._head or {})
        self._out.write("}\n")

    def _end(self, head: Answer) -> None:
        for key, value in head.items():
            self._member(key, dumps(self._total(key, value)))

    def _total(self, key: str, value: Any) -> Any:
        """A member of the whole answer; where it is a count of pages, that of the document."""
        if self._alone or key not in self._billed:
            return value
        if key == "usage":
            return {**value, "pages": self._billed[key]} if isinstance(value, dict) else value
        return self._billed[key]

    def _member(self, key: str, value: str) -> None:
        self._out.write(f",\n{dumps(key)}: {value}")


_BILLED = ("usage", "numBilledPages")


def _billed_pages(answer: Answer, key: str) -> Any:
    told = answer.get(key)
    return told.get("pages") if isinstance(told, dict) else told


class OwnWriter(ResultWriter):
    """The API's own form, in either shape.

    Pages are numbered `id` 0..N-1 by their place in the document, whatever numbers the batches carry. One answer that
    is the whole document is else written to the letter. Of several, what is said of the whole document is what the API
    was seen to say in one answer: its confidence is that of its least certain page, its text that of its pages with
    nothing in between, and words are numbered through.
    """

    form = Form.OWN
    opening = '{"pages": ['
    key = "pages"

    def __init__(self, out: IO[str], spool: Spool, plain: PlainText | None, alone: bool) -> None:
        super().__init__(out, spool, plain, alone)
        self._text, self._sizes = spool(), spool()
        self._any_size = False
        self._page_confidences, self._answer_confidences = _Least(), _Least()

    def _add(self, answer: Answer, share: Share) -> None:
        if not self._alone:
            self._answer_confidences.add(answer.get("confidence"))
        sizes = _sizes(answer)
        for index in range(share.offset, share.offset + len(share.pages)):
            page = {**answer["pages"][index], "id": self.pages}
            if not self._alone:
                self._add_totals(page, sizes.get(index))
                if isinstance(page.get("words"), list):
                    page["words"] = [_numbered(word, place) for place, word in enumerate(page["words"], self.words)]
            self._write_unit(page)

    def _add_totals(self, page: Answer, size: Any) -> None:
        text = page.get("text")
        if isinstance(text, str):
            # Escaped piece by piece, so that the full text never has to be in memory.
            self._text.write(dumps(text)[1:-1])
        if page.get("source") != "text-layer":  # nobody recognised it, and nobody doubts it
            self._page_confidences.add(page.get("confidence"))
        if isinstance(size, dict):
            self._sizes.write((", " if self._any_size else "") + dumps({**size, "page": self.pages + 1}))
            self._any_size = True

    def _end(self, head: Answer) -> None:
        for key, value in head.items():
            if self._alone:
                self._member(key, dumps(value))
            elif key == "confidence":
                least = (self._page_confidences.value, self._answer_confidences.value, value)
                self._member(key, dumps(next((each for each in least if each is not None), None)))
            elif key == "metadata" and isinstance(value, dict):
                self._end_metadata(value)
            elif key == "text":
                self._member(key, '"')
                copy(self._text, self._out)
                self._out.write('"')
            else:
                self._member(key, dumps(self._total(key, value)))

    def _end_metadata(self, metadata: Answer) -> None:
        self._member("metadata", "{")
        for number, (key, value) in enumerate((dict(metadata) | {"pages": None}).items()):
            self._out.write(f"{', ' if number else ''}{dumps(key)}: ")
            if key == "pages":
                self._out.write("[")
                copy(self._sizes, self._out)
                self._out.write("]")
            else:
                self._out.write(dumps(value))
        self._out.write("}")


class ClovaWriter(ResultWriter):
    """CLOVA's form. `convertedImageInfo.pageIndex` counts 0..N-1 over the document, where an image has it."""

    form = Form.CLOVA
    opening = '{"images": ['
    key = "images"

    def _add(self, answer: Answer, share: Share) -> None:
        for image in answer["images"][share.offset : share.offset + len(share.pages)]:
            self._write_unit(renumbered(image, "convertedImageInfo", "pageIndex", self.pages))


def renumbered(unit: Answer, within: str, key: str, number: int) -> Answer:
    """A unit with another number, if it has one."""
    told = unit.get(within)
    return {**unit, within: {**told, key: number}} if isinstance(told, dict) and key in told else unit


def copy(source: IO[str], target: IO[str]) -> None:
    """Copy a spooled file, from its beginning."""
    source.seek(0)
    pieces: Iterable[str] = iter(lambda: source.read(1 << 16), "")
    for piece in pieces:
        target.write(piece)


class _Least:
    """The least of some confidences."""

    def __init__(self) -> None:
        self._least: float | None = None
        self._complete = True

    def add(self, value: Any) -> None:
        """Take one in."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            self._least = value if self._least is None else min(self._least, value)
        else:
            self._complete = False

    @property
    def value(self) -> float | None:
        """The least; None where one of them was no confidence, so that nobody knows."""
        return self._least if self._complete else None


def _numbered(word: Any, number: int) -> Any:
    return {**word, "id": number} if isinstance(word, dict) and "id" in word else word


def _sizes(answer: Answer) -> dict[int, Any]:
    """What `metadata.pages` says of each page, by its place in the answer.

    Entries are told by their numbers, in whatever order they stand; these count from 1 in the answer, or over a longer
    document. Without usable numbers the order counts.
    """
    metadata = answer.get("metadata")
    sizes = metadata.get("pages") if isinstance(metadata, dict) else None
    if not isinstance(sizes, list):
        return {}
    numbers = [size.get("page") if isinstance(size, dict) else None for size in sizes]
    usable = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    if not usable or len(set(usable)) < len(numbers):
        return dict(enumerate(sizes))
    first = 1 if min(usable) >= 1 and max(usable) <= len(answer["pages"]) else min(usable)
    return {number - first: size for number, size in zip(usable, sizes, strict=True)}
