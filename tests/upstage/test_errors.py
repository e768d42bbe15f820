"""An error answer is told apart by whose fault it is, in the API's own words, and never breaks the run itself."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.faults import AccountFault, AnswerLost, DocumentFault, Fault, NotOffered, TimedOut, TransientFault
from tasks.upstage.errors import Submission, fault_of, message_of

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
        (400, "unknown field callback", "async", DocumentFault, "does not accept this document"),
        (401, "invalid key", "async", AccountFault, "UPSTAGE_API_KEY"),
        (401, "invalid key", None, AccountFault, "UPSTAGE_API_KEY"),
        (402, "payment required", "async", AccountFault, "top it up"),
        (403, "no credit", "async", AccountFault, "top it up"),
        (403, "no credit", None, AccountFault, "top it up"),
        (404, "no route", "async", NotOffered, "UPSTAGE_BASE_URL"),
        (404, "no route", None, TransientFault, ""),
        (405, "use https", "async", NotOffered, "https://"),
        (408, "too slow", "async", TransientFault, ""),
        (413, "too many pages", "async", DocumentFault, "lower --limits."),
        (415, "bad format", "async", DocumentFault, "convert"),
        (422, "corrupted", "async", DocumentFault, "repair or replace"),
        (429, "slow down", "async", TransientFault, ""),
        (429, "slow down", None, TransientFault, ""),
        (500, "oops", "async", AnswerLost, "may or may not have been accepted"),
        (500, "oops", "sync", AnswerLost, "may or may not have been accepted"),
        (500, "oops", None, TransientFault, ""),
        (502, "bad gateway", "async", AnswerLost, "may or may not have been accepted"),
        (502, "bad gateway", None, TransientFault, ""),
        (503, "overloaded", "async", TransientFault, ""),
        (504, "timeout", "async", AnswerLost, "may or may not have been accepted"),
        (504, "timeout", "sync", TimedOut, "may or may not have been accepted"),
        (502, "bad gateway", "sync", AnswerLost, "may or may not have been accepted"),
        (504, "timeout", None, TransientFault, ""),
        (520, "unknown error", "async", AnswerLost, "may or may not have been accepted"),
        (524, "a timeout occurred", "sync", AnswerLost, "may or may not have been accepted"),
        (529, "a status nobody documented", "async", AnswerLost, "may or may not have been accepted"),
        (529, "a status nobody documented", None, TransientFault, ""),
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


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_reaches_whoever_waits(status: int) -> None:
    fault = fault_of(status, b"", {"Retry-After": "17"}, NOW, submitting="async")
    assert isinstance(fault, TransientFault)
    assert fault.retry_after == 17


@pytest.mark.parametrize("submitting", ["async", "sync"])
def test_an_error_that_comes_before_the_upload_has_ended_is_a_refusal(submitting: Submission) -> None:
    for status in (500, 502, 504, 520):
        assert type(fault_of(status, b"", {}, NOW, submitting=submitting, sent_whole=False)) is TransientFault


@pytest.mark.parametrize(
    "said",
    [
        "The requested model is invalid or no longer supported. Please check the model name.",
        "invalid model name",
        "model 'ocr' cannot be used with this endpoint",
        "asynchronous processing is available for document-parse only",
        "Async requests are not enabled for your organization",
        "this feature only supports synchronous requests",
        "please use the sync API",
    ],
)
def test_before_any_job_was_accepted_whatever_speaks_of_model_or_mode_is_a_refusal_of_jobs(said: str) -> None:
    assert type(fault_of(400, nested(said), {}, NOW, submitting="async")) is NotOffered


@pytest.mark.parametrize("said", ["this feature only supports synchronous requests", "model 'ocr' found 3 pages"])
def test_once_a_job_was_accepted_or_where_none_is_asked_for_such_words_are_about_the_document(said: str) -> None:
    assert type(fault_of(400, flat(said), {}, NOW, submitting="async", jobs_accepted=True)) is DocumentFault
    assert type(fault_of(400, flat(said), {}, NOW, submitting="sync")) is DocumentFault


def test_words_that_only_look_alike_are_no_refusal_of_jobs() -> None:
    for message in ("invalid remodeling plan", "unknown field asyncio", "document is required"):
        assert type(fault_of(400, flat(message), {}, NOW, submitting="async")) is DocumentFault


@pytest.mark.parametrize("status", [400, 413])
def test_too_many_pages_are_too_large_whatever_the_status(status: int) -> None:
    message = "The document exceeds the page limit for async. The maximum allowed is 100"
    fault = fault_of(status, nested(message), {}, NOW, submitting="async")
    assert isinstance(fault, DocumentFault)
    assert fault.code == "too-large"


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
