"""The command `index`: makes results searchable in one SQLite file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, DryRun, ResultsArguments
from flows.cli.dry_run import show_dry_run
from flows.cli.output import Page, show
from flows.cli.result_store import READERS, complain_of_skipped, counting, named_place, require_results, store_of
from tasks.faults import ExitStatus
from tasks.number_format import quantity
from tasks.outputs.results import find_results
from tasks.outputs.search_index import SearchIndex

DEFAULT_INDEX = Path("results.db")


class IndexReport(BaseModel):
    """The outcome of updating an index."""

    index: str
    place: str
    results: int = Field(description="total in the index, over all places")
    pages: int = Field(description="total in the index, over all places")
    added: int
    changed: int
    removed: int = Field(description="removed from the index because they are gone from the place")
    unchanged: int
    pages_read: int
    skipped: dict[str, str] = Field(description="the first results that could not be read, and why")
    skipped_count: int

    def show(self, page: Page) -> None:
        """Print as text."""
        changes = f"{self.added} added, {self.changed} changed, {self.removed} removed, {self.unchanged} unchanged"
        page.say(f"{self.place}: {changes} ({quantity(self.pages_read, 'page')} read)")
        page.say(f"{self.index} has {quantity(self.results, 'result')} with {quantity(self.pages, 'page')}")


def index(
    place: Annotated[str, Parameter(help="A destination (s3://bucket/prefix), a folder, or one result.")],
    database: Annotated[Path, Parameter(help="The SQLite file; created if missing.")] = DEFAULT_INDEX,
    *,
    dry_run: DryRun = False,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Make results searchable in one SQLite file, updated with new, changed and removed results.

    If interrupted, rerun the command to resume. Search the index with 'bulk-ocr search'.
    """
    results = find_results(named_place(place), store_of(arguments))
    if dry_run:
        return show_dry_run(results.place, [results], [str(database)], json=arguments.json)
    if not database.exists():
        require_results(results)
    with SearchIndex(database, create=True) as search_index:
        if results.place not in search_index.places():
            require_results(results)
        with counting("indexing", quiet=arguments.quiet) as count:
            changes = search_index.update(results, lambda now: count(now.added + now.changed), READERS)
        results_in_all, pages_in_all = search_index.counts()
    report = IndexReport(
        index=str(database),
        place=results.place,
        results=results_in_all,
        pages=pages_in_all,
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
