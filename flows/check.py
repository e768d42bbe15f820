"""Proving a set-up before it is used, for the command `check`: each part by itself, with what to mend. No flow."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.clock import Clock
from tasks.credentials import aws_account, upstage_access
from tasks.faults import AccountFault, Fault, MomentFault, SetupFault
from tasks.options import ENVIRONMENT, Credentials, Options, RunSettings
from tasks.session import Session, environment_access
from tasks.store.accounts import own_account
from tasks.store.location import Location
from tasks.store.objects import Objects, connect
from tasks.store.queue import open_queue
from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle

Part = Literal["credentials", "source", "destination", "clock", "API", "Prefect", "queue"]


class Check(BaseModel):
    """One part of the set-up."""

    part: Part
    ok: bool
    words: str = Field(description="what was found, or what is wrong and how to mend it")


class CheckReport(BaseModel):
    """The whole set-up."""

    source: str
    destination: str
    checks: list[Check]
    account_refused: bool = False

    @property
    def exit_status(self) -> int:
        """0 all well, 2 something is to be mended, 3 the account is refused."""
        if self.account_refused:
            return 3
        return 0 if all(check.ok for check in self.checks) else 2

    def show(self, console: Console) -> None:
        """Print for a person."""
        table = Table("part", "", "", box=None, header_style="bold", pad_edge=False, show_header=False)
        for check in self.checks:
            state = Text("ok", style="green") if check.ok else Text("mend", style="bold red")
            table.add_row(check.part, state, Text(check.words, overflow="fold"))
        console.print(table)


def check_setup(
    source: str,
    destination: str,
    options: Options,
    queue: str | None = None,
    credentials: Credentials = ENVIRONMENT,
) -> CheckReport:
    """Try each part of the set-up. Writes and deletes two small objects under the destination; sends no document.

    Raises:
        SetupFault: an address is none.
    """
    settings = RunSettings(source=source, destination=destination, options=options, credentials=credentials)
    report = CheckReport(source=str(Location.parse(source)), destination=str(Location.parse(destination)), checks=[])
    session: Session | None = None

    def find_credentials() -> str:
        nonlocal session
        account = own_account() if credentials.aws is None else aws_account(credentials.aws)
        found = account.found_in()
        session = Session(settings, Objects(connect(account=account)), aws=account)
        return f"for S3 from {found}"

    def with_s3(look: Callable[[Session], str]) -> Callable[[], str]:
        def looked() -> str:
            if session is None:
                raise SetupFault("not looked at: there are no credentials for it")
            return look(session)

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
        parts.append(("queue", with_s3(lambda session: _queue(session, queue))))
    for part, look in parts:
        try:
            report.checks.append(Check(part=part, ok=True, words=look()))
        except Fault as fault:
            report.account_refused = report.account_refused or isinstance(fault, AccountFault)
            report.checks.append(Check(part=part, ok=False, words=str(fault)))
    return report


def _source(session: Session) -> str:
    source = session.source
    first = next(session.objects.list(source.bucket, source.prefix), None)
    if first is None:
        single = session.objects.head(source.bucket, source.prefix.rstrip("/")) if source.prefix else None
        return f"{source} can be listed, and is {'one document' if single else 'empty'}"
    # Listing and reading are two permissions.
    session.objects.head(source.bucket, first.key)
    return f"{source} can be listed and read"


def _destination(session: Session) -> str:
    session.objects.prove_conditional_writes(session.destination.bucket, session.ledger.folder)
    next(session.ledger.entries("open"), None)  # a permission of its own
    return f"{session.destination} can be listed and written, and its store honours conditional writes"


def _clock(session: Session) -> str:
    session.prove_destination()
    return "this machine's clock agrees with the store's"


def _api(credentials: Credentials, options: Options) -> str:
    got = environment_access() if credentials.upstage is None else upstage_access(credentials.upstage)
    clock = Clock()
    UpstageClient(
        got.base_url, got.key, Throttle(options.requests_per_second, options.pages_per_minute, clock), clock
    ).probe()
    return f"{got.base_url} answers and accepts the key from {got.origin}"


def _queue(session: Session, url: str) -> str:
    settings = open_queue(url, session.aws.session if session.aws else None).attributes()
    words = f"{url} is there"
    visible, lease = int(settings.get("VisibilityTimeout", 30)), session.options.lease_seconds
    if visible < lease:
        words += (
            f"; its messages come again after {visible} s, while their documents may still be on the way, and are "
            f"looked at once more: better is a visibility timeout of more than the lease ({lease:g} s)"
        )
    if not settings.get("RedrivePolicy"):
        words += (
            "; it has no dead letter queue, so a message that cannot be dealt with comes again until it is too old: "
            "give the queue a redrive policy"
        )
    return words


def _prefect() -> str:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    if not address:
        return "no server is named (PREFECT_API_URL): each run starts a temporary one, which keeps its history here"
    with get_client(sync_client=True) as client:
        trouble = client.api_healthcheck()
        if trouble is not None:
            raise MomentFault(
                f"no Prefect server answers at {address} ({type(trouble).__name__}): start it, or correct "
                "PREFECT_API_URL or the profile"
            )
        return f"{address} answers, version {client.api_version()}"
