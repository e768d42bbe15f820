"""The command `search`: finds pages by their text, in an index or directly in results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, ResultsArguments
from flows.cli.index import DEFAULT_INDEX
from flows.cli.output import Page, complain, show
from flows.cli.result_store import READERS, complain_of_skipped, counting, named_place, require_results, store_of
from tasks.faults import ExitStatus, SetupFault
from tasks.number_format import quantity
from tasks.outputs.results import find_results, is_result_name
from tasks.outputs.search import SearchResult
from tasks.outputs.search import search as search_index
from tasks.outputs.search_index import SearchIndex
from tasks.scratch import scratch_folder


class FoundPage(BaseModel):
    """A page that matches the query."""

    document: str
    result: str
    page: int
    snippet: str
    marks: list[tuple[int, int]] = Field(description="character ranges of the hits in the snippet")


class SearchReport(BaseModel):
    """The results of a search."""

    query: str
    results: int = Field(description="total number of results with hits")
    pages: int = Field(description="total number of pages with hits")
    hits: list[FoundPage] = Field(description="the best pages, at most --limit")

    @classmethod
    def of(cls, result: SearchResult) -> "SearchReport":
        """Convert a search result for printing and JSON."""
        hits = [
            FoundPage(document=hit.document, result=hit.result, page=hit.page, snippet=hit.snippet, marks=[*hit.marks])
            for hit in result.hits
        ]
        return cls(query=result.query, results=result.results, pages=result.pages, hits=hits)

    def show(self, page: Page) -> None:
        """Print as text."""
        for hit in self.hits:
            page.say(f"{hit.document}, page {hit.page}", "bold")
            page.marked(f"    {hit.snippet}", [(start + 4, end + 4) for start, end in hit.marks])
        page.say(
            f"{_count(self.pages, 'page')} of {_count(self.results, 'document')}" if self.hits else "nothing found"
        )
        if self.pages > len(self.hits):
            page.say(f"showing the best {len(self.hits)}; --limit shows more")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def search(
    query: Annotated[
        str,
        Parameter(
            help='Words, "phrases", word prefixes (revenu*); -word excludes pages.',
            allow_leading_hyphen=True,
        ),
    ],
    place: Annotated[
        str, Parameter(help="An index; or a destination, folder or result, which is then read completely.")
    ] = str(DEFAULT_INDEX),
    *,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1), help="The number of pages to print.")] = 20,
    open_viewer: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the best page in the viewer in the browser.")
    ] = False,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Find pages by their text: print document, page and a snippet with the hits marked, best first.

    Case and accents are ignored. Korean, Chinese and Japanese words are found inside longer words. The exit status is 1
    if nothing is found.
    """
    with _index(named_place(place), arguments) as index:
        matches = search_index(index, query, limit)
    show(SearchReport.of(matches), json=arguments.json)
    if not matches.hits:
        return ExitStatus.SOME_FAILED
    if open_viewer:
        from flows.cli.view import open_result

        best = matches.hits[0]
        marked = best.snippet[slice(*best.marks[0])] if best.marks else ""
        open_result(best.result, arguments, page=best.page, query=marked)
    return ExitStatus.DONE


@contextmanager
def _index(place: str, arguments: ResultsArguments) -> Iterator[SearchIndex]:
    """Open an index file; for a destination or folder, make a temporary index for this search."""
    if not place.lower().startswith("s3://") and not Path(place).is_dir() and not is_result_name(place):
        if not Path(place).exists():
            raise SetupFault(f"there is no index {place}: create it with 'bulk-ocr index DESTINATION {place}'")
        with SearchIndex(Path(place)) as index:
            unfinished = [address for address, at in index.places().items() if at is None]
            if unfinished:
                complain(
                    f"the index is incomplete: 'bulk-ocr index {unfinished[0]} {place}' was interrupted; run it again"
                )
            yield index
        return
    results = find_results(place, store_of(arguments))
    require_results(results)
    with scratch_folder() as folder:
        with SearchIndex(folder / "index", create=True) as index, counting("reading", quiet=arguments.quiet) as count:
            changes = index.update(results, lambda now: count(now.added), READERS)
        complain_of_skipped(changes.skipped, changes.skipped_count)
        complain(
            f"read {quantity(changes.added, 'result')} for this search; 'bulk-ocr index {place}' makes an index for "
            "the next ones"
        )
        with SearchIndex(folder / "index") as index:
            yield index
