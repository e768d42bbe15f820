"""Commands that run a flow or look into a ledger. What each of them does is in `command_list`, for the help.

Each imports what it needs when it is called: some import Prefect, which takes seconds.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

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
from flows.cli.output import complain, show
from flows.cli.places import destination_of
from flows.cli.prefect_setup import prepare_for_blocks
from tasks.backfills.record import Order
from tasks.faults import ExitStatus, SetupFault
from tasks.options import FILE_DEFAULTS, FileOptions
from tasks.upstage.limits import MOST


def run(arguments: RunArguments) -> ExitStatus:
    """The command `run`."""
    if arguments.dry_run:
        return _plan_instead(arguments, arguments.limit)
    return _run_flow("backfill", arguments, arguments.parameters())


def submit(arguments: SubmitArguments) -> ExitStatus:
    """The command `submit`."""
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
    """The command `listen`."""
    return _run_flow("listen", arguments, {**arguments.parameters(), "queue": queue, "seconds": seconds})


def collect(arguments: CollectArguments) -> ExitStatus:
    """The command `collect`."""
    if arguments.dry_run:
        from flows.cli.dry_run import status_instead

        return status_instead(
            arguments.destination, arguments.credentials, arguments.options.destination, json=arguments.json
        )
    return _run_flow("collect", arguments, arguments.parameters())


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
    """The command `plan`."""
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


def check(
    arguments: CheckArguments,
    *,
    queue: Annotated[str | None, Parameter(help="URL of the SQS queue for 'listen'.")] = None,
) -> ExitStatus:
    """The command `check`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.check import check_setup

    report = check_setup(arguments.source, arguments.destination, arguments.options, queue, arguments.credentials)
    show(report, json=arguments.json)
    return report.exit_status


def status(
    *places: Annotated[str, Parameter(help="Destinations, or names of places. Default: all places.")],
    arguments: StatusArguments = NO_ARGUMENTS,
) -> ExitStatus:
    """The command `status`."""
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


def failures(
    arguments: LedgerArguments,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="List every document.")] = False,
) -> ExitStatus:
    """The command `failures`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import read_failures

    report = read_failures(
        arguments.destination, list_all=everything, credentials=arguments.credentials, bucket=arguments.bucket
    )
    show(report, json=arguments.json)
    return ExitStatus.SOME_FAILED if report.failed else ExitStatus.DONE


def retry(
    arguments: LedgerArguments,
    *,
    reason: Annotated[
        list[str] | None, Parameter(negative="", help="Only documents with this failure code; repeatable.")
    ] = None,
    key: Annotated[list[str] | None, Parameter(negative="", help="Only this document; repeatable.")] = None,
    dry_run: DryRun = False,
) -> ExitStatus:
    """The command `retry`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.failures import put_back

    report = put_back(
        arguments.destination, reason or (), key or (), arguments.credentials, arguments.bucket, dry_run=dry_run
    )
    show(report, json=arguments.json)
    return ExitStatus.DONE


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
    """The command `documents`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.documents import list_documents
    from tasks.catalogue.queries import DocumentFilter

    if sum((csv, arguments.json, parquet is not None)) > 1:
        raise SetupFault("--csv, --json and --parquet are formats of the same list: give only one of them")
    wanted = DocumentFilter(below_confidence, blank, failed, slowest, largest)
    form: Literal["table", "csv", "json"] = "json" if arguments.json else "csv" if csv else "table"
    list_documents(arguments.destination, wanted, form, parquet, arguments.credentials, arguments.bucket)
    return ExitStatus.DONE


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
    """The command `show`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.show import read_document

    show(read_document(document, at, arguments.credentials, arguments.bucket), json=arguments.json)
    return ExitStatus.DONE


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
    """The command `usage`."""
    prepare_for_blocks(arguments.credentials)
    from flows.cli.usage import read_usage

    show(
        read_usage(arguments.destination, by, month, price_per_page, arguments.credentials, arguments.bucket),
        json=arguments.json,
    )
    return ExitStatus.DONE


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
    """The command `file`."""
    from flows.cli.file import content_of, recognise_files

    content = content_of(text=text, words=words, json=json)
    return recognise_files(paths, output, options, content, again=again, quiet=quiet, dry_run=dry_run)


def demo(
    *,
    exit_when_done: Annotated[
        bool, Parameter(name="--exit", negative="", help="Stop at the end instead of keeping the UI up.")
    ] = False,
) -> ExitStatus:
    """The command `demo`."""
    # The local stack is no part of the product, and may not be installed: this process becomes the demo.
    if importlib.util.find_spec("deployments.local.demo") is None or importlib.util.find_spec("ministack") is None:
        raise SetupFault(
            "the demo needs the local stack: run 'make demo', or install the extra 'local' in the checkout"
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "deployments.local.demo", *(["--exit"] if exit_when_done else [])])
