"""What a job has cost: every submission that is, or may be, on the vendor's bill."""

from dataclasses import dataclass, replace
from datetime import datetime

from tasks.job.record import Job

_DIGITS = 6  # of dollars: a page costs a fraction of a cent


@dataclass(frozen=True)
class Spend:
    """Pages that were posted at one moment.

    Attributes:
        at: when.
        pages: how many.
        accepted: whether the API took them, and so bills them; else no answer is on record, and they may be billed.
        run: the run that posted them, where the record says.
        price_per_page: in dollars, where the record says.
        request: the API's id of the request, where there is one.
        possible_duplicates: the submissions among them that may be paid for, and were or will be made again.
    """

    at: datetime
    pages: int
    accepted: bool
    run: str | None
    price_per_page: float | None
    request: str | None = None
    possible_duplicates: int = 0

    @property
    def cost(self) -> float | None:
        """Dollars; None where the record knows no price."""
        return None if self.price_per_page is None else round(self.pages * self.price_per_page, _DIGITS)


@dataclass(frozen=True)
class Cost:
    """Dollars. None where a record from before format 3 knows no price.

    Attributes:
        accepted: for the pages that the API accepted.
        possible: for those without an answer on record, on top of that.
    """

    accepted: float | None
    possible: float | None


def spends(job: Job) -> list[Spend]:
    """Every submission of a job, those that are not known by a request last.

    Their possible duplicates add up to the job's.
    """
    accepted = [
        Spend(
            request.submitted_at,
            len(request.pages) if request.pages else job.pages or job.estimate,
            True,
            request.run,
            request.price_per_page,
            request.id,
            int(request.status == "resent"),
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
        Spend(lost_pages.at, lost_pages.pages, False, lost_pages.run, lost_pages.price_per_page, possible_duplicates=1)
        for lost_pages in job.lost
    ]
    if (more := job.pages_lost - sum(spend.pages for spend in lost)) > 0:  # of a record from before format 3
        lost.append(Spend(job.claimed_at, more, False, job.flow_run, None))
    return _with_all_duplicates(job, accepted, lost)


def _with_all_duplicates(job: Job, accepted: list[Spend], lost: list[Spend]) -> list[Spend]:
    """The submissions with the possible duplicates that neither a lost answer nor a request's status tells of.

    These are synchronous answers that may be incomplete, requests accepted after another worker had taken the job over,
    and whatever records from before format 3 counted.
    """
    more = job.possible_duplicates - sum(spend.possible_duplicates for spend in accepted + lost)
    if more <= 0:
        return accepted + lost
    old = lost and lost[-1].possible_duplicates == 0
    group = lost if old else accepted or lost
    if not group:
        group.append(Spend(job.claimed_at, 0, False, job.flow_run, None))
    group[-1] = replace(group[-1], possible_duplicates=group[-1].possible_duplicates + more)
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


def duplicates_text(possible_duplicates: int) -> str:
    """Possible duplicates in words: the same wherever they are shown."""
    noun = "submission" if possible_duplicates == 1 else "submissions"
    return f"{possible_duplicates:,} {noun} may be paid for twice"
