"""The command `plan`: what a run would do and cost. Reads only, and runs no flow."""

import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field

from flows.cli.output import Page
from flows.cli.plan_reading import look_into
from tasks.access.open import storage_access
from tasks.backfills.duration import duration, interval
from tasks.backfills.record import Backfill, Ceilings, Order, Pace, PartitionPlan, Planned, new_backfill
from tasks.context import RunContext, accounts_of, store_of
from tasks.documents.files.inspect import Inspected
from tasks.faults import DocumentChanged, DocumentFault, Fault, SetupFault
from tasks.job.record import Document
from tasks.number_format import dollars, quantity, span
from tasks.options import Options, RunSettings
from tasks.scratch import process_folder
from tasks.steps.discover import LISTED, Missing, discover, several
from tasks.steps.nearest import why_nothing
from tasks.tally import KnownJobs

_SHOWN = 10
_SEED = 20_260_701  # so that the sample is the same every time, as long as the source does not change

Tell = Callable[[str], None]
Item = TypeVar("Item")


class FormatSum(BaseModel):
    """The new documents of one format, among those that were read."""

    format: str
    documents: int = 0
    pages: int = Field(0, description="counted in the documents")
    pages_estimated: int = Field(0, description="estimated, because only the API can count them")

    def row(self) -> tuple[str, str, str]:
        """Return a table row: format, documents, pages. Estimated pages are shown separately."""
        parts = [f"{self.pages:,}"] if self.pages or not self.pages_estimated else []
        parts += [f"about {self.pages_estimated:,}"] if self.pages_estimated else []
        return self.format, f"{self.documents:,}", " + ".join(parts)


class PartitionSum(BaseModel):
    """The documents of one partition; pages, price and failures are of its new ones."""

    partition: str
    documents: int = 0
    new: int = 0
    read: int = 0
    pages: int = 0
    price: float = 0
    failing: int = 0


class FailingDocument(BaseModel):
    """A document that would fail."""

    document: str
    reason: str


class FailingGroup(BaseModel):
    """Documents that would fail for the same kind of reason."""

    code: str
    count: int = 0
    documents: list[FailingDocument] = Field([], description=f"the first {_SHOWN}")


class PlanReport(BaseModel):
    """What a run would do. `documents` is `new + done + open + failed_before`."""

    source: str
    destination: str
    documents: int = 0
    new: int = 0
    done: int = 0
    open: int = 0
    failed_before: int = Field(0, description="a run leaves these alone: see 'failures' and 'retry'")
    missing: int = Field(0, description="named documents that do not exist or are outside the source")
    missing_keys: list[str] = Field([], description=f"the first {LISTED} of those")
    bytes: int = Field(0, description="of the new documents")
    read: int = Field(0, description="new documents that were read to count their pages")
    read_partly: int = Field(
        0, description="of those, large ones of which only the parts with the page count were read"
    )
    extrapolated: bool = Field(False, description="pages, requests and price are extrapolated from the documents read")
    pages: int = Field(0, description="pages to pay for, counted in the documents")
    pages_estimated: int = Field(0, description="estimated pages to pay for, in documents that only the API can count")
    requests: int = Field(0, description="submissions at least")
    price_per_page: float
    price: float = Field(0, description="of all these pages")
    text_pages: int = Field(0, description="pages with a usable text layer: --skip-text does not send them")
    text_price: float = Field(0, description="what these pages cost without --skip-text")
    skip_text: bool = Field(False, description="whether they are excluded from the pages to pay for")
    formats: list[FormatSum] = Field([], description="of the documents read")
    failing: int = Field(0, description="new documents that would fail, of those read and those that need no reading")
    failures: list[FailingGroup] = []
    not_read: int = Field(
        0, description="new documents that changed in the meantime or could not be read; not in the totals"
    )
    nothing: str | None = Field(None, description="why there is no document, with a suggestion if there is one")
    not_read_because: str | None = Field(None, description="the first reason")
    pages_low: int | None = Field(None, description="lower bound of extrapolated pages (95 % interval)")
    pages_high: int | None = Field(None, description="upper bound of extrapolated pages (95 % interval)")
    seconds: float = Field(0, description="the minimum duration of the run")
    bound_by: str = Field("", description="the limit that determines the duration")
    by: str = Field("month", description="how the documents are divided into partitions")
    partitions: list[PartitionSum] = []
    ceilings: list[str] = Field([], description="the ceilings of the saved backfill that pages or price exceed")
    saved_as: str | None = Field(None, description="the backfill created from this plan")

    def show(self, page: Page) -> None:
        """Print for a person."""
        say = page.say
        say(
            f"{quantity(self.documents, 'document')} at {self.source}: {self.new:,} new, {self.done:,} done, "
            f"{self.open:,} open, {self.failed_before:,} failed before"
        )
        if self.missing:
            say(f"{self.missing:,} named documents do not exist, are not in the source, or are unreadable:", "bold")
            for key in self.missing_keys[:_SHOWN]:
                say(f"  {key}")
            if self.missing > _SHOWN:
                say(f"  … and {self.missing - _SHOWN:,} more")
        if self.formats:
            page.table([form.row() for form in self.formats], ("format", "documents", "pages"))
        for group in self.failures:
            say(f"would fail, {group.code}: {group.count:,}", "bold")
            for failing in group.documents:
                say(f"  {failing.document}: {failing.reason}")
            if group.count > len(group.documents):
                say(f"  … and {group.count - len(group.documents):,} more")
        if self.not_read:
            unread = quantity(self.not_read, "document")
            say(f"{unread} could not be read, and the totals are without them: {self.not_read_because}")
        if self.extrapolated:
            say(
                f"ESTIMATE from {quantity(self.read, 'document')} chosen at random: only their pages were counted, and "
                f"formats and failures above are theirs. Extrapolated to the {self.new:,} new ones:",
                "bold",
            )
        if len(self.partitions) > 1 or self.saved_as:
            page.table(self._partition_rows(), ("partition", "documents", "new", "pages", "price", "would fail"))
        say(f"pages to pay for: {self._pages()}; requests: at least {self.requests:,}")
        if self.new:
            say(f"duration: at least {span(self.seconds)}, limited by {self.bound_by}")
        if self.read_partly:
            say(f"of {self.read_partly:,} large documents, only the page structure was read, and no text layers")
        if self.text_pages:
            about = "about " if self.extrapolated else ""
            tense = "saves" if self.skip_text else "would save"
            pages = quantity(self.text_pages, "page")
            say(f"--skip-text {tense} {about}{pages} whose text is in the document, {dollars(self.text_price)}")
        say(f"price: {dollars(self.price)} at ${self.price_per_page:g} a page. Nothing was sent", "bold")
        if self.ceilings:
            say(f"that exceeds {' and '.join(self.ceilings)}: its runs send nothing beyond, unless it is raised")
        if self.saved_as:
            say(f"saved. Start it: bulk-ocr backfill start {self.saved_as} --at {self.destination}")

    def _partition_rows(self) -> list[tuple[str, ...]]:
        about = "about " if self.extrapolated else ""
        return [
            (
                partition.partition,
                f"{partition.documents:,}",
                f"{partition.new:,}",
                f"{about}{partition.pages:,}",
                f"{about}{dollars(partition.price)}",
                f"{partition.failing:,}" if partition.failing else "",
            )
            for partition in self.partitions
        ]

    def _pages(self) -> str:
        if self.extrapolated:
            between = f" (between {self.pages_low:,} and {self.pages_high:,})" if self.pages_high else ""
            return f"about {self.pages + self.pages_estimated:,}{between}"
        if self.pages_estimated:
            return f"{self.pages:,} counted, and about {self.pages_estimated:,} that only the API can count"
        return f"{self.pages:,}"


def make_plan(
    settings: RunSettings, price: float, sample: int | None = None, tell: Tell = lambda _: None
) -> PlanReport:
    """Determine what a run with these settings would do.

    Args:
        settings: source, destination, selection and options, as for the run.
        price: dollars per page.
        sample: read only this many of the new documents, chosen uniformly at random, and extrapolate.
        tell: called with a line about the progress from time to time.

    Raises:
        SetupFault: source or destination cannot be read, or the selection's manifest or inventory.
    """
    context = RunContext(settings, store_of(settings, accounts_of(settings, storage_access(settings.credentials))))
    report = PlanReport(
        source=str(context.source),
        destination=str(context.destination),
        price_per_page=price,
        by=settings.selection.by,
    )
    missing, partitions = Missing(), _Partitions(context)
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder, KnownJobs(Path(folder)) as known:
        tell("reading the ledger")
        known.load(context.ledger)
        readable = _Counted(_new(context, known, missing, report, partitions, tell))
        chosen = iter(readable) if sample is None else iter(evenly_chosen(readable, sample, random.Random(_SEED)))
        sums: dict[str, FormatSum] = {}
        for document, look in several(
            lambda new_document: look_into(context, new_document), chosen, settings.options.workers
        ):
            _add(report, sums, document, look, settings.options)
            partitions.add(document, look)
            tell(f"read {quantity(report.read, 'document')}, {quantity(report.pages, 'page')}")
    report.missing, report.missing_keys = missing.count, missing.first
    if not report.documents and not missing.count:
        report.nothing = why_nothing(context)
    report.formats = sorted(sums.values(), key=lambda form: (-form.documents, form.format))
    report.failures.sort(key=lambda group: (-group.count, group.code))
    if report.read and readable.count > report.read + report.not_read:
        report.extrapolated = True
        factor = readable.count / report.read
        report.pages = round(report.pages * factor)
        report.pages_estimated = round(report.pages_estimated * factor)
        report.requests = round(report.requests * factor)
        report.text_pages = round(report.text_pages * factor)
        report.pages_low, report.pages_high = interval(partitions.counted, readable.count)
    report.price = round((report.pages + report.pages_estimated) * price, 6)
    report.seconds, report.bound_by = duration(
        report.requests, report.pages + report.pages_estimated, settings.options, price
    )
    report.partitions = partitions.sums(price, extrapolated=report.extrapolated)
    report.text_price = round(report.text_pages * price, 6)
    report.skip_text = settings.options.skip_text
    return report


def _exceeded(ceilings: Ceilings, report: PlanReport) -> list[str]:
    """Name the ceilings that a plan exceeds."""
    exceeded = []
    if ceilings.max_pages is not None and report.pages + report.pages_estimated > ceilings.max_pages:
        exceeded.append(f"the ceiling of {quantity(ceilings.max_pages, 'page')}")
    if ceilings.max_cost is not None and report.price > ceilings.max_cost:
        exceeded.append(f"the ceiling of {dollars(ceilings.max_cost)}")
    return exceeded


class _Partitions:
    """The sums by partition.

    Args:
        context: the run's context.

    Attributes:
        counted: the pages of each document that was read.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._sums: dict[str, PartitionSum] = {}
        self.counted: list[int] = []

    def of(self, document: Document) -> PartitionSum:
        """Return the sum for a document's partition."""
        source, selection = self._context.source, self._context.settings.selection
        name = selection.partition_of(source.relative(document.key), document.last_modified)
        return self._sums.setdefault(name, PartitionSum(partition=name))

    def add(self, document: Document, look: Inspected | Fault) -> None:
        """Add a document that was read."""
        partition = self.of(document)
        if isinstance(look, Fault):
            if isinstance(look, DocumentFault):
                partition.read += 1
                partition.failing += 1
                self.counted.append(0)
            return
        pages = look.estimate if look.pages is None else look.pages
        partition.read += 1
        partition.pages += pages
        self.counted.append(pages)

    def sums(self, price: float, *, extrapolated: bool) -> list[PartitionSum]:
        """Return all sums in order, extrapolated if only a sample was read."""
        mean = sum(self.counted) / len(self.counted) if self.counted else 0
        for partition in self._sums.values():
            if extrapolated:
                partition.pages = round(partition.new * (partition.pages / partition.read if partition.read else mean))
            partition.price = round(partition.pages * price, 6)
        return sorted(self._sums.values(), key=lambda partition: partition.partition)


def save_plan(settings: RunSettings, report: PlanReport, name: str, order: Order, limit: int | None) -> Backfill:
    """Save a plan as a backfill, with the given ceilings and pace.

    Args:
        settings: the planned run's settings.
        report: the plan.
        name: the backfill's name.
        order: which documents to send first.
        limit: the maximum number of documents in one run.

    Raises:
        SetupFault: a backfill of that name is already being worked on, or the name is invalid.
    """
    context = RunContext(settings, store_of(settings, accounts_of(settings, storage_access(settings.credentials))))
    context.prove_destination()
    options, now = settings.options, context.clock.now()
    planned = Planned(
        at=now,
        documents=report.documents,
        pages=report.pages + report.pages_estimated,
        pages_low=report.pages_low,
        pages_high=report.pages_high,
        failing=report.failing,
        seconds=report.seconds,
        bound_by=report.bound_by,
        partitions=tuple(
            PartitionPlan(
                name=partition.partition,
                documents=partition.documents,
                pages=partition.pages,
                failing=partition.failing,
            )
            for partition in report.partitions
        ),
    )
    given_options = options.model_fields_set
    backfill = new_backfill(settings, name, now).changed(
        now,
        planned=planned,
        ceilings=Ceilings(max_pages=options.run_pages, max_cost=options.max_cost),
        pace=Pace(
            **{
                field: value
                for field in Pace.model_fields
                if field in given_options and (value := getattr(options, field)) != "auto"
            }
        ),
        price_per_page=report.price_per_page,
        order=order,
        limit=limit,
    )
    recorded = context.backfills.make(backfill)
    if recorded != backfill:
        if recorded.state != "planned":
            raise SetupFault(
                f"there is a backfill {name} already, which is {recorded.state}: give this one another name, or change "
                f"that one with 'bulk-ocr backfill set {name} --at {settings.destination}'"
            )
        context.backfills.change(name, lambda _: backfill)
    report.saved_as = name
    report.ceilings = _exceeded(backfill.ceilings, report)
    return backfill


class _Counted:
    def __init__(self, documents: Iterator[Document]) -> None:
        self._documents = documents
        self.count = 0

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            self.count += 1
            yield document


def evenly_chosen(items: Iterable[Item], number: int, chance: random.Random) -> list[Item]:
    """Choose `number` items uniformly at random, in their order: one pass, with only these in memory."""
    kept: list[tuple[int, Item]] = []
    for index, item in enumerate(items):
        if index < number:
            kept.append((index, item))
        elif (place := chance.randrange(index + 1)) < number:
            kept[place] = index, item
    return [item for _, item in sorted(kept, key=lambda entry: entry[0])]


def _new(
    context: RunContext,
    known: KnownJobs,
    missing: Missing,
    report: PlanReport,
    partitions: "_Partitions",
    tell: Tell,
) -> Iterator[Document]:
    """Yield the new documents that have to be read, and count all documents."""
    for discovered in discover(context, known, missing, look_only=True):
        report.documents += 1
        partition = partitions.of(discovered.document)
        partition.documents += 1
        tell(f"listed {quantity(report.documents, 'document')}")
        if discovered.state == "done":
            report.done += 1
        elif discovered.state == "open":
            report.open += 1
        elif discovered.state == "failed":
            report.failed_before += 1
        else:
            report.new += 1
            partition.new += 1
            report.bytes += discovered.document.size
            fault = _fault_by_listing(context, discovered.document)
            if fault is None:
                yield discovered.document
            else:
                _add_failing(report, discovered.document, fault)
                partition.failing += 1


def _fault_by_listing(context: RunContext, document: Document) -> DocumentFault | None:
    """Return why a document would fail, if that is known without reading it."""
    try:
        context.result_key(document)
    except DocumentFault as fault:
        return fault
    return None


def _add(
    report: PlanReport, sums: dict[str, FormatSum], document: Document, look: Inspected | Fault, options: Options
) -> None:
    if isinstance(look, Fault) and not isinstance(look, DocumentFault):
        report.not_read += 1
        changed = isinstance(look, DocumentChanged)
        report.not_read_because = report.not_read_because or (f"{look}" if changed else f"{document.uri}: {look}")
        return
    report.read += 1
    if isinstance(look, DocumentFault):
        _add_failing(report, document, look)
        return
    form = sums.setdefault(look.form.name, FormatSum(format=look.form.name))
    form.documents += 1
    report.read_partly += look.partly
    report.requests += requests_at_least(look, document.size, options)
    report.text_pages += look.text_pages
    if look.pages is None:
        form.pages_estimated += look.estimate
        report.pages_estimated += look.estimate
    else:
        form.pages += look.pages
        report.pages += look.pages


def _add_failing(report: PlanReport, document: Document, fault: DocumentFault) -> None:
    report.failing += 1
    group = next((group for group in report.failures if group.code == fault.code), None)
    if group is None:
        group = FailingGroup(code=fault.code)
        report.failures.append(group)
    group.count += 1
    if len(group.documents) < _SHOWN:
        group.documents.append(FailingDocument(document=document.uri, reason=str(fault)))


def requests_at_least(look: Inspected, size: int, options: Options) -> int:
    """Return the minimum number of submissions for a document, assuming parts of equal size."""
    if look.pages == 0:  # the document's own text is used for all of its pages
        return 0
    if look.pages is None or not look.form.divisible:
        return 1
    longest = options.limits.sync_pages if options.mode == "sync" else options.limits.pages
    return max(math.ceil(look.pages / longest), math.ceil(size / options.limits.bytes))
