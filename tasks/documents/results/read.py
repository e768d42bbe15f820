"""Reads a published result page by page, in any form.

One page is in memory at a time, or one response if the form has several pages in a response.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import ijson

from tasks.documents.results.batch import Form, form_of
from tasks.documents.results.words import (
    ResultPage,
    ResultWord,
    Size,
    count_words,
    is_wordless_page,
    page_sizes,
    page_texts,
    page_words,
    plain_text,
    undivided,
)
from tasks.faults import DocumentFault, FailureCode, SetupFault

_LISTS = {
    "pages": Form.OWN,
    "images": Form.CLOVA,
    "responses": Form.RESPONSES,
    "fullTextAnnotation.pages": Form.DOCUMENT,
}
_NO_FORM = "it matches none of the API's answer forms"
_DEEPEST = 1_000  # about as deep as Python's own parser goes
_EXACT = ijson.get_backend("python")  # reads integers of any size, slowly

Parsed = TypeVar("Parsed")


def read_pages(result: Path | str) -> Iterator[ResultPage]:
    """Yield the pages of a result in order.

    Raises:
        DocumentFault: the file is not a result, or is truncated.
        SetupFault: an address in S3 was given.
    """
    return (ResultPage(number, *parts) for number, parts in enumerate(_read(_local_file(result), _parts), 1))


def read_texts(result: Path | str) -> Iterator[str]:
    """Yield the text of each page of a result in order, in half the time of `read_pages`.

    Raises:
        DocumentFault: the file is not a result, or is truncated.
        SetupFault: an address in S3 was given.
    """
    return _read(_local_file(result), page_texts)


def _local_file(result: Path | str) -> Path:
    if isinstance(result, str) and "://" in result:
        raise SetupFault(
            f"{result} is not a file on this machine: fetch results from S3 with read_ahead(find_results(…)), "
            "both from flows.python"
        )
    return Path(result)


def write_text(result: Path, to: Path) -> int:
    """Write the plain text of a result, like `merge` with `text_to`. Returns the number of pages.

    Raises:
        DocumentFault: as for `read_texts`; the file is incomplete then.
    """
    with plain_text(to) as plain:
        for text in read_texts(result):
            plain.add(text)
    return plain.pages


def _parts(form: Form, unit: dict[str, Any]) -> Iterator[tuple[str, tuple[ResultWord, ...], Size | None]]:
    return zip(page_texts(form, unit), page_words(form, unit), page_sizes(form, unit), strict=True)


def _read(result: Path, read: Callable[[Form, dict[str, Any]], Iterable[Parsed]]) -> Iterator[Parsed]:
    """Yield what `read` extracts from each page."""
    any_page = False
    try:
        for form, unit in _units(result):
            for page in read(form, unit):
                any_page = True
                yield page
    except (ijson.JSONError, ValueError, RecursionError) as error:
        raise _no_result("it is truncated or garbled") from error
    if not any_page:
        raise _no_result("it has no pages")


def _units(result: Path) -> Iterator[tuple[Form, dict[str, Any]]]:
    prefix = _list_in(result)
    if prefix is None or _LISTS[prefix] is Form.DOCUMENT:
        yield from _document_units(result)
        return
    for unit in _items(result, f"{prefix}.item"):
        yield _LISTS[prefix], unit


def _list_in(result: Path) -> str | None:
    """Find the list of pages. `merge` writes it first, so only a few bytes of its results are read."""
    event = ""
    path: list[str] = []  # the current member of each open object; an empty string for an array
    for event, value in _parsed(result, lambda parser, file: parser.basic_parse(file, use_float=True)):
        if event == "start_array" and (prefix := ".".join(path)) in _LISTS:
            return prefix
        if event in ("start_map", "start_array"):
            path.append("")
            if len(path) > _DEEPEST:
                raise _no_result("it is nested too deeply")
        elif event in ("end_map", "end_array"):
            path.pop()
        elif event == "map_key":
            path[-1] = value
        if not path:  # the end of the object, or not an object at all
            break
    if event != "end_map":
        raise _no_result(_NO_FORM)
    return None


def _document_units(result: Path) -> Iterator[tuple[Form, dict[str, Any]]]:
    """Yield the pages of a Google document. The first is delayed until it is known whether it is the only one."""
    first: dict[str, Any] = {}
    count = words = 0
    for page in _items(result, "fullTextAnnotation.pages.item"):
        count += 1
        words += count_words(Form.DOCUMENT, page)
        if count > 2:
            yield Form.DOCUMENT, page
        elif count == 1:
            first = page
        else:
            yield Form.DOCUMENT, first
            yield Form.DOCUMENT, page
            first = {}
    if count > 1:
        if not words and _has_text(result):
            raise undivided()
    elif count and not is_wordless_page([first]):
        yield Form.DOCUMENT, first
    else:
        answer = json.loads(result.read_bytes())
        if form_of(answer) is not Form.DOCUMENT:
            raise _no_result(_NO_FORM)
        yield Form.RESPONSES, answer


def _items(result: Path, prefix: str) -> Iterator[dict[str, Any]]:
    for item in _parsed(result, lambda parser, file: parser.items(file, prefix, use_float=True)):
        if not isinstance(item, dict):
            raise _no_result("one of its pages is not an object")
        yield item


def _has_text(result: Path) -> bool:
    texts = _parsed(result, lambda parser, file: parser.items(file, "fullTextAnnotation.text", use_float=True))
    return any(isinstance(text, str) and text.strip() for text in texts)


def _parsed(result: Path, parse: Callable[[Any, Any], Iterator[Parsed]]) -> Iterator[Parsed]:
    """Yield the output of one of ijson's functions for a file.

    The fast parser rejects integers beyond 64 bits, which answers and therefore results may contain. The exact parser
    continues at the first of them.
    """
    yielded = 0
    try:
        with result.open("rb") as file:
            for parsed in parse(ijson, _Readable(file)):
                yielded += 1
                yield parsed
    except ijson.JSONError as error:
        if "integer overflow" not in str(error):
            raise
    else:
        return
    with result.open("rb") as file:
        yield from islice(parse(_EXACT, _Readable(file)), yielded, None)


def _no_result(why: str) -> DocumentFault:
    return DocumentFault(
        FailureCode.NO_RESULT,
        f"the file is not a result of the API: {why}. Recognise the document again, or name another file",
    )


class _Readable:
    """Reads a JSON file with a question mark for every lone surrogate, as in plain text: ijson fails on them.

    A read never ends within an escape sequence, nor between the two halves of a surrogate pair.
    """

    _suspect = re.compile(rb"\\u[dD][89a-fA-F]")
    _escape = re.compile(
        rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
    )

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return about `size` bytes."""
        data = self._file.read(size)
        if b"\\" in data[-12:] and size > 0:
            data = self._up_to_plain(bytearray(data))
        if self._suspect.search(data):
            data = self._escape.sub(lambda match: b"?" if match[1] else match[0], data)
        return data

    def _up_to_plain(self, data: bytearray) -> bytes:
        while b"\\" in data[-12:]:
            more = self._file.read(64)
            if not more:
                break
            data += more
        return bytes(data)
