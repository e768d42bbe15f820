"""Failed documents: why, grouped, and putting them back. No flow: these read and move ledger records."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from pydantic import BaseModel, Field
from rich.console import Console

from flows.access import store
from tasks.models import FailedJob
from tasks.options import ENVIRONMENT, Credentials
from tasks.store.ledger import Ledger, RecordUnreadable
from tasks.store.location import Location

_SHOWN = 10
_READERS = 16


class FailedDocument(BaseModel):
    """One document that was given up."""

    document: str
    key: str
    stage: str
    reason: str
    missing: list[str] = Field(description="pages that did not come, where it got so far")
    pages_kept: int = Field(description="pages that did come; putting it back does not pay for them again")


class FailureGroup(BaseModel):
    """Documents that failed for the same kind of reason."""

    code: str
    count: int
    retry_helps: bool
    documents: list[FailedDocument] = Field(description=f"the first {_SHOWN}, or all with --all")


class Failures(BaseModel):
    """All that failed at a destination."""

    destination: str
    failed: int
    unreadable: int = Field(0, description="records of another version of this program, left alone")
    groups: list[FailureGroup]

    def show(self, console: Console) -> None:
        """Print for a person."""
        for group in self.groups:
            advice = "putting it back can help" if group.retry_helps else "putting it back unchanged does not help"
            console.print(f"{group.code}: {group.count} ({advice})", markup=False, style="bold", highlight=False)
            for failed in group.documents:
                console.print(f"  {failed.document}: {failed.reason}", markup=False, highlight=False)
            if group.count > len(group.documents):
                console.print(f"  … and {group.count - len(group.documents)} more; --all lists them", markup=False)
        console.print(f"{self.failed} failed at {self.destination}", markup=False, highlight=False)
        if self.unreadable:
            console.print(f"{self.unreadable} more have records of another version of this program", markup=False)
        if self.failed:
            console.print(
                f"Put back: bulk-ocr retry {self.destination} [--reason CODE] [--key KEY]",
                markup=False,
                highlight=False,
            )


class PutBack(BaseModel):
    """What `retry` did."""

    destination: str
    put_back: int
    left: int = Field(description="failed documents not asked for, being closed right now, or of another version")
    pages_kept: int = Field(description="pages of them that are here already and will not be paid for again")


def read_failures(destination: str, *, everything: bool = False, credentials: Credentials = ENVIRONMENT) -> Failures:
    """Read why documents failed.

    Raises:
        SetupFault: there is no such bucket, or it may not be read.
    """
    read = list(_failed(_ledger(destination, credentials)))
    failed = sorted(filter(None, read), key=lambda each: (each.code, each.job.document.key))
    groups = []
    for code, members in groupby(failed, key=lambda each: each.code):
        those = list(members)
        groups.append(
            FailureGroup(
                code=code,
                count=len(those),
                retry_helps=any(each.retry_helps for each in those),
                documents=[_described(each) for each in (those if everything else those[:_SHOWN])],
            )
        )
    groups.sort(key=lambda group: -group.count)
    return Failures(destination=destination, failed=len(failed), unreadable=len(read) - len(failed), groups=groups)


def put_back(
    destination: str, reasons: Sequence[str], keys: Sequence[str], credentials: Credentials = ENVIRONMENT
) -> PutBack:
    """Put failed jobs back, for the next pass to go on with: all, or those of some reasons or keys.

    Raises:
        SetupFault: there is no such bucket, or it may not be written.
    """
    ledger = _ledger(destination, credentials)
    report = PutBack(destination=destination, put_back=0, left=0, pages_kept=0)
    for failed in _failed(ledger):
        if failed is None:
            report.left += 1
            continue
        document = failed.job.document
        wanted = not reasons or failed.code in reasons
        wanted = wanted and (not keys or document.key in keys or document.uri in keys)
        if wanted and ledger.put_back(failed):
            report.put_back += 1
            report.pages_kept += _pages_kept(failed)
        else:
            report.left += 1
    return report


def _ledger(destination: str, credentials: Credentials) -> Ledger:
    return Ledger(store(credentials, _READERS), Location.parse(destination))


def _failed(ledger: Ledger) -> Iterator[FailedJob | None]:
    """The records of the failed jobs; None for one that this version cannot read."""

    def read(job_id: str) -> list[FailedJob | None]:
        try:
            failed = ledger.failed(job_id)
        except RecordUnreadable:
            return [None]
        return [] if failed is None else [failed]  # put back meanwhile

    with ThreadPoolExecutor(_READERS) as pool:
        for found in pool.map(read, [entry.id for entry in ledger.entries("failed")]):
            yield from found


def _described(failed: FailedJob) -> FailedDocument:
    return FailedDocument(
        document=failed.job.document.uri,
        key=failed.job.document.key,
        stage=failed.stage,
        reason=failed.reason,
        missing=[str(pages) for pages in failed.missing],
        pages_kept=_pages_kept(failed),
    )


def _pages_kept(failed: FailedJob) -> int:
    return sum(map(len, failed.job.kept))
