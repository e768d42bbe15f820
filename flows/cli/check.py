"""The command `check`: checks each part of a set-up separately and explains how to fix it. Runs no flow."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field

from flows.cli.output import Page, Styled
from flows.cli.prefect_setup import prefect_fault, prove_prefect, start_temporary_server
from tasks.access.open import api_access, storage_access
from tasks.clock import Clock
from tasks.context import RunContext, accounts_of, store_of
from tasks.faults import AccountFault, ExitStatus, Fault, SetupFault
from tasks.options import ENVIRONMENT, Credentials, Options, RunSettings
from tasks.steps.nearest import instead_of_empty
from tasks.store.location import Location
from tasks.store.queue import open_queue
from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle

Part = Literal["credentials", "source", "destination", "clock", "API", "Prefect", "queue"]


class Check(BaseModel):
    """One part of the set-up."""

    part: Part
    ok: bool
    words: str = Field(description="what was found, or what is wrong and how to fix it")


class CheckReport(BaseModel):
    """The whole set-up."""

    source: str
    destination: str
    checks: list[Check]
    account_refused: bool = False

    @property
    def exit_status(self) -> ExitStatus:
        """The command's exit status for this report."""
        if self.account_refused:
            return ExitStatus.ACCOUNT_REFUSED
        return ExitStatus.DONE if all(check.ok for check in self.checks) else ExitStatus.SETUP

    def show(self, page: Page) -> None:
        """Print for a person."""
        states = {True: Styled("ok", "green"), False: Styled("failed", "bold red")}
        page.table((check.part, states[check.ok], check.words) for check in self.checks)


def check_setup(
    source: str,
    destination: str,
    options: Options,
    queue: str | None = None,
    credentials: Credentials = ENVIRONMENT,
) -> CheckReport:
    """Try each part of the set-up. Writes and deletes two small objects under the destination; sends no document.

    Raises:
        SetupFault: an address is invalid.
    """
    settings = RunSettings(source=source, destination=destination, options=options, credentials=credentials)
    report = CheckReport(source=str(Location.parse(source)), destination=str(Location.parse(destination)), checks=[])
    context: RunContext | None = None

    def find_credentials() -> str:
        nonlocal context
        source_account, own = accounts = accounts_of(settings, storage_access(credentials))
        origins = f"for S3 from {own.found_in()}"
        if source_account is not own:
            origins += f"; for the source from {source_account.found_in()}"
        context = RunContext(settings, store_of(settings, accounts), aws=source_account)
        return origins

    def with_s3(look: Callable[[RunContext], str]) -> Callable[[], str]:
        def looked() -> str:
            if context is None:
                raise SetupFault("not checked: there are no credentials for it")
            return look(context)

        return looked

    parts: list[tuple[Part, Callable[[], str]]] = [
        ("credentials", find_credentials),
        ("source", with_s3(_source)),
        ("destination", with_s3(_destination)),
        ("clock", with_s3(_clock)),
        ("API", lambda: _api(credentials, options)),
        ("Prefect", _prefect),
    ]
    if queue is not None:
        parts.append(("queue", with_s3(lambda context: _queue(context, queue))))
    for part, look in parts:
        try:
            report.checks.append(Check(part=part, ok=True, words=look()))
        except Fault as fault:
            report.account_refused = report.account_refused or isinstance(fault, AccountFault)
            report.checks.append(Check(part=part, ok=False, words=str(fault)))
    return report


def _source(context: RunContext) -> str:
    source = context.source
    first = next(context.objects.list(source.bucket, source.prefix), None)
    if first is None:
        single = context.objects.head(source.bucket, source.prefix.rstrip("/")) if source.prefix else None
        if single:
            return f"{source} can be listed, and is one document"
        return f"{source} can be listed, and is empty{instead_of_empty(context.objects, source)}"
    # Listing and reading are two permissions.
    context.objects.head(source.bucket, first.key)
    return f"{source} can be listed and read"


def _destination(context: RunContext) -> str:
    context.objects.prove_conditional_writes(context.destination.bucket, context.ledger.folder)
    next(context.ledger.entries("open"), None)  # a permission of its own
    return f"{context.destination} can be listed and written, and its store honours conditional writes"


def _clock(context: RunContext) -> str:
    context.prove_destination()
    return "this machine's clock agrees with the store's"


def _api(credentials: Credentials, options: Options) -> str:
    access = api_access(credentials)
    clock = Clock()
    UpstageClient(
        access.base_url, access.key, Throttle(options.requests_per_second, options.pages_per_minute, clock), clock
    ).probe()
    return f"{access.base_url} answers and accepts the key from {access.origin}"


def _queue(context: RunContext, url: str) -> str:
    settings = open_queue(url, context.aws.session if context.aws else None).attributes()
    words = f"{url} exists"
    visible, lease = int(settings.get("VisibilityTimeout", 30)), context.options.lease_seconds
    if visible < lease:
        words += (
            f"; its messages are received again after {visible} s, while their documents may still be in progress: "
            f"give the queue a visibility timeout of more than the lease ({lease:g} s)"
        )
    if not settings.get("RedrivePolicy"):
        words += (
            "; it has no dead letter queue, so a message that cannot be processed is received again until it expires: "
            "give the queue a redrive policy"
        )
    return words


def _prefect() -> str:
    prove_prefect()
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    if start_temporary_server():
        return (
            "no server is named (PREFECT_API_URL): each run starts a temporary one, which works, and keeps its history "
            f"in {PREFECT_HOME.value()}"
        )
    address = PREFECT_API_URL.value()
    try:
        with get_client(sync_client=True) as client:
            if (trouble := client.api_healthcheck()) is not None:
                raise trouble
            version = client.api_version()
            client.read_flows(limit=1)  # a server with authentication reveals its version to anybody
    except Exception as error:
        if (fault := prefect_fault(error)) is not None:
            raise fault from error
        raise
    return f"{address} answers, version {version}"
