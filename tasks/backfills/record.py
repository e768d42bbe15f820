"""The record of a backfill, as the ledger keeps it under `_jobs/backfills/<name>.json`, and its changes.

    planned ──▶ running ──▶ finished
                 │   ▲  └──▶ cancelled
                 ▼   │
                paused

What is done, what was paid and how fast it goes is not in here: that is told by the records of the jobs and by the
meter `backfill-<name>`. Everything here was decided by a person, or by a ceiling that a person has set.
"""

import getpass
import hashlib
import re
import socket
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from tasks.faults import SetupFault
from tasks.job.record import AnswerSchema, Frozen
from tasks.options import RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.store.location import Location
from tasks.upstage.limits import PRICE_PER_PAGE

State = Literal["planned", "running", "paused", "cancelled", "finished"]
Order = Literal["listed", "oldest", "newest", "smallest"]

BackfillName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEPT_RUNS = 20

Share = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?%?$")]


class PartitionPlan(Frozen):
    """What was planned of one partition."""

    name: str
    documents: int
    pages: int = 0
    failing: int = 0


class Planned(Frozen):
    """What was planned: the fixed total that progress is measured against."""

    at: datetime
    documents: int
    pages: int | None = Field(None, description="to pay for; None where nobody counted")
    pages_low: int | None = Field(None, description="the lower end of the interval, where it was sampled")
    pages_high: int | None = Field(None, description="the upper end")
    failing: int = Field(0, description="documents that would fail")
    seconds: float | None = Field(None, description="how long it was to take")
    bound_by: str = Field("", description="which limit decides about that")
    partitions: tuple[PartitionPlan, ...] = ()


class Ceilings(Frozen):
    """What the backfill may spend in all, whoever serves it, and when it stops by itself."""

    max_pages: int | None = Field(None, ge=1)
    max_cost: float | None = Field(None, gt=0, description="dollars")
    stop_after_failures: Share | None = Field(
        None, description="pause after so many failures: a number, or a share: 2%"
    )

    def failures_allowed(self, finished: int) -> float:
        """How many documents may have failed when so many have ended."""
        limit = self.stop_after_failures
        if limit is None:
            return float("inf")
        return finished * float(limit[:-1]) / 100 if limit.endswith("%") else float(limit)


class Pace(Frozen):
    """How fast each run that serves it goes; what is None is left to the run's own options."""

    requests_per_second: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    pages_per_minute: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    workers: int | None = Field(None, ge=1, le=64)
    window: int | None = Field(None, ge=1, le=100_000)


class Server(Frozen):
    """A run that serves, or served, the backfill."""

    run: str = Field(description="the flow run, or the process where there is none")
    owner: str = Field(description="the process, as its heartbeat names it")
    who: str
    since: datetime


class Backfill(Frozen):
    """A backfill: what is meant, planned and allowed, its pace and its state."""

    format: Literal[1] = 1
    name: str
    source: str
    destination: str
    selection: Selection = EVERYTHING
    model: str = "ocr"
    answer_schema: AnswerSchema | None = None
    by: str = Field("month", description="how it is divided into partitions")
    order: Order = "listed"
    limit: int | None = Field(None, ge=1, description="most documents to send in one run")
    price_per_page: float = Field(PRICE_PER_PAGE, ge=0, description="dollars")
    made_by: str
    made_at: datetime
    planned: Planned | None = None
    ceilings: Ceilings = Ceilings()
    pace: Pace = Pace()
    state: State = "planned"
    why: str = ""
    changed_at: datetime
    served_by: tuple[Server, ...] = Field((), description=f"the last {_KEPT_RUNS} runs")

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a backfill's name has letters, digits, dots, dashes and underscores, 100 at most")
        return name

    @property
    def meter(self) -> str:
        """The name of its meter among the budgets."""
        return meter_of(self.name)

    @property
    def sends(self) -> bool:
        """Whether anything may be sent for it."""
        return self.state in ("planned", "running", "finished")

    def changed(self, now: datetime, **changes: object) -> "Backfill":
        """The same with other values, which are checked."""
        return self.model_validate({**dict(self), **changes, "changed_at": now})

    def moved(self, state: State, why: str, now: datetime) -> "Backfill":
        """In another state, with the reason."""
        return self if (self.state, self.why) == (state, why) else self.changed(now, state=state, why=why)

    def joined(self, server: Server, now: datetime) -> "Backfill":
        """With one more run that serves it."""
        others = [known for known in self.served_by if known.owner != server.owner]
        return self.changed(now, served_by=(*others, server)[-_KEPT_RUNS:])

    def why_not(self) -> str:
        """Why nothing is sent for it, and what to do about that."""
        reason = f" ({self.why})" if self.why else ""
        return (
            f"backfill {self.name} is {self.state}{reason}: nothing is sent until "
            f"'bulk-ocr backfill resume {self.name} --at {self.destination}'"
        )


def meter_of(name: str) -> str:
    """The name of a backfill's meter among the budgets."""
    return f"backfill-{name}"


def own_name(settings: RunSettings) -> str:
    """The name of the backfill that a run makes when none is given: the same for the same work, always."""
    source, options = Location.parse(settings.source or settings.destination), settings.options
    # A partition, or a run's own share of the work, is a part of the same backfill.
    whole = settings.selection.of_all_partitions()
    identity = "\n".join((str(source), options.model, str(options.answer_schema), whole.model_dump_json()))
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", source.prefix.rstrip("/").rpartition("/")[2] or source.bucket).strip("-")
    return f"{stem[:40] or 'backfill'}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def new_backfill(settings: RunSettings, name: str, now: datetime, made_by: str | None = None) -> Backfill:
    """The backfill that these settings mean.

    Raises:
        SetupFault: the name cannot be one, or there is no source.
    """
    if not _NAME.fullmatch(name):
        raise SetupFault(
            f"'{name}' cannot name a backfill: use letters, digits, dots, dashes and underscores, 100 at most"
        )
    if settings.source is None:
        raise SetupFault("no source was given; name it as s3://bucket/prefix")
    options, selection = settings.options, settings.selection
    return Backfill(
        name=name,
        source=settings.source,
        destination=settings.destination,
        selection=selection.of_all_partitions(),
        model=options.model,
        answer_schema=options.answer_schema,
        by=selection.by,
        price_per_page=options.price,
        made_by=made_by or who(),
        made_at=now,
        changed_at=now,
    )


def difference(backfill: Backfill, settings: RunSettings) -> str | None:
    """How a run's settings contradict the backfill that it is to serve; None where they do not."""
    options, selection = settings.options, settings.selection.of_all_partitions()
    compared: Iterable[tuple[str, object, object]] = (
        ("source", str(Location.parse(backfill.source)), str(Location.parse(settings.source or backfill.source))),
        ("model", backfill.model, options.model),
        ("schema", backfill.answer_schema, options.answer_schema),
        ("selection", backfill.selection, selection if selection != EVERYTHING else backfill.selection),
    )
    for what, its, given in compared:
        if its != given:
            return f"its {what} is {its!s}, and this run was given {given!s}"
    return None


def taken_over(backfill: Backfill, settings: RunSettings) -> RunSettings:
    """A run's settings, with what its backfill says wherever the run was given nothing in particular.

    Whoever starts a run by a backfill's name alone means the backfill's documents, recognised as planned.

    Args:
        backfill: the backfill that the run serves.
        settings: what the run was given.
    """
    selection, options = settings.selection, settings.options
    if selection.of_all_partitions() in (EVERYTHING, Selection(by=backfill.by)):
        selection = Selection.model_validate({**dict(backfill.selection), "partition": selection.partition})
    planned: dict[str, object] = {
        "model": backfill.model,
        "answer_schema": backfill.answer_schema,
        "price_per_page": backfill.price_per_page,
    }
    changes = {field: value for field, value in planned.items() if field not in options.model_fields_set}
    taken = type(options).model_validate({**dict(options), **changes})
    return RunSettings.model_validate({**dict(settings), "selection": selection, "options": taken})


def who() -> str:
    """Who works here, for people: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = "somebody"
    return f"{user} at {socket.gethostname()}"
