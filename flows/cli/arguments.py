"""What several commands take: one place for each group of arguments.

Fields without a default are positional, in their order; the others are flags, and have to come behind them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Parameter, validators

from flows.cli.help_groups import BUCKETS, CREDENTIALS, DOCUMENTS
from flows.cli.places import destination_of
from tasks.backfills.record import Order
from tasks.faults import SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.store.settings import AS_IT_IS, DestinationOptions


def _block_flag(name: str) -> str:
    return f"{name.replace('_', '-')}-block"


BLOCK = Parameter(name="*", group=CREDENTIALS, name_transform=_block_flag, show_default=False)


class StoreCredentials(Credentials):
    """Where the secrets of S3 are, for commands that need no API key."""

    upstage: Annotated[str | None, Parameter(parse=False)] = None


class ResultsCredentials(StoreCredentials):
    """Where the secrets of the destination's bucket are, for commands that read no documents."""

    source_aws: Annotated[str | None, Parameter(parse=False)] = None


STORE_ENVIRONMENT = StoreCredentials()
RESULTS_ENVIRONMENT = ResultsCredentials()

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object on standard output.")]


@dataclass(frozen=True)
class _Ledger:
    destination: Annotated[str, Parameter(help="Where results and ledger go: s3://bucket/prefix")]


@dataclass(frozen=True)
class _Place:
    source: Annotated[str, Parameter(help="Where the documents lie: s3://bucket/prefix")]
    destination: Annotated[str, Parameter(help="Where results and ledger go: s3://bucket/prefix")]


# Each of the following adds to the fields of the classes behind it in a list of bases; so those come first.


@dataclass(frozen=True, kw_only=True)
class _Printed:
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    selection: Annotated[
        Selection, Parameter(name="*", group=DOCUMENTS, negative="", negative_iterable="", show_default=False)
    ] = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class _Set:
    options: Annotated[Options, Parameter(name="*")] = DEFAULTS


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
            help="No document at all is no mistake: exit status 1 instead of 2.",
            show_default=False,
        ),
    ] = False


@Parameter(name="*")
@dataclass(frozen=True)
class LedgerArguments(_Printed, _WithResults, _Ledger):
    """Of a command that looks at a ledger."""


@Parameter(name="*")
@dataclass(frozen=True)
class ResultsArguments(_Printed, _WithResults):
    """Of a command that reads results, wherever they lie."""


FROM_RESULTS = ResultsArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class StatusArguments(_Printed, _WithResults):
    """Of a command that looks at ledgers which it finds itself."""


NO_ARGUMENTS = StatusArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class CheckArguments(_Printed, _WithAccount, _Set, _Place):
    """Of a command that proves a set-up."""


@Parameter(name="*")
@dataclass(frozen=True)
class PlanArguments(_Printed, _WithStore, _Set, _Chosen, _Emptiable, _Place):
    """Of a command that looks at documents, and sends none."""

    def settings(self) -> RunSettings:
        """The settings of the run that is planned."""
        return RunSettings(
            source=self.source,
            destination=self.destination,
            selection=self.selection,
            options=self.options,
            credentials=self.credentials,
        )


@dataclass(frozen=True, kw_only=True)
class FlowArguments(_Printed, _WithAccount, _Set):
    """Of every command that runs a flow."""

    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Show the run's log as well.")] = (
        False
    )

    @property
    def allows_empty(self) -> bool:
        """Whether it is no mistake when there is no document."""
        return False


FLOW_DEFAULTS = FlowArguments()


@Parameter(name="*")
@dataclass(frozen=True)
class CollectArguments(FlowArguments, _Ledger):
    """Of a command that runs a flow over the open jobs."""

    def parameters(self) -> dict[str, Any]:
        """What the flow is given."""
        return {"destination": self.destination, "options": self.options, "credentials": self.credentials}


@Parameter(name="*")
@dataclass(frozen=True)
class SubmitArguments(FlowArguments, _Chosen, _Emptiable, _Place):
    """Of a command that runs a flow over documents."""

    @property
    def allows_empty(self) -> bool:
        """Whether it is no mistake when there is no document."""
        return self.allow_empty

    def parameters(self) -> dict[str, Any]:
        """What the flow is given."""
        return {
            "source": self.source,
            "destination": self.destination,
            "selection": self.selection,
            "options": self.options,
            "credentials": self.credentials,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class RunArguments(SubmitArguments):
    """Of the command that serves a backfill here and now."""

    name: Annotated[
        str | None,
        Parameter(help="The backfill to serve; it is made where there is none. One with a name of its own otherwise."),
    ] = field(default=None, kw_only=True)
    order: Annotated[Order, Parameter(help="Which documents are sent first.")] = field(default="listed", kw_only=True)
    limit: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1), help="Most documents to send in this run.")
    ] = field(default=None, kw_only=True)

    def parameters(self) -> dict[str, Any]:
        """What the flow is given."""
        return {**super().parameters(), "name": self.name, "order": self.order, "limit": self.limit}


@dataclass(frozen=True, kw_only=True)
class BackfillArguments(_Printed, _WithStore):
    """Of a command that is about a backfill, which it finds by name in a ledger."""

    at: Annotated[
        str | None,
        Parameter(
            env_var="BULK_OCR_DESTINATION",
            help="Where results and ledger lie: s3://bucket/prefix, or the name of a place.",
        ),
    ] = None

    @property
    def destination(self) -> str:
        """Where the ledger lies.

        Raises:
            SetupFault: nobody said.
        """
        if self.at is None:
            raise SetupFault(
                "say where the backfill's ledger lies: --at s3://bucket/prefix, or set BULK_OCR_DESTINATION"
            )
        return destination_of(self.at)


BackfillAt = Annotated[BackfillArguments, Parameter(name="*")]
ANYWHERE = BackfillArguments()
