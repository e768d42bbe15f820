"""One meter: a ceiling on pages and money, reserved before every POST and shared by all processes through the store.

A meter belongs to a run, a backfill, a day or a month; its name in the store says which. Each document in progress
holds a reservation. When the reservation ends, the pages sent and lost are charged. If a killed process left one
behind, the job's record determines how many pages were spent. `tasks.budget.gate` combines several meters for one
POST.

Reservations are made per document, and those of all waiting threads are combined into one write: a meter is as precise
near its ceiling as far from it, and as fast as the store.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.faults import Fault, SetupFault, TransientFault

_ATTEMPTS = 100
_CHARGES_KEPT = 64
_ENDS_KEPT = 64
MICROS = 1_000_000
"""Money is counted in millionths of a dollar: whole numbers, whose sums do not drift."""


class BudgetStore(Protocol):
    """Where meters are kept, with conditional writes."""

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """Read a meter with its ETag; None if nothing has been charged yet."""

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Create a meter (`etag` is None), or replace the version read. Returns False if another writer was first."""


class InMemory:
    """Keeps meters in this process: for runs that no other process joins or continues."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[bytes, str]] = {}

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """Read a meter with its ETag; None if nothing has been charged yet."""
        return self._written.get(name)

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Create a meter (`etag` is None), or replace the version read. Returns False if another writer was first."""
        current = self._written.get(name)
        if (current[1] if current else None) != etag:
            return False
        self._written[name] = (body, str(int(etag or 0) + 1))
        return True


class Reserved(BaseModel):
    """Pages that one process may send for one job.

    Attributes:
        job: the job.
        pages: number of pages.
        before: pages that the job's record counted as sent or lost when this was reserved.
        price: price per page in millionths of a dollar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    pages: int
    before: int
    price: int = 0


class EndedByAnother(BaseModel):
    """What was charged for a reservation when another process ended it, which took its owner for dead.

    Attributes:
        pages: how many were charged; fewer than were reserved.
        price: of a page, in millionths of a dollar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int
    price: int


class Charged(BaseModel):
    """The record under `_jobs/budgets/`: what has been spent, and what is reserved at the moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2, 3, 4] = 4
    sent: int = Field(0, description="pages in accepted submissions")
    lost: int = Field(0, ge=0, description="pages in submissions without an answer on record: they may be billed")
    cost: int = Field(0, description="of both, in millionths of a dollar")
    reserved: Mapping[str, Reserved] = Field({}, description="by the reservation's name: pages about to be sent")
    charges: tuple[str, ...] = Field((), description=f"the names of the last {_CHARGES_KEPT} charges")
    ended: Mapping[str, EndedByAnother] = Field(
        {}, description=f"by name: the last {_ENDS_KEPT} reservations that others ended, and whose owners may yet live"
    )

    @property
    def total(self) -> int:
        """All pages spent or reserved."""
        return self.sent + self.lost + sum(reserved.pages for reserved in self.reserved.values())

    @property
    def total_cost(self) -> int:
        """All money spent or reserved, in millionths of a dollar."""
        return self.cost + sum(reserved.pages * reserved.price for reserved in self.reserved.values())

    def changed(self, **changes: object) -> "Charged":
        """Return a validated copy with some values replaced."""
        return self.model_validate({**dict(self), "format": 4, **changes})

    def charged(self, name: str, pages: int, price: int) -> "Charged":
        """Return a copy with a correction: more pages were spent than reserved, or fewer (a negative number).

        A charge is applied once: its name is recorded, so that a write whose answer was lost is recognised even if
        another process has written the meter since.

        Args:
            name: unique name of the charge.
            pages: number of pages.
            price: price per page in millionths of a dollar.
        """
        if name in self.charges:
            return self
        charges = (*self.charges, name)[-_CHARGES_KEPT:]
        return self.changed(sent=self.sent + pages, cost=self.cost + pages * price, charges=charges)

    def with_reservation(self, name: str, reserved: Reserved) -> "Charged":
        """With a reservation made or changed; one that another process has ended is made anew."""
        ended = {key: end for key, end in self.ended.items() if key != name}
        return self.changed(reserved={**self.reserved, name: reserved}, ended=ended)

    def settled(self, name: str, sent: int, lost: int) -> "Charged":
        """Return a copy with a reservation ended by its owner.

        If it is gone, the job's new owner charged what the job's record held at that time; the rest is charged now.
        """
        if name not in self.reserved:
            return self._settled_late(name, sent + lost)
        left = {key: reserved for key, reserved in self.reserved.items() if key != name}
        cost = self.cost + (sent + lost) * self.reserved[name].price
        return self.changed(sent=self.sent + sent, lost=self.lost + lost, cost=cost, reserved=left)

    def _settled_late(self, name: str, pages: int) -> "Charged":
        if name not in self.ended:
            return self
        known, more = self.ended[name], max(0, pages - self.ended[name].pages)
        left = {key: ended for key, ended in self.ended.items() if key != name}
        return self.changed(sent=self.sent + more, cost=self.cost + more * known.price, ended=left)

    def without_leftovers(self, job: str, spent: int, *, unsent_too: bool) -> "Charged":
        """Return a copy in which the reservations that dead processes left behind for a job are settled.

        Args:
            job: the job.
            spent: the pages that its record counts as sent or lost by now.
            unsent_too: whether those of which the record shows nothing sent are ended as well. That record may be older
                than a reservation of somebody who is sending at this moment.
        """
        charged = self
        for name, reserved in self.reserved.items():
            pages = max(0, spent - reserved.before)
            if reserved.job != job or not (pages or unsent_too):
                continue
            charged = charged.settled(name, pages, 0)
            if pages < reserved.pages:
                ended = {**charged.ended, name: EndedByAnother(pages=pages, price=reserved.price)}
                charged = charged.changed(ended=dict(list(ended.items())[-_ENDS_KEPT:]))
        return charged


def read_charged(name: str, body: bytes) -> Charged:
    """Parse a meter's record.

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


MeterChange = Callable[[Charged], Charged | None]


@dataclass
class _Waiting:
    """A change of the record that a thread is waiting for."""

    change: MeterChange
    written: bool | None = None
    fault: Fault | None = None


class Budget:
    """One meter and its ceiling. Shared by all threads and processes that spend from it.

    Args:
        pages: the ceiling in pages; None for no ceiling.
        name: the meter's name in the store.
        store: where the meter is kept; in memory by default.
        cost: the ceiling in millionths of a dollar; None for no ceiling.
        price: price per page in millionths of a dollar.
        always: count even without a ceiling. By default, a meter without a ceiling makes no calls.
        label: what the meter belongs to, for messages.
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
        self._lock = threading.Lock()  # one write at a time: concurrent ones from this process would conflict
        self._queue: list[_Waiting] = []
        self._later: list[MeterChange] = []  # written together with the next reservation
        self._queued = threading.Lock()
        self.last = Charged()  # as last read or written
        self._known = False  # whether it was there at the last look

    @property
    def counts(self) -> bool:
        """Whether the meter is kept at all."""
        return self._always or self.pages is not None or self.cost is not None

    def reserve(self, job_id: str, pages: int, spent: int = 0) -> "Reservation | None":
        """Reserve pages for a job, all or none.

        Args:
            job_id: the job.
            pages: number of pages.
            spent: pages that its record counts as sent or lost so far; it settles reservations that a killed process
                left behind for the job.

        Returns:
            The reservation; None if the ceiling leaves no room for it.

        Raises:
            TransientFault, SetupFault: the meter cannot be read or written; nothing may be sent.
        """
        name = uuid.uuid4().hex
        reserved = Reserved(job=job_id, pages=pages, before=spent, price=self._price)

        def take(charged: Charged) -> Charged:
            if name in charged.reserved:  # written before, though the answer to that write was lost
                return charged
            return charged.without_leftovers(job_id, spent, unsent_too=True).with_reservation(name, reserved)

        return Reservation(self, name, reserved) if self._within_ceiling(take) else None

    def extend(self, name: str, reserved: Reserved) -> bool:
        """Enlarge a reservation. Returns whether there was room."""
        return self._within_ceiling(lambda charged: charged.with_reservation(name, reserved))

    def charge(self, pages: int, price: int | None = None, name: str | None = None) -> None:
        """Correct the meter: more pages were spent than reserved, or fewer (a negative number).

        Args:
            pages: how many.
            price: of a page when they were sent, in millionths of a dollar; the meter's own when left out.
            name: the charge's own, for one that may be made again: it is applied once. A fresh one when left out.
        """
        if self.counts and pages:
            name = name or uuid.uuid4().hex[:16]
            self._write(lambda charged: charged.charged(name, pages, self._price if price is None else price))

    def settle(self, name: str, sent: int, lost: int) -> None:
        """End a reservation: charge the pages sent and lost, and release the rest.

        Written with the next reservation or by `close`. Until then, the whole reservation counts as spent.
        """
        self._soon(lambda charged: charged.settled(name, sent, lost))

    def taken_over(self, job_id: str, spent: int) -> None:
        """Settle the reservation of a worker that died, according to the job's record. Written like `settle`.

        One of which nothing was sent stays until the job's pages are sent, or until a ceiling is reached: by the time
        this is written, another process may have reserved them.
        """
        self._soon(lambda charged: charged.without_leftovers(job_id, spent, unsent_too=False))

    def clear(self, spent_of: Callable[[str], int | None]) -> bool:
        """Settle the reservations, as last read, of jobs that nobody is working on any more.

        A process killed between writing its job's record and settling its reservation leaves a reservation that nobody
        takes over: the job is done, failed, or waiting for the API. Its record says how many pages were spent.
        Written like `settle`.

        Args:
            spent_of: returns the pages that a job's record counts as sent or lost; None if a worker may be sending
                them.

        Returns:
            Whether there were any.
        """
        cleared = False
        for name, reserved in self.last.reserved.items():  # later reservations have other names
            if (spent := spent_of(reserved.job)) is not None:
                self.settle(name, max(0, spent - reserved.before), 0)
                cleared = True
        return cleared

    def close(self) -> None:
        """Write pending changes."""
        if self._later:
            self._write(lambda charged: charged)

    def fits(self, charged: Charged) -> bool:
        """Whether the record is within the ceiling."""
        pages, cost = self.pages, self.cost
        return (pages is None or charged.total <= pages) and (cost is None or charged.total_cost <= cost)

    def room(self) -> str:
        """Describe what is left, as last read."""
        parts = []
        if self.pages is not None:
            parts.append(f"{max(0, self.pages - self.last.total):,} of {self.pages:,} pages are left")
        if self.cost is not None:
            left = max(0, self.cost - self.last.total_cost) / MICROS
            parts.append(f"${left:,.2f} of ${self.cost / MICROS:,.2f} is left")
        return ", ".join(parts)

    @property
    def share(self) -> float:
        """The share of the ceiling that is spent or reserved, as last read: 1.0 is all of it."""
        shares = [0.0]
        if self.pages is not None:
            shares.append(self.last.total / self.pages if self.pages else 1.0)
        if self.cost is not None:
            shares.append(self.last.total_cost / self.cost if self.cost else 1.0)
        return max(shares)

    def _soon(self, change: MeterChange) -> None:
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

    def _write(self, change: MeterChange) -> bool:
        """Apply a change to the record, together with those of other threads. Returns False if it was refused."""
        waiting = _Waiting(change)
        with self._queued:
            self._queue.append(waiting)
        with self._lock:
            if waiting.written is None and waiting.fault is None:  # the previous holder of the lock did not write it
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
                error
                if isinstance(error, Fault)
                else TransientFault(f"the budget {self.name} could not be written: {error}")
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

    def _written(self, batch: list[_Waiting], later: list[MeterChange]) -> list[bool]:
        """Write the changes that are within the ceiling. Returns which ones were, in the order of `batch`."""
        for _ in range(_ATTEMPTS):
            stored = self._store.read_budget(self.name)
            if stored is None and self._known:
                raise SetupFault(
                    f"the budget {self.name} has vanished from the ledger while it was in use, so nothing more is "
                    "sent: put it back, or start again to count from nothing"
                )
            self._known = stored is not None
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
                self._known = True
                return taken
        raise TransientFault(f"other workers keep writing the budget {self.name}: nothing was sent")


class Reservation:
    """Pages that one job may send. Used as a context manager: pages not spent are released at the end."""

    def __init__(self, budget: Budget, name: str, reserved: Reserved) -> None:
        self._budget = budget
        self._name = name
        self._reserved = reserved
        self._sent = 0
        self._lost = 0

    def sent(self, pages: int) -> None:
        """Note that pages were accepted."""
        self._sent += pages

    def lost(self, pages: int) -> None:
        """Note that pages were fully sent without an answer: they may be billed."""
        self._lost += pages

    def extend(self, pages: int) -> bool:
        """Reserve more pages, to send some again. Returns whether there was room."""
        return self.resized(self._reserved.pages + pages)

    def resized(self, pages: int) -> bool:
        """Change the total number of reserved pages. Returns whether there was room."""
        changed = Reserved.model_validate({**dict(self._reserved), "pages": pages})
        if not self._budget.extend(self._name, changed):
            return False
        self._reserved = changed
        return True

    @property
    def pages(self) -> int:
        """The number of reserved pages."""
        return self._reserved.pages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._budget.settle(self._name, self._sent, self._lost)
