"""The rate limit is kept over any span of time, lets everything through in the end, and holds up no status call."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.clock import Clock
from tasks.faults import Cancelled
from tasks.upstage.throttle import LONGEST_PAUSE, Bucket, Throttle
from tests.fakes import FakeClock
from tests.waiting import PATIENCE

ROUNDING = 1e-3

rates = st.floats(0.05, 100)
bursts = st.floats(1, 300)
amounts = st.one_of(st.just(1.0), st.floats(0.1, 50), st.floats(300, 2000))
# A call, time that passes before it, and a rest that the other side may have asked for.
steps = st.lists(st.tuples(amounts, st.floats(0, 100), st.one_of(st.just(0.0), st.floats(1, 60))), max_size=40)


class HeldClock(FakeClock):
    """A clock whose sleepers stay asleep until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Event()
        self.let_go = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.asleep.set()
        assert self.let_go.wait(PATIENCE)
        super().sleep(seconds)


@given(rates, bursts, steps)
def test_no_window_of_time_gets_more_than_rate_and_burst(
    rate: float, burst: float, calls: Sequence[tuple[float, float, float]]
) -> None:
    clock = FakeClock()
    bucket = Bucket(rate, burst, clock)
    granted: list[tuple[float, float]] = []
    for amount, idle, rest in calls:
        clock.advance(idle)
        if rest:
            bucket.pause(rest)
        bucket.take(amount)
        granted.append((clock.monotonic(), amount))
    for begin in range(len(granted)):
        total = 0.0
        for at, amount in granted[begin:]:
            total += amount
            # The last one of a window may go into debt; whatever comes after it pays.
            assert total <= rate * (at - granted[begin][0]) + max(burst, amount) + ROUNDING


@given(rates, bursts, steps)
def test_a_wait_is_no_longer_than_the_rate_demands(
    rate: float, burst: float, calls: Sequence[tuple[float, float, float]]
) -> None:
    clock = FakeClock()
    bucket = Bucket(rate, burst, clock)
    owed = 0.0  # what was taken and did not come back yet
    for amount, idle, _ in calls:
        clock.advance(idle)
        owed = max(0.0, owed - idle * rate)
        begin = clock.monotonic()
        waited = bucket.take(amount)
        assert waited == pytest.approx(clock.monotonic() - begin)
        expected = max(0.0, owed + min(amount, burst) - burst) / rate
        assert waited == pytest.approx(expected, rel=1e-6, abs=ROUNDING / rate)
        owed = max(0.0, owed - waited * rate) + amount


def test_a_request_larger_than_a_minutes_pages_gets_through_and_is_paid_off() -> None:
    clock = FakeClock()
    throttle = Throttle(1, 300, clock)
    assert throttle.take(1000) == 0
    # 700 pages of debt and a full bucket again: 1,000 pages at 5 a second.
    assert throttle.take(1000) == pytest.approx(200)


@given(st.floats(0.1, 300), st.lists(st.floats(0, 100), max_size=5))
def test_a_pause_is_honoured_and_a_shorter_one_does_not_shorten_it(first: float, later: Sequence[float]) -> None:
    clock = FakeClock()
    throttle = Throttle(1000, 1e6, clock)
    throttle.pause(first)
    for seconds in later:
        throttle.pause(seconds)
    throttle.take(1)
    assert clock.monotonic() == pytest.approx(max(first, *later, 0))


def test_no_pause_is_longer_than_minutes_whatever_is_asked_for() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, 1e6, clock)
    throttle.pause(1e9)
    throttle.take(1)
    assert clock.monotonic() == pytest.approx(LONGEST_PAUSE)


def window(clock: FakeClock, kind: str, remaining: int, seconds: float) -> dict[str, str]:
    """The headers of an answer, as the vendor words them."""
    reset = clock.now().timestamp() + seconds
    name = "X-Upstage-RateLimit"
    return {
        f"{name}-Limit-{kind}": "10",
        f"{name}-Remaining-{kind}": str(remaining),
        f"{name}-Reset-{kind}": str(reset),
    }


def test_where_nothing_is_left_of_a_window_calls_wait_for_the_next() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, 1e6, clock)
    throttle.learn_from(window(clock, "Requests", 1, 20))
    assert throttle.take(1) == 0
    throttle.learn_from(window(clock, "Requests", 0, 20))
    assert throttle.take() == pytest.approx(20)
    assert throttle.reported["requests"].limit == 10


@pytest.mark.parametrize("limit", ["0.001", "1e-9", "1e-310", "0", "-1", "nan"])
def test_no_limit_that_is_reported_stops_calls_for_more_than_minutes(limit: str) -> None:
    clock = FakeClock()
    throttle = Throttle("auto", "auto", clock)
    throttle.learn_from({"X-Upstage-RateLimit-Limit-Requests": limit})
    for _ in range(100):
        throttle.refused({}, None, submitting=True)
        clock.advance(2)
    assert 1 / throttle.learned["submissions"] <= LONGEST_PAUSE + ROUNDING


def test_pages_that_are_used_up_hold_up_submissions_and_no_status_calls() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, 1e6, clock)
    throttle.learn_from(window(clock, "Pages", 0, 20))
    assert throttle.take() == 0
    assert throttle.take(1) == pytest.approx(20)


class ClockReadByTwo(FakeClock):
    """A clock at one reading of which another thread gets to work."""

    def __init__(self) -> None:
        super().__init__()
        self.readings_before, self.work = -1, threading.Thread()

    def monotonic(self) -> float:
        self.readings_before -= 1
        if self.readings_before == -1:
            self.work.start()
            self.work.join(0.2)  # if it has to wait for this thread, it works later
        return super().monotonic()


@pytest.mark.parametrize("readings_before", range(3))  # of the server's time, of the refusal's, of the bucket's
def test_a_rate_that_is_fixed_while_another_thread_learns_is_kept(readings_before: int) -> None:
    clock = ClockReadByTwo()
    throttle = Throttle("auto", "auto", clock)
    throttle.learn_from({"X-Upstage-RateLimit-Limit-Requests": "1000"})
    clock.work = threading.Thread(target=throttle.set_rates, args=(1.0, "auto"))
    clock.readings_before = readings_before
    throttle.refused({}, None, submitting=True)
    clock.work.join(PATIENCE)
    throttle.take()
    begin = clock.monotonic()
    assert throttle.take() == clock.monotonic() - begin == pytest.approx(1)
    assert "submissions" not in throttle.learned


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 86_400.0, 1e12])
def test_a_window_that_ends_in_the_past_or_in_ages_holds_up_nothing_for_long(seconds: float) -> None:
    clock = FakeClock()
    throttle = Throttle(1000, 1e6, clock)
    throttle.learn_from(window(clock, "Requests", 0, seconds))
    assert throttle.take() <= 60
    throttle.learn_from({"X-Upstage-RateLimit-Remaining-Tokens": "0", "X-Upstage-RateLimit-Reset-Tokens": "60"})
    assert throttle.take() == 0  # OCR uses up pages, no tokens


def test_when_the_run_is_ended_every_waiter_is_told_and_whoever_waits_for_a_turn_too() -> None:
    clock = Clock()
    throttle = Throttle(1e-6, 300, clock)
    throttle.take()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(throttle.take) for _ in range(3)]
        clock.end()
        for waiter in waiting:
            with pytest.raises(Cancelled):
                waiter.result(PATIENCE)


def test_a_pause_that_comes_while_somebody_waits_holds_for_them_too() -> None:
    clock = HeldClock()
    throttle = Throttle(1, 300, clock)
    throttle.take()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(throttle.take)
        assert clock.asleep.wait(PATIENCE)
        throttle.pause(60)
        clock.let_go.set()
        waiting.result(PATIENCE)
    assert clock.monotonic() == pytest.approx(60)


def test_a_status_call_does_not_wait_behind_a_submission_that_waits_for_its_pages() -> None:
    clock = HeldClock()
    throttle = Throttle(10, 300, clock)
    throttle.take(1000)
    with ThreadPoolExecutor() as pool:
        submission = pool.submit(throttle.take, 300)
        try:
            assert clock.asleep.wait(PATIENCE)
            assert pool.submit(throttle.take).result(PATIENCE) == 0
            assert not submission.done()
        finally:
            clock.let_go.set()
        assert submission.result(PATIENCE) > 0


def test_threads_together_get_no_more_than_one_would_and_all_get_their_turn() -> None:
    clock = FakeClock()
    bucket = Bucket(rate=5, burst=10, clock=clock)
    start = threading.Barrier(8)

    def work() -> int:
        start.wait(PATIENCE)
        for _ in range(50):
            bucket.take(2)
        return 50

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work) for _ in range(8)]
        assert sum(future.result(PATIENCE) for future in futures) == 400
    # 800 tokens, 10 of them from the burst.
    assert clock.monotonic() == pytest.approx(790 / 5)
