"""A ledger in a folder, with as many documents as a test wants; no server is needed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.catalogue.journal import Journal
from tasks.catalogue.row import row_of_done
from tasks.faults import DocumentFault, FailureCode
from tasks.job import transitions
from tasks.job.durations import durations
from tasks.job.record import (
    Confidence,
    Document,
    FailedJob,
    Job,
    Measured,
    PageRange,
    PageSources,
    Request,
    job_id,
)
from tasks.store.ledger import Held, Ledger
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OUT = Location.parse("s3://out/ocr")


class Records:
    """Writes records as workers do.

    Args:
        folder: where the store lies.
        bucket: the documents' bucket.
    """

    def __init__(self, folder: Path, bucket: str = "in") -> None:
        self.bucket = bucket
        self.objects = FolderObjects(folder)
        self.ledger = Ledger(self.objects, OUT, "somebody")
        self.journal = Journal(self.objects, OUT.bucket, self.ledger.folder)

    def open(
        self,
        path: str,
        pages: int = 2,
        *,
        at: datetime = NOON,
        price: float | None = 0.01,
        run: str = "run 1",
        model: str = "ocr",
        backfill: str | None = None,
        lost: int = 0,
        request: str = "request",
    ) -> Held:
        """A document that was sent."""
        document = Document(bucket=self.bucket, key=f"scans/{path}", etag="0" * 32, size=1000, last_modified=NOON)
        suffix = ".ocr.json" if model == "ocr" else f".ocr.{model}.json"
        job = Job(
            id=job_id(document, model),
            document=document,
            model=model,
            result=f"s3://out/ocr/{path}{suffix}",
            claimed_at=at,
            pages=pages,
            flow_run=run,
            backfill=backfill,
        )
        posting = transitions.lease("somebody", at, 60, "posting", run=run, price_per_page=price)
        for _ in range(lost):
            job = transitions.answer_lost(transitions.posting(job, posting).job, pages).job
        accepted = Request(
            id=f"{request} of {path} {model}",
            pages=PageRange(first=1, last=pages),
            submitted_at=at,
            run=run,
            price_per_page=price,
            status="finished",
            completed_at=at + timedelta(seconds=10),
        )
        job = transitions.posting(job, posting).job
        job = transitions.sent(job, accepted, pages, owner="somebody", keep=None, flow_run=run).job
        held = self.ledger.claim(job)
        assert held is not None
        return held

    def done(
        self, held: Held, *, confidence: float = 0.9, blank: int = 0, seconds: float = 60, journal: bool = True
    ) -> str:
        """Publish it. Gives the record's ETag."""
        job = held.job
        now = job.claimed_at + timedelta(seconds=seconds)
        bins = [0] * 10
        bins[int(confidence * 10)] = 5
        done = transitions.done(
            job,
            pages=job.pages or 0,
            now=now,
            superseded=False,
            copied_from=None,
            flow_run=job.flow_run,
            measured=Measured(
                words=5,
                blank_pages=blank,
                confidence=Confidence(minimum=confidence / 2, mean=confidence, bins=tuple(bins)),
                billed_pages=job.pages,
            ),
            sources=PageSources(sent=job.pages or 0),
            durations=durations(job, now - timedelta(seconds=1), now),
        )
        etag = self.ledger.finish(held, done)
        assert etag is not None
        if journal:
            self.journal.add(row_of_done(done, etag, OUT))
        return etag

    def failed(self, held: Held) -> FailedJob:
        """Give it up."""
        fault = DocumentFault(FailureCode.MISSING_PAGES, "pages 2 did not come back", retry_helps=True)
        failed = transitions.failed(held.job, "recognise", fault, missing=(), now=NOON, flow_run=held.job.flow_run)
        assert self.ledger.fail(held, failed)
        return failed

    def files(self, folder: str = "catalogue/") -> list[str]:
        """What lies in a folder of the ledger."""
        prefix = f"ocr/_jobs/{folder}"
        return [entry.key.removeprefix(prefix) for entry in self.objects.list("out", prefix)]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "store")
