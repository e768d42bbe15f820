"""Proving a set-up before it is used, for the command `check`: each part by itself, with what to mend. No flow."""

import uuid
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.faults import AccountFault, Fault, MomentFault, SetupFault
from tasks.options import Options, RunSettings
from tasks.session import Session, session_from_environment
from tasks.store.objects import Objects, connect

_MOST_SKEW = 30.0  # seconds; leases are told in minutes


class Check(BaseModel):
    """One part of the set-up."""

    part: Literal["source", "destination", "clock", "API", "Prefect"]
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


def check_setup(source: str, destination: str, options: Options) -> CheckReport:
    """Try each part of the set-up. Writes and deletes two small objects under the destination; sends no document.

    Raises:
        SetupFault: an address is none, or S3 cannot be set up at all.
    """
    settings = RunSettings(source=source, destination=destination, options=options)
    session = session_from_environment(settings, Objects(connect()))
    report = CheckReport(source=str(session.source), destination=str(session.destination), checks=[])
    parts: tuple[tuple[Literal["source", "destination", "clock", "API", "Prefect"], Callable[[Session], str]], ...] = (
        ("source", _source),
        ("destination", _destination),
        ("clock", _clock),
        ("API", _api),
        ("Prefect", _prefect),
    )
    for part, look in parts:
        try:
            report.checks.append(Check(part=part, ok=True, words=look(session)))
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
    return f"{session.destination} can be written, and its store honours conditional writes"


def _clock(session: Session) -> str:
    bucket, key = session.destination.bucket, f"{session.ledger.folder}check-{uuid.uuid4().hex}"
    session.objects.create(bucket, key, b"{}")
    now = session.clock.now()
    try:
        written = session.objects.head(bucket, key)
    finally:
        session.objects.delete(bucket, key)
    skew = (now - written.last_modified).total_seconds() if written else 0.0
    if abs(skew) > _MOST_SKEW:
        raise SetupFault(
            f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store's, and claims "
            "are told by it: set the clock (NTP), or another machine may take over what this one works on"
        )
    return "this machine's clock agrees with the store's"


def _api(session: Session) -> str:
    session.client.probe()
    return f"{session.base_url} answers and accepts the key"


def _prefect(session: Session) -> str:
    del session
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
