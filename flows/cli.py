"""The command `bulk-ocr`. Data goes to standard output, progress and complaints to standard error.

Exit status: 0 all done · 1 some documents failed or are not finished · 2 usage or set-up · 3 the account was refused.
"""

import importlib.util
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, validators
from pydantic import ValidationError
from rich.console import Console

from flows.here import interrupted, prepare_prefect, run_flow
from flows.printing import complain, console
from tasks.faults import AccountFault, Fault, SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, FILE_DEFAULTS, Credentials, FileOptions, Options, RunSettings
from tasks.selection import EVERYTHING, Selection

app = App(
    name="bulk-ocr",
    help="Bulk OCR of documents in S3: nothing is lost, nothing is paid for twice.",
    version_flags=["--version"],
    version=version("bulk-ocr"),
    suppress_keyboard_interrupt=False,  # it is answered below, with what it means
)

Source = Annotated[str, Parameter(help="Where the documents lie: s3://bucket/prefix")]
Destination = Annotated[str, Parameter(help="Where results and ledger go: s3://bucket/prefix")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object on standard output.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Show the run's log as well.")]
Flags = Annotated[Options, Parameter(name="*")]
Which = Annotated[
    Selection, Parameter(name="*", group="Which documents", negative="", negative_iterable="", show_default=False)
]
_Block = Parameter(name="*", group="Blocks at the Prefect server", name_transform="{}-block".format, show_default=False)
Blocks = Annotated[Credentials, _Block]


class _ForStorage(Credentials):
    upstage: Annotated[str | None, Parameter(parse=False)] = None


AwsBlock = Annotated[_ForStorage, _Block]
NO_BLOCK = _ForStorage()

_PRICE = 0.0015  # dollars a page, as the vendor publishes it


class ExitStatus(IntEnum):
    """What the command's exit status means."""

    DONE = 0
    SOME_FAILED = 1
    SETUP = 2
    ACCOUNT_REFUSED = 3
    INTERRUPTED = 130


@app.command
def run(
    source: Source,
    destination: Destination,
    *,
    selection: Which = EVERYTHING,
    options: Flags = DEFAULTS,
    credentials: Blocks = ENVIRONMENT,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Submit and collect, here and now, until every document is done or failed.

    Safe to interrupt and to start again: what was sent is on record and is not sent again.
    """
    place = {"source": source, "destination": destination}
    given = {**place, "selection": selection, "options": options, "credentials": credentials}
    return run_flow("backfill", given, json, verbose)


@app.command
def submit(
    source: Source,
    destination: Destination,
    *,
    selection: Which = EVERYTHING,
    options: Flags = DEFAULTS,
    credentials: Blocks = ENVIRONMENT,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """One pass: send the documents that are new."""
    place = {"source": source, "destination": destination}
    given = {**place, "selection": selection, "options": options, "credentials": credentials}
    return run_flow("submit", given, json, verbose)


@app.command
def listen(
    queue: Annotated[str, Parameter(help="URL of the SQS queue in which S3 tells of new documents")],
    source: Source,
    destination: Destination,
    *,
    seconds: Annotated[
        float | None,
        Parameter(
            validator=validators.Number(gte=0),
            help="How long to listen; 0 takes what is there and ends. Until it is interrupted when left out.",
        ),
    ] = None,
    selection: Which = EVERYTHING,
    options: Flags = DEFAULTS,
    credentials: Blocks = ENVIRONMENT,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Send the documents that S3's notifications in a queue tell of, as they come, and no others.

    What is not dealt with stays in the queue. Safe to interrupt, and beside any other command.
    """
    place = {"source": source, "destination": destination, "queue": queue, "seconds": seconds}
    given = {**place, "selection": selection, "options": options, "credentials": credentials}
    return run_flow("listen", given, json, verbose)


@app.command
def collect(
    destination: Destination,
    *,
    options: Flags = DEFAULTS,
    credentials: Blocks = ENVIRONMENT,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """One pass: ask for the open jobs and publish those that are finished."""
    given = {"destination": destination, "options": options, "credentials": credentials}
    return run_flow("collect", given, json, verbose)


@app.command
def plan(
    source: Source,
    destination: Destination,
    *,
    selection: Which = EVERYTHING,
    options: Flags = DEFAULTS,
    credentials: AwsBlock = NO_BLOCK,
    sample: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Read only so many of the new documents, chosen at random, and extrapolate.",
        ),
    ] = None,
    price: Annotated[float, Parameter(validator=validators.Number(gte=0), help="Dollars a page.")] = _PRICE,
    json: Json = False,
) -> int:
    """Show what a run would do and cost: new documents, pages, price, and what would fail. Sends nothing.

    Reads every new document once to count its pages. Needs no API key.
    """
    prepare_prefect(verbose=False)
    from flows.plan import make_plan, progress_on

    settings = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    with progress_on(Console(stderr=True)) as tell:
        report = make_plan(settings, price, sample, tell)
    _show(report, json)
    return ExitStatus.DONE


@app.command
def check(
    source: Source,
    destination: Destination,
    *,
    queue: Annotated[str | None, Parameter(help="URL of the SQS queue that 'listen' is to use.")] = None,
    options: Flags = DEFAULTS,
    credentials: Blocks = ENVIRONMENT,
    json: Json = False,
) -> int:
    """Prove the set-up: credentials, conditional writes, clock, API key, Prefect; says what to mend. Sends nothing."""
    prepare_prefect(verbose=False)
    from flows.check import check_setup

    report = check_setup(source, destination, options, queue, credentials)
    _show(report, json)
    return report.exit_status


@app.command
def status(destination: Destination, *, credentials: AwsBlock = NO_BLOCK, json: Json = False) -> int:
    """Show what is open, done and failed. Reads the ledger only; needs no API key."""
    prepare_prefect(verbose=False)
    from flows.status import read_status

    ledger_status = read_status(destination, credentials=credentials)
    _show(ledger_status, json)
    return ExitStatus.SOME_FAILED if ledger_status.failed else ExitStatus.DONE


@app.command
def failures(
    destination: Destination,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="List every document.")] = False,
    credentials: AwsBlock = NO_BLOCK,
    json: Json = False,
) -> int:
    """Show why documents failed, grouped by kind. Needs no API key."""
    prepare_prefect(verbose=False)
    from flows.failures import read_failures

    found = read_failures(destination, everything=everything, credentials=credentials)
    _show(found, json)
    return ExitStatus.SOME_FAILED if found.failed else ExitStatus.DONE


@app.command
def retry(
    destination: Destination,
    *,
    reason: Annotated[list[str] | None, Parameter(negative="", help="Only this kind of failure; repeatable.")] = None,
    key: Annotated[list[str] | None, Parameter(negative="", help="Only this document; repeatable.")] = None,
    credentials: AwsBlock = NO_BLOCK,
    json: Json = False,
) -> int:
    """Put failed documents back; the next run or collect goes on with them.

    Pages that came before the failure are not paid for again.
    """
    prepare_prefect(verbose=False)
    from flows.failures import put_back

    report = put_back(destination, reason or (), key or (), credentials)
    if json:
        print(report.model_dump_json())
    else:
        line = f"{report.put_back} put back, {report.left} left; {report.pages_kept} pages are here already"
        print(f"{line}. Go on with: bulk-ocr run, or wait for the next collect")
    return ExitStatus.DONE


@app.command
def file(
    # A hyphen may lead: "-" is standard input, and what is no option may be a file.
    *paths: Annotated[str, Parameter(help="Files, folders, or - for standard input.", allow_leading_hyphen=True)],
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            help="A file for the result, or a folder for several; otherwise STEM.ocr.json in the temporary folder.",
        ),
    ] = None,
    text: Annotated[bool, Parameter(negative="", help="Print the text, with a form feed between pages.")] = False,
    words: Annotated[bool, Parameter(negative="", help="Print page, confidence, box and text, a word a line.")] = False,
    again: Annotated[bool, Parameter(negative="", help="Pay again for what was recognised before.")] = False,
    options: Annotated[FileOptions, Parameter(name="*")] = FILE_DEFAULTS,
    json: Json = False,
) -> int:
    """Recognise documents on this machine: no bucket, no Prefect. Prints where each result is.

    Up to 100 pages are answered at once, longer documents go as jobs. Interrupted, the same command goes on.
    """
    from flows.file import EndedAtOnce, LocalRun, gather
    from flows.printing import FileResult, FilesReport, print_text, print_words
    from flows.progress import Counter

    if not paths:
        raise SetupFault("no file was named; 'bulk-ocr file --help' shows how")
    if text + words + json > 1:
        raise SetupFault("--text, --words and --json exclude one another")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names and texts are what they are, whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")

    def show(result: FileResult) -> None:
        if result.kind == "failed":
            counter.say(f"{result.document} failed: {result.reason}")
        elif result.output is not None and not json:
            name = result.document if len(documents) > 1 else None
            with counter.aside(), _readers_may_leave():
                if text:
                    print_text(result.output, sys.stdout, name)
                elif words:
                    print_words(result.output, sys.stdout, name)
                else:
                    print(result.output)
                sys.stdout.flush()

    results: list[FileResult] = []
    refused: AccountFault | None = None
    known = 0
    with tempfile.TemporaryDirectory(prefix="bulk-ocr-") as folder:
        documents, left_out = gather(paths, output, Path(folder))
        if left_out:
            some = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
            complain(f"left out of folders, as no documents by their names: {len(left_out)} ({some})")
        run = LocalRun.from_environment(options, again=again)
        with Counter(Console(stderr=True), len(documents)) as counter:
            try:
                for result in run.recognise(documents, counter.say, counter.show):
                    results.append(result)
                    known += result.known_since is not None
                    show(result)
            except AccountFault as fault:
                refused = fault
            except EndedAtOnce:
                counter.say("ended; what may be paid for twice is counted when the same command goes on")
                os._exit(ExitStatus.INTERRUPTED)  # the threads that wait for answers would keep the process
    if json:
        with _readers_may_leave():
            print(FilesReport.of(results, left_out).model_dump_json(), flush=True)
    if known:
        which = documents[0].shown if len(documents) == 1 else f"{known} of {len(documents)} documents"
        complain(f"{which} had been recognised before: not paid for again (--again does)")
    twice = sum(result.possible_duplicates for result in results)
    if twice:
        complain(f"the answers of {twice} submissions were lost: these may be paid for twice")
    if refused is not None:
        raise refused
    return ExitStatus.SOME_FAILED if any(result.kind == "failed" for result in results) else ExitStatus.DONE


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    """Let `| head -1` have its one line: the rest of the work is done all the same, and of what is printed, nothing."""
    try:
        yield
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@app.command
def demo(
    *,
    exit_when_done: Annotated[
        bool, Parameter(name="--exit", negative="", help="Stop at the end instead of keeping the UI up.")
    ] = False,
) -> int:
    """Start the local stack and OCR sample documents for real; shows the results and the Prefect UI."""
    # The local stack is no part of the product, and may not be installed: this process becomes the demo.
    if importlib.util.find_spec("deployments.local.demo") is None or importlib.util.find_spec("ministack") is None:
        raise SetupFault(
            "the demo needs the local stack: run 'make demo', or install the extra 'local' in the checkout"
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "deployments.local.demo", *(["--exit"] if exit_when_done else [])])


def _show(found: Any, json: bool) -> None:
    if json:
        print(found.model_dump_json())
    else:
        found.show(console())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # What is being sent at this moment is still put on record.
    interrupted.set()
    raise KeyboardInterrupt


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        return "; ".join(_complaint(each["loc"], each["msg"]) for each in cause.errors())
    return " ".join(str(error).split())


def _complaint(where: tuple[int | str, ...], message: str) -> str:
    flag = ".".join(part.replace("_", "-") for part in where if isinstance(part, str))
    flag += "-block" if flag in Credentials.model_fields else ""
    message = message.removeprefix("Value error, ")
    return f"--{flag}: {message}" if flag else message


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, _interrupt)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(f"{_usage(error)} (see 'bulk-ocr --help')")
        code = ExitStatus.SETUP
    except AccountFault as fault:
        complain(str(fault))
        code = ExitStatus.ACCOUNT_REFUSED
    except Fault as fault:
        complain(str(fault))
        code = ExitStatus.SETUP
    except KeyboardInterrupt:
        complain("interrupted; what was sent is on record, and the same command goes on from here")
        code = ExitStatus.INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
