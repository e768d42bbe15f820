"""The command `bulk-ocr`. Data goes to standard output, progress and complaints to standard error.

Each command is imported when it is called: some bring Prefect, which takes seconds.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, validators
from pydantic import ValidationError
from rich.console import Console

from flows.cli.arguments import CheckArguments, CollectArguments, Json, LedgerArguments, PlanArguments, SubmitArguments
from flows.cli.flow_runner import run_flow
from flows.cli.output import complain, flush, prepare_streams, show
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.progress import Display
from flows.cli.repeated import call
from flows.cli.signals import end_on_signals
from flows.run.progress import Progress
from tasks.faults import EndsRun, ExitStatus, Fault, SetupFault
from tasks.options import FILE_DEFAULTS, Credentials, FileOptions

app = App(
    name="bulk-ocr",
    help="Bulk OCR of documents in S3: nothing is lost, nothing is paid for twice.",
    version_flags=["--version"],
    version=version("bulk-ocr"),
    suppress_keyboard_interrupt=False,  # it is answered below, with what it means
)

_PRICE = 0.0015  # dollars a page, as the vendor publishes it


@app.command
def run(arguments: SubmitArguments) -> ExitStatus:
    """Submit and collect, here and now, until every document is done or failed.

    Safe to interrupt and to start again: what was sent is on record and is not sent again.
    """
    return run_flow("backfill", arguments, arguments.parameters())


@app.command
def submit(arguments: SubmitArguments) -> ExitStatus:
    """One pass: send the documents that are new."""
    return run_flow("submit", arguments, arguments.parameters())


@app.command
def listen(
    queue: Annotated[str, Parameter(help="URL of the SQS queue in which S3 tells of new documents")],
    arguments: SubmitArguments,
    *,
    seconds: Annotated[
        float | None,
        Parameter(
            validator=validators.Number(gte=0),
            help="How long to listen; 0 takes what is there and ends. Until it is interrupted when left out.",
        ),
    ] = None,
) -> ExitStatus:
    """Send the documents that S3's notifications in a queue tell of, as they come, and no others.

    What is not dealt with stays in the queue. Safe to interrupt, and beside any other command.
    """
    return run_flow("listen", arguments, {**arguments.parameters(), "queue": queue, "seconds": seconds})


@app.command
def collect(arguments: CollectArguments) -> ExitStatus:
    """One pass: ask for the open jobs and publish those that are finished."""
    return run_flow("collect", arguments, arguments.parameters())


@app.command
def plan(
    arguments: PlanArguments,
    *,
    sample: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Read only so many of the new documents, chosen at random, and extrapolate.",
        ),
    ] = None,
    price: Annotated[float, Parameter(validator=validators.Number(gte=0), help="Dollars a page.")] = _PRICE,
) -> ExitStatus:
    """Show what a run would do and cost: new documents, pages, price, and what would fail. Sends nothing.

    Reads every new document once to count its pages. Needs no API key.
    """
    if arguments.options.page_budget is not None:
        raise SetupFault("--page-budget bounds what a run sends, and a plan sends nothing: leave it out here")
    prepare_for_blocks(arguments.credentials)
    from flows.cli.plan import make_plan

    with Display(Console(stderr=True)) as display:
        report = make_plan(arguments.settings(), price, sample, lambda doing: display.show(Progress(doing)))
    show(report, json=arguments.json)
    if report.nothing:
        complain(report.nothing)
        return ExitStatus.SOME_FAILED if arguments.allow_empty else ExitStatus.SETUP
    return ExitStatus.DONE


@app.command
def check(
    arguments: CheckArguments,
    *,
    queue: Annotated[str | None, Parameter(help="URL of the SQS queue that 'listen' is to use.")] = None,
) -> ExitStatus:
    """Prove the set-up: credentials, conditional writes, clock, API key, Prefect; says what to mend. Sends nothing."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.check import check_setup

    report = check_setup(arguments.source, arguments.destination, arguments.options, queue, arguments.credentials)
    show(report, json=arguments.json)
    return report.exit_status


@app.command
def status(arguments: LedgerArguments) -> ExitStatus:
    """Show what is open, done and failed. Reads the ledger only; needs no API key."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.status import read_status

    found = read_status(arguments.destination, credentials=arguments.credentials, bucket=arguments.bucket)
    show(found, json=arguments.json)
    return found.exit_status


@app.command
def failures(
    arguments: LedgerArguments,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="List every document.")] = False,
) -> ExitStatus:
    """Show why documents failed, grouped by kind. Needs no API key."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import read_failures

    found = read_failures(
        arguments.destination, everything=everything, credentials=arguments.credentials, bucket=arguments.bucket
    )
    show(found, json=arguments.json)
    return ExitStatus.SOME_FAILED if found.failed else ExitStatus.DONE


@app.command
def retry(
    arguments: LedgerArguments,
    *,
    reason: Annotated[list[str] | None, Parameter(negative="", help="Only this kind of failure; repeatable.")] = None,
    key: Annotated[list[str] | None, Parameter(negative="", help="Only this document; repeatable.")] = None,
) -> ExitStatus:
    """Put failed documents back; the next run or collect goes on with them.

    Pages that came before the failure are not paid for again.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import put_back

    report = put_back(arguments.destination, reason or (), key or (), arguments.credentials, arguments.bucket)
    show(report, json=arguments.json)
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
) -> ExitStatus:
    """Recognise documents on this machine: no bucket, no Prefect. Prints where each result is.

    Up to 100 pages are answered at once, longer documents go as jobs. Interrupted, the same command goes on.
    """
    from flows.cli.file import content_of, recognise_files

    content = content_of(text=text, words=words, json=json)
    return recognise_files(paths, output, options, content, again=again)


@app.command
def demo(
    *,
    exit_when_done: Annotated[
        bool, Parameter(name="--exit", negative="", help="Stop at the end instead of keeping the UI up.")
    ] = False,
) -> ExitStatus:
    """Start the local stack and OCR sample documents for real; shows the results and the Prefect UI."""
    # The local stack is no part of the product, and may not be installed: this process becomes the demo.
    if importlib.util.find_spec("deployments.local.demo") is None or importlib.util.find_spec("ministack") is None:
        raise SetupFault(
            "the demo needs the local stack: run 'make demo', or install the extra 'local' in the checkout"
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "deployments.local.demo", *(["--exit"] if exit_when_done else [])])


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        return "; ".join(_complaint(each["loc"], each["msg"]) for each in cause.errors())
    return " ".join(str(error).split())


def _complaint(where: tuple[int | str, ...], message: str) -> str:
    flag = ".".join(part.replace("_", "-") for part in where if isinstance(part, str))
    flag += "-block" if flag.replace("-", "_") in Credentials.model_fields else ""
    message = message.removeprefix("Value error, ")
    return f"--{flag}: {message}" if flag else message


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    prepare_streams()
    end_on_signals()
    try:
        code = call(app, arguments)
        flush()
    except CycloptsError as error:
        complain(f"{_usage(error)} (see 'bulk-ocr --help')")
        code = ExitStatus.SETUP
    except Fault as fault:
        complain(str(fault))
        code = fault.exit_status if isinstance(fault, EndsRun) else ExitStatus.SETUP
    except KeyboardInterrupt:
        complain("interrupted; what was sent is on record, and the same command goes on from here")
        code = ExitStatus.INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
