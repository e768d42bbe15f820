"""A store that fails on demand, and records to write."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tasks.job.record import Document, Job, job_id
from tests.store.flaky_s3 import FlakyS3

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def flaky(s3_url: str) -> Iterator[FlakyS3]:
    """A proxy in front of the S3 server."""
    with FlakyS3(s3_url) as proxy:
        yield proxy


def job(key: str = "a.pdf") -> Job:
    """A new job for a document of that name."""
    document = Document(bucket="scans", key=key, etag="0" * 32, size=1, last_modified=NOON)
    return Job(
        id=job_id(document, "ocr"), document=document, model="ocr", result=f"s3://out/{key}.ocr.json", claimed_at=NOON
    )
