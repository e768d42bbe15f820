"""Writing one result from several answers of the same form, a batch at a time.

What a result says about the whole document (page sizes, the full text, Google's list of all words) comes after its
pages, and is spooled to disk on the way, so memory does not grow with the document.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, ClassVar

from tasks.documents.answers import Form
from tasks.documents.coverage import Share
from tasks.documents.recognised import PlainText, count_words, page_texts
from tasks.faults import DocumentFault

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
        raise DocumentFault("wrong-answer", "a batch is nested too deeply to be written", retry_helps=True) from error
    except ValueError as error:
        raise DocumentFault(
            "wrong-answer", "a batch holds a number that JSON cannot: nothing was published", retry_helps=True
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

    def add(self, answer: Answer, share: Share) -> None:
        """Write the pages of a batch that are in the share."""
        if self._head is None:
            self._head = {key: value for key, value in answer.items() if key != self.key}
        self._add(answer, share)

    @abstractmethod
    def _add(self, answer: Answer, share: Share) -> None: ...

    def _write_unit(self, unit: Answer, pages: int = 1) -> None:
        self._out.write(",\n" if self._units else self.opening + "\n")
        self._out.write(dumps(unit))
        self._units += 1
        self.pages += pages
        self.words += count_words(self.form, unit)
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
        if key == "usage" and isinstance(value, dict):
            return {**value, "pages": self.pages}
        return self.pages if key == "numBilledPages" else value

    def _member(self, key: str, value: str) -> None:
        self._out.write(f",\n{dumps(key)}: {value}")


class OwnWriter(ResultWriter):
    """The API's own form, in either shape.

    Pages are numbered `id` 0..N-1 by their place in the document, whatever numbers the batches carry.
    """

    form = Form.OWN
    opening = '{"pages": ['
    key = "pages"
    _made_anew = ("text", "confidence", "metadata", "usage", "numBilledPages")

    def __init__(self, out: IO[str], spool: Spool, plain: PlainText | None, alone: bool) -> None:
        super().__init__(out, spool, plain, alone)
        self._text, self._sizes = spool(), spool()
        self._any_size = False
        self._confidence: float | None = 0.0

    def _add(self, answer: Answer, share: Share) -> None:
        sizes = _sizes(answer)
        for index in range(share.offset, share.offset + len(share.pages)):
            self._add_page(answer["pages"][index], sizes[index] if index < len(sizes) else None)

    def _add_page(self, page: Answer, size: Any) -> None:
        first = self.pages == 0
        self._write_unit({**page, "id": self.pages})
        page_text = page.get("text")
        if isinstance(page_text, str):
            # Escaped piece by piece, so that the full text never has to be in memory.
            self._text.write(dumps(page_text if first else "\n" + page_text)[1:-1])
        confidence = page.get("confidence")
        if self._confidence is not None and isinstance(confidence, int | float) and 0 <= confidence <= 100:
            self._confidence += confidence
        else:
            self._confidence = None
        if isinstance(size, dict):
            self._sizes.write((", " if self._any_size else "") + dumps({**size, "page": self.pages}))
            self._any_size = True

    def _end(self, head: Answer) -> None:
        super()._end({key: value for key, value in head.items() if key not in self._made_anew})
        if "confidence" in head:
            mean = None if self._confidence is None else self._confidence / self.pages
            self._member("confidence", dumps(head["confidence"] if mean is None else mean))
        if isinstance(head.get("metadata"), dict):
            self._end_metadata(head["metadata"])
        if isinstance(head.get("usage"), dict):
            self._member("usage", dumps(self._total("usage", head["usage"])))
        if "numBilledPages" in head:
            self._member("numBilledPages", dumps(self.pages))
        if "text" in head:
            self._member("text", '"')
            copy(self._text, self._out)
            self._out.write('"')

    def _end_metadata(self, metadata: Answer) -> None:
        self._member("metadata", "{")
        others = {key: value for key, value in metadata.items() if key != "pages"}
        self._out.write("".join(f"{dumps(key)}: {dumps(value)}, " for key, value in others.items()))
        self._out.write('"pages": [')
        copy(self._sizes, self._out)
        self._out.write("]}")


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


def _sizes(answer: Answer) -> Sequence[Any]:
    metadata = answer.get("metadata")
    sizes = metadata.get("pages") if isinstance(metadata, dict) else None
    return sizes if isinstance(sizes, list) else ()
