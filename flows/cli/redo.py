"""The command `redo`: marks finished documents to be recognised and paid for again. Old results stay until then."""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

from cyclopts import Parameter, validators
from pydantic import BaseModel, Field

from flows.cli.arguments import DryRun, LedgerArguments
from flows.cli.output import Page, complain, show
from flows.cli.prefect_setup import prepare_for_blocks
from tasks.faults import ExitStatus, RecordUnreadable, SetupFault
from tasks.job.record import Document, DoneJob, FailedJob
from tasks.number_format import dollars, quantity
from tasks.selection import Selection
from tasks.similar_names import did_you_mean
from tasks.steps.discover import several
from tasks.steps.nearest import why_no_ledger
from tasks.store.ledger import Ledger, RecordEntry
from tasks.store.location import Location, result_suffix
from tasks.upstage.limits import MOST, PRICE_PER_PAGE

_READERS = 16


class Redone(BaseModel):
    """The outcome of `redo`, or of its dry run."""

    destination: str
    dry_run: bool = Field(False, description="nothing was changed: these are the changes that would be made")
    documents: int
    pages: int = Field(description="pages to be paid for again")
    price: float = Field(description="dollars, for these pages")
    opened: int = Field(0, description="documents that now count as new")

    def show(self, page: Page) -> None:
        """Print for a person."""
        pages = quantity(self.pages, "page")
        if self.dry_run:
            page.say(
                f"{quantity(self.documents, 'document')} with {pages} would be paid for again: {dollars(self.price)}"
            )
            page.say("dry run: nothing was changed")
            return
        page.say(f"to be done again: {quantity(self.opened, 'document')} with {pages} ({dollars(self.price)})")
        page.say("Their results stay until the new ones are published. Go on with: bulk-ocr run, or backfill start")


def redo(
    arguments: LedgerArguments,
    *,
    include: Annotated[list[str] | None, Parameter(negative="", help="Only keys like this; repeatable.")] = None,
    key: Annotated[list[str] | None, Parameter(negative="", help="Only this document; repeatable.")] = None,
    partition: Annotated[list[str] | None, Parameter(negative="", help="Only this partition; repeatable.")] = None,
    by: Annotated[str, Parameter(help="How documents are divided: year, month, modified or prefix:N.")] = "month",
    below_confidence: Annotated[
        float | None,
        Parameter(
            validator=validators.Number(gt=0, lte=1),
            help="Only documents whose words have a lower mean confidence.",
        ),
    ] = None,
    failed: Annotated[bool, Parameter(negative="", help="Failed documents, from the beginning.")] = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")] = False,
    price: Annotated[
        float,
        Parameter(
            name=["--price-per-page", "--price"],
            validator=validators.Number(gte=0, lte=MOST),
            help="Dollars a page.",
        ),
    ] = PRICE_PER_PAGE,
) -> ExitStatus:
    """OCR finished documents again, and pay for them again: the next run submits them.

    Shows the price and asks. The old results stay until the new ones are published, and their records are kept under
    _jobs/earlier/.
    """
    prepare_for_blocks(arguments.credentials)
    from tasks.access.open import open_results

    if not (include or key or partition or failed or below_confidence):
        raise SetupFault(
            "say which documents to do again: --include, --key, --partition, --below-confidence or --failed"
        )
    place = Location.parse(arguments.destination)
    objects = open_results(arguments.credentials, _READERS, arguments.bucket)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    ledger = Ledger(objects, place)
    wanted = _Wanted(
        place, Selection(include=tuple(include or ()), by=by), key or (), partition or (), below_confidence
    )
    chosen = list(_chosen(ledger, wanted, failed=failed))
    wanted.prove_all_met()
    if not chosen:
        raise SetupFault(f"no document at {place} matches the selection; nothing was redone")
    pages = sum(record.pages if isinstance(record, DoneJob) else record.job.pages or 0 for _, record in chosen)
    report = Redone(
        destination=str(place), dry_run=dry_run, documents=len(chosen), pages=pages, price=round(pages * price, 6)
    )
    if dry_run:
        show(report, json=arguments.json)
        return ExitStatus.DONE
    amount = f"{quantity(len(chosen), 'document')} with {quantity(pages, 'page')}"
    question = f"{amount} will be paid for again: {dollars(report.price)}"
    if not yes:
        if not sys.stdin.isatty():
            raise SetupFault(f"{question}; pass --yes to confirm, since there is no terminal to ask at")
        complain(f"{question}. Continue? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            complain("nothing was changed")
            return ExitStatus.SOME_FAILED
    for entry, record in chosen:
        report.opened += ledger.open_again(record, entry)
    show(report, json=arguments.json)
    return ExitStatus.DONE


class _Wanted:
    """The selected documents. Records which of the given names matched a document."""

    def __init__(
        self,
        destination: Location,
        selection: Selection,
        keys: Sequence[str],
        partitions: Sequence[str],
        below_confidence: float | None,
    ) -> None:
        self._destination = destination
        self._selection = selection
        self._keys, self._partitions = set(keys), set(partitions)
        self._below_confidence = below_confidence
        self._met: set[str] = set()
        self._seen_partitions: set[str] = set()
        self._seen_keys: set[str] = set()

    def takes(self, record: DoneJob | FailedJob) -> bool:
        """Whether a document is selected."""
        job = record.job
        result = job.result.removeprefix(f"s3://{self._destination.bucket}/{self._destination.prefix}")
        relative = result.removesuffix(result_suffix(job.model, job.answer_schema, job.text_layers))
        document: Document = job.document
        partition = self._selection.partition_of(relative, document.last_modified)
        names = {document.uri, document.key, relative}
        self._seen_partitions.add(partition)
        if len(self._seen_keys) < 100_000:
            self._seen_keys.add(document.key)
        if self._partitions and partition not in self._partitions:
            return False
        if self._keys and names.isdisjoint(self._keys):
            return False
        self._met |= names & self._keys | {partition} & self._partitions
        return self._is_unsure(record) and self._selection.takes_name(relative)

    def _is_unsure(self, record: DoneJob | FailedJob) -> bool:
        if self._below_confidence is None:
            return True
        measured = record.measured if isinstance(record, DoneJob) else None
        confidence = None if measured is None else measured.confidence
        return confidence is not None and confidence.mean < self._below_confidence

    def prove_all_met(self) -> None:
        """Check that every given name matched a document.

        Raises:
            SetupFault: one did not; the message suggests similar names.
        """
        for what, given_names, known_names in (
            ("partition", self._partitions, self._seen_partitions),
            ("key", self._keys, self._seen_keys),
        ):
            for name in sorted(given_names - self._met):
                nearest = did_you_mean(name, known_names)
                suggestion = f". Did you mean {nearest}?" if nearest else ""
                raise SetupFault(
                    f"no finished document at {self._destination} has the {what} '{name}'; "
                    f"nothing was redone{suggestion}"
                )


def _chosen(ledger: Ledger, wanted: _Wanted, *, failed: bool) -> Iterator[tuple[RecordEntry, DoneJob | FailedJob]]:
    def read(entry: RecordEntry) -> DoneJob | FailedJob | None:
        try:
            return ledger.failed(entry.id) if failed else ledger.done(entry.id)
        except RecordUnreadable:
            return None

    for entry, record in several(read, ledger.entries("failed" if failed else "done"), _READERS):
        if record is not None and wanted.takes(record):
            yield entry, record
