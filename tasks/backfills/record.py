"""The record of a backfill, stored in the ledger as `_jobs/backfills/<name>.json`, and its changes.

    planned ──▶ running ──▶ finished
                 │   ▲  └──▶ cancelled
                 ▼   │
                paused

It does not contain progress, spending or speed: those come from the jobs' records and the meter `backfill-<name>`.
Everything in it was decided by a person, or by a ceiling that a person has set.
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
from tasks.upstage.limits import MOST, PRICE_PER_PAGE

State = Literal["planned", "running", "paused", "cancelled", "finished"]
Order = Literal["listed", "oldest", "newest", "smallest"]

BackfillName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEPT_RUNS = 20

Share = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?%?$")]


class PartitionPlan(Frozen):
    """The plan of one partition."""

    name: str
    documents: int
    pages: int = 0
    failing: int = 0


class Planned(Frozen):
    """The plan: the fixed total that progress is measured against."""

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
    """What the backfill may spend in total, over all runs that serve it, and when it stops by itself."""

    max_pages: int | None = Field(None, ge=1)
    max_cost: float | None = Field(None, gt=0, le=MOST, description="dollars")
    stop_after_failures: Share | None = Field(
        None, description="pause after so many failures: a number, or a share: 2%"
    )

    def failures_allowed(self, finished: int) -> float:
        """Return how many documents may fail before the backfill is paused, given how many have finished."""
        limit = self.stop_after_failures
        if limit is None:
            return float("inf")
        return finished * float(limit[:-1]) / 100 if limit.endswith("%") else float(limit)


class Pace(Frozen):
    """The pace of each run that serves it; None leaves a setting to the run's own options."""

    requests_per_second: Annotated[float, Field(gt=0, le=MOST)] | Literal["auto"] | None = None
    pages_per_minute: Annotated[float, Field(gt=0, le=MOST)] | Literal["auto"] | None = None
    workers: int | None = Field(None, ge=1, le=64)
    window: int | None = Field(None, ge=1, le=100_000)


class Server(Frozen):
    """A run that serves or has served the backfill."""

    run: str = Field(description="the flow run, or the process where there is none")
    owner: str = Field(description="the process, as its heartbeat names it")
    who: str
    since: datetime


class Reached(Frozen):
    """The ceiling at which a run ended."""

    meter: str = Field(description="its meter's name: of the backfill, a day, a month or a run")
    ceilings: Ceilings = Field(description="those of the backfill at that time")


class Backfill(Frozen):
    """A backfill: its documents, plan, ceilings, pace and state."""

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
    price_per_page: float = Field(PRICE_PER_PAGE, ge=0, le=MOST, description="dollars")
    made_by: str
    made_at: datetime
    planned: Planned | None = None
    ceilings: Ceilings = Ceilings()
    pace: Pace = Pace()
    state: State = "planned"
    why: str = ""
    changed_at: datetime
    reached: Reached | None = Field(None, description="the ceiling at which the last run ended, if it did")
    served_by: tuple[Server, ...] = Field((), description=f"the last {_KEPT_RUNS} runs")

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a backfill's name has letters, digits, dots, dashes and underscores, 100 at most")
        return name

    @property
    def meter(self) -> str:
        """The name of its meter."""
        return meter_of(self.name)

    @property
    def sends(self) -> bool:
        """Whether documents may be sent for it."""
        return self.state in ("planned", "running", "finished")

    def waiting_for(self, now: datetime, pages: int, cost: float) -> Literal["budget"] | None:
        """Tell what it waits for while it is running: "budget" if a ceiling leaves no room for more documents.

        A run's own ceiling does not count: the next run has its own.

        Args:
            now: the current time: the ceilings of a day and a month end with them.
            pages: pages spent or reserved, by its meter.
            cost: dollars spent, by its meter.
        """
        ceilings, reached = self.ceilings, self.reached
        if self.state != "running":
            return None
        if (ceilings.max_pages is not None and pages >= ceilings.max_pages) or (
            ceilings.max_cost is not None and cost >= ceilings.max_cost
        ):
            return "budget"
        if reached is None:
            return None
        if reached.meter == self.meter:
            before = reached.ceilings
            changed = (before.max_pages, before.max_cost) != (ceilings.max_pages, ceilings.max_cost)
            return None if changed else "budget"
        return "budget" if reached.meter in (f"day-{now:%Y-%m-%d}", f"month-{now:%Y-%m}") else None

    def changed(self, now: datetime, **changes: object) -> "Backfill":
        """Return a validated copy with some values replaced."""
        return self.model_validate({**dict(self), **changes, "changed_at": now})

    def moved(self, state: State, why: str, now: datetime) -> "Backfill":
        """Return a copy in another state, with the reason."""
        return self if (self.state, self.why) == (state, why) else self.changed(now, state=state, why=why)

    def joined(self, server: Server, now: datetime) -> "Backfill":
        """Return a copy with another run that serves it."""
        others = [known for known in self.served_by if known.owner != server.owner]
        return self.changed(now, served_by=(*others, server)[-_KEPT_RUNS:], reached=None)

    def at_ceiling(self, meter: str | None, now: datetime) -> "Backfill":
        """Return a copy that tells at which ceiling the last run ended, by its meter; None if at none."""
        reached = None if meter is None else Reached(meter=meter, ceilings=self.ceilings)
        return self if reached == self.reached else self.changed(now, reached=reached)

    def why_not(self) -> str:
        """Explain why nothing is sent for it, and how to change that."""
        reason = f" ({self.why})" if self.why else ""
        return (
            f"backfill {self.name} is {self.state}{reason}: nothing is sent until "
            f"'bulk-ocr backfill resume {self.name} --at {self.destination}'"
        )


def shown_state(state: str, waiting_for: str | None) -> str:
    """Return the state of a backfill for people: one that waits for its budget is not at work."""
    return "budget reached" if waiting_for == "budget" else state


def meter_of(name: str) -> str:
    """Return the name of a backfill's meter."""
    return f"backfill-{name}"


def own_name(settings: RunSettings) -> str:
    """Return the default name of a run's backfill: always the same for the same work."""
    source, options = Location.parse(settings.source or settings.destination), settings.options
    # A run that is confined to a partition belongs to the same backfill.
    whole = settings.selection.of_all_partitions()
    identity = "\n".join((str(source), options.model, str(options.answer_schema), whole.model_dump_json()))
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", source.prefix.rstrip("/").rpartition("/")[2] or source.bucket).strip("-")
    return f"{stem[:40] or 'backfill'}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def new_backfill(settings: RunSettings, name: str, now: datetime, made_by: str | None = None) -> Backfill:
    """Create the backfill for a run's settings.

    Raises:
        SetupFault: the name is invalid, or there is no source.
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
    """Describe how a run's settings contradict the backfill that it is to serve; None if they do not."""
    options, selection = settings.options, settings.selection.of_all_partitions()
    compared: Iterable[tuple[str, object, object]] = (
        ("source", str(Location.parse(backfill.source)), str(Location.parse(settings.source or backfill.source))),
        ("model", backfill.model, options.model),
        ("schema", backfill.answer_schema, options.answer_schema),
        ("selection", backfill.selection, selection if selection != EVERYTHING else backfill.selection),
    )
    for field, planned, requested in compared:
        if planned != requested:
            return f"its {field} is {planned!s}, and this run was given {requested!s}"
    return None


def taken_over(backfill: Backfill, settings: RunSettings) -> RunSettings:
    """Complete a run's settings from its backfill, wherever the run has no explicit setting.

    A run that is started by a backfill's name alone processes the backfill's documents as planned.

    Args:
        backfill: the backfill that the run serves.
        settings: the run's own settings.
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
    merged = type(options).model_validate({**dict(options), **changes})
    return RunSettings.model_validate({**dict(settings), "selection": selection, "options": merged})


def who() -> str:
    """Return user and machine of this process, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have no name
        user = "somebody"
    return f"{user} at {socket.gethostname()}"
