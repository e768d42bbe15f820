"""Arguments shared by several commands, one class for each group.

Fields without a default are positional, in order; the others are flags, and have to follow them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Parameter, Token, validators
from pydantic import ConfigDict

from flows.cli.option_groups import BUCKETS, CREDENTIALS, DOCUMENTS, hide_options
from flows.cli.places import destination_of, source_of
from tasks.backfills.record import Order
from tasks.faults import SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.store.settings import AS_IT_IS, DestinationOptions


def _block_flag(name: str) -> str:
    return f"{name.replace('_', '-')}-block"


BLOCK = Parameter(name="*", group=CREDENTIALS, name_transform=_block_flag, show_default=False)


class StoreCredentials(Credentials):
    """Blocks with S3's secrets, for commands that need no API key."""

    upstage: Annotated[str | None, Parameter(parse=False)] = None


class ResultsCredentials(StoreCredentials):
    """Blocks with the secrets of the destination's bucket, for commands that read no documents."""

    source_aws: Annotated[str | None, Parameter(parse=False)] = None


STORE_ENVIRONMENT = StoreCredentials()
RESULTS_ENVIRONMENT = ResultsCredentials()

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object on standard output.")]
DryRun = Annotated[
    bool,
    Parameter(name=["--dry-run", "-n"], negative="", help="Show what it would do and cost; send and write nothing."),
]
Quiet = Annotated[
    bool, Parameter(name=["--quiet", "-q"], negative="", help="Show no progress; the report and errors remain.")
]


# A schema takes milliseconds to build, and each command uses at most one.
_BUILT_WHEN_USED = ConfigDict(defer_build=True)


class PlanOptions(Options):
    """The options that a plan depends on."""

    model_config = _BUILT_WHEN_USED


class CollectOptions(Options):
    """The options of a pass over open jobs. Model, schema and similar options are recorded in each job."""

    model_config = _BUILT_WHEN_USED


class CheckOptions(Options):
    """The options that a check of the set-up depends on."""

    model_config = _BUILT_WHEN_USED


_POLLING = ("poll_seconds", "longest_poll_seconds", "lease_seconds", "give_up_hours")
_ENGINES = ("engine", "processes", "cluster", "shards", "shard")
_RECORDED = ("model", "answer_schema", "skip_text", "trust_ocr_layers", "reuse_identical", "max_pages_per_document")
_CHECKED = ("requests_per_second", "pages_per_minute", "lease_seconds", "source", "destination")
hide_options(PlanOptions, (*_POLLING, *_ENGINES, "rounds", "text", "pdf", "budget"))
hide_options(CollectOptions, (*_RECORDED, "window"))
hide_options(CheckOptions, [name for name in Options.model_fields if name not in _CHECKED])


def _to_source(_type: object, tokens: Sequence[Token]) -> str:
    return source_of(tokens[0].value)


def to_destination(_type: object, tokens: Sequence[Token]) -> str:
    """Convert a destination's address or a place's name to an address, for the parser."""
    return destination_of(tokens[0].value)


SourceAddress = Annotated[
    str, Parameter(converter=_to_source, help="Where the documents are: s3://bucket/prefix, or the name of a place.")
]
DestinationAddress = Annotated[
    str,
    Parameter(converter=to_destination, help="Where results and ledger are: s3://bucket/prefix, or a place's name."),
]


@dataclass(frozen=True)
class _Ledger:
    destination: DestinationAddress


@dataclass(frozen=True)
class _Place:
    source: SourceAddress
    destination: DestinationAddress


# Each of the following adds to the fields of the base classes listed after it, so positional fields come last.


@dataclass(frozen=True, kw_only=True)
class _Printed:
    json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class _Tried:
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    selection: Annotated[
        Selection, Parameter(name="*", group=DOCUMENTS, negative="", negative_iterable="", show_default=False)
    ] = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class _Set:
    options: Annotated[Options, Parameter(name="*")] = DEFAULTS


@dataclass(frozen=True, kw_only=True)
class _SetForPlan:
    options: Annotated[PlanOptions, Parameter(name="*")] = field(default_factory=PlanOptions)


@dataclass(frozen=True, kw_only=True)
class _SetForCheck:
    options: Annotated[CheckOptions, Parameter(name="*")] = field(default_factory=CheckOptions)


@dataclass(frozen=True, kw_only=True)
class _WithStore:
    credentials: Annotated[StoreCredentials, BLOCK] = STORE_ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _WithResults:
    bucket: Annotated[DestinationOptions, Parameter(name="destination", group=BUCKETS, show_default=False)] = AS_IT_IS
    credentials: Annotated[ResultsCredentials, BLOCK] = RESULTS_ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _WithAccount:
    credentials: Annotated[Credentials, BLOCK] = ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _Emptiable:
    allow_empty: Annotated[
        bool,
        Parameter(
            negative="",
            group=DOCUMENTS,
            help="Accept a source without documents: exit status 1 instead of 2.",
            show_default=False,
        ),
    ] = False


def _settings(arguments: "PlanArguments | SubmitArguments") -> RunSettings:
    return RunSettings(
        source=arguments.source,
        destination=arguments.destination,
        selection=arguments.selection,
        options=arguments.options,
        credentials=arguments.credentials,
    )


@Parameter(name="*")
@dataclass(frozen=True)
class LedgerArguments(_Printed, _WithResults, _Ledger):
    """Arguments of a command that reads a ledger."""


@Parameter(name="*")
@dataclass(frozen=True)
class ResultsArguments(_Printed, _WithResults):
    """Arguments of a command that reads results, local or in S3."""


FROM_RESULTS = ResultsArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class StatusArguments(_Printed, _WithResults):
    """Arguments of a command that finds the ledgers itself."""


NO_ARGUMENTS = StatusArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class CheckArguments(_Printed, _WithAccount, _SetForCheck, _Place):
    """Arguments of a command that checks a set-up."""


@Parameter(name="*")
@dataclass(frozen=True)
class PlanArguments(_Printed, _WithStore, _SetForPlan, _Chosen, _Emptiable, _Place):
    """Arguments of a command that reads documents without sending them."""

    def settings(self) -> RunSettings:
        """Return the settings of the planned run."""
        return _settings(self)


@dataclass(frozen=True, kw_only=True)
class FlowArguments(_Printed, _WithAccount, _Set):
    """Arguments of every command that runs a flow."""

    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Show the run's log.")] = False

    @property
    def allows_empty(self) -> bool:
        """Whether a source without documents is accepted."""
        return False


FLOW_DEFAULTS = FlowArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class CollectArguments(_Tried, FlowArguments, _Ledger):
    """Arguments of a command that runs a flow over the open jobs."""

    options: Annotated[CollectOptions, Parameter(name="*")] = field(default_factory=CollectOptions, kw_only=True)

    def parameters(self) -> dict[str, Any]:
        """Return the flow's parameters."""
        return {
            "destination": self.destination,
            "options": Options.model_validate(dict(self.options)),
            "credentials": self.credentials,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class ListenArguments(FlowArguments, _Chosen, _Emptiable, _Place):
    """Arguments of a command that runs a flow over documents."""

    name: Annotated[
        str | None,
        Parameter(help="The backfill to serve; created if it does not exist. Without it, none."),
    ] = field(default=None, kw_only=True)

    @property
    def allows_empty(self) -> bool:
        """Whether a source without documents is accepted."""
        return self.allow_empty

    def parameters(self) -> dict[str, Any]:
        """Return the flow's parameters."""
        return {
            "source": self.source,
            "destination": self.destination,
            "selection": self.selection,
            "options": self.options,
            "credentials": self.credentials,
            "name": self.name,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class SubmitArguments(_Tried, ListenArguments):
    """Arguments of a command that runs a flow over documents and has a dry run."""

    def settings(self) -> RunSettings:
        """Return the settings of the run."""
        return RunSettings.model_validate({**dict(_settings(self)), "backfill": self.name})


@Parameter(name="*")
@dataclass(frozen=True)
class RunArguments(SubmitArguments):
    """Arguments of the command `run`."""

    name: Annotated[
        str | None,
        Parameter(help="The backfill to serve; created if it does not exist. Without it, the run's own."),
    ] = field(default=None, kw_only=True)
    order: Annotated[Order, Parameter(help="Which documents to send first.")] = field(default="listed", kw_only=True)
    limit: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="Send at most this many documents in this run.")
    ] = field(default=None, kw_only=True)
    retry_failed: Annotated[
        bool, Parameter(negative="", help="First put back the failed ones of these documents, to try them again.")
    ] = field(default=False, kw_only=True)

    def parameters(self) -> dict[str, Any]:
        """Return the flow's parameters."""
        backfill_parameters = {"order": self.order, "limit": self.limit, "retry_failed": self.retry_failed}
        return {**super().parameters(), **backfill_parameters}


@dataclass(frozen=True, kw_only=True)
class BackfillArguments(_Printed, _WithStore):
    """Arguments of a command about a backfill, which it finds by name in a ledger."""

    at: Annotated[
        str | None,
        Parameter(
            name=["--at", "--destination"],
            env_var="BULK_OCR_DESTINATION",
            help="Where results and ledger are: s3://bucket/prefix, or a place's name.",
        ),
    ] = None

    @property
    def destination(self) -> str:
        """The address of the ledger's destination.

        Raises:
            SetupFault: none was given.
        """
        if self.at is None:
            raise SetupFault(
                "say where the backfill's ledger is: --at s3://bucket/prefix, BULK_OCR_DESTINATION, or 'destination' "
                "in bulk-ocr.toml"
            )
        return destination_of(self.at)


BackfillAt = Annotated[BackfillArguments, Parameter(name="*")]
ANYWHERE = BackfillArguments()
