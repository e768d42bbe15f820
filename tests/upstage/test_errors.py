"""An error answer is told apart by whose fault it is, in the API's own words, and never breaks the run itself."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.faults import AccountFault, AnswerLost, DocumentFault, Fault, MomentFault, NotOffered, TimedOut
from tasks.upstage.errors import Submission, fault_of, message_of, retry_after

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def flat(message: str) -> bytes:
    return json.dumps({"code": 400, "message": message}).encode()


def nested(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "some_error", "code": "x"}}).encode()


@pytest.mark.parametrize("body", [flat, nested])
@pytest.mark.parametrize(
    ("status", "said", "submitting", "kind", "remedy"),
    [
        (400, "invalid model name", "async", NotOffered, "--model"),
        (400, "unknown field callback", "async", DocumentFault, "does not take this document"),
        (401, "invalid key", "async", AccountFault, "UPSTAGE_API_KEY"),
        (401, "invalid key", None, AccountFault, "UPSTAGE_API_KEY"),
        (402, "payment required", "async", AccountFault, "top it up"),
        (403, "no credit", "async", AccountFault, "top it up"),
        (403, "no credit", None, AccountFault, "top it up"),
        (404, "no route", "async", NotOffered, "UPSTAGE_BASE_URL"),
        (404, "no route", None, MomentFault, ""),
        (405, "use https", "async", NotOffered, "https://"),
        (408, "too slow", "async", MomentFault, ""),
        (413, "too many pages", "async", DocumentFault, "lower --limits."),
        (415, "bad format", "async", DocumentFault, "convert"),
        (422, "corrupted", "async", DocumentFault, "repair or replace"),
        (429, "slow down", "async", MomentFault, ""),
        (429, "slow down", None, MomentFault, ""),
        (500, "oops", "async", MomentFault, ""),
        (500, "oops", None, MomentFault, ""),
        (502, "bad gateway", "async", AnswerLost, "whether the document was accepted"),
        (502, "bad gateway", None, MomentFault, ""),
        (503, "overloaded", "async", MomentFault, ""),
        (504, "timeout", "async", AnswerLost, "whether the document was accepted"),
        (504, "timeout", "sync", TimedOut, "whether the document was accepted"),
        (502, "bad gateway", "sync", AnswerLost, "whether the document was accepted"),
        (504, "timeout", None, MomentFault, ""),
        (529, "a status nobody documented", "async", MomentFault, ""),
        (302, "moved", "async", AccountFault, "UPSTAGE_BASE_URL"),
        (308, "moved", None, AccountFault, "UPSTAGE_BASE_URL"),
    ],
)
def test_every_status_is_somebodys_fault_and_says_what_to_do(
    body: Any, status: int, said: str, submitting: Submission | None, kind: type[Fault], remedy: str
) -> None:
    fault = fault_of(status, body(said), {}, NOW, submitting=submitting)
    assert type(fault) is kind
    assert str(status) in str(fault)
    assert said in str(fault)
    assert remedy in str(fault)


def test_a_document_the_api_calls_damaged_is_not_worth_retrying_and_an_unexplained_refusal_is() -> None:
    damaged, unexplained = (fault_of(status, b"", {}, NOW, submitting="async") for status in (422, 418))
    assert isinstance(damaged, DocumentFault)
    assert not damaged.retry_helps
    assert isinstance(unexplained, DocumentFault)
    assert unexplained.retry_helps


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry_after_reaches_whoever_waits(status: int) -> None:
    fault = fault_of(status, b"", {"Retry-After": "17"}, NOW, submitting="async")
    assert isinstance(fault, MomentFault)
    assert fault.retry_after == 17


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("Wed, 01 Jul 2026 12:01:30 GMT", 90.0),
        ("Wed, 01 Jul 2026 14:01:30 +0200", 90.0),
        ("Wed, 01 Jul 2026 11:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("soon", None),
        ("", None),
        ("Wed, 99 Jul 2026 12:00:00 GMT", None),
        ("Wed, 01 Jul 2026 12:01:30 -0000", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_garbage_is_as_if_missing(
    header: str, seconds: float | None
) -> None:
    assert retry_after({"Retry-After": header}, NOW) == seconds


def test_a_missing_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


@given(st.one_of(st.text(), st.from_regex(r"\A\w{3}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [+-]\d{4}\Z")))
@example("1e999")
@example("nan")
@example("Wed, 21 Oct 0001 07:28:00 +2359")
def test_no_retry_after_breaks_the_run_or_asks_for_a_negative_wait(header: str) -> None:
    seconds = retry_after({"Retry-After": header}, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (flat("plain words"), "plain words"),
        (nested("plain words"), "plain words"),
        (b'{"error": "plain words"}', "plain words"),
        (b'{"error": {"message": null}}', '{"error": {"message": null}}'),
        (b"<html>\n  <h1>Bad  Gateway</h1>\n</html>", "<html> <h1>Bad Gateway</h1> </html>"),
        (b'"just a string"', '"just a string"'),
        (b"", ""),
        ("Größe überschritten".encode(), "Größe überschritten"),
    ],
)
def test_the_apis_own_words_are_found_in_whatever_body_came(body: bytes, words: str) -> None:
    assert message_of(body) == words


def test_a_message_can_be_stored_and_shown_whatever_is_in_it() -> None:
    message = message_of(
        json.dumps({"message": "\ud800 lone, \x1b[31mred\x1b[0m,\nlines\x00 " + "x" * 10_000}).encode()
    )
    message.encode("utf-8")
    assert message.isprintable()
    assert message.startswith("lone, [31mred [0m, lines")
    assert len(message) == 300


bodies = st.one_of(
    st.binary(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "message", "code", "x"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.integers(100, 599), bodies, st.sampled_from([None, "async", "sync"]))
@example(500, b"[" * 200_000, "async")
@example(400, b'{"message":' * 200_000, None)
@example(500, b"9" * 10_000, "sync")
def test_no_body_breaks_the_reading_of_an_error(status: int, body: bytes, submitting: Submission | None) -> None:
    fault = fault_of(status, body, {}, NOW, submitting=submitting)
    assert isinstance(fault, Fault)
    assert len(str(fault).encode("utf-8")) < 4 * 300 + 200


def test_a_presigned_url_in_the_apis_words_loses_its_query() -> None:
    said = message_of(b'{"message": "cannot write https://s.example/a/b?X-Signature=topsecret&x=1 now"}')
    assert said == "cannot write https://s.example/a/b?\u2026 now"
