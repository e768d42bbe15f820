"""The commands in the order of a user's day, with their help. They are imported when they are called."""

from collections.abc import Mapping
from dataclasses import dataclass

from cyclopts import App, Group

_EXIT_STATUS = (
    "Exit status: 0 all done · 1 some documents failed, were set aside, are missing or unfinished · 2 usage or set-up"
    " · 3 the account was refused · 4 a ceiling was reached · 130 interrupted"
)
_DAY = Group("From plan to results", sort_key=1)
_SCHEDULE = Group("One pass, for schedules", sort_key=2)
_LEDGER = Group("Look into the ledger", sort_key=3)
_RESULTS = Group("Use the results", sort_key=4)
_MACHINE = Group("This machine", sort_key=5)
_PROGRAM = Group("This program", sort_key=6)


@dataclass(frozen=True)
class _Command:
    """A command.

    Attributes:
        where: its module and function, or its module and app.
        help: what it does; the first paragraph is shown in the list of commands.
        examples: of its arguments.
    """

    where: str
    help: str
    examples: tuple[str, ...]


_COMMANDS: Mapping[Group, Mapping[str, _Command]] = {
    _DAY: {
        "check": _Command(
            "flows.cli.commands:check",
            "Check credentials, conditional writes, clock, API key and Prefect, and how to fix what fails. "
            "Sends nothing.",
            ("check s3://scans/in s3://scans/out",),
        ),
        "plan": _Command(
            "flows.cli.commands:plan",
            "Show what a run would do and cost: new documents, pages, price, and what would fail. Sends nothing.\n\n"
            "Reads every new document once to count its pages. Needs no API key.",
            (
                "plan s3://scans/in s3://scans/out --sample 200",
                "plan s3://scans/in s3://scans/out --by year --save archive",
            ),
        ),
        "run": _Command(
            "flows.cli.commands:run",
            "OCR the new documents: submit and collect until every document is done or failed.\n\n"
            "If interrupted, rerun the command to resume: what was sent is on record and is not sent again.",
            (
                "run s3://scans/in s3://scans/out --max-cost 50",
                "run s3://scans/in s3://scans/out --include '2024/**' --text",
            ),
        ),
        "watch": _Command(
            "flows.cli.watch:watch",
            "Show a backfill's progress until it is finished. Works from any terminal, needs no API key, "
            "sends nothing.\n\n"
            "With --json, prints one object per reading. Exit status 0 if the backfill is finished, 1 if it is not.",
            ("watch s3://scans/out", "watch archive --at s3://scans/out --once --json"),
        ),
        "status": _Command(
            "flows.cli.commands:status",
            "Show what is open, done and failed, with pages and money; exit status 1 while work is unfinished.\n\n"
            "Reads the ledger only; needs no API key.",
            ("status s3://scans/out",),
        ),
        "failures": _Command(
            "flows.cli.commands:failures",
            "Show why documents failed, grouped by kind. Needs no API key.",
            ("failures s3://scans/out --all",),
        ),
        "retry": _Command(
            "flows.cli.commands:retry",
            "Put failed documents back; the next run or collect continues with them.\n\n"
            "Pages that arrived before the failure are not paid for again.",
            ("retry s3://scans/out --reason too-large",),
        ),
        "redo": _Command(
            "flows.cli.redo:redo",
            "OCR finished documents again, and pay for them again: the next run submits them.",
            ("redo s3://scans/out --include '2024/**'",),
        ),
        "backfill": _Command(
            "flows.cli.backfill:app",
            "Named backfills: list, show, start, pause, resume, cancel, set.",
            ("backfill list --at s3://scans/out", "backfill set archive --at s3://scans/out --max-cost 80"),
        ),
    },
    _SCHEDULE: {
        "submit": _Command(
            "flows.cli.commands:submit",
            "One pass: submit the new documents.",
            ("submit s3://scans/in s3://scans/out --max-pages-per-day 10000",),
        ),
        "collect": _Command(
            "flows.cli.commands:collect",
            "One pass: poll the open jobs and publish the finished ones.",
            ("collect s3://scans/out",),
        ),
        "listen": _Command(
            "flows.cli.commands:listen",
            "Submit the documents that S3 event notifications in a queue announce, and no others.\n\n"
            "Messages that are not handled stay in the queue. Safe to interrupt, and to run beside any other command.",
            ("listen https://sqs.eu-west-1.amazonaws.com/1/scans s3://scans/in s3://scans/out",),
        ),
    },
    _LEDGER: {
        "documents": _Command(
            "flows.cli.commands:documents",
            "Find documents by confidence, blank pages, duration, size or failure. Needs no API key.\n\n"
            "Needs the extra 'catalogue'.",
            ("documents s3://scans/out --below-confidence 0.6",),
        ),
        "show": _Command(
            "flows.cli.commands:show_document",
            "Show one document's history: versions, requests, money, durations, failures, and the next step.\n\n"
            "Earlier versions and other models need the extra 'catalogue'. Needs no API key.",
            ("show s3://scans/in/2024/a.pdf --at s3://scans/out",),
        ),
        "usage": _Command(
            "flows.cli.commands:usage",
            "Show pages and money to compare with the invoice; possible duplicates are listed apart. "
            "Needs no API key.\n\n"
            "Needs the extra 'catalogue'.",
            ("usage s3://scans/out --by day --month 2026-11",),
        ),
    },
    _RESULTS: {
        "pdf": _Command(
            "flows.cli.pdf:pdf",
            "Write searchable PDFs: the documents with their text layer.",
            ("pdf s3://scans/out/a.pdf.ocr.json -o a.pdf",),
        ),
        "view": _Command(
            "flows.cli.view:view",
            "Show a result beside its pages in the browser, or serve a list.",
            ("view s3://scans/out/a.pdf.ocr.json -o a.html",),
        ),
        "index": _Command(
            "flows.cli.index:index",
            "Index results for full-text search, in one SQLite file.",
            ("index s3://scans/out results.db",),
        ),
        "search": _Command(
            "flows.cli.search:search",
            "Search results: document, page, and a snippet with the hits marked.",
            ("search 'annual report' results.db",),
        ),
        "words": _Command(
            "flows.cli.words:words",
            "Write all recognised words to a Parquet table.",
            ("words s3://scans/out words.parquet",),
        ),
        "export": _Command(
            "flows.cli.export:export",
            "Write results as plain text, hOCR, ALTO or JSON lines.",
            ("export s3://scans/out/a.pdf.ocr.json --to hocr",),
        ),
    },
    _MACHINE: {
        "file": _Command(
            "flows.cli.commands:file",
            "OCR local files: no bucket, no Prefect. Prints the path of each result.\n\n"
            "Up to 100 pages are sent synchronously, longer documents as jobs. "
            "If interrupted, rerun the command to resume.",
            ("file scan.pdf --text", "file scans/ -o results/"),
        ),
        "config": _Command(
            "flows.cli.config:config",
            "Show the settings in force, and where each comes from.",
            ("config", "config --all --json"),
        ),
        "schema": _Command(
            "flows.cli.schemas:schema",
            "Print the JSON schema of a command's --json output.",
            ("schema run",),
        ),
        "demo": _Command(
            "flows.cli.commands:demo",
            "Start the local stack and OCR sample documents; show the results and the Prefect UI.",
            ("demo",),
        ),
    },
}


def epilogue(name: str) -> str:
    """Return what is below a command's help: examples and exit statuses."""
    command = next(commands[name] for commands in _COMMANDS.values() if name in commands)
    lines = "\n".join(f"    bulk-ocr {example}" for example in command.examples)
    return f"For example:\n\n{lines}\n\n{_EXIT_STATUS}"


def register_commands(app: App) -> None:
    """Register all commands with their places in the list, and put the program's own options below them."""
    number = 0
    for group, commands in _COMMANDS.items():
        for name, command in commands.items():
            number += 1
            # An app of several commands brings its own epilogue.
            below = {} if command.where.endswith(":app") else {"help_epilogue": epilogue(name)}
            app.command(command.where, name=name, help=command.help, group=group, sort_key=number, **below)
    app.register_install_completion_command(help="Install completion for this shell: bash, zsh or fish.")
    for flag in ("--help", "--version", "--install-completion"):
        app[flag].group = (_PROGRAM,)
