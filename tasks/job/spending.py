"""What a job has cost: every submission that is, or may be, on the vendor's bill."""

from dataclasses import dataclass
from datetime import datetime

from tasks.job.record import Job

_DIGITS = 6  # of dollars: a page costs a fraction of a cent


@dataclass(frozen=True)
class Spend:
    """Pages that were posted at one moment.

    Attributes:
        at: when.
        pages: how many.
        accepted: whether the API took them, and so bills them; else the answer was lost, and they may be billed.
        run: the run that posted them, where the record says.
        price_per_page: in dollars, where the record says.
        request: the API's id of the request, where there is one.
    """

    at: datetime
    pages: int
    accepted: bool
    run: str | None
    price_per_page: float | None
    request: str | None = None

    @property
    def cost(self) -> float | None:
        """Dollars; None where the record knows no price."""
        return None if self.price_per_page is None else round(self.pages * self.price_per_page, _DIGITS)


@dataclass(frozen=True)
class Cost:
    """Dollars. None where a record from before format 3 knows no price.

    Attributes:
        accepted: for the pages that the API accepted.
        possible: for those whose answer was lost, on top of that.
    """

    accepted: float | None
    possible: float | None


def spends(job: Job) -> list[Spend]:
    """Every submission of a job, those that are not known by a request last."""
    accepted = [
        Spend(
            request.submitted_at,
            len(request.pages) if request.pages else job.pages or job.estimate,
            True,
            request.run,
            request.price_per_page,
            request.id,
        )
        for request in job.requests
    ]
    # Accepted without a request on record: a synchronous answer that proved nothing, pages found in the ledger.
    if (more := job.pages_sent - sum(spend.pages for spend in accepted)) > 0:
        at, run, price = (
            (accepted[-1].at, accepted[-1].run, accepted[-1].price_per_page) if accepted else _of_claim(job)
        )
        accepted.append(Spend(at, more, True, run, price))
    lost = [
        Spend(lost_pages.at, lost_pages.pages, False, lost_pages.run, lost_pages.price_per_page)
        for lost_pages in job.lost
    ]
    if (more := job.pages_lost - sum(spend.pages for spend in lost)) > 0:  # of a record from before format 3
        lost.append(Spend(job.claimed_at, more, False, job.flow_run, None))
    return accepted + lost


def _of_claim(job: Job) -> tuple[datetime, str | None, float | None]:
    price = job.lost[-1].price_per_page if job.lost else None
    return job.claimed_at, job.flow_run, price


def cost(job: Job) -> Cost:
    """What a job has cost so far."""
    all_spends = spends(job)
    return Cost(*(_sum([spend for spend in all_spends if spend.accepted is kind]) for kind in (True, False)))


def _sum(found: list[Spend]) -> float | None:
    costs = [spend.cost for spend in found]
    known = [amount for amount in costs if amount is not None]
    return None if len(known) < len(costs) else round(sum(known), _DIGITS)
