"""The server's time from `Date` headers: never ahead of the server, and better with every answer."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tasks.upstage.rates import wait_asked
from tasks.upstage.server_time import ServerTime
from tests.fakes import FakeClock

NOW = FakeClock().now()


def dated(moment: datetime) -> dict[str, str]:
    """The header of an answer sent at a moment."""
    return {"Date": format_datetime(moment.replace(microsecond=0), usegmt=True)}


def test_without_a_date_it_is_this_machines_time() -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    assert server_time.heard({}) == NOW
    clock.advance(0.25)
    assert server_time.heard({"Date": "today"}) == NOW + timedelta(seconds=0.25)


@pytest.mark.parametrize("ahead", [-40.3, 0.0, 25.7])
def test_it_comes_within_the_time_between_two_answers_of_the_servers_and_never_ahead(ahead: float) -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    for _ in range(40):
        clock.advance(0.037)
        truth = clock.now() + timedelta(seconds=ahead)
        estimate = server_time.heard(dated(truth))
        assert estimate <= truth
    assert (truth - estimate).total_seconds() <= 0.037


def test_a_late_answers_outdated_date_does_not_count() -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    server_time.heard(dated(NOW))
    clock.advance(5)
    assert server_time.heard(dated(NOW)) == NOW + timedelta(seconds=5)


def test_a_server_whose_clock_is_set_back_is_believed_after_two_minutes() -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    server_time.heard(dated(NOW))
    for _ in range(5):
        clock.advance(30)
        estimate = server_time.heard(dated(clock.now() - timedelta(seconds=10)))
    assert estimate == clock.now() - timedelta(seconds=10)


def test_a_time_that_is_further_off_than_clocks_are_does_not_count() -> None:
    server_time = ServerTime(FakeClock())
    assert server_time.heard({"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}) == NOW


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Wed, 01 Jul 2026 12:00:25 GMT", 15),
        ("Wed, 01 Jul 2026 11:59:35 GMT", 65),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 40),  # a cache's old answer, or a server without a clock
        ("today", 40),
        ("Wed, 99999999999999999999 Jul 2026 12:00:25 GMT", 40),
        ("Wed, 01 Jul 2026 12:00:25 +99999999999999", 40),
    ],
)
def test_moments_are_meant_by_the_servers_clock_where_it_tells_its_time(date: str, seconds: float) -> None:
    headers = {"Retry-After": str(int(NOW.timestamp()) + 40), "Date": date}
    assert datetime(2026, 7, 1, 12, 0, tzinfo=UTC) == NOW
    assert wait_asked(headers, ServerTime(FakeClock()).heard(headers)) == seconds
