"""The command `search`: pages with what somebody looks for, from an index or straight from results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, ResultsArguments
from flows.cli.index import DEFAULT_INDEX
from flows.cli.output import Page, complain, show
from flows.cli.result_store import READERS, complain_of_skipped, counting, named_place, store_of
from tasks.faults import ExitStatus, SetupFault
from tasks.outputs.results import find_results, is_result_name
from tasks.outputs.search import SearchResult
from tasks.outputs.search import search as search_index
from tasks.outputs.search_index import SearchIndex
from tasks.scratch import scratch_folder


class FoundPage(BaseModel):
    """A page with what was looked for."""

    document: str
    result: str
    page: int
    snippet: str
    marks: list[tuple[int, int]] = Field(description="where in the snippet the hits are, in characters")


class SearchReport(BaseModel):
    """What a search found."""

    query: str
    results: int = Field(description="results with hits, in all")
    pages: int = Field(description="pages with hits, in all")
    hits: list[FoundPage] = Field(description="the best pages, --limit at most")

    @classmethod
    def of(cls, found: SearchResult) -> "SearchReport":
        """The same for machines."""
        hits = [
            FoundPage(document=hit.document, result=hit.result, page=hit.page, snippet=hit.snippet, marks=[*hit.marks])
            for hit in found.hits
        ]
        return cls(query=found.query, results=found.results, pages=found.pages, hits=hits)

    def show(self, page: Page) -> None:
        """Print for a person."""
        for hit in self.hits:
            page.say(f"{hit.document}, page {hit.page}", "bold")
            page.marked(f"    {hit.snippet}", [(start + 4, end + 4) for start, end in hit.marks])
        page.say(
            f"{_count(self.pages, 'page')} of {_count(self.results, 'document')}" if self.hits else "nothing found"
        )
        if self.pages > len(self.hits):
            page.say(f"the {len(self.hits)} best are shown; --limit shows more")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def search(
    query: Annotated[
        str,
        Parameter(
            help='Words, "phrases", beginnings of words (revenu*); -word leaves pages out.',
            allow_leading_hyphen=True,
        ),
    ],
    place: Annotated[str, Parameter(help="An index; or a destination, folder or result, then read whole.")] = str(
        DEFAULT_INDEX
    ),
    *,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1), help="How many pages to print.")] = 20,
    open_viewer: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the best page in the viewer, in the browser.")
    ] = False,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Find pages: prints document, page, and a snippet with the hits marked, the best first.

    Case and accents do not matter. Korean, Chinese and Japanese words are found inside of longer ones. Exit status 1
    when nothing is found.
    """
    with _index(named_place(place), arguments) as index:
        found = search_index(index, query, limit)
    show(SearchReport.of(found), json=arguments.json)
    if not found.hits:
        return ExitStatus.SOME_FAILED
    if open_viewer:
        from flows.cli.view import open_result

        best = found.hits[0]
        marked = best.snippet[slice(*best.marks[0])] if best.marks else ""
        open_result(best.result, arguments, page=best.page, query=marked)
    return ExitStatus.DONE


@contextmanager
def _index(place: str, arguments: ResultsArguments) -> Iterator[SearchIndex]:
    """The index in a file; of a destination or a folder, one that is made for this search alone."""
    if not place.lower().startswith("s3://") and not Path(place).is_dir() and not is_result_name(place):
        if not Path(place).exists():
            raise SetupFault(f"there is no index {place}: make one with 'bulk-ocr index DESTINATION {place}'")
        with SearchIndex(Path(place)) as index:
            unfinished = [address for address, at in index.places().items() if at is None]
            if unfinished:
                complain(f"the index is not complete: 'bulk-ocr index {unfinished[0]} {place}' was interrupted")
            yield index
        return
    results = find_results(place, store_of(arguments))
    with scratch_folder() as folder:
        with SearchIndex(folder / "index", create=True) as index, counting("reading") as count:
            changes = index.update(results, lambda now: count(now.added), READERS)
        complain_of_skipped(changes.skipped, changes.skipped_count)
        complain(f"{changes.added} results were read for this search; 'bulk-ocr index {place}' keeps an index of them")
        with SearchIndex(folder / "index") as index:
            yield index
