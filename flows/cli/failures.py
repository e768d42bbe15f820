"""Failed documents: why, grouped, and putting them back. No flow: these read and move ledger records."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from pydantic import BaseModel, Field

from flows.cli.output import Page
from tasks.access.open import open_results
from tasks.faults import RecordUnreadable, SetupFault
from tasks.job.record import FailedJob
from tasks.options import ENVIRONMENT, Credentials
from tasks.steps.nearest import did_you_mean, why_no_ledger
from tasks.store.ledger import Ledger
from tasks.store.location import Location, result_suffix
from tasks.store.settings import AS_IT_IS, DestinationOptions

_SHOWN = 10
_READERS = 16


class FailureDetails(BaseModel):
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
    documents: list[FailureDetails] = Field(description=f"the first {_SHOWN}, or all with --all")


class Failures(BaseModel):
    """All that failed at a destination."""

    destination: str
    failed: int
    unreadable: int = Field(0, description="records of another version of this program, left alone")
    groups: list[FailureGroup]

    def show(self, page: Page) -> None:
        """Print for a person."""
        for group in self.groups:
            advice = "putting it back can help" if group.retry_helps else "putting it back unchanged does not help"
            page.say(f"{group.code}: {group.count} ({advice})", "bold")
            for failed in group.documents:
                page.say(f"  {failed.document}: {failed.reason}")
            if group.count > len(group.documents):
                page.say(f"  … and {group.count - len(group.documents)} more; --all lists them")
        page.say(f"{self.failed} failed at {self.destination}")
        if self.unreadable:
            page.say(f"{self.unreadable} more have records of another version of this program")
        if self.failed:
            page.say(f"Put back: bulk-ocr retry {self.destination} [--reason CODE] [--key KEY]")


class PutBack(BaseModel):
    """What `retry` did."""

    destination: str
    put_back: int
    left: int = Field(description="failed documents not asked for, being closed right now, or of another version")
    pages_kept: int = Field(description="pages of them that are here already and will not be paid for again")

    def show(self, page: Page) -> None:
        """Print for a person."""
        line = f"{self.put_back} put back, {self.left} left; {self.pages_kept} pages are here already"
        page.say(f"{line}. Go on with: bulk-ocr run, or wait for the next collect")


def read_failures(
    destination: str,
    *,
    everything: bool = False,
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
) -> Failures:
    """Read why documents failed.

    Raises:
        SetupFault: there is no such bucket or no ledger, or it may not be read.
    """
    read = list(_failed(_ledger(Location.parse(destination), credentials, bucket)))
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
    destination: str,
    reasons: Sequence[str],
    keys: Sequence[str],
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
) -> PutBack:
    """Put failed jobs back, for the next pass to go on with: all, or those of some reasons or keys.

    Args:
        destination: where results and ledger lie.
        reasons: only these kinds of failure; all when there are none.
        keys: only these documents: their keys, with the source's prefix or without it, or their addresses.
        credentials: where those for S3 are.
        bucket: how the destination's bucket is used.

    Raises:
        SetupFault: there is no ledger, it may not be written, or a reason or key matches nothing: none is put back.
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
        raise SetupFault(f"no document that failed at {place} has both one of these reasons and one of these keys")
    back = [record for record in wanted if ledger.put_back(record)]
    return PutBack(
        destination=destination,
        put_back=len(back),
        left=len(read) - len(back),
        pages_kept=sum(map(_pages_kept, back)),
    )


def _names(failed: FailedJob, destination: Location) -> set[str]:
    """What a person may call the document: its address, its key, and its key as seen from the source."""
    job = failed.job
    result = job.result.removeprefix(f"s3://{destination.bucket}/{destination.prefix}")
    relative = result.removesuffix(result_suffix(job.model, job.answer_schema, job.text_layers))
    return {job.document.uri, job.document.key, relative}


def _prove_matches(destination: Location, what: str, given: Sequence[str], there: Sequence[Collection[str]]) -> None:
    """Prove that each of these is there.

    Raises:
        SetupFault: one is not; says which may have been meant.
    """
    names = {name for each in there for name in each}
    for name in given:
        if name not in names:
            nearest = did_you_mean(name, names)
            asked = f". Did you mean {nearest}?" if nearest else ""
            raise SetupFault(
                f"of {len(there)} documents that failed at {destination}, none has the {what} '{name}'; nothing is put "
                f"back{asked}"
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
        for found in pool.map(read, [entry.id for entry in ledger.entries("failed")]):
            yield from found


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
