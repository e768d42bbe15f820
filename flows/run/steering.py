"""What a run has to do with the backfill that it serves: it joins it, heeds what people say about it, and tells of it.

The run's loop asks two things: whether anything may be sent at present, and how many jobs may be open. Everything else
happens in a thread of its own, which reads the figures from the ledger as often as that costs little.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from flows.run.events import emit_backfill_event, emit_budget_event
from flows.run.partition_runs import PartitionRuns
from flows.run.telemetry import Telemetry, open_telemetry
from tasks.backfills.figures import Figures
from tasks.backfills.page import report_page
from tasks.backfills.record import Backfill, PartitionPlan, Planned, Server, difference, new_backfill, who
from tasks.context import RunContext
from tasks.faults import EndsRun, Fault, Passes, SetupFault
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.nearest import did_you_mean

log = logging.getLogger(__name__)

_SHORTEST_SECONDS = 2.0
_LAST_SECONDS = 30.0  # for the figures that are being read when the run ends
_SHARE = 0.1  # of the time, at most, goes into reading the figures
_LINE_SECONDS = 60.0
_WARNED_SHARE = 0.8
_FEW = 50  # of so few documents a share that failed says nothing
_STALLED_SECONDS = 1800.0


class Steering:
    """The backfill that a run serves, if it serves one.

    Args:
        context: the tools of the run.

    Attributes:
        figures: the backfill's figures, as last read.
        note: who else serves the backfill, where somebody did when the run joined it.
    """

    def __init__(self, context: RunContext) -> None:
        self.figures: Figures | None = None
        self.note: str | None = None
        self._context = context
        self._name = context.settings.backfill
        self._reader: FiguresReader | None = None
        self._ended = threading.Event()
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None
        self._partition_runs: PartitionRuns | None = None
        self._telemetry: Telemetry | None = None

    def join(self) -> None:
        """Join the backfill, making it where there is none of that name; from then on its figures are followed.

        Raises:
            SetupFault: the backfill means other documents than the run, or a partition is not there.
            Passes: the ledger cannot be read or written now.
        """
        context, name = self._context, self._name
        if name is None:
            return
        now = context.clock.now()
        known = context.backfills.read(name)
        backfill = known or new_backfill(context.settings, name, now)
        if (why := difference(backfill, context.settings)) is not None:
            raise SetupFault(
                f"this run cannot serve the backfill {name}: {why}. Give it another --name, or the same work"
            )
        reader = _reader(context, backfill)
        self.figures = reader.read_of(backfill)
        self._prove_partitions(self.figures)
        if known is None:
            if not self.figures.documents:  # whoever mistyped the source wants no backfill of nothing
                self.figures = None
                return
            backfill = context.backfills.make(backfill)
        self._reader = reader
        if others := reader.serving(backfill):
            self.note = f"backfill {name} is served by {'; '.join(others)}; this run helps"
            log.info("%s", self.note)
        server = Server(run=context.run, owner=context.owner, who=who(), since=now)
        first = backfill.state == "planned" or not backfill.served_by

        def joined(record: Backfill) -> Backfill:
            if record.state in ("planned", "finished"):
                record = record.moved("running", "", now)
            if record.planned is None and self.figures is not None:
                record = record.changed(now, planned=_planned(self.figures))
            return record.joined(server, now)

        backfill = context.backfills.change(name, joined)
        context.followed.forget(name)
        if self.figures is not None and self.figures.changed:
            log.warning("%s", self.figures.changed)
        if first:
            self._tell("started", "started")
        self._partition_runs = PartitionRuns(backfill, context.settings.selection, context.options.shard, context.clock)
        self._partition_runs.begin(self.figures)
        self._telemetry = open_telemetry(time.monotonic)
        inherited = copy_context()  # for the run's log, and its artifacts
        self._thread = threading.Thread(target=inherited.run, args=(self._follow,), name="backfill", daemon=True)
        self._thread.start()

    def _prove_partitions(self, figures: Figures) -> None:
        names = [partition.name for partition in figures.partitions]
        for wanted in self._context.settings.selection.partition:
            if wanted not in names:
                nearest = did_you_mean(wanted, names)
                asked = f". Did you mean {nearest}?" if nearest else ""
                raise SetupFault(f"backfill {self._name} has no partition '{wanted}'{asked}")

    @property
    def sends(self) -> bool:
        """Whether anything may be sent at present.

        Raises:
            SetupFault: the backfill's record cannot be read.
        """
        return self.held is None

    @property
    def held(self) -> str | None:
        """Why nothing is sent at present; None where something may be.

        Raises:
            SetupFault: the backfill's record cannot be read.
        """
        try:
            self._context.prove_sends(self._name)
        except Passes as held:
            return str(held)
        return None

    @property
    def window(self) -> int:
        """How many jobs may be open."""
        window = self._context.pace.window
        return self._context.options.window if window is None else window

    @property
    def state(self) -> str | None:
        """The backfill's state, as it was a few seconds ago; None where the run serves none, or it cannot be read."""
        try:
            backfill = self._context.backfill
        except (Passes, SetupFault):
            return None
        return None if backfill is None else backfill.state

    def end(self) -> None:
        """Follow the backfill no longer."""
        self._ended.set()

    def finish(self, stopped: str | None) -> Figures | None:
        """The run is over: read the figures once more, and put on record what they mean.

        Args:
            stopped: why the run sent less than there is.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)
        if self._name is None or self._reader is None:
            return None
        context, now = self._context, self._context.clock.now()
        try:
            context.budget.flush()
            found = self._reader.read(everything=True)
            if found is None:
                return None
            over = not (found.new or found.open)

            def ended(record: Backfill) -> Backfill:
                if record.state != "running":
                    return record
                if over:
                    return record.moved("finished", _outcome(found), now)
                return record.moved("running", stopped or "", now)

            record = context.backfills.change(self._name, ended)
            found.state, found.why = record.state, record.why
            found.served_by = []
            self.figures = found
            if self._partition_runs is not None:
                self._partition_runs.tell(found, ending=True)
            self._measure(found, last=True)
            context.objects.put(
                context.destination.bucket,
                context.ledger.report_key(self._name),
                report_page(found).encode(),
                {},
                "text/html; charset=utf-8",
            )
            if record.state == "finished":
                self._tell("finished", "finished")
        except EndsRun:
            raise
        except Fault as fault:
            log.warning("the figures of backfill %s could not be read at the end: %s", self._name, fault)
        self._reader.close()
        return self.figures

    def _follow(self) -> None:
        """Read the figures again and again, and act on them."""
        line_at = stalled_at = time.monotonic()
        finished, rest = -1, _SHORTEST_SECONDS
        while not self._ended.wait(rest):
            began = time.monotonic()
            try:
                self._context.budget.flush()  # what was sent last is on the meter only with the next reservation
                found = self._reader.read() if self._reader else None
            except Exception as error:  # noqa: BLE001  # they are only shown; whoever works finds out by itself
                log.info("the figures of backfill %s cannot be read now: %s", self._name, error)
                found = None
            took = time.monotonic() - began
            rest = max(_SHORTEST_SECONDS, took / _SHARE)
            if found is None:
                continue
            self.figures = found
            self._heed_failures(found)
            self._tell_progress(found)
            self.tell_budgets()
            if self._partition_runs is not None:
                self._partition_runs.tell(found)
            self._measure(found)
            if found.finished != finished:
                finished, stalled_at = found.finished, began
            elif found.open and began - stalled_at >= _STALLED_SECONDS:
                stalled_at = began
                self._tell("stalled", f"stalled-{began}")
            if began - line_at >= _LINE_SECONDS:
                line_at = began
                log.info("%s", found.sentence())

    def _measure(self, found: Figures, *, last: bool = False) -> None:
        found.throttle_wait_seconds = round(self._context.throttle_wait_seconds, 3)
        if self._telemetry is not None:
            self._telemetry.send(found, last=last)

    def _heed_failures(self, found: Figures) -> None:
        """Pause the backfill when more has failed than it bears."""
        name, now = self._name, self._context.clock.now()
        if name is None:
            return

        def paused(record: Backfill) -> Backfill:
            allowed = record.ceilings.failures_allowed(max(found.finished, _FEW))
            if record.state != "running" or found.failed <= allowed:
                return record
            limit = record.ceilings.stop_after_failures
            return record.moved("paused", f"{found.failed:,} documents failed, and it stops after {limit}", now)

        try:
            if self._context.backfills.change(name, paused).state == "paused":
                self._context.followed.forget(name)
        except Fault as fault:
            log.warning("backfill %s could not be paused: %s", name, fault)

    def _tell_progress(self, found: Figures) -> None:
        """Emit each tenth of the documents once."""
        if found.total:
            tenth = found.finished * 10 // found.total * 10
            if 0 < tenth < 100:
                self._tell("progress", f"progress-{tenth}")

    def tell_budgets(self) -> None:
        """Emit, once a run, that most of a budget is spent: that of the run, its backfill, the day or the month."""
        for budget in self._context.budget.used():
            key = f"budget-{budget.name}"
            if budget.share < _WARNED_SHARE or key in self._told:
                continue
            self._told.add(key)
            spent = f"{100 * budget.share:.0f} % of the budget of {budget.label} is spent ({budget.room()})"
            log.warning("%s", spent)
            self._emit(partial(emit_budget_event, self._context.settings.destination, spent))

    def _tell(self, what: str, key: str) -> None:
        figures = self.figures
        if key not in self._told and figures is not None:
            self._told.add(key)
            self._emit(lambda: emit_backfill_event(what, figures))

    def _emit(self, emit: Callable[[], None]) -> None:
        try:
            emit()
        except Exception as error:  # noqa: BLE001  # Prefect's server may be gone; the work does not depend on it
            log.info("an event could not be emitted: %s", error)


def _reader(context: RunContext, backfill: Backfill) -> FiguresReader:
    """What reads the figures, with tools that mean all the documents of the backfill, not only the run's share."""
    whole = RunContext(
        settings_of(backfill, context.settings), context.objects, clock=context.clock, liveness=context.liveness
    )
    return FiguresReader(whole, backfill.name, context.published)


def _planned(found: Figures) -> Planned:
    return Planned(
        at=found.at,
        documents=found.documents,
        partitions=tuple(PartitionPlan(name=each.name, documents=each.documents) for each in found.partitions),
    )


def _outcome(found: Figures) -> str:
    parts = [f"{found.done:,} done"]
    parts += [f"{number:,} {name}" for name, number in (("failed", found.failed), ("set aside", found.aside)) if number]
    return ", ".join(parts)
