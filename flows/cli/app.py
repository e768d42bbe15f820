"""The command `bulk-ocr`. Data goes to standard output, progress and errors to standard error.

Each command is imported when it is called: some import Prefect, which takes seconds.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError, validators
from pydantic import ValidationError

from flows.cli import watch
from flows.cli.arguments import (
    NO_ARGUMENTS,
    CheckArguments,
    CollectArguments,
    DryRun,
    FlowArguments,
    Json,
    LedgerArguments,
    ListenArguments,
    PlanArguments,
    Quiet,
    RunArguments,
    StatusArguments,
    SubmitArguments,
)
from flows.cli.fill_in import fill_in
from flows.cli.help_groups import listed, order_commands, position, shown_default
from flows.cli.output import complain, flush, prepare_streams, show
from flows.cli.places import destination_of
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.repeated import call
from flows.cli.signals import end_on_signals
from tasks.backfills.record import Order
from tasks.faults import EndsRun, ExitStatus, Fault, SetupFault
from tasks.options import FILE_DEFAULTS, Credentials, FileOptions
from tasks.upstage.limits import MOST

app = App(
    name="bulk-ocr",
    help="Bulk OCR of documents in S3: nothing is lost, nothing is paid for twice uncounted.",
    version_flags=["--version"],
    version=version("bulk-ocr"),
    default_parameter=Parameter(show_default=shown_default),
    config=(fill_in,),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # handled in `main`
)

app.command(
    "flows.cli.backfill:app",
    name="backfill",
    help="Named backfills: list, show, start, pause, resume, cancel, set.",
    **position("backfill"),
)
app.command(watch.watch)
app.command(
    "flows.cli.redo:redo",
    help="OCR finished documents again, and pay for them again: the next run submits them.",
    **listed("redo"),
)


@app.command
def run(arguments: RunArguments) -> ExitStatus:
    """OCR the new documents: submit and collect until every document is done or failed.

    If interrupted, rerun the command to resume: what was sent is on record and is not sent again.
    """
    if arguments.dry_run:
        return _plan_instead(arguments, arguments.limit)
    return _run_flow("backfill", arguments, arguments.parameters())


@app.command
def submit(arguments: SubmitArguments) -> ExitStatus:
    """One pass: submit the new documents."""
    if arguments.dry_run:
        return _plan_instead(arguments)
    return _run_flow("submit", arguments, arguments.parameters())


def _run_flow(name: str, arguments: FlowArguments, parameters: dict[str, Any]) -> ExitStatus:
    from flows.cli.flow_runner import run_flow

    return run_flow(name, arguments, parameters)


def _plan_instead(arguments: SubmitArguments, limit: int | None = None) -> ExitStatus:
    from flows.cli.dry_run import plan_instead

    return plan_instead(
        arguments.settings(),
        json=arguments.json,
        quiet=arguments.quiet,
        limit=limit,
        allow_empty=arguments.allow_empty,
    )


@app.command
def listen(
    queue: Annotated[str, Parameter(help="URL of the SQS queue that receives S3's event notifications")],
    arguments: ListenArguments,
    *,
    seconds: Annotated[
        float | None,
        Parameter(
            validator=validators.Number(gte=0, lte=MOST),
            help="Seconds to listen; 0 takes the waiting messages and ends. Without it, until interrupted.",
        ),
    ] = None,
) -> ExitStatus:
    """Submit the documents that S3 event notifications in a queue announce, and no others.

    Messages that are not handled stay in the queue. Safe to interrupt, and to run beside any other command.
    """
    return _run_flow("listen", arguments, {**arguments.parameters(), "queue": queue, "seconds": seconds})


@app.command
def collect(arguments: CollectArguments) -> ExitStatus:
    """One pass: poll the open jobs and publish the finished ones."""
    if arguments.dry_run:
        from flows.cli.dry_run import status_instead

        return status_instead(
            arguments.destination, arguments.credentials, arguments.options.destination, json=arguments.json
        )
    return _run_flow("collect", arguments, arguments.parameters())


@app.command
def plan(
    arguments: PlanArguments,
    *,
    sample: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Read only this many new documents, chosen at random, and extrapolate.",
        ),
    ] = None,
    price: Annotated[
        float | None, Parameter(validator=validators.Number(gte=0, lte=MOST), help="The same as --price-per-page.")
    ] = None,
    save: Annotated[
        str | None, Parameter(help="Save the plan as a backfill of this name, with the ceilings given here.")
    ] = None,
    order: Annotated[Order, Parameter(help="With --save: the order in which documents are sent.")] = "listed",
    limit: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="With --save: maximum documents in one run.")
    ] = None,
) -> ExitStatus:
    """Show what a run would do and cost: new documents, pages, price, and what would fail. Sends nothing.

    Reads every new document once to count its pages. Needs no API key.
    """
    flag = "--page-budget" if arguments.options.page_budget is not None else "--max-pages"
    if save is None and arguments.options.run_pages is not None:
        raise SetupFault(f"{flag} bounds what a run sends, and a plan sends nothing: leave it out here, or --save NAME")
    prepare_for_blocks(arguments.credentials)
    from rich.console import Console

    from flows.cli.plan import make_plan, save_plan
    from flows.cli.progress import Display
    from flows.run.progress import Progress

    settings = arguments.settings()
    price = settings.options.price if price is None else price
    with Display(Console(stderr=True), quiet=arguments.quiet) as display:
        report = make_plan(settings, price, sample, lambda doing: display.show(Progress(doing)))
    if save is not None and not report.nothing:
        save_plan(settings, report, save, order, limit)
    show(report, json=arguments.json)
    if report.nothing:
        complain(report.nothing)
        return ExitStatus.SOME_FAILED if arguments.allow_empty else ExitStatus.SETUP
    return ExitStatus.DONE


@app.command
def check(
    arguments: CheckArguments,
    *,
    queue: Annotated[str | None, Parameter(help="URL of the SQS queue for 'listen'.")] = None,
) -> ExitStatus:
    """Check credentials, conditional writes, clock, API key and Prefect, and how to fix what fails. Sends nothing."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.check import check_setup

    report = check_setup(arguments.source, arguments.destination, arguments.options, queue, arguments.credentials)
    show(report, json=arguments.json)
    return report.exit_status


@app.command
def status(
    *places: Annotated[str, Parameter(help="Destinations, or names of places. Default: all places.")],
    arguments: StatusArguments = NO_ARGUMENTS,
) -> ExitStatus:
    """Show what is open, done and failed, with pages and money; exit status 1 while work is unfinished.

    Reads the ledger only; needs no API key.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.status import read_status, read_statuses

    if len(places) == 1:
        ledger_status = read_status(
            destination_of(places[0]), credentials=arguments.credentials, bucket=arguments.bucket, sums=True
        )
        show(ledger_status, json=arguments.json)
        return ledger_status.exit_status
    statuses = read_statuses(places, credentials=arguments.credentials, bucket=arguments.bucket)
    show(statuses, json=arguments.json)
    return statuses.exit_status


@app.command
def failures(
    arguments: LedgerArguments,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="List every document.")] = False,
) -> ExitStatus:
    """Show why documents failed, grouped by kind. Needs no API key."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import read_failures

    report = read_failures(
        arguments.destination, list_all=everything, credentials=arguments.credentials, bucket=arguments.bucket
    )
    show(report, json=arguments.json)
    return ExitStatus.SOME_FAILED if report.failed else ExitStatus.DONE


@app.command
def retry(
    arguments: LedgerArguments,
    *,
    reason: Annotated[
        list[str] | None, Parameter(negative="", help="Only documents with this failure code; repeatable.")
    ] = None,
    key: Annotated[list[str] | None, Parameter(negative="", help="Only this document; repeatable.")] = None,
    dry_run: DryRun = False,
) -> ExitStatus:
    """Put failed documents back; the next run or collect continues with them.

    Pages that arrived before the failure are not paid for again.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import put_back

    report = put_back(
        arguments.destination, reason or (), key or (), arguments.credentials, arguments.bucket, dry_run=dry_run
    )
    show(report, json=arguments.json)
    return ExitStatus.DONE


@app.command
def documents(
    arguments: LedgerArguments,
    *,
    below_confidence: Annotated[
        float | None,
        Parameter(
            validator=validators.Number(gte=0, lte=1), help="Only documents whose words have a lower mean confidence."
        ),
    ] = None,
    blank: Annotated[bool, Parameter(negative="", help="Only documents with blank pages.")] = False,
    slowest: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="The N documents that took longest.")
    ] = None,
    largest: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="The N documents with the most pages.")
    ] = None,
    failed: Annotated[bool, Parameter(negative="", help="Only failed documents, with the reason.")] = False,
    csv: Annotated[bool, Parameter(negative="", help="Print every row with all columns, as CSV.")] = False,
    parquet: Annotated[Path | None, Parameter(help="Write every row with all columns to a Parquet file.")] = None,
) -> ExitStatus:
    """Find documents by confidence, blank pages, duration, size or failure. Needs no API key.

    Needs the extra 'catalogue'.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.documents import list_documents
    from tasks.catalogue.queries import DocumentFilter

    if sum((csv, arguments.json, parquet is not None)) > 1:
        raise SetupFault("--csv, --json and --parquet are formats of the same list: give only one of them")
    wanted = DocumentFilter(below_confidence, blank, failed, slowest, largest)
    form: Literal["table", "csv", "json"] = "json" if arguments.json else "csv" if csv else "table"
    list_documents(arguments.destination, wanted, form, parquet, arguments.credentials, arguments.bucket)
    return ExitStatus.DONE


@app.command(name="show")
def show_document(
    document: Annotated[str, Parameter(help="Its address, its result's address, or its key with --at.")],
    *,
    at: Annotated[
        str | None,
        Parameter(
            env_var="BULK_OCR_DESTINATION",
            help="Where its result and ledger are, or the place's name. Without it, the configured destination, or "
            "found from the places.",
        ),
    ] = None,
    arguments: StatusArguments = NO_ARGUMENTS,
) -> ExitStatus:
    """Show one document's history: versions, requests, money, durations, failures, and the next step.

    Earlier versions and other models need the extra 'catalogue'. Needs no API key.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.show import read_document

    show(read_document(document, at, arguments.credentials, arguments.bucket), json=arguments.json)
    return ExitStatus.DONE


@app.command
def usage(
    arguments: LedgerArguments,
    *,
    by: Annotated[
        Literal["day", "month", "prefix", "model", "run", "backfill"], Parameter(help="How to group the sums.")
    ] = "month",
    month: Annotated[str | None, Parameter(help="Only pages sent in this month, as 2026-11 (UTC).")] = None,
    price_per_page: Annotated[
        float | None,
        Parameter(validator=validators.Number(gte=0, lte=MOST), help="Dollars a page, for records without a price."),
    ] = None,
) -> ExitStatus:
    """Show pages and money to compare with the invoice; possible duplicates are listed apart. Needs no API key.

    Needs the extra 'catalogue'.
    """
    prepare_for_blocks(arguments.credentials)
    from flows.cli.usage import read_usage

    show(
        read_usage(arguments.destination, by, month, price_per_page, arguments.credentials, arguments.bucket),
        json=arguments.json,
    )
    return ExitStatus.DONE


@app.command
def file(
    # A hyphen may lead: "-" is standard input, and what is no option may be a file.
    *paths: Annotated[str, Parameter(help="Files, folders, or - for standard input.", allow_leading_hyphen=True)],
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            help="A file for the result, or a folder for several. Default: STEM.ocr.json in the temporary folder.",
        ),
    ] = None,
    text: Annotated[bool, Parameter(negative="", help="Print the text, with a form feed between pages.")] = False,
    words: Annotated[bool, Parameter(negative="", help="Print page, confidence, box and text, a word a line.")] = False,
    again: Annotated[
        bool, Parameter(negative="", help="OCR and pay again, even if the document was recognised before.")
    ] = False,
    options: Annotated[FileOptions, Parameter(name="*")] = FILE_DEFAULTS,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> ExitStatus:
    """OCR local files: no bucket, no Prefect. Prints the path of each result.

    Up to 100 pages are sent synchronously, longer documents as jobs. If interrupted, rerun the command to resume.
    """
    from flows.cli.file import content_of, recognise_files

    content = content_of(text=text, words=words, json=json)
    return recognise_files(paths, output, options, content, again=again, quiet=quiet, dry_run=dry_run)


@app.command
def demo(
    *,
    exit_when_done: Annotated[
        bool, Parameter(name="--exit", negative="", help="Stop at the end instead of keeping the UI up.")
    ] = False,
) -> ExitStatus:
    """Start the local stack and OCR sample documents; show the results and the Prefect UI."""
    # The local stack is no part of the product, and may not be installed: this process becomes the demo.
    if importlib.util.find_spec("deployments.local.demo") is None or importlib.util.find_spec("ministack") is None:
        raise SetupFault(
            "the demo needs the local stack: run 'make demo', or install the extra 'local' in the checkout"
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "deployments.local.demo", *(["--exit"] if exit_when_done else [])])


# What people do with results. Imported when they are called; the sentence is for the list of commands.
app.command("flows.cli.index:index", help="Index results for full-text search, in one SQLite file.", **listed("index"))
app.command(
    "flows.cli.search:search",
    help="Search results: document, page, and a snippet with the hits marked.",
    **listed("search"),
)
app.command("flows.cli.words:words", help="Write all recognised words to a Parquet table.", **listed("words"))
app.command(
    "flows.cli.export:export", help="Write results as plain text, hOCR, ALTO or JSON lines.", **listed("export")
)
app.command(
    "flows.cli.view:view", help="Show a result beside its pages in the browser, or serve a list.", **listed("view")
)
app.command(
    "flows.cli.config:config", help="Show the settings in force, and where each comes from.", **listed("config")
)
app.command("flows.cli.schemas:schema", help="Print the JSON schema of a command's --json output.", **listed("schema"))
app.command(
    "flows.cli.pdf:pdf",
    help="Write searchable PDFs: the documents with their text layer.",
    **listed("pdf"),
)
app.register_install_completion_command(help="Install completion for this shell: bash, zsh or fish.")
order_commands(app, lazy=("backfill", "config", "schema", "redo", "pdf", "index", "search", "words", "export", "view"))


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        messages_by_flag: dict[str, dict[str, None]] = {}  # without repetition, in order
        for problem in cause.errors():
            message = problem["msg"].removeprefix("Value error, ")
            messages_by_flag.setdefault(_flag(problem["loc"]), {})[message] = None
        return "; ".join(f"{flag}{'; '.join(messages)}" for flag, messages in messages_by_flag.items())
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        remark = "; its place is after --at" if _takes_at(error) else ""
        return f"one argument too many: {' '.join(error.unused_tokens)}{remark}"
    return " ".join(str(error).split())


def _takes_at(error: CycloptsError) -> bool:
    """Whether the command takes the address of its ledger or results as an option."""
    command = app
    for name in error.command_chain or ():
        command = command[name]
    return any("--at" in argument.names for argument in command.assemble_argument_collection())


def _help_of(error: CycloptsError) -> str:
    """The command whose help explains the arguments."""
    return " ".join(["bulk-ocr", *(error.command_chain or ()), "--help"])


def _flag(location: tuple[int | str, ...]) -> str:
    """Return the flag of an option in error, with a colon; empty if the error is about several options."""
    parts = [part for part in location if isinstance(part, str)]
    # Below the field, the location of an error has the type that was tried, such as "literal['auto']".
    flag = ".".join(part.replace("_", "-") for part in takewhile(str.isidentifier, parts))
    flag += "-block" if flag.replace("-", "_") in Credentials.model_fields else ""
    return f"--{flag}: " if flag else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    prepare_streams()
    end_on_signals()
    try:
        code = call(app, arguments)
        flush()
    except CycloptsError as error:
        complain(f"{_usage(error)} (see '{_help_of(error)}')")
        code = ExitStatus.SETUP
    except Fault as fault:
        complain(str(fault))
        code = fault.exit_status if isinstance(fault, EndsRun) else ExitStatus.SETUP
    except KeyboardInterrupt:
        complain("interrupted; what was sent is on record: rerun the command to resume")
        code = ExitStatus.INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
