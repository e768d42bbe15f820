"""Every page that was posted is among a job's spends, with its price, whatever became of it."""

from datetime import UTC, datetime, timedelta

from tasks.job import transitions
from tasks.job.record import Document, Job, Lease, PageRange, Request
from tasks.job.spending import Cost, cost, spends

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
DOCUMENT = Document(bucket="b", key="in/a.pdf", etag="e1", size=7, last_modified=NOON)


def posting(minute: int, price: float = 0.002) -> Lease:
    now = NOON + timedelta(minutes=minute)
    return transitions.lease("w", now, 60, "posting", run=f"run {minute}", price_per_page=price)


def job(pages: int | None = 10) -> Job:
    return Job(id="j", document=DOCUMENT, model="ocr", result="s3://b/r", pages=pages, estimate=4, claimed_at=NOON)


def sent(record: Job, name: str, pages: PageRange | None, count: int, minute: int) -> Job:
    at = NOON + timedelta(minutes=minute)
    request = Request(id=name, pages=pages, submitted_at=at, run=f"run {minute}", price_per_page=0.002)
    return transitions.sent(record, request, count, owner="w", keep=posting(minute), flow_run=f"run {minute}").job


def test_requests_and_lost_answers_are_spends_of_their_moment_and_run() -> None:
    record = transitions.posting(job(), posting(1)).job
    record = transitions.answer_lost(record, 10).job
    record = transitions.posting(record, posting(2)).job
    record = sent(record, "r", PageRange(first=1, last=10), 10, 2)
    record = sent(record, "s", PageRange(first=3, last=4), 2, 9)
    assert [(spend.request, spend.pages, spend.accepted, spend.run) for spend in spends(record)] == [
        ("r", 10, True, "run 2"),
        ("s", 2, True, "run 9"),
        (None, 10, False, "run 1"),
    ]
    assert cost(record) == Cost(accepted=0.024, possible=0.02)


def test_what_a_dead_worker_was_posting_is_a_spend_of_that_worker() -> None:
    record = transitions.posting(job(), posting(3)).job
    record = transitions.taken_over(record, posting(8, price=9)).job
    (lost,) = spends(record)
    assert lost.possible_duplicates == 1
    assert (lost.at, lost.pages, lost.accepted, lost.run, lost.cost) == (
        NOON + timedelta(minutes=3), 10, False, "run 3", 0.02,
    )  # fmt: skip


def test_an_answer_that_proved_nothing_is_paid_for_without_a_request() -> None:
    record = transitions.posting(job(None), posting(1)).job
    record = transitions.proved_nothing(record, 100).job
    record = sent(record, "r", PageRange(first=1, last=150), 150, 2)
    assert [(spend.request, spend.pages) for spend in spends(record)] == [("r", 150), (None, 100)]
    assert cost(record).accepted == 0.5
    assert [spend.possible_duplicates for spend in spends(record)] == [0, 1]


def test_possible_duplicates_of_the_submissions_add_up_to_the_jobs() -> None:
    record = transitions.posting(job(), posting(1)).job
    record = transitions.answer_lost(record, 10).job
    record = sent(record, "forgotten", PageRange(first=1, last=10), 10, 2)
    record = transitions.asked(record, [transitions.lost(request, "unknown") for request in record.requests], 0).job
    record = transitions.resending(record, posting(3)).job
    record = sent(record, "r", PageRange(first=1, last=10), 10, 4)
    # Another worker has taken the job over, and sends the same pages.
    taken = record.model_copy(update={"lease": posting(5).model_copy(update={"owner": "other"})})
    record = sent(taken, "late", PageRange(first=1, last=10), 10, 6)
    assert record.possible_duplicates == 3
    assert {spend.request: spend.possible_duplicates for spend in spends(record)} == {
        "forgotten": 1, "r": 0, "late": 1, None: 1,
    }  # fmt: skip


def test_possible_duplicates_that_an_old_record_only_counts_are_kept() -> None:
    old = job().model_copy(update={"possible_duplicates": 2})
    assert [(spend.pages, spend.possible_duplicates) for spend in spends(old)] == [(0, 2)]
    old = old.model_copy(update={"pages_lost": 10})
    assert [(spend.pages, spend.possible_duplicates) for spend in spends(old)] == [(10, 2)]


def test_pages_that_only_the_api_counts_are_reckoned_until_it_has_counted_them() -> None:
    record = sent(job(None), "r", None, 4, 1)
    assert [spend.pages for spend in spends(record)] == [4]
    record = transitions.counted(record, 7, posting(2), record.requests).job
    assert [spend.pages for spend in spends(record)] == [7]
    assert record.pages_sent == 7


def test_a_request_that_was_lost_before_the_api_counted_its_pages_costs_what_was_reckoned_for_it() -> None:
    record = sent(job(None), "r", None, 4, 1)
    record = transitions.asked(record, [transitions.lost(record.requests[0], "forgotten")], 0).job
    record = transitions.resending(record, posting(2)).job
    record = sent(record, "s", None, 4, 2)
    record = transitions.counted(record, 10, posting(3), record.requests[1:]).job
    assert [(spend.request, spend.pages) for spend in spends(record)] == [("r", 4), ("s", 10)]
    assert sum(spend.pages for spend in spends(record)) == record.pages_sent


def test_a_document_sent_again_whole_after_its_count_changes_no_earlier_cost() -> None:
    record = sent(job(None), "r", None, 4, 1)
    record = transitions.asked(record, [transitions.lost(record.requests[0], "forgotten")], 0).job
    record = sent(transitions.resending(record, posting(2)).job, "s", None, 4, 2)
    record = transitions.counted(record, 10, posting(3), record.requests[1:]).job
    record = transitions.read(record, content="c", pages=None, estimate=10).job  # one of its batches has failed
    record = sent(transitions.resending(record, posting(4)).job, "t", None, 10, 4)
    assert [(spend.request, spend.pages) for spend in spends(record)] == [("r", 4), ("s", 10), ("t", 10)]
    assert sum(spend.pages for spend in spends(record)) == record.pages_sent
