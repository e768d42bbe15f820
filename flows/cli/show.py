"""The command `show`: one document's history, from its ledger records and, for older versions, the catalogue."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import unquote

from pydantic import BaseModel, Field

from flows.cli.catalogue import READERS, catalogue_of
from flows.cli.output import Page
from flows.cli.places import destination_of, known_places
from flows.run.run_links import RunLink, run_link
from tasks.access.open import open_results
from tasks.catalogue.catalogue import Catalogue
from tasks.catalogue.queries import document_ids, names_like, rows_of_document
from tasks.catalogue.row import Row
from tasks.clock import Clock
from tasks.faults import Fault, RecordUnreadable, SetupFault
from tasks.job.next_step import Bounds, next_step
from tasks.job.record import Document, DoneJob, Durations, FailedJob, Job, Measured, PageSources, job_id
from tasks.job.spending import cost, duplicates_text, spends
from tasks.job.story import next_of_done, next_of_failed, next_of_open
from tasks.number_format import dollars, number, quantity, share, span
from tasks.options import DEFAULTS, Credentials
from tasks.steps.nearest import ledgers_near, why_no_ledger
from tasks.store.aside import AsideNotes
from tasks.store.heartbeats import Heartbeats
from tasks.store.ledger import Ledger
from tasks.store.listings import object_address
from tasks.store.location import DEFAULT_MODEL, LEDGER_FOLDER, Location, document_of_output, is_output
from tasks.store.object_store import Described, ObjectStore
from tasks.store.settings import DestinationOptions

_NEAREST = 3
_JOB, _SOURCE = "bulk-ocr-job", "source"  # keys of a result's metadata


class SpentRequest(BaseModel):
    """A submission of the document's pages."""

    id: str | None = Field(description="the API's request id; None if none is on record")
    pages: str
    sent_at: datetime
    finished_at: datetime | None = Field(None, description="as reported by the API")
    run: str | None
    run_url: str | None
    status: str
    note: str = ""
    cost: float | None = Field(description="dollars; None if the record has no price")


class JobHistory(BaseModel):
    """One version of the document under one model and schema."""

    id: str
    state: Literal["open", "done", "failed", "set aside", "replaced"]
    model: str
    answer_schema: str | None
    text_layers: str | None = None
    version: str = Field(description="the document's ETag")
    is_current: bool | None = Field(description="whether this is the document's current version; None if unknown")
    result: str
    claimed_at: datetime | None = None
    ended_at: datetime | None = None
    pages: int | None = None
    run: str | None = None
    run_url: str | None = None
    backfill: str | None = None
    measured: Measured | None = None
    sources: PageSources | None = None
    durations: Durations | None = None
    cost: float | None = Field(None, description="dollars for all pages that the API accepted")
    possible_cost: float | None = Field(None, description="additional dollars if pages without an answer were billed")
    possible_duplicates: int = Field(0, description="submissions that may be billed and were, or will be, repeated")
    requests: list[SpentRequest] = []
    code: str | None = None
    reason: str | None = None
    next: str

    def show(self, page: Page) -> None:
        """Print as text."""
        schema = f", schema {self.answer_schema}" if self.answer_schema else ""
        schema += f", {self.text_layers}" if self.text_layers else ""
        earlier = "" if self.is_current is not False else " (an earlier version of the document)"
        page.say(f"{self.state}: model {self.model}{schema}, version {self.version}{earlier}", "bold")
        lines = [
            ("result", self.result if self.state == "done" else ""),
            ("why", f"{self.code}: {self.reason}" if self.code else self.reason or ""),
            ("claimed", _moment(self.claimed_at)),
            ("ended", _moment(self.ended_at)),
            ("run", self.run_url or self.run or ""),
            ("backfill", self.backfill or ""),
            ("pages", self._pages()),
            ("confidence", self._confidence()),
            ("cost", self._cost()),
            ("time", self._time()),
            ("next", self.next),
        ]
        page.table([(f"  {name}", text) for name, text in lines if text])
        if self.requests:
            page.table([_request_row(request, self.run) for request in self.requests], _REQUEST_HEADER)

    def _pages(self) -> str:
        if self.pages is None:
            return ""
        parts = [number(self.pages)]
        if self.measured:
            blank = f", {self.measured.blank_pages} blank" if self.measured.blank_pages else ""
            parts.append(f"{quantity(self.measured.words, 'word')}{blank}")
        if self.sources and self.sources.reused:
            parts.append("copied from a document with the same bytes")
        if self.sources and self.sources.text_layer:
            parts.append(f"{number(self.sources.text_layer)} from the document's text layer")
        return "; ".join(parts)

    def _confidence(self) -> str:
        confidence = self.measured.confidence if self.measured else None
        if confidence is None:
            return ""
        return f"{share(confidence.mean)} on average, {share(confidence.minimum)} at least"

    def _cost(self) -> str:
        parts = [dollars(self.cost)] if self.cost is not None else []
        if self.possible_cost:
            parts.append(f"{dollars(self.possible_cost)} more if pages without an answer were billed")
        if self.possible_duplicates:
            parts.append(duplicates_text(self.possible_duplicates))
        return "; ".join(parts)

    def _time(self) -> str:
        took = self.durations
        if took is None:
            return ""
        return (
            f"{span(took.waiting)} waiting to be sent, {span(took.at_api)} at the API, "
            f"{span(took.collecting)} collecting"
        )


class DocumentHistory(BaseModel):
    """The history of a document."""

    document: str
    destination: str
    version_now: str | None = Field(description="its current ETag; None if it is gone or cannot be read")
    jobs: list[JobHistory]
    note: str = ""

    def show(self, page: Page) -> None:
        """Print as text."""
        page.say(self.document, "bold")
        for job in self.jobs:
            job.show(page)
        if self.note:
            page.say(self.note)


_REQUEST_HEADER = ("  request", "pages", "sent", "finished at the API", "cost", "status", "other run")


def _request_row(request: SpentRequest, run: str | None) -> tuple[str, ...]:
    """A table row; the run is shown only if it differs from the job's."""
    return (
        f"  {request.id or '(none recorded)'}",
        request.pages,
        _moment(request.sent_at),
        _moment(request.finished_at),
        "?" if request.cost is None else dollars(request.cost),
        f"{request.status}: {request.note}" if request.note else request.status,
        "" if request.run == run else request.run_url or request.run or "",
    )


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def read_document(
    document: str, destination: str | None, credentials: Credentials, bucket: DestinationOptions
) -> DocumentHistory:
    """Read a document's history.

    Args:
        document: its address, its result's address, or its key if a destination is given.
        destination: the S3 prefix of results and ledger, or the name of a place; inferred if omitted.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.

    Raises:
        SetupFault: there is no such document; the message suggests the closest names.
    """
    return history_of(open_results(credentials, READERS, bucket), document, destination)


def history_of(objects: ObjectStore, document: str, destination: str | None) -> DocumentHistory:
    """Read a document's history from an open store.

    Args:
        objects: the store of the document and of the destination.
        document: as for `read_document`.
        destination: as for `read_document`.

    Raises:
        SetupFault: as for `read_document`.
    """
    address, place = _located(objects, document, destination)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    return _Reader(objects, place).read(address)


def _located(objects: ObjectStore, document: str, destination: str | None) -> tuple[str, Location]:
    """The document's address or key, and the destination whose ledger has it."""
    place = None if destination is None else Location.parse(destination_of(destination))
    if "://" not in document:
        if place is None:
            raise SetupFault(
                f"'{document}' is not an address (s3://bucket/key): give an address, or a destination with --at"
            )
        return document, place
    bucket, key = object_address(document)
    if is_output(key):
        result = objects.head(bucket, key)
        if result is not None and _SOURCE in result.metadata:
            ledger_place = _ledger_above(objects, bucket, key) or place
            if ledger_place is not None:
                return unquote(result.metadata[_SOURCE]), ledger_place
    if place is None and is_output(key):  # the source of a place may contain other destinations
        place = _permitted_ledger_above(objects, bucket, key)
    place = place or _place_of(bucket, key) or _permitted_ledger_above(objects, bucket, key)
    if place is None:
        near = [str(ledger) for ledger in ledgers_near(objects, bucket, key)]
        question = f". Did you mean --at {' or --at '.join(near)}?" if near else ""
        raise SetupFault(
            f"the destination of {document} is unknown: give it with --at s3://bucket/prefix, or give "
            f"the result's address{question}"
        )
    # The address of a result that does not exist, such as that of a document that failed.
    path = document_of_output(key) if is_output(key) else None
    if path is not None and bucket == place.bucket and path.startswith(place.prefix):
        return path.removeprefix(place.prefix), place
    return document, place


def _permitted_ledger_above(objects: ObjectStore, bucket: str, key: str) -> Location | None:
    """The ledger above an address; None if there is none, or the credentials may not look for it."""
    try:
        return _ledger_above(objects, bucket, key)
    except SetupFault:
        return None


def _ledger_above(objects: ObjectStore, bucket: str, key: str) -> Location | None:
    """The nearest folder above a result that has a ledger."""
    folder = key
    while folder:
        folder = folder.rpartition("/")[0]
        candidate = Location(bucket, f"{folder}/" if folder else "")
        if next(objects.list(bucket, candidate.key(LEDGER_FOLDER)), None) is not None:
            return candidate
    return None


def _place_of(bucket: str, key: str) -> Location | None:
    """The destination of the place whose source contains a document; the innermost if sources are nested."""
    inside: list[tuple[int, str]] = []
    for place in known_places():
        source = Location.parse(place.source)
        if source.bucket == bucket and key.startswith(source.prefix):
            inside.append((len(source.prefix), place.destination))
    return Location.parse(max(inside)[1]) if inside else None


class _Reader:
    """Reads the records about one document."""

    def __init__(self, objects: ObjectStore, place: Location) -> None:
        self._objects = objects
        self._place = place
        self._ledger = Ledger(objects, place)
        self._clock = Clock()
        self._link: RunLink = run_link()
        self._heartbeats = Heartbeats(
            objects, place.bucket, self._ledger.folder, "nobody", DEFAULTS.lease_seconds, self._clock
        )

    def read(self, named: str) -> DocumentHistory:
        note, older = "", list[Row]()
        now = self._version_now(named)
        ids = [] if now is None else [self._id(now, named)]
        try:
            with catalogue_of(self._objects, self._place) as catalogue:
                named = self._resolve(catalogue, named)
                now = self._version_now(named)
                ids = document_ids(catalogue, named) + ([] if now is None else [self._id(now, named)])
                older = rows_of_document(catalogue, named)
        except SetupFault as fault:
            if "DuckDB" not in str(fault):
                raise
            note = f"Only the current version under the model '{DEFAULT_MODEL}' was looked up: {fault}"
        version = None if now is None else now.etag
        jobs = [job for identity in dict.fromkeys(ids) for job in self._jobs(identity, version)]
        shown = {job.id for job in jobs}
        shown_ends = {(job.id, job.ended_at) for job in jobs}
        for row in older:
            if (row.id, row.ended_at) not in shown_ends:
                jobs.append(self._of_row(row, version, replaced=row.id in shown))
        if not jobs:
            explanation = (
                "it is new and no run has seen it yet" if now is not None else "there is no such document in the source"
            )
            raise SetupFault(f"the ledger at {self._place} has no record of {named}: {explanation}. {note}".rstrip())
        jobs.sort(key=lambda job: job.claimed_at or datetime.max.replace(tzinfo=UTC), reverse=True)
        return DocumentHistory(document=named, destination=str(self._place), version_now=version, jobs=jobs, note=note)

    def _resolve(self, catalogue: Catalogue, named: str) -> str:
        """Resolve an address, a key or a path in the source to the document's address."""
        if "://" in named and (document_ids(catalogue, named) or self._version_now(named) is not None):
            return named
        rows = catalogue.database.rows(
            "SELECT DISTINCT document FROM (SELECT document, key, path FROM history UNION ALL "
            "SELECT document, key, path FROM underway) WHERE key = ? OR path = ? ORDER BY 1 LIMIT 10",
            [named, named],
        )
        addresses = [str(row["document"]) for row in rows]
        if len(addresses) == 1:
            return addresses[0]
        if addresses:
            raise SetupFault(f"'{named}' is ambiguous; give one of these addresses: {', '.join(addresses)}")
        base = f"s3://{self._place.bucket}/{self._place.prefix}"
        nearest = names_like(catalogue, named.removeprefix(base), _NEAREST)
        suggestion = f". Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise SetupFault(f"the ledger at {self._place} has no document '{named}'{suggestion}")

    def _version_now(self, document: str) -> Described | None:
        if "://" not in document:
            return None
        try:
            bucket, key = object_address(document)
            return self._objects.head(bucket, key, document=True)
        except Fault:  # perhaps a bucket of another account: the current version is unknown
            return None

    @staticmethod
    def _id(now: Described, document: str) -> str:
        bucket, key = object_address(document)
        version = Document(bucket=bucket, key=key, etag=now.etag, size=now.size, last_modified=now.last_modified)
        return job_id(version, DEFAULT_MODEL)

    def _jobs(self, identity: str, version: str | None) -> Iterable[JobHistory]:
        try:
            done, failed, held = self._ledger.done(identity), None, self._ledger.read(identity)
            if done is None:
                failed = self._ledger.failed(identity)
        except RecordUnreadable as fault:
            raise SetupFault(str(fault)) from fault
        if done is not None:
            yield self._of_done(done, version)
        elif held is not None and held.job.closed is None:
            yield self._of_open(held.job, version)
        elif failed is not None:
            yield self._of_failed(failed, version)
        note = AsideNotes(self._objects, self._place).read(identity)
        if note is not None and done is None and failed is None:
            yield JobHistory(
                id=identity,
                state="set aside",
                model=note.model,
                answer_schema=note.answer_schema,
                version=version or "?",
                is_current=None if version is None else True,
                result="",
                run=note.flow_run,
                run_url=self._link(note.flow_run),
                ended_at=note.noted_at,
                reason=note.reason,
                next="the next run tries it again",
            )

    def _of_done(self, done: DoneJob, version: str | None) -> JobHistory:
        base = self._of_job(done.job, "done", version, next_of_done(done, version), done.flow_run)
        return JobHistory.model_validate(
            {
                **dict(base),
                "pages": done.pages,
                "ended_at": done.finished_at,
                "measured": done.measured,
                "sources": done.sources,
                "durations": done.durations,
            }
        )

    def _of_failed(self, failed: FailedJob, version: str | None) -> JobHistory:
        words = next_of_failed(failed, str(self._place))
        base = self._of_job(failed.job, "failed", version, words, failed.flow_run)
        more = {"ended_at": failed.failed_at, "code": failed.code, "reason": f"{failed.reason} (stage: {failed.stage})"}
        return JobHistory.model_validate({**dict(base), **more})

    def _of_open(self, job: Job, version: str | None) -> JobHistory:
        bounds = Bounds(timedelta(seconds=DEFAULTS.lease_seconds), timedelta(seconds=DEFAULTS.longest_poll_seconds))
        entry = self._ledger.entry("open", job.id)
        written = None if entry is None else entry.last_modified
        step = next_step(job, self._clock.now(), "nobody", bounds, self._heartbeats, written)
        return self._of_job(job, "open", version, next_of_open(job, step), job.flow_run)

    def _of_job(
        self, job: Job, state: Literal["open", "done", "failed"], version: str | None, words: str, run: str | None
    ) -> JobHistory:
        paid = cost(job)
        return JobHistory(
            id=job.id,
            state=state,
            model=job.model,
            answer_schema=job.answer_schema,
            text_layers=job.text_layers,
            version=job.document.etag,
            is_current=None if version is None else version == job.document.etag,
            result=job.result,
            claimed_at=job.claimed_at,
            pages=job.pages,
            run=run,
            run_url=self._link(run),
            backfill=job.backfill,
            cost=paid.accepted,
            possible_cost=paid.possible,
            possible_duplicates=job.possible_duplicates,
            requests=self._requests(job),
            next=words,
        )

    def _requests(self, job: Job) -> list[SpentRequest]:
        known = {request.id: request for request in job.requests}
        submissions = []
        for spend in spends(job):
            request = known.get(spend.request or "")
            status = request.status if request else "accepted" if spend.accepted else "no answer: may be billed"
            submissions.append(
                SpentRequest(
                    id=spend.request,
                    pages=str(request.pages) if request and request.pages else f"{spend.pages} pages",
                    sent_at=spend.at,
                    finished_at=request.completed_at if request else None,
                    run=spend.run,
                    run_url=self._link(spend.run),
                    status=status,
                    note=request.note if request else "",
                    cost=spend.cost,
                )
            )
        return submissions

    def _of_row(self, row: Row, version: str | None, *, replaced: bool) -> JobHistory:
        """The history of a record that is gone from the ledger, as the catalogue remembers it."""
        return JobHistory(
            id=row.id,
            state="replaced",
            model=row.model,
            answer_schema=row.answer_schema,
            text_layers=row.text_layers,
            version=row.version,
            is_current=None if version is None else version == row.version,
            result=row.result,
            claimed_at=row.claimed_at,
            ended_at=row.ended_at,
            pages=row.pages,
            run=row.run,
            run_url=self._link(row.run),
            backfill=row.backfill,
            cost=row.cost,
            possible_cost=row.possible_cost,
            possible_duplicates=row.possible_duplicates,
            code=row.code,
            reason=row.reason,
            next="its record was replaced" if replaced else "its record is gone",
        )
