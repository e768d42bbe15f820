"""What the API answers may lack, add or mistype anything: it is borne, or is a fault of the moment."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.faults import TransientFault
from tasks.upstage.answers import RequestStatus, parse_status

SIGNED = "https://storage.example/r/0?X-Signature=topsecret"


def batch(**changes: Any) -> dict[str, Any]:
    return {"status": "completed", "download_url": SIGNED, "start_page": 1, "end_page": 10, **changes}


def parse(answer: Any) -> RequestStatus:
    return parse_status(json.dumps(answer).encode())


def test_a_whole_answer_is_read_as_documented() -> None:
    status = parse(
        {
            "id": "r",
            "status": "completed",
            "model": "ocr",
            "failure_message": "",
            "total_pages": 28,
            "completed_pages": 28,
            "batches": [
                {
                    **batch(start_page=11, end_page=20),
                    "id": 1,
                    "model": "ocr-250904",
                    "failure_message": "",
                    "requested_at": "2026-07-01T14:47:01.863880448Z",
                    "updated_at": "2026-07-01T14:47:01Z",
                }
            ],
            "requested_at": "2026-07-01T14:47:01.863880448Z",
            "completed_at": "2026-07-01T14:47:02.1Z",
        }
    )
    assert status.finished
    assert (status.total_pages, status.completed_pages) == (28, 28)
    [only] = status.batches
    assert (only.start_page, only.end_page, only.download_url, only.completed) == (11, 20, SIGNED, True)


@pytest.mark.parametrize("answer", [{}, {"batches": None}, {"batches": []}, {"status": None, "failure_message": None}])
def test_null_missing_and_empty_mean_nothing_there_yet(answer: Any) -> None:
    status = parse(answer)
    assert status.batches == ()
    assert not status.finished
    assert status.failure_message == ""


@pytest.mark.parametrize(
    ("word", "finished"),
    [("submitted", False), ("started", False), ("completed", True), ("failed", True), ("paused", False), ("", False)],
)
def test_an_unknown_word_counts_as_still_running(word: str, finished: bool) -> None:
    assert parse({"status": word}).finished is finished


@pytest.mark.parametrize(
    ("changes", "completed"),
    [
        ({}, True),
        ({"start_page": 3, "end_page": 3}, True),
        ({"status": "scheduled"}, False),
        ({"status": "started"}, False),
        ({"status": "failed"}, False),
        ({"status": "retrying"}, False),
        ({"status": "resting"}, False),
        ({"status": None}, False),
        ({"download_url": ""}, False),
        ({"download_url": None}, False),
        ({"start_page": 4, "end_page": 3}, False),
        ({"start_page": 0}, False),
        ({"start_page": None}, False),
        ({"end_page": -1}, False),
    ],
)
def test_a_batch_is_downloaded_only_when_it_is_completed_with_a_url_and_pages(
    changes: dict[str, Any], completed: bool
) -> None:
    [only] = parse({"batches": [batch(**changes)]}).batches
    assert only.completed is completed


@pytest.mark.parametrize("pages", [{"start_page": "one"}, {"end_page": "ten"}, {"end_page": 1.5}])
def test_a_page_range_that_makes_no_sense_is_not_guessed_at(pages: dict[str, Any]) -> None:
    with pytest.raises(TransientFault, match=r"batches\.0\.(start|end)_page"):
        parse({"batches": [batch(**pages)]})


@pytest.mark.parametrize("stamp", ["2026-07-01T14:47:01.863880448Z", "2026-07-01T14:47:01Z", "yesterday", None, 7])
def test_timestamps_never_matter(stamp: Any) -> None:
    answer = {"status": "completed", "requested_at": stamp, "batches": [{**batch(), "updated_at": stamp}]}
    assert parse(answer).batches[0].completed


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"<html></html>", b'"completed"', b"\xff\xfe", b"[" * 10**6]
)
def test_a_body_that_is_no_answer_is_a_fault_of_the_moment(body: bytes) -> None:
    with pytest.raises(TransientFault, match="cannot be understood"):
        parse_status(body)


def test_a_download_url_shows_up_neither_in_a_faults_traceback_nor_in_a_printed_status() -> None:
    assert "topsecret" not in repr(parse({"batches": [batch()]}))
    bad: dict[str, Any] = {"status": "completed", "download_url": "https://s.example/?sig=topsecret", "end_page": []}
    with pytest.raises(TransientFault) as caught:
        parse({"batches": [bad]})
    assert caught.value.__cause__ is not None
    assert "topsecret" not in f"{caught.value} {caught.value.__cause__}"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
batches = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["completed", "failed", "retrying"]) | anything,
        "start_page": st.integers(0, 30) | anything,
        "end_page": st.integers(0, 30) | anything,
        "download_url": st.just(SIGNED) | anything,
        "failure_message": anything,
    },
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["completed", "started"]) | anything,
        "total_pages": st.integers() | anything,
        "completed_pages": anything,
        "failure_message": anything,
        "batches": st.lists(batches | anything, max_size=3) | anything,
        "something_new": anything,
    },
)


@given(answers | anything)
@example({"batches": [{"start_page": 10**400, "end_page": 10**400}]})
@example({"total_pages": float("nan")})
@example({"status": "\ud800"})
def test_no_json_breaks_the_reading_of_a_status(answer: Any) -> None:
    try:
        status = parse(answer)
    except TransientFault:
        return
    assert isinstance(status.status, str)
    for batch in status.batches:
        assert not batch.completed or (batch.download_url and 1 <= batch.start_page <= batch.end_page)


@given(st.binary())
def test_no_bytes_break_the_reading_of_a_status(body: bytes) -> None:
    with suppress(TransientFault):
        assert isinstance(parse_status(body), RequestStatus)


@pytest.mark.parametrize(
    ("status", "batches", "settled"),
    [
        ("completed", [{}], True),
        ("completed", [{"status": "failed"}], True),
        ("completed", [{"status": "retrying"}], False),
        ("completed", [{"status": "started"}], False),
        ("completed", [{"download_url": ""}], False),
        ("completed", [{"status": "retrying"}, {}], True),
        ("failed", [{"status": "retrying"}], True),
    ],
)
def test_a_batch_that_is_still_retried_is_waited_for_not_paid_again(
    status: str, batches: list[dict[str, Any]], settled: bool
) -> None:
    assert parse({"status": status, "batches": [batch(**changes) for changes in batches]}).settled is settled
