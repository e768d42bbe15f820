"""The small frozen types that pass between the rooms, and that the ledger stores."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RECORD_FORMAT: Literal[1] = 1


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


def job_id(document: Document, model: str, schema: AnswerSchema | None = None) -> str:
    """The name of the job: the same for the same document version and the same options, anywhere, always."""
    options = {"model": model} if schema is None else {"model": model, "schema": schema}
    identity = [document.bucket, document.key, document.etag, options]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:40]


class Request(Frozen):
    """One submission to the API: which pages it covers and how it stands."""

    id: str = Field(description="the API's; a synchronous request has none there, and gets one of ours")
    pages: PageRange | None = Field(description="None while the document's page count is unknown: all of it")
    submitted_at: datetime
    status: Literal["open", "finished", "answered", "lost", "resent"] = Field(
        "open", description="'answered': a synchronous request, whose pages lie in the ledger"
    )
    unknown_since: datetime | None = Field(None, description="when the API first said that it does not know it")
    note: str = Field("", description="why it was given up, when it was")


class Lease(Frozen):
    """Who works on the job right now, on what, and until when the others leave it alone."""

    owner: str
    until: datetime
    doing: Literal["reading", "posting", "collecting", "closed"]
    pages: PageRange | None = Field(None, description="the pages being posted")


class Job(Frozen):
    """A document's pages on their way: the record under `_jobs/open/`."""

    format: Literal[1] = RECORD_FORMAT
    id: str
    document: Document
    model: str
    answer_schema: AnswerSchema | None = Field(None, description="None for the API's own answer shape")
    result: str
    pages: int | None = Field(
        None, description="the document's page count; None until somebody counted: for office formats, the API"
    )
    estimate: int = Field(0, description="the pages reckoned with when it was sent, where the API counts them")
    claimed_at: datetime
    lease: Lease | None = None
    requests: tuple[Request, ...] = ()
    rounds: int = Field(0, description="how often pages were sent, the first time included")
    possible_duplicates: int = Field(0, description="submissions whose answer was lost, sent again since")
    poll_after: datetime | None = None
    content: str | None = Field(None, description="SHA-256 of the document's bytes, once they were read")
    unreadable_since: datetime | None = Field(None, description="when downloads began to be no answers")
    kept: tuple[PageRange, ...] = Field(
        (), description="pages that are in the ledger: answered at once, or come before the job failed"
    )
    retries: int = Field(0, description="how often the job was put back after it had failed")
    pages_completed: int = Field(0, description="pages the API had finished when it was last asked")
    flow_run: str | None = None

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent for it so far, as far as we know: giving it back loses nothing."""
        return not (self.requests or self.kept or self.possible_duplicates)

    @property
    def open_requests(self) -> tuple[Request, ...]:
        """The requests that the API is still working on, as far as we know."""
        return tuple(request for request in self.requests if request.status == "open")


class ContentOwner(Frozen):
    """The record under `_jobs/content/`: which job recognises these bytes, for `--reuse-identical`."""

    format: Literal[1] = RECORD_FORMAT
    job: str


class DoneJob(Frozen):
    """The record under `_jobs/done/`: the result is published."""

    format: Literal[1] = RECORD_FORMAT
    job: Job
    pages: int
    finished_at: datetime
    superseded: bool = Field(False, description="a newer version of the document had been published already")
    copied_from: str | None = Field(None, description="the job whose result was copied: identical content")
    flow_run: str | None = None


class FailedJob(Frozen):
    """The record under `_jobs/failed/`: given up, and why."""

    format: Literal[1] = RECORD_FORMAT
    job: Job
    stage: Literal["read", "submit", "recognise", "collect"]
    code: str
    reason: str
    retry_helps: bool
    missing: tuple[PageRange, ...] = ()
    failed_at: datetime
    flow_run: str | None = None
