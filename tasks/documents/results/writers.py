"""Writes one result from several answers of the same form, one batch at a time.

Members about the whole document (page sizes, the full text, Google's list of all words) follow the pages. They are
spooled to disk meanwhile, so that memory does not grow with the document.
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
    """Serialise a value as it is written to a result.

    The output is ASCII: JSON can contain lone surrogates as escapes, but UTF-8 cannot represent them.

    Raises:
        DocumentFault: it cannot be written as JSON.
    """
    try:
        return _encode(value)
    except RecursionError as error:  # the limit for writing is a little lower than for reading
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
    """Writes a result of one form: a list of units (pages, images or responses), then members about the document.

    Args:
        out: the result.
        spool: creates a temporary file.
        plain: the document's plain text, if requested.
        alone: whether a single batch is the whole document; it is written unchanged.
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
        """The measurements of the pages written so far."""
        return self._measurer.measured()

    def add(self, answer: Answer, share: Share) -> None:
        """Write the pages of a batch that are in the share."""
        if self._head is None:
            self._head = {key: value for key, value in answer.items() if key != self.key}
        self._measurer.add_billed(
            share.piece, next((pages for key in _BILLED if (pages := _billed_pages(answer, key)) is not None), None)
        )
        for key in self._billed:
            billed_pages = _billed_pages(answer, key)
            # Pages that the API reports as not billed stay so in the merged result.
            free = billed_pages == 0 and not isinstance(billed_pages, bool)
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
        """Write the members about the whole document."""
        self._out.write("\n]")
        self._end(self._head or {})
        self._out.write("}\n")

    def _end(self, head: Answer) -> None:
        for key, value in head.items():
            self._member(key, dumps(self._total(key, value)))

    def _total(self, key: str, value: Any) -> Any:
        """Return the value of a top-level member; page counts are replaced by those of the document."""
        if self._alone or key not in self._billed:
            return value
        if key == "usage":
            return {**value, "pages": self._billed[key]} if isinstance(value, dict) else value
        return self._billed[key]

    def _member(self, key: str, value: str) -> None:
        self._out.write(f",\n{dumps(key)}: {value}")


_BILLED = ("usage", "numBilledPages")


def _billed_pages(answer: Answer, key: str) -> Any:
    billed = answer.get(key)
    return billed.get("pages") if isinstance(billed, dict) else billed


class OwnWriter(ResultWriter):
    """The API's own form, in either shape.

    The `id` of pages is renumbered 0..N-1 over the document. Apart from that, an answer for the whole document is
    written unchanged. Several answers are merged into what the API was seen to return in one: the confidence is that
    of the least certain page, the text is that of all pages without separators, and words are numbered consecutively.
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
        if page.get("source") != "text-layer":  # such a page was not recognised, so it has no confidence
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
                self._member(key, dumps(next((confidence for confidence in least if confidence is not None), None)))
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
    """CLOVA's form. `convertedImageInfo.pageIndex` is renumbered 0..N-1 over the document, in images that have it."""

    form = Form.CLOVA
    opening = '{"images": ['
    key = "images"

    def _add(self, answer: Answer, share: Share) -> None:
        for image in answer["images"][share.offset : share.offset + len(share.pages)]:
            self._write_unit(renumbered(image, "convertedImageInfo", "pageIndex", self.pages))


def renumbered(unit: Answer, within: str, key: str, number: int) -> Answer:
    """Return a unit with a new number in its member `within`; unchanged if it has no number."""
    member = unit.get(within)
    return {**unit, within: {**member, key: number}} if isinstance(member, dict) and key in member else unit


def copy(source: IO[str], target: IO[str]) -> None:
    """Copy a spooled file from its beginning."""
    source.seek(0)
    pieces: Iterable[str] = iter(lambda: source.read(1 << 16), "")
    for piece in pieces:
        target.write(piece)


class _Least:
    """The minimum of the confidences added."""

    def __init__(self) -> None:
        self._least: float | None = None
        self._complete = True

    def add(self, value: Any) -> None:
        """Add a confidence."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            self._least = value if self._least is None else min(self._least, value)
        else:
            self._complete = False

    @property
    def value(self) -> float | None:
        """The minimum; None if it is unknown because one of the values was not a confidence."""
        return self._least if self._complete else None


def _numbered(word: Any, number: int) -> Any:
    return {**word, "id": number} if isinstance(word, dict) and "id" in word else word


def _sizes(answer: Answer) -> dict[int, Any]:
    """Return the entry of `metadata.pages` for each page, by the page's index in the answer.

    Entries are matched by page number, in any order. Numbers start at 1 in the answer, or count over a longer document.
    Without usable numbers, the order of the entries decides.
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
