"""The one gate before every POST: all the meters that a document counts against, taken together or not at all.

    run        --max-pages, --max-cost           kept in _jobs/budgets/run-<flow run id>.json
    backfill   what its record says              kept in _jobs/budgets/backfill-<name>.json, counted always
    day        --max-pages-per-day, …            kept in _jobs/budgets/day-2026-11-26.json, or at --budget
    month      --max-pages-per-month, …          kept in _jobs/budgets/month-2026-11.json, or at --budget

A process that is killed between two meters leaves a reservation in the first: it ends, as all others do, when the job
is taken over. Those of jobs that nobody takes over, since they are done or failed, end when a ceiling is reached. A
meter that cannot be read lets nothing through.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Protocol, Self

from tasks.faults import CeilingReached, Fault
from tasks.upstage.budget import Budget, Reservation


class Meters(Protocol):
    """Tells the meters, and what the records of jobs say."""

    def of(self, backfill: str | None, at: datetime | None = None) -> Sequence[Budget]:
        """The meters that count for a job of a backfill, or of none, at a moment: now, when left out."""

    def job(self, job_id: str) -> str:
        """How a job is called in meters that several ledgers may share."""

    def spent(self, job: str) -> int | None:
        """The pages that a job has spent, by its name in meters; None where somebody may be sending them."""


class Gate:
    """Reserves pages by several meters at once. Safe between threads.

    Args:
        meters: which ones.
        prove_sends: raises where nothing may be sent for a backfill at present.
    """

    def __init__(self, meters: Meters, prove_sends: Callable[[str | None], None] = lambda _: None) -> None:
        self._meters = meters
        self._prove_sends = prove_sends
        self._used: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def reserve(self, job_id: str, pages: int, spent: int = 0, backfill: str | None = None) -> "Spending":
        """Reserve pages for a job.

        Args:
            job_id: the job.
            pages: how many.
            spent: the pages that its record counts as sent or lost so far; see `Budget.reserve`.
            backfill: the name of the backfill that the job belongs to.

        Raises:
            CeilingReached: one of the ceilings leaves no room for so many; nothing is reserved.
            Passes, SetupFault: a meter cannot be read or written, or the backfill is paused; nothing may be sent.
        """
        self._prove_sends(backfill)
        job = self._meters.job(job_id)
        reserved: list[tuple[Budget, Reservation]] = []
        try:
            for budget in self._of(backfill):
                reservation = budget.reserve(job, pages, spent)
                if reservation is None and budget.clear(self._meters.spent):
                    reservation = budget.reserve(job, pages, spent)
                if reservation is None:
                    raise CeilingReached(
                        f"its {pages} pages exceed what is left of the page budget of {budget.label} ({budget.room()})"
                    )
                reserved.append((budget, reservation))
        except BaseException:
            with ExitStack() as ended:
                for _, reservation in reserved:
                    ended.push(reservation)
            raise
        return Spending(reserved)

    def taken_over(self, job_id: str, spent: int, backfill: str | None = None) -> None:
        """A job's worker died: what its reservations came to, the job's record tells."""
        for budget in self._of(backfill):
            budget.taken_over(self._meters.job(job_id), spent)

    def charge(self, pages: int, backfill: str | None, *, run: bool, at: datetime, price: int | None) -> None:
        """Charge pages that turned out to be spent, or, with a negative number, not to be.

        Args:
            pages: how many.
            backfill: the backfill of their job.
            run: whether it was this run that sent them.
            at: when they were sent: they count for that day and month.
            price: of a page, in millionths of a dollar, where the record tells.
        """
        for budget in self._of(backfill, at):
            if run or not budget.name.startswith("run-"):
                # A backfill has a price of its own, at which its pages were reserved.
                budget.charge(pages, None if budget.name.startswith("backfill-") else price)

    def used(self) -> list[Budget]:
        """The meters that counted so far."""
        with self._lock:
            return list(self._used.values())

    def flush(self) -> None:
        """Write what is not written yet."""
        for budget in self.used():
            with suppress(Fault):  # what is not written counts as spent
                budget.close()

    def close(self) -> None:
        """Write what is not written yet, at the end."""
        self.flush()

    def _of(self, backfill: str | None, at: datetime | None = None) -> Sequence[Budget]:
        meters = [budget for budget in self._meters.of(backfill, at) if budget.counts]
        with self._lock:
            self._used |= {budget.name: budget for budget in meters}
        return meters


class Spending:
    """Pages that one job may send, by all meters. Used as a context manager: what was not spent is free at the end."""

    def __init__(self, reservations: Sequence[tuple[Budget, Reservation]]) -> None:
        self._reservations = reservations

    def sent(self, pages: int) -> None:
        """Pages were accepted."""
        for _, reservation in self._reservations:
            reservation.sent(pages)

    def lost(self, pages: int) -> None:
        """Pages were posted whole, and may be paid for."""
        for _, reservation in self._reservations:
            reservation.lost(pages)

    def extend(self, pages: int) -> bool:
        """Reserve more, to send pages again. Returns whether every ceiling had room."""
        larger: list[Reservation] = []
        for _, reservation in self._reservations:
            if not reservation.extend(pages):
                for extended in larger:
                    extended.extend(-pages)
                return False
            larger.append(reservation)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for _, reservation in self._reservations:
            reservation.__exit__()
