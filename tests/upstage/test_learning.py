"""A rate limit that finds the account's: used up, hardly ever refused, and shared fairly by processes that know nothing
of one another. The account counts in windows, as the API's stand-in does."""

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import pytest

from tasks.upstage.one_limit import Sent
from tasks.upstage.rates import wait_asked
from tasks.upstage.throttle import START_REQUESTS, Rate, Throttle
from tests.fakes import FakeClock

_NAME = "X-Upstage-RateLimit"
_LEARNING = 60.0  # seconds that nobody counts
_BURSTS = 10.0  # seconds between two


@dataclass
class Window:
    """What was used of a limit in the span of time that is going on."""

    limit: int
    seconds: int
    begun: int = -1
    used: int = 0

    def take(self, now: float, amount: int) -> bool:
        """Use up some of it, if it is there. More than the limit is taken when it is the first."""
        begun = int(now / self.seconds)
        if begun != self.begun:
            self.begun, self.used = begun, 0
        if self.used and self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def headers(self, now: float, kind: str, *, refused: bool, unix: float | None) -> dict[str, str]:
        """What an answer tells of it: its end, and what is left.

        Args:
            now: seconds since the beginning.
            kind: of units.
            refused: whether the answer is a refusal.
            unix: the beginning as a UNIX time, if the end is a UNIX time as well; else the seconds to the end are told.
        """
        ends = (int(now / self.seconds) + 1) * self.seconds + (-now if unix is None else unix)
        fields = {"Limit": self.limit, "Remaining": max(0, self.limit - self.used), "Reset": ends}
        fields |= {"Retry-After": ends} if refused else {}
        return {f"{_NAME}-{name}-{kind}": str(value) for name, value in fields.items()}


class Account:
    """An account with its limits."""

    def __init__(
        self,
        requests: int,
        pages: int = 1_000_000_000,
        *,
        tells: bool = True,
        begins: datetime | None = None,
        polls: Literal["with submissions", "apart", "uncounted"] = "with submissions",
    ) -> None:
        self.requests, self.pages = Window(requests, 1), Window(pages, 60)
        self.polls = {"with submissions": self.requests, "apart": Window(requests, 1), "uncounted": None}[polls]
        self.tells = tells
        self.begins = begins  # the server's time at the beginning, where it tells its time, in whole seconds

    def call(self, now: float, pages: int) -> tuple[bool, Mapping[str, str]]:
        """Answer a call: whether it was taken, and the headers."""
        window = self.requests if pages else self.polls
        taken = window is None or window.take(now, 1)
        out_of_pages = taken and not self.pages.take(now, pages)
        unix = None if self.begins is None else self.begins.timestamp()
        headers = (window or self.requests).headers(now, "Requests", refused=not taken, unix=unix)
        headers |= self.pages.headers(now, "Pages", refused=out_of_pages, unix=unix)
        if self.begins is not None:
            headers["Date"] = format_datetime(self.begins + timedelta(seconds=int(now)), usegmt=True)
        return taken and not out_of_pages, headers if self.tells else {}


@dataclass
class Use:
    """What became of the calls after the first minute."""

    taken: list[int]
    submitted: list[int]
    refused: int
    pages: int
    learned: Mapping[str, float]

    @property
    def share_refused(self) -> float:
        """Refusals of all calls."""
        return self.refused / (sum(self.taken) + self.refused)


class LanesClock(FakeClock):
    """The time of several lanes that wait for themselves: a lane that sleeps does not move the others."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self._times = [0.0] * lanes
        self.lane = 0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return self._times[self.lane]

    def sleep(self, seconds: float) -> None:
        self._times[self.lane] += max(0.0, seconds)

    def reach(self, moment: float) -> None:
        """Let time pass until a moment, unless it has passed."""
        self.sleep(moment - self.monotonic())


def use(
    account: Account,
    processes: int,
    seconds: float,
    pages: int = 1,
    rate: Rate = "auto",
    *,
    polls: Literal["none", "steady", "in bursts"] = "none",
    others_end_at: float = math.inf,
) -> Use:
    """Let processes use an account that have more submissions than they can send.

    Args:
        account: the account.
        processes: how many share it.
        seconds: how long.
        pages: of each submission.
        rate: the option.
        polls: "steady": as many as can be sent; "in bursts": two for each submission, every ten seconds.
        others_end_at: when all processes but the first end.
    """
    chance = random.Random(3)
    lanes = 1 if polls == "none" else 2
    clocks = [LanesClock(lanes + 1) for _ in range(processes)]  # and one for answers, which come while lanes wait
    throttles = [Throttle(rate, rate if rate == "auto" else 1e9, clock) for clock in clocks]
    used = Use([0] * processes, [0] * processes, 0, 0, {})
    due, owed = [0] * processes, [0] * processes  # polls of this burst, and of the next
    events: list[tuple[float, int, int, str, Mapping[str, str], Sent | None]] = []
    for number in range(processes):
        for lane in range(lanes):
            what = "burst" if lane == 1 and polls == "in bursts" else "send"
            heapq.heappush(events, (chance.random(), number, lane, what, {}, None))
    while events:
        now, number, lane, what, headers, sent = heapq.heappop(events)
        if now >= seconds:
            break
        if number > 0 and now >= others_end_at:
            continue
        throttle, clock = throttles[number], clocks[number]
        clock.lane = lanes if what == "answer" else lane
        clock.reach(now)
        if what == "answer":
            if sent is None:
                wait = wait_asked(headers, throttle.server_time.heard(headers))
                throttle.refused(headers, wait, submitting=lane == 0)
            throttle.learn_from(headers, sent)
            owed[number] += 2 if sent is not None and lane == 0 else 0
            continue
        needed = pages if lane == 0 else 0
        if what == "burst":
            due[number], owed[number] = owed[number], 0
        else:
            taken, headers = account.call(now, needed)
            if now >= _LEARNING:
                used.taken[number] += taken
                used.submitted[number] += taken and lane == 0
                used.refused += not taken
                used.pages += needed * taken
            sent = Sent(submitting=lane == 0, at=now) if taken else None
            heapq.heappush(events, (now + chance.uniform(0.05, 0.15), number, lane, "answer", headers, sent))
            due[number] -= lane
        if lane == 1 and polls == "in bursts" and due[number] <= 0:
            heapq.heappush(events, (now + _BURSTS, number, lane, "burst", {}, None))
            continue
        throttle.take(needed)
        heapq.heappush(events, (max(now, clock.monotonic()), number, lane, "send", {}, None))
    used.learned = throttles[0].learned
    return used


@pytest.mark.parametrize("limit", [2, 10, 40])
def test_one_process_uses_up_the_limit_and_is_hardly_refused(limit: int) -> None:
    usage = use(Account(limit), 1, 300)
    assert sum(usage.taken) / (limit * 240) >= 0.95
    assert usage.share_refused < 0.02


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("limit", [10, 40])
def test_polls_that_count_against_the_limit_of_submissions_share_it(limit: int, processes: int) -> None:
    usage = use(Account(limit, begins=FakeClock().now()), processes, 600, polls="steady")
    assert sum(usage.taken) / (limit * 540) >= 0.95
    assert usage.share_refused < 0.02
    assert min(usage.taken) > 0.6 * max(usage.taken)


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("limit", [10, 40])
def test_bursts_of_polls_take_their_turn_with_submissions(limit: int, processes: int) -> None:
    """Two rates for one limit would refuse each other's calls with every burst."""
    usage = use(Account(limit, begins=FakeClock().now()), processes, 400, polls="in bursts")
    assert sum(usage.taken) / (limit * 340) >= 0.95
    assert usage.share_refused < 0.02
    assert min(usage.submitted) > 0.6 * max(usage.submitted)


@pytest.mark.parametrize("limit", [2, 10, 40])
@pytest.mark.parametrize("counted", ["apart", "uncounted"])
def test_polls_that_do_not_count_against_the_limit_of_submissions_leave_it_to_them(
    counted: Literal["apart", "uncounted"], limit: int
) -> None:
    usage = use(Account(limit, begins=FakeClock().now(), polls=counted), 1, 300, polls="in bursts")
    assert sum(usage.submitted) / (limit * 240) >= 0.95
    assert usage.share_refused < 0.02


@pytest.mark.parametrize(("limit", "limit_of_polls"), [(40, 10), (10, 100)])
def test_a_limit_of_polls_that_is_another_does_not_change_the_rate_of_submissions(
    limit: int, limit_of_polls: int
) -> None:
    account = Account(limit, begins=FakeClock().now(), polls="apart")
    account.polls = Window(limit_of_polls, 1)
    usage = use(account, 1, 200, polls="in bursts")
    assert sum(usage.submitted) / (limit * 140) >= 0.95
    assert usage.share_refused < 0.02
    assert usage.learned["polls"] == pytest.approx(0.98 * limit_of_polls)


@pytest.mark.parametrize("limit", [10, 40])
def test_who_is_left_alone_takes_over_the_shares_of_the_others(limit: int) -> None:
    usage = use(Account(limit, begins=FakeClock().now()), 3, 300, others_end_at=60)
    assert usage.taken[0] / (limit * 240) >= 0.75
    assert usage.learned["submissions"] == pytest.approx(0.98 * limit)


@pytest.mark.parametrize("ahead", [-20.0, 0.0, 20.0])
def test_times_in_whole_seconds_of_another_clock_cost_nothing(ahead: float) -> None:
    """A single `Date` is up to a second old: waiting by it would leave half of each window unused."""
    usage = use(Account(10, begins=FakeClock().now() + timedelta(seconds=ahead)), 3, 600)
    assert sum(usage.taken) / (10 * 540) >= 0.95
    assert usage.share_refused < 0.02


@pytest.mark.parametrize("limit", [10, 40])
def test_three_processes_that_know_nothing_of_one_another_use_it_up_in_fair_shares(limit: int) -> None:
    usage = use(Account(limit), 3, 600)
    assert sum(usage.taken) / (limit * 540) >= 0.95
    assert usage.share_refused < 0.02
    assert min(usage.taken) > 0.6 * max(usage.taken)


def test_three_processes_at_two_calls_a_second_get_most_of_it() -> None:
    """Two calls fit in a window, and three processes cannot know whose turn it is."""
    usage = use(Account(2), 3, 900)
    assert sum(usage.taken) / (2 * 840) > 0.5
    assert usage.share_refused < 0.12
    assert min(usage.taken) > 0


@pytest.mark.parametrize("processes", [1, 3])
def test_the_pages_of_a_minute_are_used_up(processes: int) -> None:
    usage = use(Account(1000, 1200), processes, 660, pages=3)
    assert usage.pages / (1200 * 10) >= 0.95
    assert usage.share_refused < 0.02


@pytest.mark.parametrize("limit", [10, 40])
def test_a_limit_that_is_never_told_is_found_all_the_same(limit: int) -> None:
    usage = use(Account(limit, tells=False), 1, 300)
    assert sum(usage.taken) / (limit * 240) >= 0.85
    assert usage.share_refused < 0.05


def test_a_number_that_is_given_is_a_hard_limit_whatever_the_api_tells() -> None:
    usage = use(Account(40), 1, 120, rate=5.0)
    assert sum(usage.taken) == pytest.approx(5 * 60, abs=6)
    assert usage.learned == {}


def test_it_begins_at_the_lowest_tier() -> None:
    clock = FakeClock()
    throttle = Throttle("auto", "auto", clock)
    for _ in range(3):
        throttle.take(1)
    assert clock.monotonic() == pytest.approx(2 / START_REQUESTS, rel=0.1)


def test_polls_are_learned_apart_from_submissions() -> None:
    clock = FakeClock()
    throttle = Throttle("auto", "auto", clock)
    throttle.learn_from({f"{_NAME}-Limit-Requests": "10"})
    throttle.refused({}, None, submitting=False)
    assert throttle.learned["polls"] < throttle.learned["submissions"] == pytest.approx(9.8)


def _heard(throttle: Throttle, reset: float) -> float:
    """What submissions a second are learned from an answer that tells a limit of 12, and when its window ends."""
    throttle.learn_from({f"{_NAME}-Limit-Requests": "12", f"{_NAME}-Reset-Requests": f"{reset:g}"})
    return throttle.learned["submissions"]


def test_a_window_that_seems_some_seconds_long_is_still_a_seconds() -> None:
    """The Date of a busy server is some seconds old, and the window's end is reckoned from it."""
    throttle = Throttle("auto", "auto", FakeClock())
    assert _heard(throttle, 3) == _heard(throttle, 0.5) == pytest.approx(12 * 0.98)


def test_a_limit_by_the_minute_is_one_to_its_last_second_and_only_as_long_as_it_is_told() -> None:
    clock = FakeClock()
    throttle = Throttle("auto", "auto", clock)
    assert _heard(throttle, 40) == pytest.approx(12 * 0.98 / 60)
    clock.advance(39)
    assert _heard(throttle, 1) == pytest.approx(12 * 0.98 / 60)
    clock.advance(600)
    assert _heard(throttle, 1) == pytest.approx(12 * 0.98)
