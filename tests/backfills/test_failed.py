"""The failed documents of a backfill, and what redone ones had cost: sums in files are those of the documents."""

import tracemalloc
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.backfills.earlier import EarlierRecords, EarlierSummary
from tasks.backfills.failed import MOST_LISTED, FailedDocuments, FailedFigures, FailedSummary

FAILED = st.builds(
    FailedFigures,
    partition=st.sampled_from(["2021-01", "2021-02", "other"]),
    code=st.sampled_from(["encrypted", "unreadable", "too_many_pages"]),
    reason=st.text(max_size=5),
    spent=st.integers(0, 1000),
    possible_duplicates=st.integers(0, 3),
    document=st.text(max_size=5),
    run=st.none() | st.text(max_size=3),
)


@given(st.dictionaries(st.text(min_size=1, max_size=3), FAILED, max_size=20))
def test_the_summary_is_that_of_the_documents(documents: dict[str, FailedFigures]) -> None:
    stored = FailedDocuments()
    for job_id, document in documents.items():
        stored.put(job_id, 0, FailedFigures("", "", "", 1, 1))
        stored.put(job_id, 1, document)
    failed, summary = list(documents.values()), stored.summary()
    stored.close()
    assert summary.codes == Counter(document.code for document in failed)
    assert list(summary.codes.values()) == sorted(summary.codes.values(), reverse=True)
    assert all(
        reason in {document.reason for document in failed if document.code == code}
        for code, reason in summary.reasons.items()
    )
    assert sorted(map(repr, summary.first)) == sorted(map(repr, failed))
    assert [each.document.encode() for each in summary.first] == sorted(each.document.encode() for each in failed)
    assert summary.by_partition == {
        partition: sum(document.spent for document in failed if document.partition == partition)
        for partition in {document.partition for document in failed}
    }
    assert summary.possible_duplicates == sum(document.possible_duplicates for document in failed)


def test_the_first_of_many_are_listed() -> None:
    stored = FailedDocuments()
    for number in range(MOST_LISTED + 50):
        stored.put(str(number), 0, FailedFigures("", "broken", "", 0, 0, f"{number:03}.pdf"))
    assert [each.document for each in stored.summary().first] == [f"{number:03}.pdf" for number in range(MOST_LISTED)]


def test_a_listing_confirms_what_comes_from_its_records_and_removes_what_it_does_not_find() -> None:
    stored = FailedDocuments()
    for number in range(3):
        stored.put(str(number), 5.0, FailedFigures("", "broken", "", 1, 0))
    stored.begin()
    assert stored.confirm("0", 5.0)
    assert not stored.confirm("1", 6.0), "another record: it has failed again"
    assert not stored.confirm("never read", 5.0)
    stored.put("3", 7.0, FailedFigures("", "encrypted", "", 1, 0))
    stored.end()
    assert stored.summary().codes == {"broken": 1, "encrypted": 1}, "what was read meanwhile is kept"
    stored.forget("0")
    stored.forget("3")
    assert stored.summary() == FailedSummary(first=[])


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(st.sampled_from("ab"), st.integers(0, 9))))
def test_what_was_paid_before_is_summed_by_partition(records: dict[str, tuple[str, int]]) -> None:
    stored = EarlierRecords()
    for key, (partition, spent) in records.items():
        assert key not in stored
        stored.put(key, partition, spent, 1)
        assert key in stored
    stored.put("cannot be read", None, 0, 0)
    assert "cannot be read" in stored, "it is not read again"
    by_partition: Counter[str] = Counter()
    for partition, spent in records.values():
        by_partition[partition] += spent
    assert stored.summary() == EarlierSummary(by_partition, len(records))
    stored.close()


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    failed, earlier = FailedDocuments(tmp_path), EarlierRecords(tmp_path)

    def traced(first: int, last: int) -> int:
        for number in range(first, last):
            failed.put(str(number), 0, FailedFigures("", "broken", "a reason", 1, 0, f"s3://bucket/{number}.pdf"))
            earlier.put(f"earlier/{number}/record.json", "", 1, 0)
        failed.summary()
        earlier.summary()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = traced(0, 1000)
        assert traced(1000, 5000) - before < 200_000, "a hundred bytes a document would be twice that"
    finally:
        tracemalloc.stop()
