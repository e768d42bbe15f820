"""The gate before every POST: reserves a document's pages in all meters that apply to it, or in none.

    run        --max-pages, --max-cost           stored in _jobs/budgets/run-<flow run id>.json
    backfill   ceilings of its record            stored in _jobs/budgets/backfill-<name>.json, always counted
    day        --max-pages-per-day, …            stored in _jobs/budgets/day-2026-11-26.json, or at --budget
    month      --max-pages-per-month, …          stored in _jobs/budgets/month-2026-11.json, or at --budget

A process that is killed between two meters leaves a reservation in the first one. Like any other, it is settled when
the job is taken over. Reservations of jobs that nobody takes over, because they are done or failed, are settled when a
ceiling is reached. If a meter cannot be read, nothing is sent.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Protocol, Self

from tasks.budget.meter import Budget, Reservation
from tasks.faults import CeilingReached, CountsAwaited, Fault
from tasks.number_format import quantity


class Meters(Protocol):
    """Finds the meters that apply to a job, and what its record says."""

    def of(self, backfill: str | None, at: datetime | None = None) -> Sequence[Budget]:
        """Return the meters that apply to a job of a backfill (or of none) at a time; now by default."""

    def job(self, job_id: str) -> str:
        """Return a job's name in meters, which several ledgers may share."""

    def spent(self, job: str) -> int | None:
        """Return the pages that a job has spent, by its name in meters; None if a worker may be sending them."""

    def is_counted(self, job: str) -> bool:
        """Whether the API's count cannot add to the pages of a job any more, by its name in meters."""


class Gate:
    """Reserves pages in several meters at once. Thread-safe.

    Args:
        meters: finds the meters that apply.
        prove_sends: raises if nothing may be sent for a backfill at present.
    """

    def __init__(self, meters: Meters, prove_sends: Callable[[str | None], None] = lambda _: None) -> None:
        self._meters = meters
        self._prove_sends = prove_sends
        self._used: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def reserve(
        self,
        job_id: str,
        pages: int,
        spent: int = 0,
        backfill: str | None = None,
        *,
        excess: int = 0,
        at: datetime | None = None,
    ) -> "Spending":
        """Reserve pages for a job.

        Args:
            job_id: the job.
            pages: number of pages; of a document that only the API can count, an estimate.
            spent: pages that its record counts as sent or lost so far; see `Budget.reserve`.
            backfill: the name of the backfill that the job belongs to.
            excess: by how many pages the API's count can exceed an estimate at most.
            at: the time, which determines the day and the month that they count for; now by default.

        Raises:
            CountsAwaited: a ceiling leaves no room only because of documents of unknown page count under way.
            CeilingReached: one of the ceilings leaves no room for these pages; nothing is reserved.
            TransientFault, SetupFault: a meter cannot be read or written, or the backfill is paused; nothing may be
                sent.
        """
        self._prove_sends(backfill)
        job = self._meters.job(job_id)
        reserved: list[tuple[Budget, Reservation]] = []
        try:
            for budget in self._of(backfill, at):
                reservation = budget.reserve(job, pages, spent, excess)
                if reservation is None and budget.clear(self._meters.spent, self._meters.is_counted):
                    reservation = budget.reserve(job, pages, spent, excess)
                if reservation is None:
                    raise _refusal(budget, pages)
                reserved.append((budget, reservation))
        except BaseException:
            with ExitStack() as ended:
                for _, reservation in reserved:
                    ended.push(reservation)
            raise
        return Spending(reserved)

    def taken_over(self, job_id: str, spent: int, backfill: str | None = None) -> None:
        """Settle the reservations of a worker that died, according to the job's record."""
        for budget in self._of(backfill):
            budget.taken_over(self._meters.job(job_id), spent)

    def charge(
        self,
        pages: int,
        backfill: str | None,
        *,
        run: bool,
        at: datetime,
        price: int | None,
        name: str,
        counted: str | None = None,
    ) -> None:
        """Correct the meters: more pages were spent than reserved, or fewer (a negative number).

        Args:
            pages: number of pages.
            backfill: the backfill of their job.
            run: whether this run sent them.
            at: when they were reserved: they count for that day and month.
            price: of a page, in millionths of a dollar, where the record tells.
            name: the charge's own; see `Budget.charge`.
            counted: the id of the job whose pages are counted with this; None while other charges for it follow.
        """
        job = None if counted is None else self._meters.job(counted)
        for budget in self._of(backfill, at):
            if run or not budget.name.startswith("run-"):
                # A backfill has a price of its own, at which its pages were reserved.
                budget.charge(pages, None if budget.name.startswith("backfill-") else price, name, job)

    def used(self) -> list[Budget]:
        """Return the meters used so far."""
        with self._lock:
            return list(self._used.values())

    def flush(self) -> None:
        """Write pending changes of all meters."""
        for budget in self.used():
            with suppress(Fault):  # an unwritten settlement leaves the whole reservation counted as spent
                budget.close()

    def close(self) -> None:
        """Write pending changes at the end of a run."""
        self.flush()

    def _of(self, backfill: str | None, at: datetime | None = None) -> Sequence[Budget]:
        meters = [budget for budget in self._meters.of(backfill, at) if budget.counts]
        with self._lock:
            self._used |= {budget.name: budget for budget in meters}
        return meters


def _refusal(budget: Budget, pages: int) -> CeilingReached:
    """Return the reason why a meter has no room for these pages."""
    uncounted = budget.awaits_counts(pages)
    if not uncounted:
        return CeilingReached(
            f"its {quantity(pages, 'page')} {'exceeds' if pages == 1 else 'exceed'} what is left of the page budget of "
            f"{budget.label} ({budget.room()})",
            budget.name,
        )
    documents = "1 document" if uncounted == 1 else f"{uncounted:,} documents"
    verb = "is" if uncounted == 1 else "are"
    return CountsAwaited(
        f"it waits until the API has counted {documents} of unknown page count that {verb} under way: more than what "
        f"is left of the page budget of {budget.label} ({budget.room()}) might be sent otherwise",
        budget.name,
    )


class Spending:
    """One job's reservations in all meters. Used as a context manager: pages not spent are released at the end."""

    def __init__(self, reservations: Sequence[tuple[Budget, Reservation]]) -> None:
        self._reservations = reservations

    def sent(self, pages: int) -> None:
        """Note that pages were accepted."""
        for _, reservation in self._reservations:
            reservation.sent(pages)

    def lost(self, pages: int) -> None:
        """Note that pages were fully sent without an answer: they may be billed."""
        for _, reservation in self._reservations:
            reservation.lost(pages)

    def counted(self) -> None:
        """Note that the pages sent are counted, not estimated."""
        for _, reservation in self._reservations:
            reservation.counted()

    def extend(self, pages: int) -> bool:
        """Reserve more pages, to send some again. Returns whether every ceiling had room."""
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
