"""Searches an index of results: matching pages, each with a snippet and its hits.

with SearchIndex(Path("results.db")) as index:
    for hit in search(index, '"annual report" 2024').hits:
        print(hit.document, hit.page, hit.snippet)
"""

import re
from dataclasses import dataclass

from tasks.outputs.search_index import SearchIndex
from tasks.outputs.search_terms import find_phrases, match_expression, parse_query

_SNIPPET = 160  # characters, about two lines of a terminal
_BEFORE = 50  # characters of the snippet before the first hit


@dataclass(frozen=True)
class Hit:
    """A page that matches a query.

    Attributes:
        document: the document's name.
        result: the address of the result.
        page: the page number, from 1.
        snippet: a part of the page's text, in one line.
        marks: the positions of the hits in the snippet: start and end of each.
    """

    document: str
    result: str
    page: int
    snippet: str
    marks: tuple[tuple[int, int], ...]

    def marked(self, begin: str = "«", end: str = "»") -> str:
        """Return the snippet with `begin` and `end` around each hit."""
        pieces, at = [], 0
        for first, last in self.marks:
            pieces += [self.snippet[at:first], begin, self.snippet[first:last], end]
            at = last
        return "".join([*pieces, self.snippet[at:]])


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: the best pages, and the total number of matches."""

    query: str
    results: int
    pages: int
    hits: tuple[Hit, ...]


def search(index: SearchIndex, query: str, limit: int = 20) -> SearchResult:
    """Search for words, phrases and prefixes of words; see `parse_query`.

    Args:
        index: the index to search.
        query: the query.
        limit: the maximum number of pages to return, the best ones.

    Raises:
        SetupFault: the index cannot be read.
    """
    phrases = parse_query(query)
    expression = match_expression(phrases)
    if expression is None:
        return SearchResult(query, 0, 0, ())
    results, pages = index.count_matches(expression)
    hits = []
    for document, address, page, text in index.matches(expression, limit):
        snippet, marks = snippet_of(text, find_phrases(phrases, text))
        hits.append(Hit(document, address, page, snippet, marks))
    return SearchResult(query, results, pages, tuple(hits))


def snippet_of(text: str, places: list[tuple[int, int]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the part of a text around its first hits in one line, and the positions of the hits in it."""
    first = places[0][0] if places else 0
    start = max(0, first - _BEFORE)
    if start:
        space = text.find(" ", start, first)
        start = start if space < 0 else space + 1
    end = min(len(text), start + _SNIPPET)
    pieces: list[str] = ["…" if start else ""]
    length, marks = len(pieces[0]), []
    at = start
    for begin, stop in [*((b, min(s, end)) for b, s in places if start <= b < end), (end, end)]:
        for part, marked in ((text[at:begin], False), (text[begin:stop], True)):
            plain = re.sub(r"\s+", " ", part)
            if marked and plain:
                marks.append((length, length + len(plain)))
            pieces.append(plain)
            length += len(plain)
        at = stop
    return "".join([*pieces, "…" if end < len(text) else ""]), tuple(marks)
