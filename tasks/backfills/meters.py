"""The meters that a document counts against: those of its run, its backfill, the day and the month."""

import threading
from datetime import datetime

from tasks.backfills.store import Followed
from tasks.clock import Clock
from tasks.faults import NotSending
from tasks.options import Options
from tasks.store.ledger import Ledger
from tasks.upstage.budget import MICROS, Budget, micros


class Meters:
    """The meters of one run in one process. Safe between threads.

    Args:
        options: the run's ceilings.
        flow_run: the run's id; without one, nobody shares what it spends.
        ledger: the destination's.
        shared: where the meters of the day and the month are.
        followed: the backfills.
        clock: the time to go by.
    """

    def __init__(
        self, options: Options, flow_run: str | None, ledger: Ledger, shared: Ledger, followed: Followed, clock: Clock
    ) -> None:
        self._price = round(options.price * MICROS)
        self._options = options
        self._ledger, self._shared = ledger, shared
        self._followed = followed
        self._clock = clock
        # A run that is started again under its id goes on with what is left of its budget.
        self._run = Budget(
            options.run_pages,
            f"run-{flow_run}",
            None if flow_run is None else ledger,
            cost=micros(options.max_cost),
            price=self._price,
        )
        self._others: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def of(self, backfill: str | None, at: datetime | None = None) -> list[Budget]:
        """Those that count for a job of a backfill, or of none.

        Args:
            backfill: the backfill that it belongs to.
            at: when its pages were sent; now, when left out.

        Raises:
            SetupFault, Passes: the backfill cannot be read.
        """
        meters, options, day = [self._run], self._options, at or self._clock.now()
        record = None if backfill is None else self._followed.now(backfill)
        if record is not None:
            price = round(record.price_per_page * MICROS)
            meter = self._meter(record.meter, self._ledger, price, f"backfill {record.name}", always=True)
            meter.pages, meter.cost = record.ceilings.max_pages, micros(record.ceilings.max_cost)
            meters.append(meter)
        periods = (
            (f"day-{day:%Y-%m-%d}", "the day", options.max_pages_per_day, options.max_cost_per_day),
            (f"month-{day:%Y-%m}", "the month", options.max_pages_per_month, options.max_cost_per_month),
        )
        for name, label, pages, cost in periods:
            if pages is not None or cost is not None:
                meter = self._meter(name, self._shared, self._price, label)
                meter.pages, meter.cost = pages, micros(cost)
                meters.append(meter)
        return meters

    def prove_sends(self, backfill: str | None) -> None:
        """Prove that something may be sent for a backfill at present; for none, always.

        Raises:
            NotSending: it is paused or cancelled.
            SetupFault: it cannot be read.
        """
        record = None if backfill is None else self._followed.now(backfill)
        if record is not None and not record.sends:
            raise NotSending(record.why_not())

    def charge_run(self, run: str, pages: int, price: int) -> None:
        """Charge pages to another run, which may go on with what is left, where its budget is kept."""
        if self._ledger.read_budget(f"run-{run}") is not None:
            Budget(0, f"run-{run}", self._ledger).charge(pages, price)

    def job(self, job_id: str) -> str:
        """How a job is called in meters: two destinations that share one may have a job of the same id."""
        return f"{self._ledger.address}{job_id}"

    def spent(self, job: str) -> int | None:
        """What a job has spent, where nobody works on it any more.

        Args:
            job: as it is called in meters.

        Returns:
            The pages that its record counts as sent or lost; None where somebody may be sending them, or where there is
            no record of the job in this ledger.
        """
        if not job.startswith(self._ledger.address):
            return None
        job_id = job.removeprefix(self._ledger.address)
        held = self._ledger.read(job_id)
        if held is not None:
            record = held.job
            return None if record.lease is not None else record.pages_sent + record.pages_lost
        ended = self._ledger.done(job_id) or self._ledger.failed(job_id)
        return None if ended is None else ended.job.pages_sent + ended.job.pages_lost

    def _meter(self, name: str, store: Ledger, price: int, label: str, *, always: bool = False) -> Budget:
        with self._lock:
            if name not in self._others:
                self._others[name] = Budget(None, name, store, price=price, label=label, always=always)
            return self._others[name]
