"""What headers say of the rate limit is read in every form it was seen in; what cannot be read is as if missing."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.upstage.rates import Allowance, allowances, wait_asked

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
UNIX_NOW = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (str(UNIX_NOW + 40), 40.0),
        (f"{UNIX_NOW + 40}.5", 40.5),
        (str((UNIX_NOW + 40) * 1000), 40.0),
        (str(UNIX_NOW - 40), 0.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("Wed, 01 Jul 2026 12:01:30 GMT", 90.0),
        ("Wed, 01 Jul 2026 14:01:30 +0200", 90.0),
        ("Wed, 01 Jul 2026 11:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("Wed, 99 Jul 2026 12:00:00 GMT", None),
        ("Wed, 01 Jul 2026 12:01:30 -0000", None),
    ],
)
def test_retry_after_is_read_as_seconds_date_or_unix_time_and_garbage_is_as_if_missing(
    header: str, seconds: float | None
) -> None:
    assert wait_asked({"Retry-After": header}, NOW) == seconds


def test_a_missing_retry_after_is_none() -> None:
    assert wait_asked({}, NOW) is None


@given(st.one_of(st.text(), st.from_regex(r"\A\w{3}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [+-]\d{4}\Z")))
@example("1e999")
@example("nan")
@example("Wed, 21 Oct 0001 07:28:00 +2359")
@example("Wed, 99999999999999999999 Oct 2015 07:28:00 GMT")
@example("Wed, 21 Oct 2015 07:28:00 +99999999999999")
def test_no_retry_after_breaks_the_run_or_asks_for_a_negative_wait(header: str) -> None:
    seconds = wait_asked({"Retry-After": header}, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("prefix", ["X-Upstage-RateLimit", "x-upstage-ratelimit", "X-Upstage-Ratelimit", "X-RateLimit"])
def test_the_vendors_headers_are_read_in_every_spelling(prefix: str) -> None:
    headers = {
        f"{prefix}-Limit-Requests": "10",
        f"{prefix}-Remaining-Requests": "0",
        f"{prefix}-Reset-Requests": str(UNIX_NOW + 20),
        f"{prefix}-Retry-After-Requests": str(UNIX_NOW + 15),
        f"{prefix}-Limit-Pages": "300",
        f"{prefix}-Remaining-Pages": "a few",
        "Content-Type": "application/json",
    }
    found_allowances = allowances(headers, NOW)
    assert found_allowances == {"requests": Allowance(10, 0, 20, 15), "pages": Allowance(limit=300)}


def test_without_retry_after_the_vendors_own_header_says_how_long_to_wait() -> None:
    name = "X-Upstage-RateLimit"
    assert wait_asked({f"{name}-Retry-After-Requests": str(UNIX_NOW + 15)}, NOW) == 15
    both = {f"{name}-Retry-After-Requests": "15", f"{name}-Retry-After-Tokens": str(UNIX_NOW + 20)}
    assert wait_asked(both, NOW) == 20
    assert wait_asked({**both, "Retry-After": "3"}, NOW) == 3
    left = {f"{name}-Remaining-Requests": "4", f"{name}-Reset-Requests": str(UNIX_NOW + 50)}
    empty = {f"{name}-Remaining-Pages": "0", f"{name}-Reset-Pages": str(UNIX_NOW + 30)}
    assert wait_asked({**left, **empty}, NOW) == 30
    assert wait_asked(left, NOW) is None
    assert wait_asked({f"{name}-Remaining": "-1", f"{name}-Reset": str(UNIX_NOW + 9)}, NOW) == 9


@given(st.dictionaries(st.sampled_from(["Limit", "Remaining", "Reset", "Retry-After"]), st.text()))
def test_no_value_of_a_header_breaks_the_run(values: dict[str, str]) -> None:
    headers = {f"X-Upstage-RateLimit-{name}-Requests": value for name, value in values.items()}
    wait = wait_asked(headers, NOW)
    assert wait is None or wait >= 0
    assert set(allowances(headers, NOW)) == ({"requests"} if values else set())
