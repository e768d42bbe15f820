"""A rate limit that finds the account's: used up, hardly ever refused, and shared fairly by processes that know nothing
of one another. The account counts in windows, as the API's stand-in does."""

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tasks.upstage.throttle import START_REQUESTS, Rate, Throttle
from tests.fakes import FakeClock

_NAME = "X-Upstage-RateLimit"
_LEARNING = 60.0  # seconds that nobody counts


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

    def headers(self, now: float, kind: str, *, refused: bool) -> dict[str, str]:
        """What an answer tells of it: seconds to its end, and what is left."""
        ends = (int(now / self.seconds) + 1) * self.seconds - now
        fields = {"Limit": self.limit, "Remaining": max(0, self.limit - self.used), "Reset": ends}
        fields |= {"Retry-After": ends} if refused else {}
        return {f"{_NAME}-{name}-{kind}": str(value) for name, value in fields.items()}


class Account:
    """An account with its limits."""

    def __init__(self, requests: int, pages: int = 1_000_000_000, *, tells: bool = True) -> None:
        self.requests, self.pages = Window(requests, 1), Window(pages, 60)
        self.tells = tells

    def call(self, now: float, pages: int) -> tuple[bool, Mapping[str, str]]:
        """Answer a call: whether it was taken, and the headers."""
        taken = self.requests.take(now, 1)
        out_of_pages = taken and not self.pages.take(now, pages)
        headers = self.requests.headers(now, "Requests", refused=not taken)
        headers |= self.pages.headers(now, "Pages", refused=out_of_pages)
        return taken and not out_of_pages, headers if self.tells else {}


@dataclass
class Use:
    """What became of the calls after the first minute."""

    taken: list[int]
    refused: int
    pages: int
    learned: Mapping[str, float]

    @property
    def share_refused(self) -> float:
        """Refusals of all calls."""
        return self.refused / (sum(self.taken) + self.refused)


def use(account: Account, processes: int, seconds: float, pages: int = 1, rate: Rate = "auto") -> Use:
    """Let processes with more work than they can send use an account."""
    chance = random.Random(3)
    clocks = [FakeClock() for _ in range(processes)]
    throttles = [Throttle(rate, rate if rate == "auto" else 1e9, clock) for clock in clocks]
    used = Use([0] * processes, 0, 0, {})
    events: list[tuple[float, int, str, Mapping[str, str], bool]] = []
    for number in range(processes):
        heapq.heappush(events, (chance.random(), number, "send", {}, True))
    while events:
        now, number, what, headers, taken = heapq.heappop(events)
        if now >= seconds:
            break
        throttle, clock = throttles[number], clocks[number]
        if what == "answer":
            if not taken:
                wait = max((float(value) for name, value in headers.items() if "Retry" in name), default=None)
                throttle.refused(headers, wait, submitting=True)
            throttle.heed(headers)
            continue
        taken, headers = account.call(now, pages)
        if now >= _LEARNING:
            used.taken[number] += taken
            used.refused += not taken
            used.pages += pages * taken
        heapq.heappush(events, (now + chance.uniform(0.05, 0.15), number, "answer", headers, taken))
        clock.advance(max(0.0, now - clock.monotonic()))
        throttle.take(pages)
        heapq.heappush(events, (max(now, clock.monotonic()), number, "send", {}, True))
    used.learned = throttles[0].learned
    return used


@pytest.mark.parametrize("limit", [2, 10, 40])
def test_one_process_uses_up_the_limit_and_is_hardly_refused(limit: int) -> None:
    usage = use(Account(limit), 1, 300)
    assert sum(usage.taken) / (limit * 240) >= 0.95
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
    throttle.heed({f"{_NAME}-Limit-Requests": "10"})
    throttle.refused({}, None, submitting=False)
    assert throttle.learned["polls"] < throttle.learned["submissions"] == pytest.approx(9.8)


def _heard(throttle: Throttle, reset: float) -> float:
    """What submissions a second are learned from an answer that tells a limit of 12, and when its window ends."""
    throttle.heed({f"{_NAME}-Limit-Requests": "12", f"{_NAME}-Reset-Requests": f"{reset:g}"})
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
