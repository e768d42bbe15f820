"""What the ledger stores comes back as it was, page numbers survive their ranges, and a job's name is its identity."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tasks.job.record import (
    Document,
    DoneJob,
    FailedJob,
    Job,
    Lease,
    PageRange,
    Request,
    job_id,
    page_ranges,
)
from tasks.job.spending import Cost, cost, spends

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
DOCUMENT = Document(bucket="b", key="in/a.pdf", etag="e1", size=7, last_modified=NOON)

moments = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]))
texts = st.text(max_size=20)
counts = st.integers(0, 10**6)
ranges = st.tuples(st.integers(1, 10**6), counts).map(lambda pair: PageRange(first=pair[0], last=sum(pair)))
page_sets = st.lists(st.tuples(st.integers(1, 99), st.integers(0, 40)), max_size=4).map(
    lambda runs: {page for first, more in runs for page in range(first, first + more)}
)
documents = st.builds(Document, bucket=texts, key=texts, etag=texts, size=counts, last_modified=moments)
requests = st.builds(Request, id=texts, pages=st.none() | ranges, submitted_at=moments, note=texts)
leases = st.builds(Lease, owner=texts, until=moments, pages=st.none() | ranges)
jobs = st.builds(
    Job,
    format=st.just(1),
    id=texts,
    document=documents,
    model=texts,
    result=texts,
    pages=st.none() | counts,
    claimed_at=moments,
    lease=st.none() | leases,
    requests=st.lists(requests, max_size=3).map(tuple),
    rounds=counts,
    possible_duplicates=counts,
    poll_after=st.none() | moments,
    pages_completed=counts,
    flow_run=st.none() | texts,
)
done_jobs = st.builds(DoneJob, format=st.just(1), job=jobs, pages=counts, finished_at=moments)
failed_jobs = st.builds(
    FailedJob,
    format=st.just(1),
    job=jobs,
    reason=texts,
    missing=st.lists(ranges, max_size=3).map(tuple),
    failed_at=moments,
)


@given(st.one_of(jobs, done_jobs, failed_jobs))
def test_a_record_comes_back_from_json_as_it_was(record: BaseModel) -> None:
    assert type(record).model_validate_json(record.model_dump_json()) == record


RECORDS: list[Any] = [
    PageRange(first=1, last=2),
    DOCUMENT,
    Request(id="r", pages=None, submitted_at=NOON),
    Lease(owner="o", since=NOON, until=NOON, doing="reading"),
    Job(id="j", document=DOCUMENT, model="ocr", result="s3://b/r", claimed_at=NOON),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_of_a_newer_format_is_refused_and_not_half_understood(record: BaseModel) -> None:
    stored = record.model_dump(mode="json")
    assert type(record).model_validate(stored) == record
    with pytest.raises(ValidationError, match="new_in_format_4"):
        type(record).model_validate({**stored, "new_in_format_4": 1})


def test_another_format_number_is_refused() -> None:
    stored = RECORDS[-1].model_dump(mode="json")
    with pytest.raises(ValidationError, match="format"):
        Job.model_validate({**stored, "format": 4})


def test_a_done_record_of_format_2_is_read_without_what_came_later() -> None:
    job = {
        "format": 2,
        "id": "j",
        "document": DOCUMENT.model_dump(mode="json"),
        "model": "ocr",
        "result": "s3://b/r",
        "claimed_at": "2026-07-01T12:00:00Z",
        "requests": [{"id": "r", "pages": {"first": 1, "last": 2}, "submitted_at": "2026-07-01T12:00:01Z"}],
        "pages_sent": 2,
        "pages_lost": 2,
    }
    old = {"format": 2, "job": job, "pages": 2, "finished_at": "2026-07-01T12:01:00Z"}
    done = DoneJob.model_validate_json(json.dumps(old))
    assert (done.measured, done.sources, done.cost, done.durations) == (None, None, None, None)
    assert [(spend.pages, spend.accepted, spend.cost) for spend in spends(done.job)] == [
        (2, True, None),
        (2, False, None),
    ]
    assert cost(done.job) == Cost(None, None)


def test_a_record_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RECORDS[-1].rounds = 5


@pytest.mark.parametrize(("first", "last"), [(0, 3), (-1, 1), (3, 2)])
def test_a_range_that_holds_no_page_cannot_be_made(first: int, last: int) -> None:
    with pytest.raises(ValidationError):
        PageRange(first=first, last=last)


def test_a_range_is_written_as_people_write_it() -> None:
    assert [str(PageRange(first=3, last=last)) for last in (3, 9)] == ["3", "3-9"]


@given(page_sets, st.none() | st.integers(1, 50))
def test_pages_survive_being_written_as_ranges(pages: set[int], longest: int | None) -> None:
    written = page_ranges(sorted(pages), longest)
    assert [page for pages in written for page in range(pages.first, pages.last + 1)] == sorted(pages)
    assert sum(map(len, written)) == len(pages)
    assert all(longest is None or len(page_range) <= longest for page_range in written)


@given(page_sets, st.integers(1, 50))
def test_no_more_ranges_are_made_than_needed(pages: set[int], longest: int) -> None:
    runs = page_ranges(sorted(pages))
    assert all(later.first > earlier.last + 1 for earlier, later in pairwise(runs))
    assert len(page_ranges(sorted(pages), longest)) == sum(-(-len(run) // longest) for run in runs)


def test_a_jobs_name_never_changes_between_releases() -> None:
    # Written out: with another name every document ever done would be sent, and paid for, again.
    identity = b'["b", "in/a.pdf", "e1", {"model": "ocr"}]'
    assert job_id(DOCUMENT, "ocr") == hashlib.sha256(identity).hexdigest()[:40]


@given(documents, texts, counts, moments)
def test_a_jobs_name_does_not_depend_on_what_a_listing_may_say_differently(
    document: Document, model: str, size: int, moment: datetime
) -> None:
    listed_again = document.model_copy(update={"size": size, "last_modified": moment})
    assert job_id(listed_again, model) == job_id(document, model)


@given(documents, texts, st.sampled_from(["bucket", "key", "etag", "model"]), texts)
def test_another_document_version_or_model_is_another_job(
    document: Document, model: str, changed: str, value: str
) -> None:
    if changed == "model":
        other = job_id(document, value)
        same = value == model
    else:
        other = job_id(document.model_copy(update={changed: value}), model)
        same = getattr(document, changed) == value
    assert (other == job_id(document, model)) is same


@given(texts, texts)
def test_text_does_not_slip_from_one_part_of_the_identity_into_the_next(bucket: str, key: str) -> None:
    one = DOCUMENT.model_copy(update={"bucket": bucket, "key": f"x{key}"})
    other = DOCUMENT.model_copy(update={"bucket": f"{bucket}x", "key": key})
    assert job_id(one, "ocr") != job_id(other, "ocr")


@pytest.mark.parametrize(("status", "is_open"), [("open", True), ("finished", False), ("lost", False)])
def test_only_requests_the_api_still_works_on_are_open(status: Any, is_open: bool) -> None:
    request = Request(id="r", pages=None, submitted_at=NOON, status=status)
    job = RECORDS[-1].model_copy(update={"requests": (request,)})
    assert job.open_requests == ((request,) if is_open else ())
