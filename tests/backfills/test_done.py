"""The finished documents of a backfill: sums in a file are those of the documents, and memory does not grow."""

import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.backfills.done import MOST_MINUTES, DoneDocuments, DoneFigures, DoneSummary
from tasks.job.record import CONFIDENCE_BINS, Confidence

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)

CONFIDENCES = st.builds(
    Confidence,
    minimum=st.floats(0, 1),
    mean=st.floats(0, 1),
    bins=st.lists(st.integers(0, 1000), min_size=CONFIDENCE_BINS, max_size=CONFIDENCE_BINS).map(tuple),
)
DOCUMENTS = st.builds(
    DoneFigures,
    partition=st.sampled_from(["2021-01", "2021-02", "other"]),
    document=st.text(max_size=5),
    pages=st.integers(1, 1000),
    spent=st.integers(0, 1000),
    possible_duplicates=st.integers(0, 3),
    seconds=st.floats(0, 1e6),
    finished_at=st.integers(0, 2 * MOST_MINUTES * 60).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    at_api=st.none() | st.floats(0, 1e6),
    confidence=st.none() | CONFIDENCES,
)


def of(number: int) -> DoneFigures:
    """A document that was done a number of seconds after noon."""
    return DoneFigures("2021-01", f"s3://bucket/{number}.pdf", 3, 3, 0, 10, NOW + timedelta(seconds=number))


@given(st.dictionaries(st.text(min_size=1, max_size=3), DOCUMENTS, min_size=1, max_size=20))
def test_the_summary_is_that_of_the_documents(documents: dict[str, DoneFigures]) -> None:
    stored = DoneDocuments()
    for job_id, document in documents.items():
        stored.put(job_id, of(1))
        stored.put(job_id, document)
    done, summary = list(documents.values()), stored.summary()
    stored.close()
    assert (summary.documents, summary.pages, summary.spent, summary.possible_duplicates) == (
        len(done),
        sum(document.pages for document in done),
        sum(document.spent for document in done),
        sum(document.possible_duplicates for document in done),
    )
    assert summary.by_partition == {
        partition: (
            sum(document.pages for document in done if document.partition == partition),
            sum(document.spent for document in done if document.partition == partition),
        )
        for partition in {document.partition for document in done}
    }
    by_end = sorted(document.finished_at for document in done)
    assert [document.finished_at for document in summary.recent] == by_end
    assert [seconds for _, seconds in summary.slowest] == sorted((document.seconds for document in done), reverse=True)[
        :10
    ]
    confidences = [document.confidence for document in done if document.confidence]
    assert [mean for _, mean in summary.least_confident] == sorted(confidence.mean for confidence in confidences)[:10]
    assert list(summary.confidence) == [
        sum(column) for column in zip(*(confidence.bins for confidence in confidences), strict=True)
    ]
    minutes: Counter[datetime] = Counter()
    for document in done:
        minutes[document.finished_at.replace(second=0)] += document.pages
    first = max(minutes) - timedelta(minutes=MOST_MINUTES - 1)
    assert summary.per_minute == {minute: pages for minute, pages in minutes.items() if minute >= first}


def test_nothing_done_has_an_empty_summary(tmp_path: Path) -> None:
    assert DoneDocuments(tmp_path).summary() == DoneSummary()


def test_a_listing_confirms_what_comes_from_its_records_and_removes_what_it_does_not_find() -> None:
    stored = DoneDocuments()
    for number in range(4):
        stored.put(str(number), of(number))
    written = (NOW + timedelta(seconds=5)).timestamp()
    stored.begin()
    assert stored.confirm("0", written, 90), "near the time at which the document was done"
    assert stored.confirm("1", written, 90)
    assert not stored.confirm("2", written + 3600, 90), "another record: it was done again"
    assert not stored.confirm("never read", written, 90)
    stored.end()
    assert stored.summary().documents == 2
    stored.begin()
    assert stored.confirm("0", written, 90), "the same record"
    assert not stored.confirm("1", written + 1, 90), "from now on, its time is known exactly"
    stored.end()
    stored.forget("0")
    assert stored.summary() == DoneSummary()


def test_times_come_from_the_five_hundred_documents_finished_last() -> None:
    stored = DoneDocuments()
    for number in range(600):
        stored.put(str(number), of(number))
    recent = stored.summary().recent
    assert (len(recent), recent[0].finished_at, recent[-1].finished_at) == (
        500,
        of(100).finished_at,
        of(599).finished_at,
    )


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    stored = DoneDocuments(tmp_path)

    def traced(first: int, last: int) -> int:
        for number in range(first, last):
            stored.put(str(number), of(number))
        stored.summary()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = traced(0, 1000)
        assert traced(1000, 5000) - before < 200_000, "a hundred bytes a document would be twice that"
    finally:
        tracemalloc.stop()
