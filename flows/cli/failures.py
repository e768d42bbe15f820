"""The commands `failures` and `retry`: why documents failed, and putting them back. They change ledger records without
a flow.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from pydantic import BaseModel, Field

from flows.cli.output import Page
from tasks.access.open import open_results
from tasks.faults import RecordUnreadable, SetupFault
from tasks.job.record import FailedJob
from tasks.number_format import quantity
from tasks.options import ENVIRONMENT, Credentials
from tasks.similar_names import did_you_mean
from tasks.steps.nearest import why_no_ledger
from tasks.store.ledger import Ledger
from tasks.store.location import Location, result_suffix
from tasks.store.settings import AS_IT_IS, DestinationOptions

_SHOWN = 10
_READERS = 16


class FailureDetails(BaseModel):
    """One failed document."""

    document: str
    key: str
    stage: str
    reason: str
    missing: list[str] = Field(description="pages that did not arrive, if the document was sent")
    pages_kept: int = Field(description="pages that did arrive; a retry does not pay for them again")


class FailureGroup(BaseModel):
    """Documents that failed with the same code."""

    code: str
    count: int
    retry_helps: bool
    documents: list[FailureDetails] = Field(description=f"the first {_SHOWN}; all with --all")


class Failures(BaseModel):
    """All failed documents at a destination."""

    destination: str
    failed: int
    unreadable: int = Field(0, description="records of another version of this program, left alone")
    groups: list[FailureGroup]

    def show(self, page: Page) -> None:
        """Print as text."""
        for group in self.groups:
            advice = "a retry can help" if group.retry_helps else "a retry without a change does not help"
            page.say(f"{group.code}: {group.count} ({advice})", "bold")
            for failed in group.documents:
                page.say(f"  {failed.document}: {failed.reason}")
            if group.count > len(group.documents):
                page.say(f"  … and {group.count - len(group.documents)} more; --all lists them")
        page.say(f"{self.failed} failed at {self.destination}")
        if self.unreadable:
            page.say(f"{self.unreadable} more records belong to another version of this program and were left alone")
        if self.failed:
            page.say(f"Retry with: bulk-ocr retry {self.destination} [--reason CODE] [--key KEY]")


class PutBack(BaseModel):
    """The outcome of `retry`."""

    destination: str
    dry_run: bool = Field(False, description="nothing was changed: these are the changes that would be made")
    put_back: int
    left: int = Field(description="failed documents not selected, being closed right now, or of another version")
    pages_kept: int = Field(description="pages that arrived before and will not be paid for again")
    pages_missing: int = Field(
        description="the other pages: sent and paid for, unless the API still has their results; those of documents "
        "whose pages could not be counted are not included"
    )

    def show(self, page: Page) -> None:
        """Print as text."""
        kept = (
            f"{quantity(self.pages_kept, 'page')} {'is' if self.pages_kept == 1 else 'are'} kept and not paid for "
            f"again, up to {self.pages_missing:,} {'is' if self.pages_missing == 1 else 'are'} sent and paid for"
        )
        if self.dry_run:
            page.say(f"{self.put_back} would be put back, {self.left} left as failed; {kept}")
            page.say("dry run: nothing was changed")
            return
        page.say(
            f"{self.put_back} put back, {self.left} left as failed; {kept}. "
            "Resume with bulk-ocr run SOURCE DESTINATION, or with bulk-ocr backfill start NAME, "
            "or wait for the next scheduled collect"
        )


def read_failures(
    destination: str,
    *,
    list_all: bool = False,
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
) -> Failures:
    """Read why documents failed.

    Raises:
        SetupFault: the bucket or the ledger does not exist or cannot be read.
    """
    read = list(_failed(_ledger(Location.parse(destination), credentials, bucket)))
    failed = sorted(filter(None, read), key=lambda record: (record.code, record.job.document.key))
    groups = []
    for code, members in groupby(failed, key=lambda record: record.code):
        records = list(members)
        groups.append(
            FailureGroup(
                code=code,
                count=len(records),
                retry_helps=any(record.retry_helps for record in records),
                documents=[_described(record) for record in (records if list_all else records[:_SHOWN])],
            )
        )
    groups.sort(key=lambda group: -group.count)
    return Failures(destination=destination, failed=len(failed), unreadable=len(read) - len(failed), groups=groups)


def put_back(
    destination: str,
    reasons: Sequence[str],
    keys: Sequence[str],
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
    *,
    dry_run: bool = False,
) -> PutBack:
    """Put failed jobs back for the next pass: all, or only those with the given reasons or keys.

    Args:
        destination: the S3 prefix of results and ledger.
        reasons: only these failure codes; all if empty.
        keys: only these documents, by key (with or without the source's prefix) or address.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.
        dry_run: only report which documents would be put back.

    Raises:
        SetupFault: there is no ledger, it cannot be written, or a reason or key matches nothing; then nothing is put
            back.
    """
    place = Location.parse(destination)
    ledger = _ledger(place, credentials, bucket)
    read = list(_failed(ledger))
    failed = [record for record in read if record is not None]
    names = {record.job.id: _names(record, place) for record in failed}
    _prove_matches(place, "reason", reasons, [[record.code] for record in failed])
    _prove_matches(place, "key", keys, list(names.values()))
    wanted = [
        record
        for record in failed
        if (not reasons or record.code in reasons) and (not keys or not names[record.job.id].isdisjoint(keys))
    ]
    if not wanted and reasons and keys:
        raise SetupFault(f"no failed document at {place} matches both --reason and --key")
    back = [record for record in wanted if dry_run or ledger.put_back(record)]
    return PutBack(
        destination=destination,
        dry_run=dry_run,
        put_back=len(back),
        left=len(read) - len(back),
        pages_kept=sum(map(_pages_kept, back)),
        pages_missing=sum(max(0, (record.job.pages or record.job.estimate) - _pages_kept(record)) for record in back),
    )


def _names(failed: FailedJob, destination: Location) -> set[str]:
    """The names a user may give the document: its address, its key, and its key relative to the source."""
    job = failed.job
    result = job.result.removeprefix(f"s3://{destination.bucket}/{destination.prefix}")
    relative = result.removesuffix(result_suffix(job.model, job.answer_schema, job.text_layers))
    return {job.document.uri, job.document.key, relative}


def _prove_matches(destination: Location, label: str, wanted: Sequence[str], known: Sequence[Collection[str]]) -> None:
    """Check that each wanted name is known.

    Raises:
        SetupFault: a name is unknown; the message suggests the closest one.
    """
    names = {name for aliases in known for name in aliases}
    for name in wanted:
        if name not in names:
            nearest = did_you_mean(name, names)
            suggestion = f". Did you mean {nearest}?" if nearest else ""
            if not known:
                raise SetupFault(f"there is no failed document at {destination}; nothing was put back")
            raise SetupFault(
                f"of {len(known)} failed documents at {destination}, none has the {label} '{name}'; nothing was put "
                f"back{suggestion}"
            )


def _ledger(place: Location, credentials: Credentials, bucket: DestinationOptions) -> Ledger:
    """The ledger of a destination.

    Raises:
        SetupFault: there is none.
    """
    objects = open_results(credentials, _READERS, bucket)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    return Ledger(objects, place)


def _failed(ledger: Ledger) -> Iterator[FailedJob | None]:
    """The records of the failed jobs; None for one that this version cannot read."""

    def read(job_id: str) -> list[FailedJob | None]:
        try:
            failed = ledger.failed(job_id)
        except RecordUnreadable:
            return [None]
        return [] if failed is None else [failed]  # put back meanwhile

    with ThreadPoolExecutor(_READERS) as pool:
        for records in pool.map(read, [entry.id for entry in ledger.entries("failed")]):
            yield from records


def _described(failed: FailedJob) -> FailureDetails:
    return FailureDetails(
        document=failed.job.document.uri,
        key=failed.job.document.key,
        stage=failed.stage,
        reason=failed.reason,
        missing=[str(pages) for pages in failed.missing],
        pages_kept=_pages_kept(failed),
    )


def _pages_kept(failed: FailedJob) -> int:
    return sum(map(len, failed.job.kept))
