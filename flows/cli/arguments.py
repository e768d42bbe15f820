"""What several commands take: one place for each group of arguments.

Fields without a default are positional, in their order; the others are flags, and have to come behind them.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.store.settings import AS_IT_IS, DestinationOptions


def _block_flag(name: str) -> str:
    return f"{name.replace('_', '-')}-block"


_BLOCK = Parameter(name="*", group="Blocks at the Prefect server", name_transform=_block_flag, show_default=False)


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
        Selection, Parameter(name="*", group="Which documents", negative="", negative_iterable="", show_default=False)
    ] = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class _Set:
    options: Annotated[Options, Parameter(name="*")] = DEFAULTS


@dataclass(frozen=True, kw_only=True)
class _WithStore:
    credentials: Annotated[StoreCredentials, _BLOCK] = STORE_ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _WithResults:
    bucket: Annotated[
        DestinationOptions, Parameter(name="destination", group="The destination's bucket", show_default=False)
    ] = AS_IT_IS
    credentials: Annotated[ResultsCredentials, _BLOCK] = RESULTS_ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _WithAccount:
    credentials: Annotated[Credentials, _BLOCK] = ENVIRONMENT


@dataclass(frozen=True, kw_only=True)
class _Emptiable:
    allow_empty: Annotated[
        bool,
        Parameter(
            negative="",
            group="Which documents",
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
