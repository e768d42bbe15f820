"""The command `words`: every recognised word as a row of a table."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, ResultsArguments
from flows.cli.output import Page, show
from flows.cli.result_store import READERS, complain_of_skipped, counted, counting, named_place, store_of
from tasks.faults import ExitStatus
from tasks.outputs.results import find_results, read_ahead
from tasks.outputs.words_table import ROWS_A_FILE, write_words


class WordsReport(BaseModel):
    """What was written."""

    path: str
    results: int
    words: int
    files: int = Field(description="1, or more where the path is a folder")
    skipped: dict[str, str] = Field(description="results that were left out, and why")

    def show(self, page: Page) -> None:
        """Print for a person."""
        where = self.path if self.files == 1 else f"{self.path}, a folder of {self.files} files"
        page.say(f"{self.words} words of {self.results} results in {where}")


def words(
    place: Annotated[str, Parameter(help="A destination (s3://bucket/prefix), a folder, or one result.")],
    table: Annotated[Path, Parameter(help="The Parquet file; what is there is replaced.")] = Path("words.parquet"),
    *,
    rows_per_file: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1), help="Beyond so many words, the table is a folder of several files."
        ),
    ] = ROWS_A_FILE,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Write a table of all words: document, page, text, confidence, box and line, a row a word, as Parquet.

    Pandas, DuckDB, Spark and others read it. Needs the extra 'outputs'.
    """
    results = find_results(named_place(place), store_of(arguments))
    with counting("reading") as count:
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
