"""What the ledger says, for the command `status`. No flow: it reads, and changes nothing."""

import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field

from flows.cli.output import Page
from tasks.access.open import open_results
from tasks.clock import Clock
from tasks.faults import ExitStatus, RecordUnreadable, SetupFault
from tasks.job.record import Job
from tasks.options import ENVIRONMENT, Credentials
from tasks.scratch import process_folder
from tasks.steps.discover import several
from tasks.steps.nearest import why_no_ledger
from tasks.steps.poll import expires_soon
from tasks.store.aside import AsideNotes
from tasks.store.ledger import Held, Ledger, State
from tasks.store.location import Location
from tasks.store.object_store import ObjectStore
from tasks.store.settings import AS_IT_IS, DestinationOptions
from tasks.tally import KnownJobs
from tasks.upstage.limits import RESULT_DAYS

_SHOWN = 20
_READERS = 16


class OpenJob(BaseModel):
    """An open job as a person asks for it."""

    document: str
    age_seconds: float
    pages: int | None
    pages_completed: int
    requests: int
    state: str


class AsideJob(BaseModel):
    """A document that was set aside, as a person asks for it."""

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
    aside: int = Field(0, description="set aside: no run could do anything for them, and a person has to help")
    moved: int = Field(0, description="documents that went from one state to another while they were counted")
    possible_duplicates: int = Field(description="of the open jobs")
    unreadable: int = Field(0, description="open jobs whose records are of another version of this program")
    expiring: int = Field(description=f"open jobs whose results the API forgets within days ({RESULT_DAYS} in all)")
    oldest: list[OpenJob] = Field(description=f"the open jobs that have waited longest, {_SHOWN} at most")
    set_aside: list[AsideJob] = Field([], description=f"documents that were set aside, {_SHOWN} at most")

    @property
    def exit_status(self) -> ExitStatus:
        """What the command's exit status is after this."""
        return ExitStatus.SOME_FAILED if self.failed or self.aside else ExitStatus.DONE

    def show(self, page: Page) -> None:
        """Print for a person."""
        aside = f", {self.aside} set aside" if self.aside else ""
        moved = f" ({self.moved} of them moved on while they were counted)" if self.moved else ""
        page.say(f"{self.done} done, {self.failed} failed, {self.open} open{aside} at {self.destination}{moved}")
        if self.expiring:
            page.say(
                f"warning: the API soon forgets the results of {self.expiring} open jobs; "
                f"run 'bulk-ocr collect {self.destination}' now",
                "bold red",
            )
        if self.unreadable:
            page.say(f"{self.unreadable} records are of another version of this program and were left alone")
        if self.possible_duplicates:
            page.say(f"{self.possible_duplicates} submissions of open jobs may be paid for twice")
        if self.oldest:
            rows = [
                (job.document, _span(job.age_seconds), f"{job.pages_completed}/{job.pages or '?'}", job.state)
                for job in self.oldest
            ]
            page.table(rows, ("document", "age", "pages", "state"))
        for document in self.set_aside:
            page.say(f"set aside: {document.document}: {document.reason}")
        if self.aside > len(self.set_aside):
            page.say(f"  … and {self.aside - len(self.set_aside)} more set aside")


def read_status(
    destination: str,
    now: datetime | None = None,
    credentials: Credentials = ENVIRONMENT,
    bucket: DestinationOptions = AS_IT_IS,
) -> LedgerStatus:
    """Count the ledger of a destination and read its open jobs.

    Args:
        destination: where results and ledger lie.
        now: the time to reckon ages by; the clock's when left out.
        credentials: where those for S3 are.
        bucket: how the destination's bucket is used.

    Raises:
        SetupFault: there is no such bucket or no ledger, or it may not be read.
    """
    place, objects = Location.parse(destination), open_results(credentials, _READERS, bucket)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    return status_of(objects, place, now or Clock().now())


def status_of(objects: ObjectStore, destination: Location, now: datetime) -> LedgerStatus:
    """The same for a ledger in a store.

    Every document that has a job when this begins is counted once, however it moves on meanwhile: the states that it
    can leave are listed before those that it can come to, open jobs once more in the end, and what was open and is not
    any more is looked up by itself.
    """
    ledger = Ledger(objects, destination)
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder, KnownJobs(Path(folder)) as known:
        known.load(ledger, ("failed", "open", "failed", "done"))
        open_before = set(known.in_state("open"))
        opened = _read_open(ledger, known)
        for job_id in set(known.in_state("open")) - opened.ids:  # it was open a moment ago
            known.settle(job_id, _state_now(ledger, job_id))
        open_now = set(known.in_state("open"))
        aside = _aside(AsideNotes(objects, destination), known)
        jobs = sorted(opened.jobs, key=lambda job: job.claimed_at)
        waiting = [job for job in jobs if job.id not in aside]
        return LedgerStatus(
            destination=str(destination),
            documents=known.number("done") + known.number("failed") + len(open_now - aside.keys()) + len(aside),
            done=known.number("done"),
            failed=known.number("failed"),
            open=len(open_now - aside.keys()),
            aside=len(aside),
            moved=len(open_before ^ open_now),
            possible_duplicates=sum(job.possible_duplicates for job in jobs),
            unreadable=len(opened.ids) - len(jobs),
            expiring=sum(expires_soon(job, now) for job in jobs),
            oldest=[_open_job(job, now) for job in waiting[:_SHOWN]],
            set_aside=[note for note in aside.values() if note is not None],
        )


@dataclass
class _Opened:
    """The jobs that are open, and their records as far as this version can read them."""

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
            continue  # on its way; whoever closes it has written before where it is going
        if known.state(job_id) in ("done", "failed") and _is_leftover(ledger, job_id, held):
            continue
        opened.ids.add(job_id)
        known.settle(job_id, "open")
        if isinstance(held, Held):
            opened.jobs.append(held.job)
    return opened


def _is_leftover(ledger: Ledger, job_id: str, held: Held | RecordUnreadable) -> bool:
    """Whether an open record beside a closed one is of a claim that came late, or of a closer that was stopped."""
    if isinstance(held, Held):
        try:
            return ledger.settled(held.job)
        except RecordUnreadable:
            pass
    return ledger.entry("done", job_id) is not None or ledger.entry("failed", job_id) is not None


def _state_now(ledger: Ledger, job_id: str) -> State | None:
    """Where a job went that was open; None when its claim was given back."""
    states: tuple[State, ...] = ("done", "failed", "open")
    return next((state for state in states if ledger.entry(state, job_id) is not None), None)


def _aside(notes: AsideNotes, known: KnownJobs) -> dict[str, AsideJob | None]:
    """The documents that are set aside and neither done nor failed since; the first of them with the reason."""
    found: dict[str, AsideJob | None] = {}
    for job_id in notes.ids():
        if known.state(job_id) in ("done", "failed"):
            continue
        note = notes.read(job_id) if len(found) < _SHOWN else None
        found[job_id] = (
            None if note is None else AsideJob(document=note.document, reason=note.reason, noted_at=note.noted_at)
        )
    return found


def _open_job(job: Job, now: datetime) -> OpenJob:
    if job.lease is not None:
        over = job.lease.until <= now
        state = f"{job.lease.doing} stopped; the next pass takes it over" if over else job.lease.doing
    elif job.open_requests:
        state = "at the API"
    else:
        state = "finished at the API" if job.requests else "to be sent"
    return OpenJob(
        document=job.document.uri,
        age_seconds=(now - job.claimed_at).total_seconds(),
        pages=job.pages,
        pages_completed=job.pages_completed,
        requests=len(job.requests),
        state=state,
    )


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
