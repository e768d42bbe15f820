"""The command `words`: writes every recognised word as a row of a table."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, DryRun, ResultsArguments
from flows.cli.dry_run import show_dry_run
from flows.cli.output import Page, show
from flows.cli.result_store import (
    READERS,
    complain_of_skipped,
    counted,
    counting,
    named_place,
    require_results,
    store_of,
)
from tasks.faults import ExitStatus, SetupFault
from tasks.number_format import quantity
from tasks.outputs.results import find_results, read_ahead
from tasks.outputs.words_table import ROWS_A_FILE, write_words

_OTHER_FORMATS = {".csv", ".tsv", ".json", ".jsonl", ".xlsx"}


class WordsReport(BaseModel):
    """The table that was written."""

    path: str
    results: int
    words: int
    files: int = Field(description="1, or more if the path is a folder")
    skipped: dict[str, str] = Field(description="results that were skipped, and why")

    def show(self, page: Page) -> None:
        """Print as text."""
        where = self.path if self.files == 1 else f"{self.path}, a folder of {self.files} files"
        page.say(f"{quantity(self.words, 'word')} of {quantity(self.results, 'result')} in {where}")


def words(
    place: Annotated[str, Parameter(help="A destination (s3://bucket/prefix), a folder, or one result.")],
    table: Annotated[Path, Parameter(help="The Parquet file; an existing one is replaced.")] = Path("words.parquet"),
    *,
    rows_per_file: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1),
            help="Above this number of words, the table is a folder of several files.",
        ),
    ] = ROWS_A_FILE,
    dry_run: DryRun = False,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Write all words as a Parquet table, one row a word: document, page, text, confidence, box and line.

    Readable by Pandas, DuckDB, Spark and others. Needs the extra 'outputs'.
    """
    if table.suffix.lower() in _OTHER_FORMATS:
        raise SetupFault(f"the table is a Parquet file: name it {table.with_suffix('.parquet')} instead of {table}")
    results = find_results(named_place(place), store_of(arguments))
    if dry_run:
        return show_dry_run(results.place, [results], [str(table)], json=arguments.json)
    require_results(results)  # an existing table is not replaced by an empty one
    with counting("reading", quiet=arguments.quiet) as count:
        written = write_words(counted(read_ahead(results, READERS), count), table, rows_per_file)
    skipped = written.skipped
    complain_of_skipped(skipped, len(skipped))
    show(
        WordsReport(
            path=str(table), results=written.results, words=written.words, files=written.files, skipped=skipped
        ),
        json=arguments.json,
    )
    return ExitStatus.SOME_FAILED if skipped else ExitStatus.DONE
