"""What the ledger says, for the command `status`. No flow: it reads, and changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.access import store
from tasks.clock import Clock
from tasks.models import Job
from tasks.options import ENVIRONMENT, Credentials
from tasks.poll import expires_soon
from tasks.store.ledger import Ledger, RecordUnreadable
from tasks.store.location import Location
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


class LedgerStatus(BaseModel):
    """The ledger, counted."""

    destination: str
    documents: int
    done: int
    failed: int
    open: int
    possible_duplicates: int = Field(description="of the open jobs")
    unreadable: int = Field(0, description="records of another version of this program")
    expiring: int = Field(description=f"open jobs whose results the API forgets within days ({RESULT_DAYS} in all)")
    oldest: list[OpenJob] = Field(description=f"the open jobs that have waited longest, {_SHOWN} at most")

    def show(self, console: Console) -> None:
        """Print for a person."""
        console.print(f"{self.done} done, {self.failed} failed, {self.open} open at {self.destination}", markup=False)
        if self.expiring:
            console.print(
                f"warning: the API soon forgets the results of {self.expiring} open jobs; "
                f"run 'bulk-ocr collect {self.destination}' now",
                markup=False,
                style="bold red",
            )
        if self.unreadable:
            console.print(f"{self.unreadable} records are of another version of this program and were left alone")
        if self.possible_duplicates:
            console.print(f"{self.possible_duplicates} submissions of open jobs may be paid for twice")
        if self.oldest:
            table = Table("document", "age", "pages", "state", box=None, header_style="bold", pad_edge=False)
            for job in self.oldest:
                pages = f"{job.pages_completed}/{job.pages if job.pages is not None else '?'}"
                table.add_row(Text(job.document, overflow="fold"), _span(job.age_seconds), pages, job.state)
            console.print(table)


def read_status(destination: str, now: datetime | None = None, credentials: Credentials = ENVIRONMENT) -> LedgerStatus:
    """Count the ledger of a destination and read its open jobs.

    Args:
        destination: where results and ledger lie.
        now: the time to reckon ages by; the clock's when left out.
        credentials: where those for S3 are.

    Raises:
        SetupFault: there is no such bucket, or it may not be read.
    """
    ledger = Ledger(store(credentials, _READERS), Location.parse(destination))
    now = now or Clock().now()
    done = sum(1 for _ in ledger.entries("done"))
    failed = sum(1 for _ in ledger.entries("failed"))
    unreadable = 0
    jobs: list[Job] = []

    def read(job_id: str) -> Job | None:
        nonlocal unreadable
        try:
            held = ledger.read(job_id)
        except RecordUnreadable:
            unreadable += 1
            return None
        return held.job if held else None

    with ThreadPoolExecutor(_READERS) as pool:
        for job in pool.map(read, [entry.id for entry in ledger.entries("open")]):
            if job is not None and not (job.lease is not None and job.lease.doing == "closed"):
                jobs.append(job)
    oldest = sorted(jobs, key=lambda job: job.claimed_at)[:_SHOWN]
    return LedgerStatus(
        destination=destination,
        documents=done + failed + len(jobs),
        done=done,
        failed=failed,
        open=len(jobs),
        possible_duplicates=sum(job.possible_duplicates for job in jobs),
        unreadable=unreadable,
        expiring=sum(expires_soon(job, now) for job in jobs),
        oldest=[_open_job(job, now) for job in oldest],
    )


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
