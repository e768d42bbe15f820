"""The command `view`: shows a result beside the pages of its document, as one HTML file or served locally."""

import os
import uuid
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from cyclopts import Parameter, validators
from pydantic import BaseModel

from flows.cli.arguments import BLOCK, STORE_ENVIRONMENT, Json, ResultsArguments, StoreCredentials
from flows.cli.local_files import as_text, temporary_folder
from flows.cli.local_results import fetch_local_result, source_of_local
from flows.cli.option_groups import BUCKETS
from flows.cli.output import Page, complain, show
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.result_store import named_place
from tasks.access.open import storage_access
from tasks.context import accounts_of, store_of
from tasks.faults import ExitStatus, SetupFault
from tasks.options import Options, RunSettings
from tasks.outputs.originals import Original, find_original, source_of_result
from tasks.outputs.results import ResultFile, find_results
from tasks.outputs.viewer.results_server import ResultsServer
from tasks.outputs.viewer.viewer_page import Viewed, write_viewer
from tasks.scratch import folder_fault, scratch_folder
from tasks.store.location import Location
from tasks.store.object_store import ObjectStore
from tasks.store.settings import AS_IT_IS, DestinationOptions, SourceOptions

_SOURCE_AS_IT_IS = SourceOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ViewArguments:
    """Where results and documents are stored, and the credentials to read them."""

    source: Annotated[SourceOptions, Parameter(name="source", group=BUCKETS, show_default=False)] = _SOURCE_AS_IT_IS
    bucket: Annotated[DestinationOptions, Parameter(name="destination", group=BUCKETS, show_default=False)] = AS_IT_IS
    credentials: Annotated[StoreCredentials, BLOCK] = STORE_ENVIRONMENT
    json: Json = False


class ViewReport(BaseModel):
    """The page that was written."""

    page: str
    document: str
    pages: int
    reason: str = ""

    def show(self, page: Page) -> None:
        """Print the path."""
        page.say(self.page)


class Serving(BaseModel):
    """The address where results are served."""

    url: str
    results: int

    def show(self, page: Page) -> None:
        """Print the address."""
        page.say(self.url)


def view(
    place: Annotated[str, Parameter(help="A result or a document, or a folder or destination to serve as a list.")],
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="The HTML file for one result. Default: DOCUMENT.ocr.html in the temporary folder.",
        ),
    ] = None,
    document: Annotated[
        Path | None, Parameter(help="The document of the one result, if it is unknown or has moved.")
    ] = None,
    open_browser: Annotated[bool, Parameter(name="--open", negative="", help="Open the page in the browser.")] = False,
    port: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=0, lte=65535), help="The port to serve a list on; 0 picks a free one."
        ),
    ] = 0,
    arguments: ViewArguments = ViewArguments(),  # frozen
) -> ExitStatus:
    """Show a result beside the pages of its document: write one HTML file that needs no network, and print its path.

    For a folder or a destination, serve a list of the results with their quality to this machine only, until Ctrl-C,
    and print its address.
    """
    place = named_place(place)
    store = _Store(place, arguments)
    report = _view_one(place, store, output, document)
    if report is not None:
        show(report, json=arguments.json)
        if open_browser:
            _open(Path(report.page).as_uri())
        return ExitStatus.DONE
    results = find_results(place, store.open)
    if output is not None or document is not None:
        raise SetupFault(f"--output and --document are for one result, but {place} has several: name one of them")
    with scratch_folder() as folder, ResultsServer(results, store.original, folder, port) as server:
        show(Serving(url=server.url, results=server.count), json=arguments.json)
        complain(f"serving {server.count} results to this machine only, until Ctrl-C")
        if open_browser:
            _open(server.url)
        try:
            server.serve()
        except KeyboardInterrupt:  # the normal way to stop serving
            complain("ended")
    return ExitStatus.DONE


def _view_one(place: str, store: "_Store", output: Path | None, document: Path | None) -> ViewReport | None:
    """Write the page of a place's only result; None if there are several or the place is a destination."""
    try:
        results = find_results(place, store.open)
    except SetupFault:
        if not Path(place).is_file():
            raise
        # A local document: 'bulk-ocr file' keeps its result, wherever it was delivered.
        with scratch_folder() as folder:
            kept = fetch_local_result(Path(place), folder)
            if kept is None:
                raise
            name = Path(place).name
            return _write(kept, Viewed(name, as_text(Path(place).resolve()), document or Path(place)), output)
    first = list(islice(results.files(), 2))
    if not first:
        raise SetupFault(f"there is no result at {place}: name a result, or a folder or destination with results")
    return None if len(first) > 1 or results.whole_place else _write_result(first[0], store, output, document)


def open_result(address: str, arguments: ResultsArguments, *, page: int, query: str) -> None:
    """Write the page of a result to the temporary folder, and open it in the browser at a search hit.

    Raises:
        SetupFault: the result cannot be read or the page cannot be written.
    """
    store = _Store(address, ViewArguments(bucket=arguments.bucket, credentials=arguments.credentials))
    (result,) = find_results(address, store.open).files()
    report = _write_result(result, store, None, None)
    _open(f"{Path(report.page).as_uri()}#{urlencode({'page': page, 'search': query})}")


class _Store:
    """Results and documents, local or in S3."""

    def __init__(self, place: str, arguments: ViewArguments) -> None:
        self._place = place
        self._arguments = arguments
        self._objects: ObjectStore | None = None

    def open(self) -> ObjectStore:
        """Open the store of results and documents."""
        if self._objects is None:
            arguments = self._arguments
            prepare_for_blocks(arguments.credentials)
            settings = RunSettings(
                destination=f"s3://{Location.parse(self._place).bucket}",
                options=Options(source=arguments.source, destination=arguments.bucket),
                credentials=arguments.credentials,
            )
            self._objects = store_of(settings, accounts_of(settings, storage_access(arguments.credentials)))
        return self._objects

    @contextmanager
    def original(self, result: ResultFile, folder: Path) -> Iterator[Original]:
        """Yield the document of a result."""
        if result.address.startswith("s3://"):
            bucket, _, key = result.address.removeprefix("s3://").partition("/")
            described = self.open().head(bucket, key)
            source = None if described is None else source_of_result(described.metadata)
            original = find_original(source, self.open(), folder)
            try:
                yield original
            finally:
                if original.file is not None:
                    original.file.unlink(missing_ok=True)
            return
        yield find_original(source_of_local(Path(result.address)), None, folder)


def _write_result(result: ResultFile, store: _Store, output: Path | None, document: Path | None) -> ViewReport:
    with scratch_folder() as folder:
        file = find_results(result.address, store.open).fetch(result, folder)
        with _chosen(document) if document is not None else store.original(result, folder) as original:
            viewed = Viewed(result.document, result.address, original.file, original.reason)
            return _write(file, viewed, output)


def _write(result: Path, viewed: Viewed, output: Path | None) -> ViewReport:
    to = output or temporary_folder() / f"{Path(viewed.document).name}.ocr.html"
    unfinished = to.with_name(f".bulk-ocr-{uuid.uuid4().hex}")
    try:
        # Readable by this user only, if other users can read the folder.
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if output is None else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as out:
            pages = write_viewer(result, out, viewed)
        unfinished.replace(to)
    except OSError as error:
        raise folder_fault(to.parent, error) or SetupFault(
            f"{as_text(to)} cannot be written ({error.strerror or error}): choose another --output"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    document = as_text(viewed.document)
    return ViewReport(page=as_text(to.resolve()), document=document, pages=pages, reason=viewed.reason)


@contextmanager
def _chosen(document: Path) -> Iterator[Original]:
    """The document given with --document."""
    if not document.is_file():
        raise SetupFault(f"there is no document '{as_text(document)}'")
    yield Original(document, as_text(document))


def _open(url: str) -> None:
    if not webbrowser.open(url):
        complain(f"no browser was found: open {url}")
