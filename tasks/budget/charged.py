"""The record of a meter: what has been spent, what is reserved, and which submissions the API has yet to count."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.faults import SetupFault

_CHARGES_KEPT = 64
_ENDS_KEPT = 64
MICROS = 1_000_000
"""Money is counted in millionths of a dollar: whole numbers, whose sums do not drift."""


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


class Uncounted(BaseModel):
    """A submission about to be sent, or sent, whose pages only the API can count, and has not counted yet.

    Attributes:
        job: the job.
        excess: by how many pages the count can exceed the estimate at most.
        price: price per page in millionths of a dollar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    excess: int
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

    format: Literal[1, 2, 3, 4, 5] = 5
    sent: int = Field(0, description="pages in accepted submissions")
    lost: int = Field(0, ge=0, description="pages in submissions without an answer on record: they may be billed")
    cost: int = Field(0, description="of both, in millionths of a dollar")
    reserved: Mapping[str, Reserved] = Field({}, description="by the reservation's name: pages about to be sent")
    charges: tuple[str, ...] = Field((), description=f"the names of the last {_CHARGES_KEPT} charges")
    ended: Mapping[str, EndedByAnother] = Field(
        {}, description=f"by name: the last {_ENDS_KEPT} reservations that others ended, and whose owners may yet live"
    )
    uncounted: Mapping[str, Uncounted] = Field(
        {}, description="by the reservation's name: submissions whose pages the API has not counted; at a ceiling only"
    )

    @property
    def total(self) -> int:
        """All pages spent or reserved."""
        return self.sent + self.lost + sum(reserved.pages for reserved in self.reserved.values())

    @property
    def total_cost(self) -> int:
        """All money spent or reserved, in millionths of a dollar."""
        return self.cost + sum(reserved.pages * reserved.price for reserved in self.reserved.values())

    @property
    def excess(self) -> int:
        """Pages that uncounted documents may add to the total, all but the one that may add most."""
        return _all_but_the_largest((each.job, each.excess) for each in self.uncounted.values())

    @property
    def excess_cost(self) -> int:
        """Money that uncounted documents may add, all but the one that may add most; in millionths of a dollar."""
        return _all_but_the_largest((each.job, each.excess * each.price) for each in self.uncounted.values())

    @property
    def uncounted_documents(self) -> int:
        """The number of documents that the API has not counted yet."""
        return len({uncounted.job for uncounted in self.uncounted.values()})

    def changed(self, **changes: object) -> "Charged":
        """Return a validated copy with some values replaced."""
        return self.model_validate({**dict(self), "format": 5, **changes})

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

    def with_reservation(self, name: str, reserved: Reserved, excess: int = 0) -> "Charged":
        """With a reservation made or changed; one that another process has ended is made anew.

        Args:
            name: the reservation's name.
            reserved: the reservation.
            excess: by how many pages the API's count can exceed it at most.
        """
        changes: dict[str, object] = {"reserved": {**self.reserved, name: reserved}}
        if name in self.ended:
            changes["ended"] = {key: end for key, end in self.ended.items() if key != name}
        if excess:
            uncounted = Uncounted(job=reserved.job, excess=excess, price=reserved.price)
            changes["uncounted"] = {**self.uncounted, name: uncounted}
        return self.changed(**changes)

    def settled(self, name: str, sent: int, lost: int, *, counted: bool = False) -> "Charged":
        """Return a copy with a reservation ended by its owner.

        If it is gone, the job's new owner charged what the job's record held at that time; the rest is charged now.
        Unless the pages sent are counted, the API's count may still add to them.
        """
        known = self if sent and not counted else self.without_uncounted((name,))
        if name not in known.reserved:
            return known._settled_late(name, sent + lost)
        left = {key: reserved for key, reserved in known.reserved.items() if key != name}
        cost = known.cost + (sent + lost) * known.reserved[name].price
        return known.changed(sent=known.sent + sent, lost=known.lost + lost, cost=cost, reserved=left)

    def without_uncounted(self, names: Container[str]) -> "Charged":
        """Return a copy in which no count of these submissions is awaited any more."""
        left = {name: uncounted for name, uncounted in self.uncounted.items() if name not in names}
        return self if len(left) == len(self.uncounted) else self.changed(uncounted=left)

    def counted(self, job: str) -> "Charged":
        """Return a copy in which the pages of a job are counted."""
        return self.without_uncounted([name for name, uncounted in self.uncounted.items() if uncounted.job == job])

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


def _all_but_the_largest(amounts: Iterable[tuple[str, int]]) -> int:
    """Add up the amounts of all jobs but the one with the largest sum."""
    by_job = Counter[str]()
    for job, amount in amounts:
        by_job[job] += amount
    return sum(by_job.values()) - max(by_job.values(), default=0)


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
