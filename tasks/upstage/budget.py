"""The pages a run may send: reserved before every POST, and kept where a run that is started again finds them.

A budget belongs to a flow run, by its id: suspended, resumed, retried or spread over processes, the run goes on with
what is left. Each document under way holds a reservation. When it ends, what was sent and lost is charged; of one that
a killed process left behind, the job's own record tells what it came to.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.faults import Passes, SetupFault

_ATTEMPTS = 100


class BudgetStore(Protocol):
    """Where budgets are kept, with conditional writes."""

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """A budget with its ETag; None when nothing was charged yet."""

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a budget over nothing, or over the version read. False when another was first."""


class InMemory:
    """Keeps budgets in this process: for runs that no other process shares, and that no other continues."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[bytes, str]] = {}

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """A budget with its ETag; None when nothing was charged yet."""
        return self._written.get(name)

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a budget over nothing, or over the version read. False when another was first."""
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    pages: int
    before: int


class Charged(BaseModel):
    """The record under `_jobs/budgets/`: what one run has spent, and what it may be spending at this moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    sent: int = Field(0, description="pages in accepted submissions")
    lost: int = Field(0, ge=0, description="pages in submissions whose answer was lost: they may be paid for")
    reserved: Mapping[str, Reserved] = Field({}, description="by the reservation's name: pages about to be sent")

    @property
    def total(self) -> int:
        """All that is spent, or may be."""
        return self.sent + self.lost + sum(reserved.pages for reserved in self.reserved.values())

    def changed(self, **changes: object) -> "Charged":
        """The same with other values, which are checked."""
        return self.model_validate({**dict(self), **changes})

    def settled(self, name: str, sent: int, lost: int) -> "Charged":
        """With a reservation ended. One that is gone was charged by whoever took its job over."""
        if name not in self.reserved:
            return self
        left = {key: reserved for key, reserved in self.reserved.items() if key != name}
        return self.changed(sent=self.sent + sent, lost=self.lost + lost, reserved=left)

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


class Budget:
    """The pages that may still be sent in a run. Shared by all threads, and by all processes that serve the run.

    Args:
        pages: the ceiling; None for none, which costs no calls.
        name: the budget's name in the store.
        store: where it is kept.
    """

    def __init__(self, pages: int | None, name: str = "", store: BudgetStore | None = None) -> None:
        self._ceiling = pages
        self._name = name
        self._store: BudgetStore = store or InMemory()
        self._lock = threading.Lock()  # one write at a time from this process: they would only lose to one another
        self._waiting: list[Callable[[Charged], Charged]] = []  # written together with the next reservation

    def reserve(self, job_id: str, pages: int, spent: int = 0) -> "Reservation | None":
        """Reserve pages for a job, or nothing at all.

        Args:
            job_id: the job.
            pages: how many.
            spent: the pages that its record counts as sent or lost so far. Reservations that a killed process left
                behind for the job are charged by that.

        Raises:
            Passes, SetupFault: the budget cannot be read or written; nothing may be sent.
        """
        name = uuid.uuid4().hex
        reserved = Reserved(job=job_id, pages=pages, before=spent)

        def take(charged: Charged) -> Charged:
            charged = charged.without_leftovers(job_id, spent)
            return charged.changed(reserved={**charged.reserved, name: reserved})

        return Reservation(self, name, reserved) if self._within_ceiling(take) else None

    def extend(self, name: str, reserved: Reserved) -> bool:
        """Enlarge a reservation. Returns whether there was room."""
        return self._within_ceiling(lambda charged: charged.changed(reserved={**charged.reserved, name: reserved}))

    def charge(self, pages: int) -> None:
        """Charge pages that turned out to be spent, or, with a negative number, not to be."""
        if self._ceiling is not None and pages:
            self._write(lambda charged: charged.changed(sent=charged.sent + pages))

    def settle(self, name: str, sent: int, lost: int) -> None:
        """End a reservation: charge what was sent and lost, and free the rest.

        Written with the next reservation, or by `close`: until then the whole reservation counts as spent.
        """
        self._later(lambda charged: charged.settled(name, sent, lost))

    def taken_over(self, job_id: str, spent: int) -> None:
        """A job's worker died: what its reservation came to, the job's record tells. Written like `settle`."""
        self._later(lambda charged: charged.without_leftovers(job_id, spent))

    def close(self) -> None:
        """Write what is not written yet."""
        if self._waiting:
            self._write(lambda charged: charged)

    def _later(self, change: Callable[[Charged], Charged]) -> None:
        if self._ceiling is not None:
            with self._lock:
                self._waiting.append(change)

    def _within_ceiling(self, change: Callable[[Charged], Charged]) -> bool:
        ceiling = self._ceiling
        if ceiling is None:
            return True

        def checked(charged: Charged) -> Charged | None:
            changed = change(charged)
            return changed if changed.total <= ceiling else None

        return self._write(checked)

    def _write(self, change: Callable[[Charged], Charged | None]) -> bool:
        """Apply a change to the record, after those that wait for it. False where it is refused."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                stored = self._store.read_budget(self._name)
                charged = Charged() if stored is None else self._parsed(stored[0])
                for waiting in self._waiting:
                    charged = waiting(charged)
                changed = change(charged)
                if changed is None and not self._waiting:
                    return False
                body = (charged if changed is None else changed).model_dump_json().encode()
                if self._store.write_budget(self._name, body, None if stored is None else stored[1]):
                    self._waiting.clear()
                    return changed is not None
        raise Passes(f"others keep writing the budget {self._name}: nothing was sent")

    def _parsed(self, body: bytes) -> Charged:
        try:
            return Charged.model_validate_json(body)
        except ValidationError as error:
            raise SetupFault(
                f"the budget {self._name} in the ledger cannot be read ({error.errors()[0]['msg']}), so nothing is "
                "sent: it is of another version of this program, or was edited; use that version, or move it away"
            ) from error


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
        larger = Reserved(job=self._reserved.job, pages=self._reserved.pages + pages, before=self._reserved.before)
        if not self._budget.extend(self._name, larger):
            return False
        self._reserved = larger
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._budget.settle(self._name, self._sent, self._lost)
