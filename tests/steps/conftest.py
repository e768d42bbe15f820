"""One world a test: a bucket with documents, the API's stand-in, and as many workers as the test wants."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tasks.clock import Clock
from tasks.context import RunContext
from tasks.job.outcome import Outcome
from tasks.job.record import Document, DoneJob, FailedJob, Job, job_id
from tasks.options import Options, RunSettings
from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tasks.upstage.limits import Limits
from tests.fakes import FakeClock
from tests.sample_documents import text_pdf
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# The rate limit is tested with the client; here nobody should wait for it.
_FAST: dict[str, Any] = {"requests_per_second": 10_000, "pages_per_minute": 1_000_000}
TEN_PAGES = Limits(pages=10, megabytes=50, pixels=200_000_000)


def pdf(pages: int, title: str = "a test") -> bytes:
    """A PDF whose pages say which they are."""
    return text_pdf([f"page {number} of {title}" for number in range(1, pages + 1)])


def sha(body: bytes) -> str:
    """How the stand-in's rules and its bill name a document."""
    return hashlib.sha256(body).hexdigest()


# Results by the document's bytes and the stand-in's settings.
_UNDISTURBED: dict[tuple[str, str], bytes] = {}


class World:
    """Documents under `in/`, results under `out/` of a fresh bucket."""

    def __init__(self, s3: "S3Client", bucket: str, api: StandInControl, clock: FakeClock) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.api = api
        self.clock = clock
        self._objects = Objects(s3)
        self._billed_before = api.requests()
        self._workers = 0

    def context(
        self,
        *,
        source: str | None = "in",
        destination: str = "out",
        clock: Clock | None = None,
        objects: Objects | None = None,
        key: str | None = None,
        flow_run: str | None = None,
        **options: Any,
    ) -> RunContext:
        """A worker: a process of its own, as far as the ledger can tell, and of a run of its own unless named."""
        self._workers += 1
        return RunContext(
            RunSettings(
                source=None if source is None else f"s3://{self.bucket}/{source}",
                destination=f"s3://{self.bucket}/{destination}",
                options=Options(**(_FAST | options)),
            ),
            objects or self._objects,
            clock=clock or self.clock,
            base_url=self.api.base_url,
            key=self.api.key if key is None else key,
            flow_run=flow_run or f"run {self._workers}",
            owner=f"worker {self._workers}",
        )

    @staticmethod
    def client(url: str) -> "S3Client":
        """A connection of its own to S3."""
        return boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=S3_ACCESS_KEY,
            aws_secret_access_key=S3_SECRET_KEY,
        )

    def put(self, body: bytes, key: str = "in/a.pdf") -> Document:
        """A document in the source, as it would be listed."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        entry = next(entry for entry in self._objects.list(self.bucket, key) if entry.key == key)
        return Document(
            bucket=self.bucket, key=key, etag=entry.etag, size=entry.size, last_modified=entry.last_modified
        )

    def finish(self, context: RunContext, document: Document) -> list[Outcome]:
        """Poll and collect until the job is closed, as the scheduled passes do. Gives what became of it each time."""
        identity, deadline = context.job_id(document), time.monotonic() + PATIENCE
        outcomes: list[Outcome] = []
        while (held := context.ledger.read(identity)) is not None:
            assert time.monotonic() < deadline, f"not finished: {held.job}, {outcomes[-3:]}"
            if held.job.open_requests and not poll_job(context, identity):
                self.clock.advance(1)
                time.sleep(0.005)  # the stand-in works in real time
                continue
            outcomes.append(collect_job(context, identity))
        return outcomes

    def recognised(self, context: RunContext, document: Document) -> str:
        """Wait until the API has finished all requests of the job. Gives the job's id."""
        identity, deadline = job_id(document, context.options.model), time.monotonic() + PATIENCE
        for request in self.open(document).requests:
            while not context.client.status(request.id).finished:
                assert time.monotonic() < deadline
                time.sleep(0.005)  # the stand-in works in real time
        return identity

    def undisturbed(self, document: Document) -> bytes:
        """The result as it is when nothing goes wrong; of each document, once for all tests."""
        body = self.s3.get_object(Bucket=document.bucket, Key=document.key)["Body"].read()
        known = (sha(body), json.dumps(self.api.settings(), sort_keys=True))
        if known not in _UNDISTURBED:
            context = self.context(destination="undisturbed")
            assert submit_document(context, document).kind == "open"
            assert [outcome.kind for outcome in self.finish(context, document)] == ["done"]
            self._billed_before = self.api.requests()
            _UNDISTURBED[known] = self.result(document, "undisturbed")
        return _UNDISTURBED[known]

    def result(self, document: Document, destination: str = "out") -> bytes:
        """The published result."""
        key = f"{destination}/{document.key.removeprefix('in/')}.ocr.json"
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def texts(self, document: Document) -> list[str]:
        """The text of each page in the published result, whose numbers are checked."""
        pages = json.loads(self.result(document))["pages"]
        assert [page["id"] for page in pages] == list(range(len(pages)))
        return [page["text"] for page in pages]

    def bill(self) -> list[dict[str, Any]]:
        """What this test has to pay, oldest first."""
        return self.api.billed(since=self._billed_before)

    def billed_pages(self) -> list[int]:
        """The pages of each submission that was billed."""
        return [submission["pages"] for submission in self.bill()]

    def listing(self, prefix: str = "") -> list[str]:
        """What lies in the bucket. Claims of request ids stay for ever, and are left out unless they are asked for."""
        keys = [entry.key for entry in self._objects.list(self.bucket, prefix)]
        return [key for key in keys if "_jobs/requests/" in prefix or "_jobs/requests/" not in key]

    def open(self, document: Document) -> Job:
        """The open job of a document."""
        held = self.context().ledger.read(job_id(document, "ocr"))
        assert held is not None
        return held.job

    def done(self, document: Document) -> DoneJob:
        """The record of a finished document; nothing of it is open any more."""
        ledger, identity = self.context().ledger, job_id(document, "ocr")
        assert ledger.read(identity) is None
        assert ledger.failed(identity) is None
        record = ledger.done(identity)
        assert record is not None
        return record

    def failed(self, document: Document) -> FailedJob:
        """The record of a document that was given up; nothing of it is open any more."""
        ledger, identity = self.context().ledger, job_id(document, "ocr")
        assert ledger.read(identity) is None
        assert ledger.done(identity) is None
        record = ledger.failed(identity)
        assert record is not None
        return record

    def untouched(self) -> bool:
        """Whether nothing was claimed, published or paid."""
        return not self.listing("out/") and not self.bill()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still near the S3 server's time, by which the age of a record is told."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def world(s3: "S3Client", bucket: str, api: StandInControl, clock: FakeClock) -> World:
    """The world of a test."""
    return World(s3, bucket, api, clock)


@pytest.fixture
def flaky(s3_url: str) -> Iterator[FlakyS3]:
    """A proxy in front of the S3 server that fails on demand."""
    with FlakyS3(s3_url) as proxy:
        yield proxy
