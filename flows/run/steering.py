"""A run's part in the backfill that it serves: it joins, obeys changes that people make to it, and reports on it.

The run's loop asks two questions: whether documents may be sent at present, and how many jobs may be open. Everything
else happens in a separate thread, which reads the figures from the ledger as often as is cheap.
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
from tasks.backfills.record import Backfill, PartitionPlan, Planned, Server, difference, new_backfill, own_name, who
from tasks.context import RunContext
from tasks.faults import EndsRun, Fault, NotSending, SetupFault, TransientFault
from tasks.similar_names import did_you_mean, mistyped
from tasks.steps.figures import FiguresReader, settings_of

log = logging.getLogger(__name__)

_SHORTEST_SECONDS = 2.0
_LAST_SECONDS = 30.0  # for a reading of the figures that is in progress when the run ends
_LINE_SECONDS = 60.0
_WARNED_SHARE = 0.8
_FEW = 50  # documents; below this, the share of failures means little
_STALLED_SECONDS = 1800.0


class Steering:
    """The backfill that a run serves, if any.

    Args:
        context: the run's context.

    Attributes:
        figures: the backfill's figures, as last read.
        note: the other runs that served the backfill when this run joined; None if there were none.
    """

    def __init__(self, context: RunContext) -> None:
        self.figures: Figures | None = None
        self.note: str | None = None
        self._context = context
        self._name = context.settings.backfill
        self._reader: FiguresReader | None = None
        self._ended = threading.Event()
        self._emitted: set[str] = set()
        self._thread: threading.Thread | None = None
        self._partition_runs: PartitionRuns | None = None
        self._telemetry: Telemetry | None = None
        self._finished = -1  # documents, at the last reading
        self._stalled_at = self._line_at = time.monotonic()  # when that changed, and when a line was logged

    def join(self) -> None:
        """Join the backfill, which is created if it does not exist, and start to follow its figures.

        Raises:
            SetupFault: the backfill is for other documents than the run, or a partition does not exist.
            TransientFault: the ledger is unavailable at the moment.
        """
        context, name = self._context, self._name
        if name is None:
            return
        now = context.clock.now()
        known = context.backfills.read(name)
        if known is None and name != own_name(context.settings):
            self._prove_name(name)
        backfill = known or new_backfill(context.settings, name, now)
        if (why := difference(backfill, context.settings)) is not None:
            raise SetupFault(
                f"this run cannot serve the backfill {name}: {why}. Give it another --name, or the same work"
            )
        reader = _reader(context, backfill)
        self.figures = reader.read_of(backfill)
        self._prove_partitions(self.figures)
        if known is None:
            if not self.figures.documents:  # a mistyped source should not create an empty backfill
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
        self._thread = threading.Thread(target=inherited.run, args=(self._follow, reader), name="backfill", daemon=True)
        self._thread.start()

    def _prove_name(self, name: str) -> None:
        """Prove that a new name is no misspelling: that backfill would have none of the other's ceilings.

        Raises:
            SetupFault: there is a backfill with a similar name.
        """
        meant = mistyped(name, self._context.backfills.names())
        if meant is not None:
            place = self._context.destination
            raise SetupFault(
                f"there is no backfill '{name}' at {place}. Did you mean {meant}? If it is to be a new one, create it "
                f"with 'bulk-ocr plan {self._context.settings.source} {place} --save {name}'"
            )

    def _prove_partitions(self, figures: Figures) -> None:
        names = [partition.name for partition in figures.partitions]
        for wanted in self._context.settings.selection.partition:
            if wanted not in names:
                nearest = did_you_mean(wanted, names)
                asked = f". Did you mean {nearest}?" if nearest else ""
                raise SetupFault(f"backfill {self._name} has no partition '{wanted}'{asked}")

    @property
    def sends(self) -> bool:
        """Whether documents may be sent at present: not while the backfill's record cannot be read.

        Raises:
            SetupFault: it is of another version, or was deleted.
        """
        try:
            self._context.prove_sends(self._name)
        except TransientFault:
            return False
        return True

    @property
    def held(self) -> str | None:
        """Why the backfill sends nothing at present; None if it does, or if its record cannot be read.

        Raises:
            SetupFault: the record is of another version, or was deleted.
        """
        try:
            self._context.prove_sends(self._name)
        except NotSending as paused:
            return str(paused)
        except TransientFault:
            return None
        return None

    @property
    def window(self) -> int:
        """The maximum number of open jobs."""
        window = self._context.pace.window
        return self._context.options.window if window is None else window

    @property
    def state(self) -> str | None:
        """The backfill's state, at most a few seconds old; None without a backfill, or if it cannot be read."""
        try:
            backfill = self._context.backfill
        except (TransientFault, SetupFault):
            return None
        return None if backfill is None else backfill.state

    def end(self) -> None:
        """Stop following the backfill."""
        self._ended.set()

    def finish(self, stopped: str | None, full_meter: str | None = None) -> Figures | None:
        """Read the figures a last time at the end of the run, and update the backfill's record.

        Args:
            stopped: why the run did not send everything; None if it did.
            full_meter: the meter of the ceiling that the run has reached, if it has.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)
        if self._name is None or self._reader is None:
            return None
        context, now = self._context, self._context.clock.now()
        try:
            context.budget.flush()
            figures = self._reader.read(everything=True)
            if figures is None:
                return None
            over = not (figures.new or figures.open)

            def ended(record: Backfill) -> Backfill:
                if record.state != "running":
                    return record
                if over:
                    return record.moved("finished", _outcome(figures), now)
                return record.moved("running", stopped or "", now).at_ceiling(full_meter, now)

            record = context.backfills.change(self._name, ended)
            figures.state, figures.why = record.state, record.why
            charged = figures.pages_charged + figures.pages_reserved
            figures.waiting_for = record.waiting_for(now, charged, figures.cost)
            figures.served_by = []
            self.figures = figures
            if self._partition_runs is not None:
                self._partition_runs.tell(figures, ending=True)
            self._measure(figures, last=True)
            context.objects.put(
                context.destination.bucket,
                context.ledger.report_key(self._name),
                report_page(figures).encode(),
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

    def _follow(self, reader: FiguresReader) -> None:
        """Read the figures repeatedly, and act on them."""
        rest = _SHORTEST_SECONDS
        while not self._ended.wait(rest):
            try:
                self._context.budget.flush()  # the meter gets the last submissions only with the next reservation
                figures = reader.read()
                if figures is not None:
                    self._act_on(figures)
            except Fault as fault:
                log.info("the figures of backfill %s cannot be read now: %s", self._name, fault)
            except Exception:  # if this thread ended, too many failures would no longer pause the backfill
                # Figures also go to Prefect's and OpenTelemetry's clients, which document no errors.
                log.exception("the figures of backfill %s cannot be shown now; the run continues", self._name)
            rest = max(_SHORTEST_SECONDS, reader.pause)

    def _act_on(self, figures: Figures) -> None:
        now = time.monotonic()
        self.figures = figures
        self._heed_failures(figures)
        if figures.finished != self._finished:
            self._finished, self._stalled_at = figures.finished, now
        elif figures.open and now - self._stalled_at >= _STALLED_SECONDS:
            self._stalled_at = now
            self._tell("stalled", f"stalled-{now}")
        if now - self._line_at >= _LINE_SECONDS:
            self._line_at = now
            log.info("%s", figures.sentence())
        self._tell_progress(figures)
        self.tell_budgets()
        if self._partition_runs is not None:
            self._partition_runs.tell(figures)
        self._measure(figures)

    def _measure(self, figures: Figures, *, last: bool = False) -> None:
        figures.throttle_wait_seconds = round(self._context.throttle_wait_seconds, 3)
        if self._telemetry is not None:
            self._telemetry.send(figures, last=last)

    def _heed_failures(self, figures: Figures) -> None:
        """Pause the backfill if more documents have failed than it allows."""
        name, now = self._name, self._context.clock.now()
        if name is None:
            return

        def paused(record: Backfill) -> Backfill:
            allowed = record.ceilings.failures_allowed(max(figures.finished, _FEW))
            if record.state != "running" or figures.failed <= allowed:
                return record
            limit = record.ceilings.stop_after_failures
            why = (
                f"{figures.failed:,} documents failed, and it stops after {limit}: before it is resumed, put them back "
                "with 'bulk-ocr retry', or raise --stop-after-failures with 'bulk-ocr backfill set'"
            )
            return record.moved("paused", why, now)

        try:
            if self._context.backfills.change(name, paused).state == "paused":
                self._context.followed.forget(name)
        except Fault as fault:
            log.warning("backfill %s could not be paused: %s", name, fault)

    def _tell_progress(self, figures: Figures) -> None:
        """Emit an event once for each tenth of the documents."""
        if figures.total:
            tenth = figures.finished * 10 // figures.total * 10
            if 0 < tenth < 100:
                self._tell("progress", f"progress-{tenth}")

    def tell_budgets(self) -> None:
        """Emit an event once for each budget of which most is spent: of the run, its backfill, the day or the month."""
        for budget in self._context.budget.used():
            key = f"budget-{budget.name}"
            if budget.share < _WARNED_SHARE or key in self._emitted:
                continue
            self._emitted.add(key)
            spent = f"{100 * budget.share:.0f} % of the budget of {budget.label} is spent ({budget.room()})"
            log.warning("%s", spent)
            self._emit(partial(emit_budget_event, self._context.settings.destination, spent))

    def _tell(self, what: str, key: str) -> None:
        figures = self.figures
        if key not in self._emitted and figures is not None:
            self._emitted.add(key)
            self._emit(lambda: emit_backfill_event(what, figures))

    def _emit(self, emit: Callable[[], None]) -> None:
        try:
            emit()
        except Exception as error:  # noqa: BLE001  # Prefect's server may be gone; the work does not depend on it
            log.info("an event could not be emitted: %s", error)


def _reader(context: RunContext, backfill: Backfill) -> FiguresReader:
    """Return a reader of the figures for all documents of the backfill, not only the run's part."""
    whole = RunContext(
        settings_of(backfill, context.settings), context.objects, clock=context.clock, liveness=context.liveness
    )
    return FiguresReader(whole, backfill.name, context.published)


def _planned(figures: Figures) -> Planned:
    return Planned(
        at=figures.at,
        documents=figures.documents,
        partitions=tuple(
            PartitionPlan(name=partition.name, documents=partition.documents) for partition in figures.partitions
        ),
    )


def _outcome(figures: Figures) -> str:
    parts = [f"{figures.done:,} done"]
    parts += [
        f"{number:,} {name}" for name, number in (("failed", figures.failed), ("set aside", figures.aside)) if number
    ]
    return ", ".join(parts)
