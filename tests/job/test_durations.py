"""Waiting for us, at the API and collecting add up to the time from claim to result, whatever the clocks say."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.job.durations import durations
from tasks.job.record import Document, Durations, Job, Request

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
DOCUMENT = Document(bucket="b", key="in/a.pdf", etag="e1", size=7, last_modified=NOON)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def divided(spans: Sequence[tuple[float, float | None]], since: float, finished: float) -> Durations:
    requests = tuple(
        Request(id=str(n), pages=None, submitted_at=at(begin), completed_at=None if end is None else at(end))
        for n, (begin, end) in enumerate(spans)
    )
    job = Job(id="j", document=DOCUMENT, model="ocr", result="s3://b/r", claimed_at=NOON, requests=requests)
    return durations(job, at(since), at(finished))


def test_the_time_at_the_api_ends_when_it_says_so_and_not_when_we_asked() -> None:
    assert divided([(2, 12)], since=100, finished=103) == Durations(waiting=90, at_api=10, collecting=3)


def test_requests_at_the_same_time_count_once_and_those_sent_again_count_again() -> None:
    assert divided([(0, 10), (4, 14), (50, 60), (5, None)], since=100, finished=100) == Durations(
        waiting=76, at_api=24, collecting=0
    )


def test_without_a_word_of_the_api_nobody_knows_how_long_it_took() -> None:
    assert divided([(2, None)], since=100, finished=103) == Durations(waiting=None, at_api=None, collecting=3)


def test_a_result_that_was_copied_was_never_at_the_api() -> None:
    assert divided([], since=100, finished=103) == Durations(waiting=100, at_api=0, collecting=3)


seconds = st.floats(-1000, 1000)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=4), seconds, seconds)
def test_they_add_up_whatever_the_clocks_say(spans: list[tuple[float, float]], since: float, finished: float) -> None:
    found = divided(spans, since, finished)
    assert found.waiting is not None
    assert found.at_api is not None
    assert min(found.waiting, found.at_api, found.collecting) >= 0
    if 0 <= since <= finished:
        assert abs(found.waiting + found.at_api + found.collecting - finished) < 0.01
