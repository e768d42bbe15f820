"""A row of the catalogue, made from a record. Pure: no database, no store."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from tasks.job.record import AnswerSchema, DoneJob, FailedJob, Job, TextLayers
from tasks.job.spending import cost, spends
from tasks.store.location import Location, result_suffix

RowState = Literal["done", "failed", "open"]


def _with_time_zone(moment: datetime) -> datetime:
    """The database's times are UTC without a time zone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_with_time_zone)]


class SpendRow(BaseModel):
    """A submission that is, or may be, on the vendor's bill. The price is in dollars a page."""

    at: Time
    pages: int
    accepted: bool
    run: str | None
    price: float | None
    request: str | None
    possible_duplicates: int
    number: int  # distinguishes otherwise equal submissions without a request


class Row(BaseModel):
    """The catalogue's row for one record of one document. Units: seconds, dollars, UTC; None if unknown.

    The fields are the columns, in this order. A new field needs a type in `database.COLUMNS`.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    etag: str  # of the record; shows whether the row is up to date
    state: RowState
    document: str
    bucket: str
    key: str
    version: str
    size: int
    modified_at: Time
    result: str
    path: str  # the document's key relative to the source
    prefix: str  # the first folder in the path; empty at the top level
    model: str
    answer_schema: AnswerSchema | None = None
    text_layers: TextLayers | None = None
    run: str | None = None
    backfill: str | None = None
    claimed_at: Time
    ended_at: Time | None = None
    pages: int | None = None
    words: int | None = None
    blank_pages: int | None = None
    confidence_min: float | None = None
    confidence_mean: float | None = None
    confidence_bins: list[int] | None = None
    pages_from_api: int | None = None
    pages_reused: int | None = None
    pages_from_text_layer: int | None = None
    billed_pages: int | None = None  # according to the answers
    pages_sent: int
    pages_lost: int
    requests: int
    possible_duplicates: int
    cost: float | None = None
    possible_cost: float | None = None
    waiting_seconds: float | None = None
    api_seconds: float | None = None
    collecting_seconds: float | None = None
    total_seconds: float | None = None
    superseded: bool = False
    copied_from: str | None = None
    code: str | None = None
    reason: str | None = None
    retry_helps: bool | None = None
    spends: list[SpendRow]


def row_of_done(done: DoneJob, etag: str, destination: Location) -> Row:
    """Return the row of a document whose result is published."""
    measured, sources, took = done.measured, done.sources, done.durations
    confidence = measured.confidence if measured else None
    row = _of_job(done.job, etag, "done", destination) | {
        "run": done.flow_run,
        "ended_at": done.finished_at,
        "pages": done.pages,
        "collecting_seconds": took.collecting if took else None,
        "total_seconds": round(max(0.0, (done.finished_at - done.job.claimed_at).total_seconds()), 3),
        "superseded": done.superseded,
        "copied_from": done.copied_from,
    }
    if measured:
        row |= {"words": measured.words, "blank_pages": measured.blank_pages, "billed_pages": measured.billed_pages}
    if confidence:
        row |= {
            "confidence_min": confidence.minimum,
            "confidence_mean": confidence.mean,
            "confidence_bins": list(confidence.bins),
        }
    if sources:
        row |= {
            "pages_from_api": sources.sent,
            "pages_reused": sources.reused,
            "pages_from_text_layer": sources.text_layer,
        }
    if took:
        row |= {"waiting_seconds": took.waiting, "api_seconds": took.at_api}
    return Row.model_validate(row)


def row_of_failed(failed: FailedJob, etag: str, destination: Location) -> Row:
    """Return the row of a document that was given up."""
    return Row.model_validate(
        _of_job(failed.job, etag, "failed", destination)
        | {
            "run": failed.flow_run,
            "ended_at": failed.failed_at,
            "code": failed.code,
            "reason": failed.reason,
            "retry_helps": failed.retry_helps,
        }
    )


def row_of_open(job: Job, etag: str, destination: Location) -> Row:
    """Return the row of a document in progress. It is never saved, because it changes with every step."""
    return Row.model_validate(_of_job(job, etag, "open", destination))


def _of_job(job: Job, etag: str, state: RowState, destination: Location) -> dict[str, Any]:
    document, paid = job.document, cost(job)
    path = path_in_source(job, destination)
    return {
        "id": job.id,
        "etag": etag,
        "state": state,
        "document": document.uri,
        "bucket": document.bucket,
        "key": document.key,
        "version": document.etag,
        "size": document.size,
        "modified_at": document.last_modified,
        "result": job.result,
        "path": path,
        "prefix": path.partition("/")[0] if "/" in path else "",
        "model": job.model,
        "answer_schema": job.answer_schema,
        "text_layers": job.text_layers,
        "run": job.flow_run,
        "backfill": job.backfill,
        "claimed_at": job.claimed_at,
        "pages": job.pages,
        "pages_sent": job.pages_sent,
        "pages_lost": job.pages_lost,
        "requests": len(job.requests),
        "possible_duplicates": job.possible_duplicates,
        "cost": paid.accepted,
        "possible_cost": paid.possible,
        "spends": _spends(job),
    }


def _spends(job: Job) -> list[SpendRow]:
    rows: list[SpendRow] = []
    for spend in spends(job):
        alike = sum(row.request is None and row.accepted is spend.accepted for row in rows)
        rows.append(
            SpendRow(
                at=spend.at,
                pages=spend.pages,
                accepted=spend.accepted,
                run=spend.run,
                price=spend.price_per_page,
                request=spend.request,
                possible_duplicates=spend.possible_duplicates,
                number=alike if spend.request is None else 0,
            )
        )
    return rows


def path_in_source(job: Job, destination: Location) -> str:
    """Return a document's key relative to the source. No record names the source; the result's path is the same."""
    result = job.result.removesuffix(result_suffix(job.model, job.answer_schema, job.text_layers))
    return result.removeprefix(f"s3://{destination.bucket}/{destination.prefix}") or job.document.key
