"""The meters that apply to a document: those of its run, its backfill, the day and the month."""

import threading
from datetime import datetime

from tasks.backfills.store import Followed
from tasks.budget.charged import MICROS, micros
from tasks.budget.meter import Budget
from tasks.clock import Clock
from tasks.faults import NotSending, RecordUnreadable
from tasks.options import Options
from tasks.store.ledger import Ledger


class Meters:
    """The meters of one run in one process. Thread-safe.

    Args:
        options: the run's options, with its ceilings.
        flow_run: the run's id; without one, its meter is not shared with other processes.
        ledger: the destination's ledger.
        shared: the ledger that stores the meters of the day and the month.
        followed: the backfills.
        clock: the clock that determines day and month.
    """

    def __init__(
        self, options: Options, flow_run: str | None, ledger: Ledger, shared: Ledger, followed: Followed, clock: Clock
    ) -> None:
        self._price = round(options.price * MICROS)
        self._options = options
        self._ledger, self._shared = ledger, shared
        self._followed = followed
        self._clock = clock
        # A run that is restarted under its id continues with the remainder of its budget.
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
        """Return the meters that apply to a job of a backfill, or of none.

        Args:
            backfill: the backfill that it belongs to.
            at: when its pages were sent; now by default.

        Raises:
            SetupFault, TransientFault: the backfill cannot be read.
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
        """Check that documents may be sent for a backfill at present. Without a backfill, they always may.

        Raises:
            NotSending: it is paused or cancelled.
            SetupFault: it cannot be read.
        """
        record = None if backfill is None else self._followed.now(backfill)
        if record is not None and not record.sends:
            raise NotSending(record.why_not())

    def charge_run(self, run: str, pages: int, price: int, name: str, counted: str | None = None) -> None:
        """Charge pages to another run's meter, if it is stored: that run may be continued.

        Args:
            run: its id.
            pages: number of pages.
            price: price per page in millionths of a dollar.
            name: the charge's own name; see `Budget.charge`.
            counted: the id of the job whose pages are counted with this; None while other charges for it follow.
        """
        if self._ledger.read_budget(f"run-{run}") is not None:
            budget = Budget(0, f"run-{run}", self._ledger)
            budget.charge(pages, price, name, None if counted is None else self.job(counted))
            budget.close()

    def job(self, job_id: str) -> str:
        """Return a job's name in meters: two destinations that share a meter may have jobs with the same id."""
        return f"{self._ledger.address}{job_id}"

    def spent(self, job: str) -> int | None:
        """Return the pages that a job has spent, if nobody is working on it any more.

        Args:
            job: the job's name in meters.

        Returns:
            The pages that its record counts as sent or lost, 0 if its claim was released untouched; None if a worker
            may be sending them, or if another ledger has the job.
        """
        if not job.startswith(self._ledger.address):
            return None
        job_id = job.removeprefix(self._ledger.address)
        try:
            held = self._ledger.read(job_id)
        except RecordUnreadable:  # whoever can read it may be sending
            return None
        if held is not None:
            record = held.job
            return None if record.lease is not None else record.pages_sent + record.pages_lost
        ended = self._ledger.done(job_id) or self._ledger.failed(job_id)
        if ended is not None:
            return ended.job.pages_sent + ended.job.pages_lost
        # In this order: a record is copied to the earlier ones before it is deleted.
        return None if self._ledger.was_redone(job_id) else 0

    def is_counted(self, job: str) -> bool:
        """Tell whether the API's count cannot add to a job's pages any more, by the job's name in meters.

        They are counted, the job is done or failed, or nothing was sent for it. What another ledger holds is not
        known here: False.
        """
        if not job.startswith(self._ledger.address):
            return False
        try:
            held = self._ledger.read(job.removeprefix(self._ledger.address))
        except RecordUnreadable:
            return False
        if held is None:  # a job is claimed before its pages are reserved, so it has ended
            return True
        record = held.job
        return record.pages is not None or (record.lease is None and not record.requests)

    def _meter(self, name: str, store: Ledger, price: int, label: str, *, always: bool = False) -> Budget:
        with self._lock:
            if name not in self._others:
                self._others[name] = Budget(None, name, store, price=price, label=label, always=always)
            return self._others[name]
