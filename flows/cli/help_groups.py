"""The order of `--help`: options in groups, commands in the order of a user's day.

The option models are independent of the command line, so the options' groups are defined here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cyclopts import App, Group, Parameter
from pydantic import BaseModel

from tasks.options import FileOptions, Options, Recognition
from tasks.selection import Selection

DOCUMENTS = Group("Documents", sort_key=1)
RECOGNITION = Group("Recognition", sort_key=2)
SPENDING = Group("Spending", sort_key=3)
OUTPUTS = Group("Outputs", sort_key=4)
RATES = Group("Rate limits", sort_key=5)
LIMITS = Group("Limits of a request", help="What the API takes; raise them if your account's are higher.", sort_key=5.5)
POLLING = Group("Leases and polling", sort_key=6)
SCALING = Group("Scaling", sort_key=7)
BUCKETS = Group("Buckets", sort_key=8)
CREDENTIALS = Group(
    "Credentials",
    help="Blocks at the Prefect server, instead of UPSTAGE_API_KEY and boto3's own variables, profiles and roles.",
    sort_key=9,
)

OPTIONS: Mapping[Group, Sequence[str]] = {
    RECOGNITION: (
        "model",
        "answer_schema",
        "mode",
        "sync_up_to",
        "rounds",
        "refuse_restricted",
        "reuse_identical",
        "skip_text",
        "trust_ocr_layers",
    ),
    SPENDING: (
        "max_pages",
        "page_budget",
        "max_cost",
        "max_pages_per_day",
        "max_cost_per_day",
        "max_pages_per_month",
        "max_cost_per_month",
        "max_pages_per_document",
        "price_per_page",
        "budget",
    ),
    OUTPUTS: ("text", "pdf"),
    LIMITS: ("limits",),
    RATES: ("requests_per_second", "pages_per_minute"),
    POLLING: ("poll_seconds", "longest_poll_seconds", "lease_seconds", "give_up_hours"),
    SCALING: ("workers", "window", "shards", "shard", "engine", "processes", "cluster"),
    BUCKETS: ("source", "destination"),
}


def show_in_groups(*models: type[BaseModel]) -> None:
    """Make the parser show each option of the models in its group."""
    for group, names in OPTIONS.items():
        for model in models:
            for name in names:
                field = model.model_fields.get(name)
                if field is not None:
                    field.metadata.append(Parameter(group=group))


show_in_groups(Recognition, Options, FileOptions)


def hide_options(model: type[BaseModel], names: Sequence[str]) -> None:
    """Hide options in the help of the commands that use this model. They are still accepted, without effect."""
    for name in names:
        field = model.model_fields[name]
        field.metadata = [*field.metadata, Parameter(show=False)]


for _taken in (Recognition, Options, FileOptions):
    hide_options(_taken, ("page_budget",))
hide_options(FileOptions, ("lease_seconds",))


# Shorter names, and names under which people look for an option.
_ALIASES: Mapping[type[BaseModel], Mapping[str, Sequence[str]]] = {
    Recognition: {"workers": ("--workers", "-j")},
    Options: {"workers": ("--workers", "-j")},
    FileOptions: {"workers": ("--workers", "-j")},
    Selection: {
        "modified_after": ("--modified-after", "--since"),
        "modified_before": ("--modified-before", "--until"),
    },
}
for _model, _names in _ALIASES.items():
    for _field, _flags in _names.items():
        _model.model_fields[_field].metadata.append(Parameter(name=_flags))


def shown_default(value: object) -> str | None:
    """Return a default for the help; None if the option is off or empty by default."""
    return None if value is None or value is False else str(value)


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
_COMMANDS: Mapping[Group, Mapping[str, Sequence[str]]] = {
    _DAY: {
        "check": ("check s3://scans/in s3://scans/out",),
        "plan": (
            "plan s3://scans/in s3://scans/out --sample 200",
            "plan s3://scans/in s3://scans/out --by year --save archive",
        ),
        "run": (
            "run s3://scans/in s3://scans/out --max-cost 50",
            "run s3://scans/in s3://scans/out --include '2024/**' --text",
        ),
        "watch": ("watch s3://scans/out", "watch archive --at s3://scans/out --once --json"),
        "status": ("status s3://scans/out",),
        "failures": ("failures s3://scans/out --all",),
        "retry": ("retry s3://scans/out --reason too-large",),
        "redo": ("redo s3://scans/out --include '2024/**'",),
        "backfill": ("backfill list --at s3://scans/out", "backfill set archive --at s3://scans/out --max-cost 80"),
    },
    _SCHEDULE: {
        "submit": ("submit s3://scans/in s3://scans/out --max-pages-per-day 10000",),
        "collect": ("collect s3://scans/out",),
        "listen": ("listen https://sqs.eu-west-1.amazonaws.com/1/scans s3://scans/in s3://scans/out",),
    },
    _LEDGER: {
        "documents": ("documents s3://scans/out --below-confidence 0.6",),
        "show": ("show s3://scans/in/2024/a.pdf --at s3://scans/out",),
        "usage": ("usage s3://scans/out --by day --month 2026-11",),
    },
    _RESULTS: {
        "pdf": ("pdf s3://scans/out/a.pdf.ocr.json -o a.pdf",),
        "view": ("view s3://scans/out/a.pdf.ocr.json -o a.html",),
        "index": ("index s3://scans/out results.db",),
        "search": ("search 'annual report' results.db",),
        "words": ("words s3://scans/out words.parquet",),
        "export": ("export s3://scans/out/a.pdf.ocr.json --to hocr",),
    },
    _MACHINE: {
        "file": ("file scan.pdf --text", "file scans/ -o results/"),
        "config": ("config", "config --all --json"),
        "schema": ("schema run",),
        "demo": ("demo",),
    },
}


def position(command: str) -> dict[str, Any]:
    """Return the arguments of `App.command` that put a command, or an app of several, into its place in the list."""
    number = 0
    for group, commands in _COMMANDS.items():
        for name in commands:
            number += 1
            if name == command:
                return {"group": group, "sort_key": number}
    raise KeyError(f"{command} is in no group of commands")


def epilogue(command: str) -> str:
    """Return what is below a command's help: examples and exit statuses."""
    examples = next(commands[command] for commands in _COMMANDS.values() if command in commands)
    lines = "\n".join(f"    bulk-ocr {example}" for example in examples)
    return f"For example:\n\n{lines}\n\n{_EXIT_STATUS}"


def listed(command: str) -> dict[str, Any]:
    """Return the arguments of `App.command` for a command: its place in the list, and the epilogue of its help."""
    return {**position(command), "help_epilogue": epilogue(command)}


def order_commands(app: App, *, lazy: Sequence[str] = ()) -> None:
    """List the commands in groups, with examples under the help of each.

    Args:
        app: the application, with all its commands.
        lazy: commands that were registered with `listed`, which are not imported.
    """
    for flag in ("--help", "--version", "--install-completion"):
        app[flag].group = (_PROGRAM,)
    for commands in _COMMANDS.values():
        for name in commands:
            if name in lazy or name not in app:
                continue
            command = app[name]
            for attribute, value in listed(name).items():
                setattr(command, attribute, value)
