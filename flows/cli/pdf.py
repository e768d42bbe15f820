"""The command `pdf`: writes searchable PDFs for the results of earlier runs."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field
from rich.console import Console

from flows.cli.arguments import BLOCK, STORE_ENVIRONMENT, DryRun, Json, Quiet, StoreCredentials, to_destination
from flows.cli.dry_run import DryRunReport
from flows.cli.local_files import as_text, temporary_folder
from flows.cli.local_results import fetch_local_result, source_of_local
from flows.cli.option_groups import BUCKETS
from flows.cli.output import Page, complain, show
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.progress import Display
from flows.cli.result_store import named_place
from flows.run.progress import Progress
from tasks.access.open import storage_access
from tasks.context import RunContext, accounts_of, store_of
from tasks.faults import CredentialsRefused, EndsDocument, ExitStatus, SetupFault, TransientFault
from tasks.job.record import Document, job_id
from tasks.options import Options, RunSettings
from tasks.outputs.originals import Source, find_original
from tasks.outputs.results import ResultFile, Results, find_results, inside, is_result_name
from tasks.outputs.searchable_pdf import SearchablePdf, write_searchable_pdf
from tasks.scratch import scratch_folder
from tasks.steps.beside import bring_pdf_into_step, source_of
from tasks.store.location import Location, pdf_key
from tasks.store.settings import AS_IT_IS, DestinationOptions, SourceOptions

_SCHEME = "s3://"
_AS_IT_IS = SourceOptions()


class WrittenPdf(BaseModel):
    """A searchable PDF that was written."""

    result: str
    pdf: str
    pages: int = Field(0, description="0 if it was written to S3 or existed already")
    words: int = 0
    text_only: str = Field("", description="why it contains only text")


class PdfReport(BaseModel):
    """The PDFs that were written."""

    written: list[WrittenPdf] = []
    there_already: int = Field(0, description="PDFs that already matched the result's version")
    failed: dict[str, str] = Field({}, description="results for which no PDF could be made, and why")

    def show(self, page: Page) -> None:
        """Print the paths."""
        for pdf in self.written:
            page.say(pdf.pdf)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PdfArguments:
    """Where results and documents are stored, and the credentials to read them."""

    destination: Annotated[
        str | None,
        Parameter(
            name=["--at", "--results"],
            converter=to_destination,
            help="The destination of the results, if a document in S3 is named: an address, or a place's name.",
        ),
    ] = None
    source: Annotated[SourceOptions, Parameter(name="source", group=BUCKETS, show_default=False)] = _AS_IT_IS
    bucket: Annotated[DestinationOptions, Parameter(name="destination", group=BUCKETS, show_default=False)] = AS_IT_IS
    credentials: Annotated[StoreCredentials, BLOCK] = STORE_ENVIRONMENT
    json: Json = False
    quiet: Quiet = False


def pdf(
    where: Annotated[
        str,
        Parameter(help="A result, a document, a folder, or a destination in S3."),
    ],
    *,
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            help="A file for one PDF, or a folder for several. Default: beside each result.",
        ),
    ] = None,
    document: Annotated[
        Path | None, Parameter(help="The document of the one result, if it is unknown or has moved.")
    ] = None,
    dry_run: DryRun = False,
    arguments: PdfArguments = PdfArguments(),  # frozen
) -> ExitStatus:
    """Write searchable PDFs: the original pages with their recognised text, for searching and copying.

    This costs no pages. PDFs keep their pages and pictures become pages. If a document is gone, has changed or has no
    pages of its own, the PDF contains only its text, and the command says so.
    """
    report = PdfReport()
    where = named_place(where)
    command = _Command(arguments, output, document, report)
    if dry_run:
        planned = list(command.targets(where))
        dry_run_report = DryRunReport(place=where, results=len(planned), writes=planned)
        show(dry_run_report, json=arguments.json)
        return ExitStatus.DONE
    with Display(Console(stderr=True), quiet=arguments.quiet) as display:
        for result in command.run(where):
            display.show(Progress(f"writing PDFs: {len(report.written)} so far, now {result}"))
    for result, why in report.failed.items():
        complain(f"{result}: {why}")
    for written in report.written:
        if written.text_only:
            complain(f"{written.pdf} contains only text: {written.text_only}")
    if report.there_already:
        complain(f"{report.there_already} PDFs were already up to date")
    show(report, json=arguments.json)
    return ExitStatus.SOME_FAILED if report.failed else ExitStatus.DONE


class _Command:
    """One call of the command.

    Args:
        arguments: where results and documents are stored.
        output: the --output option.
        document: the --document option.
        report: collects what is written.
    """

    def __init__(self, arguments: PdfArguments, output: str | None, document: Path | None, report: PdfReport) -> None:
        self._arguments = arguments
        self._output = output
        self._document = document
        self._report = report
        if output is not None and output.startswith(_SCHEME):
            raise SetupFault(
                f"--output {output} is in S3: name a local file or folder, or omit --output to write PDFs beside the "
                "results"
            )

    def targets(self, where: str) -> Iterator[str]:
        """Where the PDFs would be written.

        Raises:
            SetupFault: there is no such place.
        """
        if where.lower().startswith(_SCHEME):
            address = self._result_of_document(where) or where
            with self._context(address) as context:
                in_s3 = find_results(address, lambda: context.objects)
                several = _several(in_s3)
                for result in in_s3.files():
                    if self._output is None and self._document is None:
                        yield f"{result.address.removesuffix('.json')}.pdf"
                    else:
                        yield as_text(self._place(Path(f"{result.document}.ocr.pdf"), several=several, result=result))
            return
        path = Path(where)
        try:
            results = list(find_results(where).files())
        except SetupFault:
            if not path.is_file():
                raise
            yield as_text(self._place(temporary_folder() / f"{path.stem}.ocr.pdf", several=False))
            return
        several = len(results) > 1 or path.is_dir()
        for result in results:
            yield as_text(self._place(_beside(Path(result.address)), several=several, result=result))

    def run(self, where: str) -> Iterator[str]:
        """Write the PDFs, and yield the address of each result before processing it."""
        if where.lower().startswith(_SCHEME):
            yield from self._in_s3(where)
        else:
            yield from self._local(Path(where))

    def _local(self, where: Path) -> Iterator[str]:
        try:
            results = find_results(str(where))
        except SetupFault:
            if not where.is_file():
                raise
            with scratch_folder() as folder:
                kept = fetch_local_result(where, folder)
                if kept is None:
                    raise
                yield as_text(where)
                beside = temporary_folder() / f"{where.stem}.ocr.pdf"
                self._write(as_text(where), kept, _as_it_is(where), self._place(beside, several=False))
            return
        result_files = list(results.files())
        if not result_files:
            raise SetupFault(f"there is no result in {as_text(where)}: name a result, or a folder with results")
        several = len(result_files) > 1 or where.is_dir()
        for result in result_files:
            yield result.address
            path = Path(result.address)
            source = source_of_local(path) if self._document is None else _as_it_is(self._document)
            self._write(result.address, path, source, self._place(_beside(path), several=several, result=result))

    def _in_s3(self, where: str) -> Iterator[str]:
        address = self._result_of_document(where) or where
        with self._context(address) as context:
            results = find_results(address, lambda: context.objects)
            any_result, several = False, _several(results)
            for result in results.files():
                any_result = True
                yield result.address
                if self._output is None and self._document is None:
                    self._write_beside(context, result)
                else:
                    self._fetch_and_write(context, result, several=several)
            if not any_result:
                raise SetupFault(
                    f"there is no result at {where}: name a result or a destination; for a document, also name its "
                    "destination with --results"
                )

    def _result_of_document(self, where: str) -> str | None:
        """The address of a document's result, from the ledger of its destination."""
        if self._arguments.destination is None:
            return None
        with self._context(self._arguments.destination) as context:
            place = Location.parse(where)
            described = context.objects.head(place.bucket, place.prefix.rstrip("/"), document=True)
            if described is None:
                raise SetupFault(f"there is no document {where}")
            document = Document(
                bucket=place.bucket, key=described.key, etag=described.etag, size=described.size,
                last_modified=described.last_modified,
            )  # fmt: skip
            done = context.ledger.done(job_id(document, context.options.model))
            if done is None:
                raise SetupFault(
                    f"the current version of {where} has no result at {self._arguments.destination}: "
                    "recognise it with 'bulk-ocr run'"
                )
            return done.job.result

    @contextmanager
    def _context(self, address: str) -> Iterator[RunContext]:
        arguments = self._arguments
        prepare_for_blocks(arguments.credentials)
        place = Location.parse(arguments.destination or address)
        settings = RunSettings(
            destination=str(place) if arguments.destination or not _is_result(address) else _SCHEME + place.bucket,
            options=Options(source=arguments.source, destination=arguments.bucket),
            credentials=arguments.credentials,
        )
        yield RunContext(settings, store_of(settings, accounts_of(settings, storage_access(arguments.credentials))))

    def _write_beside(self, context: RunContext, result: ResultFile) -> None:
        key = result.address.removeprefix(f"{_SCHEME}{context.destination.bucket}/")
        try:
            if bring_pdf_into_step(context, key, missing_too=True):
                pdf = f"{_SCHEME}{context.destination.bucket}/{pdf_key(key)}"
                self._report.written.append(WrittenPdf(result=result.address, pdf=pdf))
            else:
                self._report.there_already += 1
        except (EndsDocument, TransientFault) as fault:
            self._report.failed[result.address] = str(fault)

    def _fetch_and_write(self, context: RunContext, result: ResultFile, *, several: bool) -> None:
        objects, bucket = context.objects, context.destination.bucket
        key = result.address.removeprefix(f"{_SCHEME}{bucket}/")
        with scratch_folder() as folder:
            try:
                file = folder / "result"
                objects.fetch(bucket, key, result.version, file)
                described = objects.head(bucket, key)
                source = None if described is None else source_of(context, described)
            except CredentialsRefused:
                raise
            except (EndsDocument, TransientFault) as fault:
                self._report.failed[result.address] = str(fault)
                return
            if self._document is not None:
                source = _as_it_is(self._document)
            place = self._place(Path(f"{result.document}.ocr.pdf"), several=several, result=result)
            self._write(result.address, file, source, place, context)

    def _write(
        self, name: str, result: Path, source: Source | None, to: Path, context: RunContext | None = None
    ) -> None:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder() as folder:
                original = find_original(source, context.objects if context else None, folder)
                made = write_searchable_pdf(result, original.file, to, name=original.name, reason=original.reason)
        except (EndsDocument, TransientFault) as fault:
            self._report.failed[name] = str(fault)
            return
        except OSError as error:
            raise SetupFault(
                f"{as_text(to)} cannot be written ({error.strerror or error}): choose another path with --output"
            ) from error
        self._report.written.append(_written(name, to, made))

    def _place(self, beside: Path, *, several: bool, result: ResultFile | None = None) -> Path:
        """The path of a PDF: as given with --output, or beside its result."""
        if self._output is None:
            return beside
        output = Path(self._output)
        if not (output.is_dir() or self._output.endswith(os.sep) or several):
            return output.resolve()
        if result is None:
            return output.resolve() / beside.name
        place = inside(output.resolve(), f"{result.document}.ocr.pdf")
        name = Path(result.address).name  # has the model and the schema: a document may have several results
        return _beside(place.with_name(name)) if is_result_name(name) else place


def _written(name: str, to: Path, made: SearchablePdf) -> WrittenPdf:
    return WrittenPdf(result=name, pdf=as_text(to), pages=made.pages, words=made.words, text_only=made.text_only)


def _several(results: Results) -> bool:
    """Whether --output names a folder: for a folder or destination, or a document with several results."""
    return results.whole_place or len(list(islice(results.files(), 2))) > 1


def _is_result(address: str) -> bool:
    return address.endswith(".json")


def _beside(result: Path) -> Path:
    return result.with_name(result.name.removesuffix(".json") + ".pdf")


def _as_it_is(document: Path) -> Source:
    """The current version of the document given with --document."""
    try:
        with document.open("rb") as content:
            return Source(str(document), hashlib.file_digest(content, "sha256").hexdigest())
    except OSError as error:
        raise SetupFault(f"{as_text(document)} cannot be read ({error.strerror})") from error
