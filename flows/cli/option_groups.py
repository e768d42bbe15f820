"""The order of options in the help of a command.

The option models are independent of the command line, so the options' groups are defined here.
"""

from collections.abc import Mapping, Sequence

from cyclopts import Group, Parameter
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
