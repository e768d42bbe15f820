"""The records of a job, as the ledger stores them, and the small frozen types that they are made of.

Nothing here changes a job: every change is a function in `tasks.job.transitions`.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RECORD_FORMAT: Literal[3] = 3
Format = Literal[1, 2, 3]

# Of format 1, whose leases were not renewed.
_OLD_LEASE = timedelta(seconds=600)


class Frozen(BaseModel):
    """A value. Unknown fields are refused, so that a record of a newer format is never half understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PageRange(Frozen):
    """Consecutive pages of a document, counted from 1, both ends included."""

    first: Annotated[int, Field(ge=1)]
    last: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"a page range cannot end ({self.last}) before it begins ({self.first})")
        return self

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last > self.first else f"{self.first}"


def page_ranges(pages: Iterable[int], longest: int | None = None) -> list[PageRange]:
    """Write ascending page numbers as ranges, none longer than `longest` pages."""
    ranges: list[PageRange] = []
    first = last = 0
    for page in pages:
        if first and page == last + 1 and (longest is None or last - first + 1 < longest):
            last = page
            continue
        if first:
            ranges.append(PageRange(first=first, last=last))
        first = last = page
    if first:
        ranges.append(PageRange(first=first, last=last))
    return ranges


class Document(Frozen):
    """One version of one object in the source: a reference, never the bytes."""

    bucket: str
    key: str
    etag: str
    size: int
    last_modified: datetime

    @property
    def uri(self) -> str:
        """The address a person would use."""
        return f"s3://{self.bucket}/{self.key}"


AnswerSchema = Literal["clova", "google"]
TextLayers = Literal["skip-text", "trust-ocr-layers"]
"""Whose text stands for recognising a page: that of documents, or that of scans with invisible text on them as well."""


def job_id(
    document: Document, model: str, schema: AnswerSchema | None = None, text_layers: TextLayers | None = None
) -> str:
    """The name of the job: the same for the same document version and the same options, anywhere, always."""
    return job_id_of(document, document.etag, model, schema, text_layers)


def job_id_of(
    document: Document, etag: str, model: str, schema: AnswerSchema | None, text_layers: TextLayers | None = None
) -> str:
    """The name of the job of another version of a document."""
    options: dict[str, str] = {"model": model}
    if schema is not None:
        options["schema"] = schema
    if text_layers is not None:
        options["text_layers"] = text_layers
    identity = [document.bucket, document.key, etag, options]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:40]


class Request(Frozen):
    """One submission to the API: which pages it covers and how it stands."""

    id: str = Field(description="the API's; a synchronous request gets one of ours")
    pages: PageRange | None = Field(description="None while the document's page count is unknown: all of it")
    submitted_at: datetime
    run: str | None = Field(None, description="the flow run that sent it, or the process where there is no flow run")
    status: Literal["open", "finished", "answered", "lost", "resent"] = Field(
        "open", description="'answered': a synchronous request, whose pages lie in the ledger"
    )
    unknown_since: datetime | None = Field(None, description="when the API first said that it does not know it")
    note: str = Field("", description="why it was given up, when it was")
    completed_at: datetime | None = Field(None, description="when the API had finished it, as far as the API says")
    price_per_page: float | None = Field(None, ge=0, description="dollars; None in records from before format 3")


class LostPages(Frozen):
    """Pages that were posted and have no answer on record: they may be paid for, and no request id tells of them."""

    at: datetime
    pages: Annotated[int, Field(ge=0)]
    run: str | None = None
    price_per_page: float | None = Field(None, ge=0, description="dollars")


Activity = Literal["reading", "posting", "collecting"]


class Lease(Frozen):
    """Who works on the job, on what, and since when. Renewed by its owner's heartbeat while that lives."""

    owner: str
    since: datetime
    until: datetime = Field(description="when it ends, unless the owner's heartbeat is alive")
    doing: Activity
    pages: PageRange | None = Field(None, description="the pages being posted")
    run: str | None = Field(None, description="the flow run, or the process where there is no flow run")
    price_per_page: float | None = Field(None, ge=0, description="dollars for each page being posted")


class Job(Frozen):
    """A document's pages on their way: the record under `_jobs/open/`."""

    format: Format = RECORD_FORMAT
    id: str
    document: Document
    model: str
    answer_schema: AnswerSchema | None = Field(None, description="None for the API's own answer shape")
    text_layers: TextLayers | None = Field(None, description="None where every page is recognised")
    result: str
    pages: int | None = Field(
        None, description="the document's page count; None until somebody counted: for office formats, the API"
    )
    estimate: int = Field(0, description="the pages reckoned with when it was sent, where the API counts them")
    claimed_at: datetime
    lease: Lease | None = None
    closed: str | None = Field(None, description="who closed the job, and deletes this record")
    nonce: str | None = Field(None, description="makes two writers of otherwise equal records tell themselves apart")
    requests: tuple[Request, ...] = ()
    rounds: int = Field(0, ge=0, description="how often pages were sent, the first time included")
    possible_duplicates: int = Field(
        0, ge=0, description="submissions that may be paid for, and were or will be made again"
    )
    pages_sent: int = Field(0, ge=0, description="pages in accepted submissions, and so paid for")
    pages_lost: int = Field(0, ge=0, description="pages in submissions without an answer on record: may be paid for")
    lost: tuple[LostPages, ...] = Field((), description="when those were posted, and by whom")
    poll_after: datetime | None = None
    content: str | None = Field(None, description="SHA-256 of the document's bytes, once they were read")
    unreadable_since: datetime | None = Field(None, description="when downloads began to be no answers")
    kept: tuple[PageRange, ...] = Field(
        (), description="pages that are in the ledger: answered synchronously, or fetched before the job failed"
    )
    text_pages: tuple[PageRange, ...] = Field(
        (), description="of those in the ledger, the ones that came from the document's own text"
    )
    retries: int = Field(0, ge=0, description="how often the job was put back after it had failed")
    pages_completed: int = Field(0, ge=0, description="pages the API had finished when it was last asked")
    note: str = Field("", description="what is odd about the document, if it was sent all the same")
    flow_run: str | None = None
    backfill: str | None = Field(None, description="the backfill that it was claimed for, and is charged to")

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, data: Any) -> Any:
        return _upgraded(data) if isinstance(data, dict) and data.get("format") == 1 else data

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent for it so far, as far as we know: giving it back loses nothing."""
        return not (self.requests or self.kept or self.possible_duplicates)

    @property
    def open_requests(self) -> tuple[Request, ...]:
        """The requests that the API is still working on, as far as we know."""
        return tuple(request for request in self.requests if request.status == "open")


def _upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A job's record of format 1 in the present format; written when the job is next changed."""
    job = old | {"format": RECORD_FORMAT}
    lease = job.get("lease")
    if isinstance(lease, dict):
        if lease.get("doing") == "closed":
            job |= {"lease": None, "closed": lease.get("owner")}
        elif "since" not in lease and isinstance(lease.get("until"), str):
            since = datetime.fromisoformat(lease["until"]) - _OLD_LEASE
            job["lease"] = lease | {"since": since.isoformat()}
    if "pages_sent" not in job and isinstance(job.get("requests"), list):
        job["pages_sent"] = sum(_pages_of(request, job) for request in job["requests"])
    return job


def _pages_of(request: Any, job: dict[str, Any]) -> int:
    pages = request.get("pages") if isinstance(request, dict) else None
    if isinstance(pages, dict):
        return int(pages.get("last", 0)) - int(pages.get("first", 0)) + 1
    return int(job.get("pages") or job.get("estimate") or 0)


class ContentOwner(Frozen):
    """The record under `_jobs/content/`: which job recognises these bytes, for `--reuse-identical`."""

    format: Format = RECORD_FORMAT
    job: str


class RequestOwner(Frozen):
    """The record under `_jobs/requests/`: which job collected the pages of a request."""

    format: Format = RECORD_FORMAT
    job: str


CONFIDENCE_BINS = 10


class Confidence(Frozen):
    """How sure the API is of the words of a document, from 0 to 1. Words without a confidence are left out."""

    minimum: float
    mean: float
    bins: Annotated[tuple[int, ...], Field(min_length=CONFIDENCE_BINS, max_length=CONFIDENCE_BINS)] = Field(
        description="words from 0 to 0.1, from 0.1 to 0.2, …, from 0.9 to 1"
    )


class Measured(Frozen):
    """What a result holds, measured while it was written."""

    words: int
    blank_pages: int = Field(description="pages with neither a word nor a text")
    confidence: Confidence | None = Field(None, description="None where no word has one")
    billed_pages: int | None = Field(None, description="as the answers say; None where one does not")


class PageSources(Frozen):
    """Where the pages of a result came from. Their sum is the document's pages."""

    sent: int = Field(0, ge=0, description="recognised by the API for this document")
    reused: int = Field(0, ge=0, description="copied from the result of a document with the same bytes")
    text_layer: int = Field(0, ge=0, description="taken from the document's own text")


class Durations(Frozen):
    """Where the time from the claim to the published result went, in seconds. The three add up to all of it."""

    waiting: float | None = Field(description="for us: to be sent, to be asked for; None where `at_api` is")
    at_api: float | None = Field(description="by the API's own `completed_at`; None where it did not say")
    collecting: float = Field(description="downloaded, merged and published")


class DoneJob(Frozen):
    """The record under `_jobs/done/`: the result is published."""

    format: Format = RECORD_FORMAT
    job: Job
    pages: int
    finished_at: datetime
    superseded: bool = Field(False, description="a newer version of the document had been published already")
    copied_from: str | None = Field(None, description="the job whose result was copied: identical content")
    flow_run: str | None = None
    # None in records from before format 3.
    measured: Measured | None = None
    sources: PageSources | None = None
    cost: float | None = Field(None, description="dollars for all pages sent, those sent again included")
    durations: Durations | None = None


class FailedJob(Frozen):
    """The record under `_jobs/failed/`: given up, and why."""

    format: Format = RECORD_FORMAT
    job: Job
    stage: Literal["read", "submit", "recognise", "collect"]
    code: str
    reason: str
    retry_helps: bool
    missing: tuple[PageRange, ...] = ()
    failed_at: datetime
    flow_run: str | None = None
