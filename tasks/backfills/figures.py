"""The figures of a backfill: one model for the progress of `run`, for `watch`, for the Prefect UI and for reports.

All of them come from the ledger: the states of the jobs from listings, pages and times from the jobs' records, money
from the backfill's meter. They are the same for every reader, whichever runs do the work.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

from pydantic import BaseModel, Field

from tasks.backfills.done import MOST_MINUTES, DoneSummary, RecentDocument
from tasks.backfills.earlier import EarlierSummary
from tasks.backfills.failed import MOST_LISTED, FailedSummary
from tasks.backfills.record import Backfill, PartitionPlan, shown_state
from tasks.budget.charged import MICROS, Charged
from tasks.job.spending import duplicates_text
from tasks.number_format import dollars, span

_WINDOW = timedelta(minutes=10)
_SHORTEST_WINDOW = timedelta(seconds=5)


@dataclass(frozen=True)
class OpenFigures:
    """The data of an open job that the figures need."""

    partition: str
    at_api: bool
    held_until: datetime | None
    spent: int
    possible_duplicates: int
    since: datetime | None = None


class FailedDocument(BaseModel):
    """A failed document, and the run in which it failed."""

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
    spent: int = Field(0, description="pages charged to this backfill: sent, or without an answer on record")
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
    """The state of a backfill in numbers. `documents` is `done + failed + open + aside + new`."""

    name: str
    source: str
    destination: str
    at: datetime
    listed_at: datetime | None = Field(
        None, description="when the source was last listed: newer documents are not in it"
    )
    state: str
    why: str = ""
    waiting_for: Literal["budget"] | None = Field(
        None, description="what it waits for while it is running: a ceiling leaves no room for more documents"
    )
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
    pages_lost: int = Field(0, description="possibly paid for as well: in submissions without an answer on record")
    possible_duplicates: int = Field(
        0, description="submissions that may be billed and were, or will be, repeated, in the records that were read"
    )
    pages_reserved: int = Field(0, description="about to be sent")
    cost: float = Field(0, description="dollars, for `pages_sent` and `pages_lost`")
    max_pages: int | None = None
    max_cost: float | None = None
    price_per_page: float = 0
    pages_per_minute: float = 0
    documents_per_minute: float = 0
    seconds_left: float | None = None
    ends_at: datetime | None = None
    at_api: int = Field(0, description="open jobs that the API works on; an estimate if there are many")
    seconds_p50: float | None = Field(None, description="from claim to result, of the last documents")
    seconds_p90: float | None = None
    api_p50: float | None = Field(None, description="seconds at the API, of the last documents")
    api_p90: float | None = None
    held: int = Field(0, description="open jobs that a stopped run still holds")
    held_until: datetime | None = Field(None, description="when the last of them is free again, at the latest")
    oldest_open_seconds: float | None = Field(None, description="age of the oldest open job, of those that were read")
    throttle_wait_seconds: float | None = Field(
        None, description="time that calls of the reporting process have waited for the rate limit"
    )
    failures: dict[str, int] = Field({}, description="by reason")
    reasons: dict[str, str] = Field({}, description="by code, what was said of one of the documents, and what to do")
    failed_documents: list[FailedDocument] = Field(
        [], description=f"the first {MOST_LISTED}, in the order of their names"
    )
    served_by: list[str] = Field([], description="the runs that work for it now")
    partitions: list[PartitionFigures] = []
    slowest: list[tuple[str, float]] = Field([], description="documents, with seconds from claim to result")
    least_confident: list[tuple[str, float]] = Field([], description="documents, with the mean of their words")
    confidence: list[int] = Field([], description="words by confidence: from 0 to 0.1, …, from 0.9 to 1")
    per_minute: list[tuple[datetime, int]] = Field([], description="pages published, by minute")
    latencies: list[float] = Field([], description="seconds from claim to result, of the last documents")

    @property
    def shown_state(self) -> str:
        """The state, for people."""
        return shown_state(self.state, self.waiting_for)

    @property
    def total(self) -> int:
        """The number of documents to measure progress against: as planned, or more if more have arrived."""
        return max(self.planned, self.documents)

    @property
    def finished(self) -> int:
        """Documents that are done, failed or set aside."""
        return self.done + self.failed + self.aside

    @property
    def pages_charged(self) -> int:
        """Pages paid for, and those that may be: what the ceilings count."""
        return self.pages_sent + self.pages_lost

    @property
    def budget_share(self) -> float | None:
        """The spent share of the nearest ceiling; None without a ceiling."""
        shares = []
        if self.max_pages:
            shares.append((self.pages_charged + self.pages_reserved) / self.max_pages)
        if self.max_cost:
            shares.append(self.cost / self.max_cost)
        return max(shares) if shares else None

    def sentence(self) -> str:
        """Summarise the figures in one line, for logs and the Prefect UI."""
        return f"{self.name}: {self.finished:,} of {self.total:,} documents finished, {details_of(self)}"


@dataclass(frozen=True)
class Counted:
    """Documents by partition and state, counted from listings of source and ledger."""

    states: Counter[tuple[str, str]]

    def of(self, state: str) -> int:
        """Return the number of documents in a state."""
        return sum(number for (_, found_state), number in self.states.items() if found_state == state)


def figures(
    backfill: Backfill,
    now: datetime,
    counted: Counted,
    done: DoneSummary,
    opened: Sequence[OpenFigures],
    failed: FailedSummary,
    earlier: EarlierSummary,
    spent: Charged,
    served_by: Sequence[str],
) -> Figures:
    """Compute the figures.

    Args:
        backfill: the backfill's record.
        now: the current time.
        counted: documents by partition and state.
        done: the finished documents whose records were read.
        opened: open jobs whose records were read.
        failed: failed documents whose records were read.
        earlier: what documents had cost before they were done again.
        spent: the backfill's meter.
        served_by: the runs that serve it.
    """
    planned = backfill.planned
    left = counted.of("new") + counted.of("open")
    since = f"{backfill.why}; since then {left:,} documents are to be done" if left else backfill.why
    spent_in = [(job.partition, job.spent) for job in opened]
    spent_in += [*failed.by_partition.items(), *earlier.by_partition.items()]
    partitions = _partitions(backfill, counted, done, spent_in)
    summaries: list[DoneSummary | FailedSummary | EarlierSummary | OpenFigures] = [done, failed, earlier, *opened]
    seconds = sorted(document.seconds for document in done.recent)
    at_api = sorted(document.at_api for document in done.recent if document.at_api is not None)
    held = [job.held_until for job in opened if job.held_until is not None]
    result = Figures(
        name=backfill.name,
        source=backfill.source,
        destination=backfill.destination,
        at=now,
        state=backfill.state,
        waiting_for=backfill.waiting_for(now, spent.total, spent.cost / MICROS),
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
        pages=done.pages,
        pages_of=done.documents,
        pages_sent=spent.sent,
        pages_lost=spent.lost,
        possible_duplicates=sum(each.possible_duplicates for each in summaries),
        pages_reserved=spent.total - spent.sent - spent.lost,
        cost=spent.cost / MICROS,
        max_pages=backfill.ceilings.max_pages,
        max_cost=backfill.ceilings.max_cost,
        price_per_page=backfill.price_per_page,
        at_api=_at_api(opened, counted.of("open")),
        seconds_p50=_quantile(seconds, 0.5),
        seconds_p90=_quantile(seconds, 0.9),
        api_p50=_quantile(at_api, 0.5),
        api_p90=_quantile(at_api, 0.9),
        held=len(held),
        held_until=max(held, default=None),
        oldest_open_seconds=max(((now - job.since).total_seconds() for job in opened if job.since), default=None),
        failures=dict(failed.codes),
        reasons=dict(failed.reasons),
        failed_documents=[
            FailedDocument(
                document=failure.document,
                partition=failure.partition,
                code=failure.code,
                reason=failure.reason,
                run=failure.run,
            )
            for failure in failed.first
        ],
        served_by=list(served_by),
        partitions=partitions,
        slowest=list(done.slowest),
        least_confident=list(done.least_confident),
        confidence=list(done.confidence),
        per_minute=_per_minute(done.per_minute),
        latencies=[round(document.seconds, 3) for document in done.recent],
    )
    # Of a long backfill, not all records have been read at first.
    paid = done.spent * counted.of("done") / done.documents if done.documents else 0
    return _with_rates(result, paid, done.recent, now)


def _at_api(opened: Sequence[OpenFigures], number: int) -> int:
    """Return how many open jobs are at the API; an estimate if not all of their records were read."""
    share = sum(job.at_api for job in opened) / len(opened) if opened else 0
    return round(share * max(number, len(opened)))


def _partitions(
    backfill: Backfill,
    counted: Counted,
    done: DoneSummary,
    others: Sequence[tuple[str, int]],
) -> list[PartitionFigures]:
    planned = backfill.planned.partitions if backfill.planned else ()
    by_name = {
        plan.name: PartitionFigures(name=plan.name, planned=plan.documents, planned_pages=plan.pages)
        for plan in planned
    }
    for (name, state), number in counted.states.items():
        partition = by_name.setdefault(name, PartitionFigures(name=name))
        partition.documents += number
        setattr(partition, state, getattr(partition, state) + number)
    for name, (pages, _) in done.by_partition.items():
        by_name.setdefault(name, PartitionFigures(name=name)).pages = pages
    for name, pages in [*((name, spent) for name, (_, spent) in done.by_partition.items()), *others]:
        partition = by_name.setdefault(name, PartitionFigures(name=name))
        partition.spent += pages
        partition.cost = round(partition.spent * backfill.price_per_page, 6)
    return sorted(by_name.values(), key=lambda partition: partition.name)


def _changed(planned: Sequence[PartitionPlan], partitions: Sequence[PartitionFigures]) -> str | None:
    """Describe how the source differs from the plan; None if it does not."""
    if not planned:
        return None
    more = {
        partition.name: partition.documents - partition.planned
        for partition in partitions
        if partition.documents != partition.planned
    }
    if not more:
        return None
    some = ", ".join(f"{name} {number:+,}" for name, number in list(more.items())[:5])
    rest = f" and {len(more) - 5} more partitions" if len(more) > 5 else ""
    return f"the source has changed since it was planned: {sum(more.values()):+,} documents ({some}{rest})"


def _with_rates(figures: Figures, paid: float, recent: Sequence[RecentDocument], now: datetime) -> Figures:
    """Add the rates of the last minutes, and the time left at these rates."""
    within = [document for document in recent if now - document.finished_at <= _WINDOW]
    if not within:
        return figures
    # From the first document in the window on: a backfill that has just begun must not be averaged over ten minutes.
    window = max(now - within[0].finished_at, _SHORTEST_WINDOW).total_seconds() / 60
    figures.documents_per_minute = len(within) / window
    figures.pages_per_minute = sum(document.pages for document in within) / window
    left = figures.total - figures.finished
    if left > 0 and figures.documents_per_minute:
        figures.seconds_left = left / figures.documents_per_minute * 60
        if figures.planned_pages and figures.pages_per_minute:
            figures.seconds_left = max(0, figures.planned_pages - paid) / figures.pages_per_minute * 60
        figures.ends_at = now + timedelta(seconds=figures.seconds_left)
    return figures


def _per_minute(pages: Mapping[datetime, int]) -> list[tuple[datetime, int]]:
    if not pages:
        return []
    first, last = min(pages), max(pages)
    first = max(first, last - timedelta(minutes=MOST_MINUTES - 1))
    # Minutes without pages are included, so that pauses show.
    all_minutes = (first + timedelta(minutes=number) for number in range(int((last - first).total_seconds() // 60) + 1))
    return [(minute, pages.get(minute, 0)) for minute in all_minutes]


def _quantile(values: Sequence[float], share: float) -> float | None:
    return values[max(0, ceil(share * len(values)) - 1)] if values else None


def details_of(figures: Figures) -> str:
    """The figures beside the documents finished, in one line."""
    parts = [f"{figures.failed:,} failed"] if figures.failed else []
    pages = f"{figures.pages_sent:,} pages sent"
    if figures.pages_lost:
        pages += f" and {figures.pages_lost:,} without an answer"
    if figures.max_pages:
        pages += f" of {figures.max_pages:,}"
    money = dollars(figures.cost) + (f" of {dollars(figures.max_cost)}" if figures.max_cost else "")
    parts += [f"{figures.open:,} open", pages, money]
    if figures.possible_duplicates:
        parts.append(duplicates_text(figures.possible_duplicates))
    if figures.pages_per_minute:
        parts.append(f"{figures.pages_per_minute:,.0f} pages a minute")
    if figures.seconds_left is not None:
        parts.append(f"{span(figures.seconds_left)} left")
    return ", ".join(parts)
