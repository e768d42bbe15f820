"""The command `index`: results made searchable in one SQLite file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, ResultsArguments
from flows.cli.output import Page, show
from flows.cli.result_store import READERS, complain_of_skipped, counting, named_place, store_of
from tasks.faults import ExitStatus
from tasks.outputs.results import find_results
from tasks.outputs.search_index import SearchIndex

DEFAULT_INDEX = Path("results.db")


class IndexReport(BaseModel):
    """What bringing an index up to date did."""

    index: str
    place: str
    results: int = Field(description="in the index now, of all its places")
    pages: int = Field(description="in the index now, of all its places")
    added: int
    changed: int
    removed: int = Field(description="gone from the place since, and so from the index")
    unchanged: int
    pages_read: int
    skipped: dict[str, str] = Field(description="results that could not be read, and why; the first ones")
    skipped_count: int

    def show(self, page: Page) -> None:
        """Print for a person."""
        changes = f"{self.added} added, {self.changed} changed, {self.removed} removed, {self.unchanged} unchanged"
        page.say(f"{self.place}: {changes} ({self.pages_read} pages read)")
        page.say(f"{self.index} has {self.results} results with {self.pages} pages")


def index(
    place: Annotated[str, Parameter(help="A destination (s3://bucket/prefix), a folder, or one result.")],
    database: Annotated[Path, Parameter(help="The SQLite file; made when missing.")] = DEFAULT_INDEX,
    *,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Make results searchable: one SQLite file, brought up to date with what is new, changed or gone.

    Interrupted, the same command goes on where it was. Search it with 'bulk-ocr search'.
    """
    results = find_results(named_place(place), store_of(arguments))
    with SearchIndex(database, create=True) as found:
        with counting("indexing") as count:
            changes = found.update(results, lambda now: count(now.added + now.changed), READERS)
        in_all = found.counts()
    report = IndexReport(
        index=str(database),
        place=results.place,
        results=in_all[0],
        pages=in_all[1],
        added=changes.added,
        changed=changes.changed,
        removed=changes.removed,
        unchanged=changes.unchanged,
        pages_read=changes.pages,
        skipped=changes.skipped,
        skipped_count=changes.skipped_count,
    )
    complain_of_skipped(changes.skipped, changes.skipped_count)
    show(report, json=arguments.json)
    return ExitStatus.SOME_FAILED if changes.skipped_count else ExitStatus.DONE
