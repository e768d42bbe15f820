"""The cost of a job: every submission that is, or may be, on the vendor's bill."""

from dataclasses import dataclass, replace
from datetime import datetime

from tasks.job.record import Job

_DIGITS = 6  # of dollars: a page costs a fraction of a cent


@dataclass(frozen=True)
class Spend:
    """Pages that were posted together.

    Attributes:
        at: when they were posted.
        pages: the number of pages.
        accepted: whether the API accepted, and so bills, them. If not, no answer is on record and they may be billed.
        run: the run that posted them, if recorded.
        price_per_page: in dollars, if recorded.
        request: the API's id of the request, if there is one.
        possible_duplicates: how many of these submissions may be billed and were, or will be, repeated.
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
        """The cost in dollars; None if the record has no price."""
        return None if self.price_per_page is None else round(self.pages * self.price_per_page, _DIGITS)


@dataclass(frozen=True)
class Cost:
    """Costs in dollars; None if a record from before format 3 has no price.

    Attributes:
        accepted: for the pages that the API accepted.
        possible: for pages without an answer on record, in addition.
    """

    accepted: float | None
    possible: float | None


def spends(job: Job) -> list[Spend]:
    """Return every submission of a job; submissions without a request on record come last.

    Their possible duplicates add up to those of the job.
    """
    accepted = [
        Spend(
            request.submitted_at,
            # As it was charged: by the estimate, unless the API has counted the pages of this very request.
            len(request.pages) if request.pages else job.estimate or job.pages or 0,
            True,
            request.run,
            request.price_per_page,
            request.id,
            int(request.status == "resent"),
        )
        for request in job.requests
    ]
    accepted = _as_charged(job, accepted)
    # Accepted without a request on record: an incomplete synchronous answer, or pages found in the ledger.
    if (more := job.pages_sent - sum(spend.pages for spend in accepted)) > 0:
        at, run, price = (
            (accepted[-1].at, accepted[-1].run, accepted[-1].price_per_page) if accepted else _of_claim(job)
        )
        accepted.append(Spend(at, more, True, run, price))
    lost = [
        Spend(lost_pages.at, lost_pages.pages, False, lost_pages.run, lost_pages.price_per_page, possible_duplicates=1)
        for lost_pages in job.lost
    ]
    if (more := job.pages_lost - sum(spend.pages for spend in lost)) > 0:  # in a record from before format 3
        lost.append(Spend(job.claimed_at, more, False, job.flow_run, None))
    return _with_all_duplicates(job, accepted, lost)


def _as_charged(job: Job, accepted: list[Spend]) -> list[Spend]:
    """Correct requests that were lost before the API counted the pages, if the estimate has become that count since."""
    excess = sum(spend.pages for spend in accepted) - job.pages_sent
    charged = []
    for request, spend in zip(job.requests, accepted, strict=True):
        less = max(0, min(excess, spend.pages)) if request.pages is None else 0
        excess -= less
        charged.append(replace(spend, pages=spend.pages - less))
    return charged


def _with_all_duplicates(job: Job, accepted: list[Spend], lost: list[Spend]) -> list[Spend]:
    """Add the possible duplicates that no lost answer and no request status accounts for.

    They come from synchronous answers that may be incomplete, from requests accepted after another worker had taken the
    job over, and from records from before format 3.
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
    """Return the cost of a job so far."""
    all_spends = spends(job)
    return Cost(*(_sum([spend for spend in all_spends if spend.accepted is kind]) for kind in (True, False)))


def _sum(submissions: list[Spend]) -> float | None:
    costs = [spend.cost for spend in submissions]
    known = [amount for amount in costs if amount is not None]
    return None if len(known) < len(costs) else round(sum(known), _DIGITS)


def duplicates_text(possible_duplicates: int) -> str:
    """Describe possible duplicates, in the same words wherever they are shown."""
    noun = "submission" if possible_duplicates == 1 else "submissions"
    return f"{possible_duplicates:,} {noun} may be paid for twice"
