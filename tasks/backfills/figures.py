"""The figures of a backfill: one model for the progress of `run`, for `watch`, for the Prefect UI and for reports.

All of them come from the ledger: the states of the jobs from listings, pages and times from the jobs' records, money
from the backfill's meter. They say the same whoever asks, and whoever does the work.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from pydantic import BaseModel, Field

from tasks.backfills.record import Backfill, PartitionPlan
from tasks.job.record import Confidence
from tasks.upstage.budget import MICROS, Charged

_WINDOW = timedelta(minutes=10)
_MOST_MINUTES = 720
_LISTED = 100
_SHORTEST_WINDOW = timedelta(seconds=5)


@dataclass(frozen=True)
class DoneFigures:
    """What the figures need to know of a finished document."""

    partition: str
    document: str
    pages: int
    spent: int
    seconds: float
    finished_at: datetime
    at_api: float | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True)
class FailedFigures:
    """What the figures need to know of a document that was given up."""

    partition: str
    code: str
    reason: str
    spent: int
    document: str = ""
    run: str | None = None


@dataclass(frozen=True)
class OpenFigures:
    """What the figures need to know of an open job."""

    partition: str
    at_api: bool
    held_until: datetime | None
    spent: int
    since: datetime | None = None


class FailedDocument(BaseModel):
    """A document that was given up, and the run that did so."""

    document: str
    partition: str
    code: str
    reason: str
    run: str | None = None


class PartitionFigures(BaseModel):
    """One partition. `documents` is `done + failed + open + aside + new`."""

    name: str
    planned: int = Field(0, description="documents, when it was planned")
    planned_pages: int = 0
    documents: int = Field(0, description="documents at the source now")
    done: int = 0
    failed: int = 0
    open: int = 0
    aside: int = 0
    new: int = 0
    pages: int = Field(0, description="in published results")
    spent: int = Field(0, description="pages paid for, or possibly, by this backfill")
    cost: float = Field(0, description="dollars, for those")

    @property
    def total(self) -> int:
        """The documents to measure progress against."""
        return max(self.planned, self.documents)

    @property
    def finished(self) -> int:
        """Documents that are done, failed or set aside."""
        return self.done + self.failed + self.aside


class Figures(BaseModel):
    """How a backfill stands. `documents` is `done + failed + open + aside + new`."""

    name: str
    source: str
    destination: str
    at: datetime
    listed_at: datetime | None = Field(
        None, description="when the source was last listed: newer documents are not in it"
    )
    state: str
    why: str = ""
    planned: int = Field(0, description="documents, when it was planned: what progress is measured against")
    planned_pages: int | None = Field(None, description="pages to pay for, when it was planned")
    documents: int = Field(0, description="documents at the source now")
    done: int = 0
    failed: int = 0
    open: int = 0
    aside: int = 0
    new: int = Field(0, description="without a job yet")
    changed: str | None = Field(None, description="how the source differs from what was planned")
    pages: int = Field(0, description="in published results")
    pages_of: int = Field(0, description="documents whose records were read for pages and times")
    pages_sent: int = Field(0, description="paid for: in accepted submissions, by the backfill's meter")
    pages_lost: int = Field(0, description="possibly paid for: in submissions whose answer was lost")
    pages_reserved: int = Field(0, description="about to be sent")
    cost: float = Field(0, description="dollars, for pages sent and lost")
    max_pages: int | None = None
    max_cost: float | None = None
    price_per_page: float = 0
    pages_per_minute: float = 0
    documents_per_minute: float = 0
    seconds_left: float | None = None
    ends_at: datetime | None = None
    at_api: int = Field(0, description="open jobs that the API works on")
    seconds_p50: float | None = Field(None, description="from claim to result, of the last documents")
    seconds_p90: float | None = None
    api_p50: float | None = Field(None, description="seconds at the API, of the last documents")
    api_p90: float | None = None
    held: int = Field(0, description="open jobs that a stopped run still holds")
    held_until: datetime | None = Field(None, description="when the last of them is free again, at the latest")
    oldest_open_seconds: float | None = Field(None, description="age of the oldest open job, of those that were read")
    throttle_wait_seconds: float | None = Field(
        None, description="that calls waited for the rate limit, in the process that tells"
    )
    failures: dict[str, int] = Field({}, description="by reason")
    reasons: dict[str, str] = Field({}, description="by code, what was said of one of the documents, and what to do")
    failed_documents: list[FailedDocument] = Field([], description=f"the first {_LISTED}, in the order of their names")
    served_by: list[str] = Field([], description="the runs that work for it now")
    partitions: list[PartitionFigures] = []
    slowest: list[tuple[str, float]] = Field([], description="documents, with seconds from claim to result")
    least_confident: list[tuple[str, float]] = Field([], description="documents, with the mean of their words")
    confidence: list[int] = Field([], description="words by confidence: from 0 to 0.1, …, from 0.9 to 1")
    per_minute: list[tuple[datetime, int]] = Field([], description="pages published, by minute")
    latencies: list[float] = Field([], description="seconds from claim to result, of the last documents")

    @property
    def total(self) -> int:
        """The documents to measure progress against: those planned, or more where more came."""
        return max(self.planned, self.documents)

    @property
    def finished(self) -> int:
        """Documents that are done, failed or set aside."""
        return self.done + self.failed + self.aside

    @property
    def budget_share(self) -> float | None:
        """How much of the nearest ceiling is spent; None without one."""
        shares = []
        if self.max_pages:
            shares.append((self.pages_sent + self.pages_lost + self.pages_reserved) / self.max_pages)
        if self.max_cost:
            shares.append(self.cost / self.max_cost)
        return max(shares) if shares else None

    def sentence(self) -> str:
        """The figures in one line, for logs and for the Prefect UI."""
        return f"{self.name}: {self.finished:,} of {self.total:,} documents finished, {details_of(self)}"


@dataclass(frozen=True)
class Counted:
    """What a listing of source and ledger gave: documents by partition and state."""

    states: Counter[tuple[str, str]]

    def of(self, state: str) -> int:
        """Documents in a state."""
        return sum(number for (_, found), number in self.states.items() if found == state)


def figures(
    backfill: Backfill,
    now: datetime,
    counted: Counted,
    done: Sequence[DoneFigures],
    opened: Sequence[OpenFigures],
    failed: Sequence[FailedFigures],
    earlier: Sequence[tuple[str, int]],
    spent: Charged,
    served_by: Sequence[str],
) -> Figures:
    """Work out the figures.

    Args:
        backfill: its record.
        now: the time.
        counted: documents by partition and state.
        done: finished documents, as far as their records were read.
        opened: open jobs, as far as they were read.
        failed: those that failed, as far as they were read.
        earlier: partition and pages spent of each time that a document was done before it was done again.
        spent: its meter.
        served_by: the runs that work for it.
    """
    planned = backfill.planned
    left = counted.of("new") + counted.of("open")
    since = f"{backfill.why}; since then {left:,} documents are to be done" if left else backfill.why
    jobs: list[DoneFigures | OpenFigures | FailedFigures] = [*done, *opened, *failed]
    spending = [(job.partition, job.spent) for job in jobs] + list(earlier)
    partitions = _partitions(backfill, counted, done, spending)
    recent = sorted(done, key=lambda each: each.finished_at)[-500:]
    seconds = sorted(each.seconds for each in recent)
    at_api = sorted(each.at_api for each in recent if each.at_api is not None)
    sure = [(each.document, each.confidence) for each in done if each.confidence is not None]
    held = [job.held_until for job in opened if job.held_until is not None]
    found = Figures(
        name=backfill.name,
        source=backfill.source,
        destination=backfill.destination,
        at=now,
        state=backfill.state,
        why=since if backfill.state == "finished" else backfill.why,
        planned=planned.documents if planned else 0,
        planned_pages=planned.pages if planned else None,
        documents=sum(counted.states.values()),
        done=counted.of("done"),
        failed=counted.of("failed"),
        open=counted.of("open"),
        aside=counted.of("aside"),
        new=counted.of("new"),
        changed=_changed(planned.partitions if planned else (), partitions),
        pages=sum(each.pages for each in done),
        pages_of=len(done),
        pages_sent=spent.sent,
        pages_lost=spent.lost,
        pages_reserved=spent.total - spent.sent - spent.lost,
        cost=spent.cost / MICROS,
        max_pages=backfill.ceilings.max_pages,
        max_cost=backfill.ceilings.max_cost,
        price_per_page=backfill.price_per_page,
        at_api=sum(job.at_api for job in opened),
        seconds_p50=_quantile(seconds, 0.5),
        seconds_p90=_quantile(seconds, 0.9),
        api_p50=_quantile(at_api, 0.5),
        api_p90=_quantile(at_api, 0.9),
        held=len(held),
        held_until=max(held, default=None),
        oldest_open_seconds=max(((now - job.since).total_seconds() for job in opened if job.since), default=None),
        failures=dict(Counter(each.code for each in failed).most_common()),
        reasons={each.code: each.reason for each in failed},
        failed_documents=[
            FailedDocument(
                document=each.document, partition=each.partition, code=each.code, reason=each.reason, run=each.run
            )
            for each in sorted(failed, key=lambda each: each.document)[:_LISTED]
        ],
        served_by=list(served_by),
        partitions=partitions,
        slowest=[(each.document, each.seconds) for each in sorted(done, key=lambda each: -each.seconds)[:10]],
        least_confident=[(name, each.mean) for name, each in sorted(sure, key=lambda pair: pair[1].mean)[:10]],
        confidence=[sum(column) for column in zip(*(each.bins for _, each in sure), strict=True)],
        per_minute=_per_minute(done),
        latencies=[round(each.seconds, 3) for each in recent],
    )
    return _with_rates(found, done, recent, now)


def _partitions(
    backfill: Backfill,
    counted: Counted,
    done: Sequence[DoneFigures],
    spending: Sequence[tuple[str, int]],
) -> list[PartitionFigures]:
    planned = backfill.planned.partitions if backfill.planned else ()
    found = {
        plan.name: PartitionFigures(name=plan.name, planned=plan.documents, planned_pages=plan.pages)
        for plan in planned
    }
    for (name, state), number in counted.states.items():
        partition = found.setdefault(name, PartitionFigures(name=name))
        partition.documents += number
        setattr(partition, state, getattr(partition, state) + number)
    for each in done:
        partition = found.setdefault(each.partition, PartitionFigures(name=each.partition))
        partition.pages += each.pages
    for name, pages in spending:
        partition = found.setdefault(name, PartitionFigures(name=name))
        partition.spent += pages
        partition.cost = round(partition.spent * backfill.price_per_page, 6)
    return sorted(found.values(), key=lambda partition: partition.name)


def _changed(planned: Sequence[PartitionPlan], partitions: Sequence[PartitionFigures]) -> str | None:
    """How the source differs from the plan, in words."""
    if not planned:
        return None
    more = {each.name: each.documents - each.planned for each in partitions if each.documents != each.planned}
    if not more:
        return None
    some = ", ".join(f"{name} {number:+,}" for name, number in list(more.items())[:5])
    rest = f" and {len(more) - 5} more partitions" if len(more) > 5 else ""
    return f"the source has changed since it was planned: {sum(more.values()):+,} documents ({some}{rest})"


def _with_rates(found: Figures, done: Sequence[DoneFigures], recent: Sequence[DoneFigures], now: datetime) -> Figures:
    """With pages a minute over the last minutes, and what follows from them."""
    within = [each for each in recent if now - each.finished_at <= _WINDOW]
    if not within:
        return found
    # From the first of them on: a backfill that has just begun is as fast as it is, not as ten minutes make it.
    window = max(now - within[0].finished_at, _SHORTEST_WINDOW).total_seconds() / 60
    found.documents_per_minute = len(within) / window
    found.pages_per_minute = sum(each.pages for each in within) / window
    left = found.total - found.finished
    if left > 0 and found.documents_per_minute:
        found.seconds_left = left / found.documents_per_minute * 60
        if found.planned_pages and found.pages_per_minute:
            paid = sum(each.spent for each in done)
            found.seconds_left = max(0, found.planned_pages - paid) / found.pages_per_minute * 60
        found.ends_at = now + timedelta(seconds=found.seconds_left)
    return found


def _per_minute(done: Sequence[DoneFigures]) -> list[tuple[datetime, int]]:
    minutes: Counter[datetime] = Counter()
    for each in done:
        minutes[each.finished_at.replace(second=0, microsecond=0)] += each.pages
    if not minutes:
        return []
    first, last = min(minutes), max(minutes)
    first = max(first, last - timedelta(minutes=_MOST_MINUTES - 1))
    # Minutes without a page are among them: a pause is to be seen.
    all_minutes = (first + timedelta(minutes=number) for number in range(int((last - first).total_seconds() // 60) + 1))
    return [(minute, minutes[minute]) for minute in all_minutes]


def _quantile(values: Sequence[float], share: float) -> float | None:
    return values[max(0, ceil(share * len(values)) - 1)] if values else None


def details_of(found: Figures) -> str:
    """The figures beside the documents finished, in one line."""
    parts = [f"{found.failed:,} failed"] if found.failed else []
    pages = f"{found.pages_sent:,} pages sent"
    if found.max_pages:
        pages += f" of {found.max_pages:,}"
    money = dollars(found.cost) + (f" of {dollars(found.max_cost)}" if found.max_cost else "")
    parts += [f"{found.open:,} open", pages, money]
    if found.pages_per_minute:
        parts.append(f"{found.pages_per_minute:,.0f} pages a minute")
    if found.seconds_left is not None:
        parts.append(f"{span(found.seconds_left)} left")
    return ", ".join(parts)


def dollars(amount: float) -> str:
    """An amount, with so many digits that it says something."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def span(seconds: float) -> str:
    """A length of time, for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
