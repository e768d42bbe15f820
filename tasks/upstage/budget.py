"""One meter: the pages and the money that may be spent, reserved before every POST, kept where all who spend see them.

A meter belongs to a run, a backfill, a day or a month, by its name in the store. Each document under way holds a
reservation. When it ends, what was sent and lost is charged; of one that a killed process left behind, the job's own
record tells what it came to. `tasks.upstage.gate` holds several meters against one POST.

Reservations are by document, and those of all threads that wait go into one write: as precise near the ceiling as far
from it, and no slower than the store answers.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.faults import Fault, Passes, SetupFault

_ATTEMPTS = 100
_CHARGES_KEPT = 64
MICROS = 1_000_000
"""Money is counted in millionths of a dollar: whole numbers, whose sums do not drift."""


class BudgetStore(Protocol):
    """Where meters are kept, with conditional writes."""

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """A meter with its ETag; None when nothing was charged yet."""

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a meter over nothing, or over the version read. False when another was first."""


class InMemory:
    """Keeps meters in this process: for runs that no other process shares, and that no other continues."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[bytes, str]] = {}

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """A meter with its ETag; None when nothing was charged yet."""
        return self._written.get(name)

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a meter over nothing, or over the version read. False when another was first."""
        current = self._written.get(name)
        if (current[1] if current else None) != etag:
            return False
        self._written[name] = (body, str(int(etag or 0) + 1))
        return True


class Reserved(BaseModel):
    """Pages that one process may send for one job.

    Attributes:
        job: the job.
        pages: how many.
        before: the pages that the job's record counted as sent or lost when this was reserved.
        price: of a page, in millionths of a dollar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    pages: int
    before: int
    price: int = 0


class Charged(BaseModel):
    """The record under `_jobs/budgets/`: what has been spent, and what may be being spent at this moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2, 3] = 3
    sent: int = Field(0, description="pages in accepted submissions")
    lost: int = Field(0, ge=0, description="pages in submissions whose answer was lost: they may be billed")
    cost: int = Field(0, description="of both, in millionths of a dollar")
    reserved: Mapping[str, Reserved] = Field({}, description="by the reservation's name: pages about to be sent")
    charges: tuple[str, ...] = Field((), description=f"the names of the last {_CHARGES_KEPT} charges")

    @property
    def total(self) -> int:
        """All pages that are spent, or may be."""
        return self.sent + self.lost + sum(reserved.pages for reserved in self.reserved.values())

    @property
    def total_cost(self) -> int:
        """All money that is spent, or may be, in millionths of a dollar."""
        return self.cost + sum(reserved.pages * reserved.price for reserved in self.reserved.values())

    def changed(self, **changes: object) -> "Charged":
        """The same with other values, which are checked."""
        return self.model_validate({**dict(self), "format": 3, **changes})

    def charged(self, name: str, pages: int, price: int) -> "Charged":
        """With pages that turned out to be spent, or, with a negative number, not to be.

        A charge is applied once. Where the answer to its write is lost and another process writes before the meter is
        read again, its name tells that it had gone through.

        Args:
            name: the charge's own name.
            pages: how many.
            price: of a page, in millionths of a dollar.
        """
        if name in self.charges:
            return self
        charges = (*self.charges, name)[-_CHARGES_KEPT:]
        return self.changed(sent=self.sent + pages, cost=self.cost + pages * price, charges=charges)

    def settled(self, name: str, sent: int, lost: int) -> "Charged":
        """With a reservation ended. One that is gone was charged by whoever took its job over."""
        if name not in self.reserved:
            return self
        left = {key: reserved for key, reserved in self.reserved.items() if key != name}
        cost = self.cost + (sent + lost) * self.reserved[name].price
        return self.changed(sent=self.sent + sent, lost=self.lost + lost, cost=cost, reserved=left)

    def without_leftovers(self, job: str, spent: int) -> "Charged":
        """With the reservations ended that dead processes left behind for a job.

        Args:
            job: the job.
            spent: the pages that its record counts as sent or lost by now.
        """
        charged = self
        for name, reserved in self.reserved.items():
            if reserved.job == job:
                charged = charged.settled(name, max(0, spent - reserved.before), 0)
        return charged


def read_charged(name: str, body: bytes) -> Charged:
    """A meter's record.

    Raises:
        SetupFault: it cannot be read; nothing may be sent.
    """
    try:
        return Charged.model_validate_json(body)
    except ValidationError as error:
        raise SetupFault(
            f"the budget {name} in the ledger cannot be read ({error.errors()[0]['msg']}), so nothing is "
            "sent: it was written by another version of this program, or edited; use that version, or move it away"
        ) from error


def micros(dollars: float | None) -> int | None:
    """Dollars as millionths of a dollar; None stays None."""
    return None if dollars is None else round(dollars * MICROS)


Change = Callable[[Charged], Charged | None]


@dataclass
class _Waiting:
    """A change that a thread waits for."""

    change: Change
    written: bool | None = None
    fault: Fault | None = None


class Budget:
    """One meter and its ceiling. Shared by all threads, and by all processes that spend by it.

    Args:
        pages: the ceiling in pages; None for none.
        name: the meter's name in the store.
        store: where it is kept.
        cost: the ceiling in millionths of a dollar; None for none.
        price: of a page, in millionths of a dollar.
        always: count although there is no ceiling; otherwise a meter without one costs no calls.
        label: whose it is, for people.
    """

    def __init__(
        self,
        pages: int | None,
        name: str = "",
        store: BudgetStore | None = None,
        *,
        cost: int | None = None,
        price: int = 0,
        always: bool = False,
        label: str = "this run",
    ) -> None:
        self.pages, self.cost = pages, cost
        self.name = name
        self.label = label
        self._price = price
        self._always = always
        self._store: BudgetStore = store or InMemory()
        self._lock = threading.Lock()  # one write at a time from this process: they would only lose to one another
        self._queue: list[_Waiting] = []
        self._later: list[Change] = []  # written together with the next reservation
        self._queued = threading.Lock()
        self.last = Charged()  # as last read or written

    @property
    def counts(self) -> bool:
        """Whether anything is written at all."""
        return self._always or self.pages is not None or self.cost is not None

    def reserve(self, job_id: str, pages: int, spent: int = 0) -> "Reservation | None":
        """Reserve pages for a job, or nothing at all.

        Args:
            job_id: the job.
            pages: how many.
            spent: the pages that its record counts as sent or lost so far. Reservations that a killed process left
                behind for the job are charged by that.

        Raises:
            Passes, SetupFault: the meter cannot be read or written; nothing may be sent.
        """
        name = uuid.uuid4().hex
        reserved = Reserved(job=job_id, pages=pages, before=spent, price=self._price)

        def take(charged: Charged) -> Charged:
            charged = charged.without_leftovers(job_id, spent)
            return charged.changed(reserved={**charged.reserved, name: reserved})

        return Reservation(self, name, reserved) if self._within_ceiling(take) else None

    def extend(self, name: str, reserved: Reserved) -> bool:
        """Enlarge a reservation. Returns whether there was room."""
        return self._within_ceiling(lambda charged: charged.changed(reserved={**charged.reserved, name: reserved}))

    def charge(self, pages: int, price: int | None = None) -> None:
        """Charge pages that turned out to be spent, or, with a negative number, not to be.

        Args:
            pages: how many.
            price: of a page when they were sent, in millionths of a dollar; the meter's own when left out.
        """
        if self.counts and pages:
            name = uuid.uuid4().hex[:16]
            self._write(lambda charged: charged.charged(name, pages, self._price if price is None else price))

    def settle(self, name: str, sent: int, lost: int) -> None:
        """End a reservation: charge what was sent and lost, and free the rest.

        Written with the next reservation, or by `close`: until then the whole reservation counts as spent.
        """
        self._soon(lambda charged: charged.settled(name, sent, lost))

    def taken_over(self, job_id: str, spent: int) -> None:
        """A job's worker died: what its reservation came to, the job's record tells. Written like `settle`."""
        self._soon(lambda charged: charged.without_leftovers(job_id, spent))

    def clear(self, spent_of: Callable[[str], int | None]) -> bool:
        """End the reservations, as of the last look, of jobs that nobody works on any more.

        A process that is killed after its job's record was written, and before the end of its reservation was, leaves
        one that nobody takes over: the job is done, failed, or waits for the API. Its record tells what was spent.

        Args:
            spent_of: the pages that a job's record counts as sent or lost; None where somebody may be sending them.

        Returns:
            Whether there were any. Written like `settle`.
        """
        cleared = False
        for name, reserved in self.last.reserved.items():  # those that are made from now on have other names
            if (spent := spent_of(reserved.job)) is not None:
                self.settle(name, max(0, spent - reserved.before), 0)
                cleared = True
        return cleared

    def close(self) -> None:
        """Write what is not written yet."""
        if self._later:
            self._write(lambda charged: charged)

    def fits(self, charged: Charged) -> bool:
        """Whether so much is within the ceiling."""
        pages, cost = self.pages, self.cost
        return (pages is None or charged.total <= pages) and (cost is None or charged.total_cost <= cost)

    def room(self) -> str:
        """What is left, in words, as of the last look."""
        parts = []
        if self.pages is not None:
            parts.append(f"{max(0, self.pages - self.last.total):,} of {self.pages:,} pages are left")
        if self.cost is not None:
            left = max(0, self.cost - self.last.total_cost) / MICROS
            parts.append(f"${left:,.2f} of ${self.cost / MICROS:,.2f} is left")
        return ", ".join(parts)

    @property
    def share(self) -> float:
        """How much of the ceiling is spent or reserved, as of the last look: 1.0 is all of it."""
        shares = [0.0]
        if self.pages is not None:
            shares.append(self.last.total / self.pages if self.pages else 1.0)
        if self.cost is not None:
            shares.append(self.last.total_cost / self.cost if self.cost else 1.0)
        return max(shares)

    def _soon(self, change: Change) -> None:
        if self.counts:
            with self._queued:
                self._later.append(change)

    def _within_ceiling(self, change: Callable[[Charged], Charged]) -> bool:
        if not self.counts:
            return True

        def checked(charged: Charged) -> Charged | None:
            changed = change(charged)
            return changed if self.fits(changed) else None

        return self._write(checked)

    def _write(self, change: Change) -> bool:
        """Apply a change to the record, together with those of other threads. False where it is refused."""
        waiting = _Waiting(change)
        with self._queued:
            self._queue.append(waiting)
        with self._lock:
            if waiting.written is None and waiting.fault is None:  # not done by the thread that had the lock before
                self._write_all()
        if waiting.fault is not None:
            raise waiting.fault
        return bool(waiting.written)

    def _write_all(self) -> None:
        with self._queued:
            batch, self._queue = self._queue, []
            later, self._later = self._later, []
        try:
            taken = self._written(batch, later)
        except BaseException as error:
            fault = (
                error if isinstance(error, Fault) else Passes(f"the budget {self.name} could not be written: {error}")
            )
            with self._queued:
                self._later = later + self._later
            for waiting in batch:
                waiting.fault = fault
            if fault is not error:
                raise
            return
        for waiting, written in zip(batch, taken, strict=True):
            waiting.written = written

    def _written(self, batch: list[_Waiting], later: list[Change]) -> list[bool]:
        """Write what is within the ceiling. Returns which of the changes were."""
        for _ in range(_ATTEMPTS):
            stored = self._store.read_budget(self.name)
            before = charged = Charged() if stored is None else read_charged(self.name, stored[0])
            for settled in later:
                charged = settled(charged) or charged
            taken = []
            for waiting in batch:
                changed = waiting.change(charged)
                taken.append(changed is not None)
                charged = charged if changed is None else changed
            self.last = charged
            if charged == before:
                return taken
            body = charged.model_dump_json().encode()
            if self._store.write_budget(self.name, body, None if stored is None else stored[1]):
                return taken
        raise Passes(f"other workers keep writing the budget {self.name}: nothing was sent")


class Reservation:
    """Pages that one job may send. Used as a context manager: at the end, what was not spent is free again."""

    def __init__(self, budget: Budget, name: str, reserved: Reserved) -> None:
        self._budget = budget
        self._name = name
        self._reserved = reserved
        self._sent = 0
        self._lost = 0

    def sent(self, pages: int) -> None:
        """Pages were accepted."""
        self._sent += pages

    def lost(self, pages: int) -> None:
        """Pages were posted whole, and may be paid for."""
        self._lost += pages

    def extend(self, pages: int) -> bool:
        """Reserve more, to send pages again. Returns whether there was room."""
        return self.resized(self._reserved.pages + pages)

    def resized(self, pages: int) -> bool:
        """Reserve another number of pages in all. Returns whether there was room."""
        changed = Reserved.model_validate({**dict(self._reserved), "pages": pages})
        if not self._budget.extend(self._name, changed):
            return False
        self._reserved = changed
        return True

    @property
    def pages(self) -> int:
        """How many pages are reserved."""
        return self._reserved.pages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._budget.settle(self._name, self._sent, self._lost)
