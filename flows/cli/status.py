"""The command `status`: counts the ledger. It runs no flow and changes nothing."""

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from flows.cli.output import Page
from flows.cli.places import destination_of, known_places
from tasks.access.open import open_results
from tasks.catalogue.catalogue import open_catalogue
from tasks.catalogue.queries import Usage, totals, usage
from tasks.clock import Clock
from tasks.faults import CredentialsRefused, ExitStatus, Fault, RecordUnreadable, SetupFault
from tasks.job.record import Job
from tasks.job.spending import duplicates_text
from tasks.number_format import dollars, quantity, span
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials
from tasks.scratch import process_folder
from tasks.steps.discover import several
from tasks.steps.nearest import why_no_ledger
from tasks.steps.poll import expires_soon
from tasks.store.aside import AsideNotes
from tasks.store.heartbeats import Heartbeats
from tasks.store.ledger import Held, Ledger, State
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import ObjectStore
from tasks.store.settings import AS_IT_IS, DestinationOptions
from tasks.tally import KnownJobs
from tasks.upstage.limits import PRICE_PER_PAGE, RESULT_DAYS

_SHOWN = 20
_READERS = 16
_MOST_RECORDS = 5_000  # read for the totals; the command should not take minutes


class OpenJob(BaseModel):
    """An open job, as shown to an operator."""

    document: str
    age_seconds: float
    pages: int | None
    pages_completed: int
    requests: int
    state: str


class AsideJob(BaseModel):
    """A document that was set aside, as shown to an operator."""

    document: str
    reason: str
    noted_at: datetime


class LedgerStatus(BaseModel):
    """The ledger, counted. `documents` is `done + failed + open + aside`."""

    destination: str
    documents: int
    done: int
    failed: int
    open: int
    aside: int = Field(0, description="set aside: no run can process them until an operator acts")
    moved: int = Field(0, description="documents that changed state during the count")
    unreadable: int = Field(0, description="open jobs with records of another version of this program")
    expiring: int = Field(description=f"open jobs whose results the API deletes within days ({RESULT_DAYS} in all)")
    pages: int | None = Field(None, description="pages of the done documents; None if not added up")
    pages_sent: int | None = Field(None, description="pages that the API accepted, whatever the outcome")
    cost: float | None = Field(None, description="dollars for those pages")
    possible_pages: int | None = Field(None, description="pages without an answer on record: they may be billed too")
    possible_duplicates: int | None = Field(
        None, description="submissions that may be billed and were, or will be, repeated"
    )
    no_sums: str = Field("", description="why pages and cost were not added up; empty if they were")
    waiting_for: str = Field("", description="what the open jobs are waiting for")
    workers: int = Field(0, description="processes working on the destination")
    oldest: list[OpenJob] = Field(description=f"the oldest open jobs, at most {_SHOWN}")
    set_aside: list[AsideJob] = Field([], description=f"documents that were set aside, at most {_SHOWN}")

    @property
    def exit_status(self) -> ExitStatus:
        """The command's exit status for this report."""
        unfinished = self.failed or self.aside or self.open or self.unreadable
        return ExitStatus.SOME_FAILED if unfinished else ExitStatus.DONE

    def show(self, page: Page) -> None:
        """Print as text."""
        aside = f", {self.aside} set aside" if self.aside else ""
        moved = f" ({self.moved} changed state during the count)" if self.moved else ""
        page.say(f"{self.done} done, {self.failed} failed, {self.open} open{aside} at {self.destination}{moved}")
        if self.pages is not None and self.cost is not None:
            lost = f"; {self.possible_pages:,} more may be billed" if self.possible_pages else ""
            lost += f"; {duplicates_text(self.possible_duplicates)}" if self.possible_duplicates else ""
            published, paid = quantity(self.pages, "page"), quantity(self.pages_sent or 0, "page")
            page.say(f"{published} published; {paid} paid for, {dollars(self.cost)}{lost}")
        elif self.no_sums:
            page.say(f"pages and cost: {self.no_sums}")
        if self.waiting_for:
            workers = f"{self.workers} workers" if self.workers != 1 else "1 worker"
            page.say(f"{self.waiting_for} ({workers} at work)")
        if self.open and not self.workers:
            page.say(f"no worker is running: run 'bulk-ocr collect {self.destination}', or wait for its schedule")
        if self.expiring:
            page.say(
                f"warning: the API will soon delete the results of {self.expiring} open jobs; "
                f"run 'bulk-ocr collect {self.destination}' now",
                "bold red",
            )
        if self.unreadable:
            page.say(f"{self.unreadable} records belong to another version of this program and were left alone")
        if self.oldest:
            rows = [
                (job.document, span(job.age_seconds), f"{job.pages_completed}/{job.pages or '?'}", job.state)
                for job in self.oldest
            ]
            page.table(rows, ("document", "age", "pages", "state"))
        for document in self.set_aside:
            page.say(f"set aside: {document.document}: {document.reason}")
        if self.aside > len(self.set_aside):
            page.say(f"  … and {self.aside - len(self.set_aside)} more set aside")


class Statuses(BaseModel):
    """The status of several ledgers."""

    places: list[LedgerStatus]
    unused: list[str] = Field([], description="places whose destination has no ledger: no run has used them yet")
    troubles: list[str] = Field([], description="places that could not be read, and why")

    @property
    def exit_status(self) -> ExitStatus:
        """The command's exit status for this report."""
        every = [status.exit_status for status in self.places]
        return ExitStatus.SOME_FAILED if any(every) or self.troubles else ExitStatus.DONE

    def show(self, page: Page) -> None:
        """Print as text."""
        for place, status in enumerate(self.places):
            if place:
                page.say("")
            status.show(page)
        for name in self.unused:
            page.say(f"{name}: no run has used it yet")
        for trouble in self.troubles:
            page.say(trouble, "bold red")


def read_statuses(
    names: Sequence[str], *, credentials: Credentials = ENVIRONMENT, bucket: DestinationOptions = AS_IT_IS
) -> Statuses:
    """Count several ledgers.

    Args:
        names: destinations or names of places; all places if empty.
        credentials: where the S3 credentials come from.
        bucket: settings of the destinations' buckets.

    Raises:
        SetupFault: a name is unknown, there are no places, or S3 rejects the credentials.
    """
    statuses = Statuses(places=[])
    if names:
        wanted = [(name, destination_of(name)) for name in names]
    else:
        wanted = [(place.name, place.destination) for place in known_places()]
        if not wanted:
            raise SetupFault(
                "no destination was given: name one as s3://bucket/prefix, or list places in deployments/places.yaml"
            )
    objects = open_results(credentials, _READERS, bucket)
    for name, destination in dict(wanted).items():
        place = Location.parse(destination)
        try:
            if not names and why_no_ledger(objects, place) is not None:
                statuses.unused.append(f"{name} ({place})")
            else:
                statuses.places.append(read_status(destination, credentials=credentials, bucket=bucket, sums=True))
        except CredentialsRefused:
            raise
        except Fault as fault:  # a fault of one place does not hide the others
            statuses.troubles.append(f"{name}: {fault}")
    return statuses


def read_status(
    destination: str,
    now: datetime | None = None,
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
    *,
    sums: bool = False,
) -> LedgerStatus:
    """Count the ledger of a destination and read its open jobs.

    Args:
        destination: the S3 prefix of results and ledger.
        now: the time to compute ages from; defaults to the current time.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.
        sums: also add up pages and cost, from the catalogue.

    Raises:
        SetupFault: the bucket or the ledger does not exist or cannot be read.
    """
    place, objects = Location.parse(destination), open_results(credentials, _READERS, bucket)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    status = status_of(objects, place, now or Clock().now())
    added = _sums(objects, place) if sums else {"no_sums": "not asked for: call read_status with sums=True"}
    return LedgerStatus.model_validate({**dict(status), **added})


def _sums(objects: ObjectStore, place: Location) -> dict[str, Any]:
    """Pages and cost, if the catalogue has them without reading the whole ledger."""
    try:
        with open_catalogue(objects, place, most=_MOST_RECORDS) as catalogue:
            if catalogue.unread:
                return {
                    "no_sums": f"not in the catalogue yet; run 'bulk-ocr usage {place}' once, which reads "
                    f"{catalogue.unread:,} records"
                }
            (spent,) = usage(catalogue, None, PRICE_PER_PAGE) or (Usage(""),)
            pages = totals(catalogue).pages
    except SetupFault as fault:
        return {"no_sums": str(fault)}
    return {
        "pages": pages,
        "pages_sent": spent.pages,
        "cost": spent.cost,
        "possible_pages": spent.possible_pages,
        "possible_duplicates": spent.possible_duplicates,
    }


def status_of(objects: ObjectStore, destination: Location, now: datetime) -> LedgerStatus:
    """Count a ledger in an object store.

    Every document that has a job at the start is counted once, even if it changes state meanwhile: states that a job
    can leave are listed before the states it can enter, open jobs are listed again at the end, and a job that is no
    longer open is looked up individually.
    """
    ledger = Ledger(objects, destination)
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder, KnownJobs(Path(folder)) as known:
        known.load(ledger, ("failed", "open", "failed", "done"))
        open_before = set(known.in_state("open"))
        opened = _read_open(ledger, known)
        for job_id in set(known.in_state("open")) - opened.ids:  # it was open when the count began
            known.settle(job_id, _state_now(ledger, job_id))
        open_now = set(known.in_state("open"))
        aside = _aside(AsideNotes(objects, destination), known)
        jobs = sorted(opened.jobs, key=lambda job: job.claimed_at)
        waiting = [job for job in jobs if job.id not in aside]
        workers = _workers(objects, destination)
        return LedgerStatus(
            destination=str(destination),
            documents=known.number("done") + known.number("failed") + len(open_now - aside.keys()) + len(aside),
            done=known.number("done"),
            failed=known.number("failed"),
            open=len(open_now - aside.keys()),
            aside=len(aside),
            moved=len(open_before ^ open_now),
            unreadable=len(opened.ids) - len(jobs),
            expiring=sum(expires_soon(job, now) for job in jobs),
            waiting_for=_waiting_for(jobs, now, workers),
            workers=len(workers),
            oldest=[_open_job(job, now, workers) for job in waiting[:_SHOWN]],
            set_aside=[note for note in aside.values() if note is not None],
        )


@dataclass
class _Opened:
    """The open jobs, with the records that this version can read."""

    ids: set[str] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)


def _read_open(ledger: Ledger, known: KnownJobs) -> _Opened:
    """List the open jobs once more, and read them."""

    def read(job_id: str) -> Held | RecordUnreadable | None:
        try:
            return ledger.read(job_id)
        except RecordUnreadable as fault:
            return fault

    opened = _Opened()
    for job_id, held in several(read, (entry.id for entry in ledger.entries("open")), _READERS):
        if held is None or (isinstance(held, Held) and held.job.closed is not None):
            continue  # being closed; the closing worker has already written the record of its new state
        if known.state(job_id) in ("done", "failed") and _is_leftover(ledger, job_id, held):
            continue
        opened.ids.add(job_id)
        known.settle(job_id, "open")
        if isinstance(held, Held):
            opened.jobs.append(held.job)
    return opened


def _is_leftover(ledger: Ledger, job_id: str, held: Held | RecordUnreadable) -> bool:
    """Whether an open record beside a closed one was left by a late claim or an interrupted close."""
    if isinstance(held, Held):
        try:
            return ledger.settled(held.job)
        except RecordUnreadable:
            pass
    return ledger.entry("done", job_id) is not None or ledger.entry("failed", job_id) is not None


def _state_now(ledger: Ledger, job_id: str) -> State | None:
    """The new state of a job that was open; None if its claim was released."""
    states: tuple[State, ...] = ("done", "failed", "open")
    return next((state for state in states if ledger.entry(state, job_id) is not None), None)


def _aside(notes: AsideNotes, known: KnownJobs) -> dict[str, AsideJob | None]:
    """The documents that are set aside and not done or failed since; the first few with the reason."""
    notes_by_job: dict[str, AsideJob | None] = {}
    for job_id in notes.ids():
        if known.state(job_id) in ("done", "failed"):
            continue
        note = notes.read(job_id) if len(notes_by_job) < _SHOWN else None
        notes_by_job[job_id] = (
            None if note is None else AsideJob(document=note.document, reason=note.reason, noted_at=note.noted_at)
        )
    return notes_by_job


def _state(job: Job, now: datetime, workers: Collection[str]) -> str:
    """Describe what an open job is waiting for. The heartbeats of the workers extend their leases."""
    if job.lease is not None:
        over = job.lease.until <= now and job.lease.owner not in workers
        return f"{job.lease.doing} stopped; the next pass takes it over" if over else job.lease.doing
    if job.open_requests:
        return "at the API"
    return "finished at the API" if job.requests else "to be sent"


def _waiting_for(jobs: Sequence[Job], now: datetime, workers: Collection[str]) -> str:
    """Describe what the open jobs are waiting for, the most common first."""
    counts = Counter(_state(job, now, workers) for job in jobs)
    words = [f"{count:,} {state}" for state, count in counts.most_common()]
    polls = [job.poll_after for job in jobs if job.open_requests and job.poll_after is not None]
    if polls and min(polls) > now:
        words.append(f"next poll at {min(polls):%H:%M:%S} UTC")
    return "; ".join(words)


def _workers(objects: ObjectStore, destination: Location) -> Collection[str]:
    """The processes with a live heartbeat at a destination."""
    folder = destination.key(LEDGER_FOLDER)
    heartbeats = Heartbeats(objects, destination.bucket, folder, "", DEFAULTS.lease_seconds, Clock())
    return set(heartbeats.living())


def _open_job(job: Job, now: datetime, workers: Collection[str]) -> OpenJob:
    return OpenJob(
        document=job.document.uri,
        age_seconds=(now - job.claimed_at).total_seconds(),
        pages=job.pages,
        pages_completed=job.pages_completed,
        requests=len(job.requests),
        state=_state(job, now, workers),
    )
