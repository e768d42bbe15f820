"""One meter: a ceiling on pages and money, reserved before every POST and shared by all processes through the store.

A meter belongs to a run, a backfill, a day or a month; its name in the store says which. Each document in progress
holds a reservation. When the reservation ends, the pages sent and lost are charged. If a killed process left one
behind, the job's record determines how many pages were spent. `tasks.budget.gate` combines several meters for one
POST.

Reservations are made per document, and those of all waiting threads are combined into one write: a meter is as precise
near its ceiling as far from it, and as fast as the store.

A document of unknown page count is reserved by an estimate, which the API's count corrects. Until then, the meter knows
by how many pages the count can exceed it, its excess. Something is admitted only if the ceiling would hold even though
all uncounted documents but one were as long as the API accepts. So the ceiling can be exceeded only by the excess of
one document.
"""

import threading
import uuid
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Protocol, Self

from tasks.budget.charged import MICROS, Charged, Reserved, read_charged
from tasks.faults import Fault, SetupFault, TransientFault

_ATTEMPTS = 100


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

    @property
    def has_ceiling(self) -> bool:
        """Whether there is a ceiling, in pages or money."""
        return self.pages is not None or self.cost is not None

    def reserve(self, job_id: str, pages: int, spent: int = 0, excess: int = 0) -> "Reservation | None":
        """Reserve pages for a job, all or none.

        Args:
            job_id: the job.
            pages: number of pages; of a document that only the API can count, an estimate.
            spent: pages that its record counts as sent or lost so far; it settles reservations that a killed process
                left behind for the job.
            excess: by how many pages the API's count can exceed an estimate at most.

        Returns:
            The reservation; None if the ceiling leaves no room for it.

        Raises:
            TransientFault, SetupFault: the meter cannot be read or written; nothing may be sent.
        """
        name = uuid.uuid4().hex
        reserved = Reserved(job=job_id, pages=pages, before=spent, price=self._price)
        excess = excess if self.has_ceiling else 0

        def take(charged: Charged) -> Charged:
            if name in charged.reserved:  # written before, though the answer to that write was lost
                return charged
            settled = charged.without_leftovers(job_id, spent, unsent_too=True)
            return settled.with_reservation(name, reserved, excess)

        return Reservation(self, name, reserved, excess) if self._within_ceiling(take) else None

    def awaits_counts(self, pages: int) -> int:
        """Return how many uncounted documents, as last read, stand in the way of pages that would fit without them.

        Args:
            pages: number of pages.

        Returns:
            The number of documents, at least 1: the one in the way may have been counted since the pages were refused;
            0 if the pages do not fit in any case.
        """
        total, cost = self.last.total + pages, self.last.total_cost + pages * self._price
        if (self.pages is not None and total > self.pages) or (self.cost is not None and cost > self.cost):
            return 0
        return max(1, self.last.uncounted_documents)

    def extend(self, name: str, reserved: Reserved, excess: int = 0) -> bool:
        """Enlarge a reservation. Returns whether there was room."""
        return self._within_ceiling(lambda charged: charged.with_reservation(name, reserved, excess))

    def charge(self, pages: int, price: int | None = None, name: str | None = None, counted: str | None = None) -> None:
        """Correct the meter: more pages were spent than reserved, or fewer (a negative number).

        Args:
            pages: how many.
            price: of a page when they were sent, in millionths of a dollar; the meter's own when left out.
            name: the charge's own, for one that may be made again: it is applied once. A fresh one when left out.
            counted: the job whose pages are counted with this; None while other charges for it follow.
        """
        if counted is not None and not pages:
            self._soon(lambda charged: charged.counted(counted))
        if self.counts and pages:
            name = name or uuid.uuid4().hex[:16]
            price = self._price if price is None else price

            def correct(charged: Charged) -> Charged:
                corrected = charged.charged(name, pages, price)
                return corrected if counted is None else corrected.counted(counted)

            self._write(correct)

    def settle(self, name: str, sent: int, lost: int, *, counted: bool = False) -> None:
        """End a reservation: charge the pages sent and lost, and release the rest.

        Written with the next reservation or by `close`. Until then, the whole reservation counts as spent.

        Args:
            name: the reservation's name.
            sent: pages in accepted submissions.
            lost: pages in submissions without an answer.
            counted: whether the pages sent are counted, not estimated.
        """
        self._soon(lambda charged: charged.settled(name, sent, lost, counted=counted))

    def taken_over(self, job_id: str, spent: int) -> None:
        """Settle the reservation of a worker that died, according to the job's record. Written like `settle`.

        One of which nothing was sent stays until the job's pages are sent, or until a ceiling is reached: by the time
        this is written, another process may have reserved them.
        """
        self._soon(lambda charged: charged.without_leftovers(job_id, spent, unsent_too=False))

    def clear(self, spent_of: Callable[[str], int | None], is_counted: Callable[[str], bool] = lambda _: False) -> bool:
        """Settle the reservations, as last read, of jobs that nobody is working on any more; await no needless counts.

        A process killed between writing its job's record and settling its reservation leaves a reservation that nobody
        takes over: the job is done, failed, or waiting for the API. Its record says how many pages were spent, and
        whether they are counted. Written like `settle`.

        Args:
            spent_of: returns the pages that a job's record counts as sent or lost; None if a worker may be sending
                them.
            is_counted: tells whether the API's count cannot add to a job's pages any more, according to its record.

        Returns:
            Whether there were any.
        """
        last, ended = self.last, set[str]()
        for name, reserved in last.reserved.items():  # later reservations have other names
            if (spent := spent_of(reserved.job)) is not None:
                self.settle(name, max(0, spent - reserved.before), 0)
                ended.add(name)
        unsettled = last.reserved.keys() - ended
        awaited = {name: each.job for name, each in last.uncounted.items() if name not in unsettled}
        jobs = {job for job in set(awaited.values()) if is_counted(job)}
        counted = [name for name, job in awaited.items() if job in jobs]
        if counted:
            self._soon(lambda charged: charged.without_uncounted(counted))
        return bool(ended or counted)

    def close(self) -> None:
        """Write pending changes."""
        if self._later:
            self._write(lambda charged: charged)

    def fits(self, charged: Charged) -> bool:
        """Whether the record is within the ceiling, even if all uncounted documents but one are as long as can be."""
        pages, cost = self.pages, self.cost
        return (pages is None or charged.total + charged.excess <= pages) and (
            cost is None or charged.total_cost + charged.excess_cost <= cost
        )

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
            # A copy for each thread: every one attaches the cost of its own document to a fault that ends the run.
            raise copy(waiting.fault) from waiting.fault
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

    def __init__(self, budget: Budget, name: str, reserved: Reserved, excess: int = 0) -> None:
        self._budget = budget
        self._name = name
        self._reserved = reserved
        self._excess = excess
        self._sent = 0
        self._lost = 0
        self._counted = False

    def sent(self, pages: int) -> None:
        """Note that pages were accepted."""
        self._sent += pages

    def lost(self, pages: int) -> None:
        """Note that pages were fully sent without an answer: they may be billed."""
        self._lost += pages

    def counted(self) -> None:
        """Note that the pages sent are counted, not estimated."""
        self._counted = True

    def extend(self, pages: int) -> bool:
        """Reserve more pages, to send some again. Returns whether there was room."""
        return self.resized(self._reserved.pages + pages)

    def resized(self, pages: int) -> bool:
        """Change the total number of reserved pages. Returns whether there was room."""
        changed = Reserved.model_validate({**dict(self._reserved), "pages": pages})
        if not self._budget.extend(self._name, changed, self._excess):
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
        self._budget.settle(self._name, self._sent, self._lost, counted=self._counted)
