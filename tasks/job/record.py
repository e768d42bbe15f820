"""The records of a job as the ledger stores them, and the small immutable types they consist of.

Jobs are changed only by the functions in `tasks.job.transitions`.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RECORD_FORMAT: Literal[3] = 3
Format = Literal[1, 2, 3]

# The length of a lease in format 1, which stored no start.
_OLD_LEASE = timedelta(seconds=600)


class Frozen(BaseModel):
    """An immutable value. Unknown fields are rejected, so that a record of a newer format is never read in part."""

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
    """Group ascending page numbers into ranges of at most `longest` pages."""
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
        """The address of the object, `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


AnswerSchema = Literal["clova", "google"]
TextLayers = Literal["skip-text", "trust-ocr-layers"]
"""Which embedded text replaces OCR: that of digital documents, or also the invisible text of scans OCRed before."""


def job_id(
    document: Document, model: str, schema: AnswerSchema | None = None, text_layers: TextLayers | None = None
) -> str:
    """Return the id of a job. It depends only on the document version and the recognition options."""
    return job_id_of(document, document.etag, model, schema, text_layers)


def job_id_of(
    document: Document, etag: str, model: str, schema: AnswerSchema | None, text_layers: TextLayers | None = None
) -> str:
    """Return the id of the job for the version of a document that has the given ETag."""
    options: dict[str, str] = {"model": model}
    if schema is not None:
        options["schema"] = schema
    if text_layers is not None:
        options["text_layers"] = text_layers
    identity = [document.bucket, document.key, etag, options]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:40]


class Request(Frozen):
    """One submission to the API: its pages and its status."""

    id: str = Field(description="the API's id; synchronous requests get an id from this program")
    pages: PageRange | None = Field(description="None while the document's page count is unknown: all of it")
    submitted_at: datetime
    reserved_at: datetime | None = Field(
        None, description="when its pages were reserved, if that was on an earlier day: they are charged to that day"
    )
    run: str | None = Field(None, description="the flow run that sent it, or the process where there is no flow run")
    status: Literal["open", "finished", "answered", "lost", "resent"] = Field(
        "open", description="'answered': a synchronous request, whose pages are in the ledger"
    )
    unknown_since: datetime | None = Field(None, description="when the API first denied knowing the request")
    note: str = Field("", description="why it was given up, if it was")
    completed_at: datetime | None = Field(None, description="when the API finished it, if the API reports it")
    price_per_page: float | None = Field(None, ge=0, description="dollars; None in records from before format 3")


class LostPages(Frozen):
    """Pages that were posted without an answer on record: they may be billed, and there is no request id for them."""

    at: datetime
    pages: Annotated[int, Field(ge=0)]
    run: str | None = None
    price_per_page: float | None = Field(None, ge=0, description="dollars")


Activity = Literal["reading", "posting", "collecting"]


class Lease(Frozen):
    """Which worker holds the job, for what, and since when. Extended for as long as the owner's heartbeat is alive."""

    owner: str
    since: datetime
    until: datetime = Field(description="when it expires, unless the owner's heartbeat is alive")
    doing: Activity
    pages: PageRange | None = Field(None, description="the pages being posted")
    run: str | None = Field(None, description="the flow run, or the process where there is no flow run")
    price_per_page: float | None = Field(None, ge=0, description="dollars for each page being posted")


class Job(Frozen):
    """A job in progress: the record under `_jobs/open/`."""

    format: Format = RECORD_FORMAT
    id: str
    document: Document
    model: str
    answer_schema: AnswerSchema | None = Field(None, description="None for the API's own answer shape")
    text_layers: TextLayers | None = Field(None, description="None if every page is recognised")
    result: str
    pages: int | None = Field(
        None, description="the document's page count; None until it is known (only the API counts office documents)"
    )
    estimate: int = Field(0, description="the estimated page count when it was sent, if only the API can count it")
    claimed_at: datetime
    lease: Lease | None = None
    closed: str | None = Field(None, description="the worker that closed the job and deletes this record")
    nonce: str | None = Field(None, description="lets a writer tell its own record from an otherwise equal one")
    requests: tuple[Request, ...] = ()
    rounds: int = Field(0, ge=0, description="how often pages were sent, including the first time")
    possible_duplicates: int = Field(
        0, ge=0, description="submissions that may be billed and were, or will be, repeated"
    )
    pages_sent: int = Field(0, ge=0, description="pages in accepted submissions, which are billed")
    pages_lost: int = Field(0, ge=0, description="pages in submissions without an answer on record: may be billed")
    lost: tuple[LostPages, ...] = Field((), description="those submissions: when and by which run they were posted")
    poll_after: datetime | None = None
    content: str | None = Field(None, description="SHA-256 of the document's bytes, once read")
    unreadable_since: datetime | None = Field(None, description="since when downloaded results have been unreadable")
    kept: tuple[PageRange, ...] = Field(
        (), description="pages in the ledger: answered synchronously, or fetched before the job failed"
    )
    text_pages: tuple[PageRange, ...] = Field(
        (), description="those pages in the ledger that came from the document's own text"
    )
    retries: int = Field(0, ge=0, description="how often the job was retried after it had failed")
    pages_completed: int = Field(0, ge=0, description="pages that the API had finished at the last poll")
    note: str = Field("", description="a warning about the document, if it was sent in spite of it")
    flow_run: str | None = None
    backfill: str | None = Field(None, description="the backfill that it was claimed for and is charged to")

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, data: Any) -> Any:
        return _upgraded(data) if isinstance(data, dict) and data.get("format") == 1 else data

    @property
    def untouched(self) -> bool:
        """Whether nothing is known to have been sent for it yet, so that releasing it loses nothing."""
        return not (self.requests or self.kept or self.possible_duplicates)

    @property
    def open_requests(self) -> tuple[Request, ...]:
        """The requests that the API had not finished at the last poll."""
        return tuple(request for request in self.requests if request.status == "open")


def _upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """Convert a job's record of format 1 to the current format. It is written back when the job next changes."""
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
    """The API's confidence in the words of a document, from 0 to 1. Words without a confidence are not counted."""

    minimum: float
    mean: float
    bins: Annotated[tuple[int, ...], Field(min_length=CONFIDENCE_BINS, max_length=CONFIDENCE_BINS)] = Field(
        description="words from 0 to 0.1, from 0.1 to 0.2, …, from 0.9 to 1"
    )


class Measured(Frozen):
    """Figures of a result, measured while it was written."""

    words: int
    blank_pages: int = Field(description="pages without words and without text")
    confidence: Confidence | None = Field(None, description="None if no word has a confidence")
    billed_pages: int | None = Field(None, description="according to the answers; None if one of them does not say")


class PageSources(Frozen):
    """Where the pages of a result came from. The three add up to the document's pages."""

    sent: int = Field(0, ge=0, description="recognised by the API for this document")
    reused: int = Field(0, ge=0, description="copied from the result of a document with the same bytes")
    text_layer: int = Field(0, ge=0, description="taken from the document's own text")


class Durations(Frozen):
    """How the time from claim to published result divides, in seconds. The three add up to all of it."""

    waiting: float | None = Field(description="in our queue, to be sent or polled; None if `at_api` is None")
    at_api: float | None = Field(description="until the API's own `completed_at`; None if it is not reported")
    collecting: float = Field(description="downloading, merging and publishing")


class DoneJob(Frozen):
    """The record under `_jobs/done/`: the result is published."""

    format: Format = RECORD_FORMAT
    job: Job
    pages: int
    finished_at: datetime
    superseded: bool = Field(False, description="a newer version of the document was already published")
    copied_from: str | None = Field(None, description="the job whose result was copied because the bytes are identical")
    flow_run: str | None = None
    # None in records from before format 3.
    measured: Measured | None = None
    sources: PageSources | None = None
    cost: float | None = Field(None, description="dollars for all pages sent, including pages sent again")
    durations: Durations | None = None


class FailedJob(Frozen):
    """The record under `_jobs/failed/`: a job that was given up, with the reason."""

    format: Format = RECORD_FORMAT
    job: Job
    stage: Literal["read", "submit", "recognise", "collect"]
    code: str
    reason: str
    retry_helps: bool
    missing: tuple[PageRange, ...] = ()
    failed_at: datetime
    flow_run: str | None = None
