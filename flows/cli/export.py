"""The command `export`: writes results in other programs' formats."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import IO, Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field

from flows.cli.arguments import FROM_RESULTS, DryRun, ResultsArguments
from flows.cli.dry_run import show_dry_run
from flows.cli.output import Page, print_json, writing
from flows.cli.result_store import READERS, complain_of_skipped, counted, counting, named_place, store_of
from tasks.faults import EndsDocument, ExitStatus, SetupFault
from tasks.outputs.exports import ENDINGS, ExportedFrom, ExportFormat, export_result
from tasks.outputs.results import ResultFile, find_results, inside, read_ahead, storable
from tasks.scratch import folder_fault

_STREAMED: tuple[ExportFormat, ...] = ("text", "jsonl")  # several results fit into one file


class ExportReport(BaseModel):
    """The exported files."""

    files: list[str] = Field(description="files written; empty if written to standard output")
    results: int = 0
    pages: int = 0
    skipped: dict[str, str] = Field(default_factory=dict, description="results that were skipped, and why")

    def show(self, page: Page) -> None:
        """Print the files, one a line."""
        for file in self.files:
            page.say(file)


def export(
    *places: Annotated[str, Parameter(help="Results, documents, folders, or destinations (s3://bucket/prefix).")],
    to: Annotated[ExportFormat, Parameter(help="The format.")],
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            help="A file, or a folder for several results. Default: standard output.",
        ),
    ] = None,
    dry_run: DryRun = False,
    arguments: ResultsArguments = FROM_RESULTS,
) -> ExitStatus:
    """Write results as plain text, hOCR, ALTO, or JSON lines (one page a line, for search engines and RAG loaders).

    A folder gets one file for each document. Text and JSON lines of several results can also be one stream.
    """
    if not places:
        raise SetupFault("no result was given; see 'bulk-ocr export --help'")
    if arguments.json and output is None:
        raise SetupFault("--json reports files, but the export goes to standard output: give an --output")
    result_sets = [find_results(named_place(place), store_of(arguments)) for place in places]
    if dry_run:
        target = "standard output" if output is None else output
        return show_dry_run(", ".join(places), result_sets, [target], json=arguments.json)
    report = ExportReport(files=[])
    with counting("exporting", quiet=arguments.quiet) as tell:
        results = counted((pair for result_set in result_sets for pair in read_ahead(result_set, READERS)), tell)
        first = next(results, None)
        if first is None:
            raise SetupFault(f"there is no result at {', '.join(places)}")
        results = chain([first], results)
        if output is not None and (Path(output).is_dir() or output.endswith("/")):
            _into_folder(results, to, Path(output), report)
        else:
            with _stream(output, report) as out:
                _into_stream(results, to, out, report)
    complain_of_skipped(report.skipped, len(report.skipped))
    if arguments.json:
        print_json(report)
    else:
        report.show(Page())
    return ExitStatus.SOME_FAILED if report.skipped else ExitStatus.DONE


def _into_folder(
    results: Iterable[tuple[ResultFile, Path | EndsDocument]], to: ExportFormat, folder: Path, report: ExportReport
) -> None:
    written: set[Path] = set()
    for result, file in results:
        target = next(path for path in _targets(folder, result, ENDINGS[to]) if path not in written)
        unfinished = target.with_name(f".{target.name}.part")
        try:
            if isinstance(file, EndsDocument):
                raise file
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("w", encoding="utf-8", errors="replace", newline="") as out:
                pages = export_result(file, to, out, _source(result))
            unfinished.replace(target)
        except EndsDocument as fault:
            unfinished.unlink(missing_ok=True)
            report.skipped[result.address] = str(fault)
            continue
        except OSError as error:
            raise _unwritable(target, error) from error
        written.add(target)
        report.files.append(str(target))
        report.results += 1
        report.pages += pages


def _targets(folder: Path, result: ResultFile, ending: str) -> Iterator[Path]:
    """Yield the file of a result, and the alternatives if it is taken: several results may be of one document."""
    document = storable(result.document)
    yield inside(folder, document + ending)
    beside = f"{document.rpartition('/')[0]}/{storable(Path(result.address).name).removesuffix('.json')}"
    yield inside(folder, beside + ending)
    for number in count(2):  # of several places
        yield inside(folder, f"{beside}-{number}{ending}")


def _into_stream(
    results: Iterable[tuple[ResultFile, Path | EndsDocument]], to: ExportFormat, out: IO[str], report: ExportReport
) -> None:
    for result, file in results:
        if report.results and to not in _STREAMED:
            raise SetupFault(f"{to} takes one document a file, but there are several: name a folder, as in -o {to}/")
        try:
            if isinstance(file, EndsDocument):
                raise file
            if report.results and to == "text":
                out.write("\f")
            report.pages += export_result(file, to, out, _source(result))
        except EndsDocument as fault:
            report.skipped[result.address] = str(fault)
        else:
            report.results += 1


def _source(result: ResultFile) -> ExportedFrom:
    return ExportedFrom(storable(result.document), storable(result.address))


@contextmanager
def _stream(output: str | None, report: ExportReport) -> Iterator[IO[str]]:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):  # the formats are UTF-8 regardless of the locale
            sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="")
        with writing():
            yield sys.stdout
        return
    target = Path(output)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", errors="replace", newline="") as out:
            yield out
        unfinished.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    report.files.append(str(target))


def _unwritable(target: Path, error: OSError) -> SetupFault:
    return folder_fault(target.parent, error) or SetupFault(f"{target} cannot be written ({error.strerror or error})")
