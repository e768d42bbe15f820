"""The account's rate limits: requests per second and pages per minute, as token buckets shared by all threads.

Configured numbers are hard limits. With "auto", the account's limits are learned: see `learning`.

A bucket may go into debt: one request can have more pages (1,000) than the smallest tier allows per minute (300), and a
limiter that never grants more than its capacity would block forever.
"""

import math
import threading
from collections.abc import Mapping
from typing import Literal

from tasks.clock import Clock
from tasks.upstage.learning import LearnedRate
from tasks.upstage.one_limit import OneLimit, Sent
from tasks.upstage.rates import Allowance, allowances
from tasks.upstage.server_time import ServerTime

Rate = float | Literal["auto"]

START_REQUESTS = 2.0
"""Requests per second of the lowest published tier: the initial rate of "auto", until the API reports its limit."""

START_PAGES = 1200.0
"""Pages per minute of the lowest published tier."""

LONGEST_PAUSE = 300.0
"""The maximum number of seconds that one refusal may stop all calls."""

_LONGEST_SLEEP = 5.0  # seconds; the rate may be changed meanwhile
_LONGEST_WINDOW = 60.0  # seconds; limits are per second or per minute
_LONGEST_SECOND = 10.0
"""Seconds; a window that ends later is a minute. Reset times and the server's Date have a resolution of one second, and
the Date of a busy server or a proxy can be some seconds old: a limit per second must not pass for one per minute."""

_MINUTE_REMEMBERED = 120.0  # seconds without a minute's window, after which a limit counts as per second again
_BURST_SECONDS = 0.05  # of a learned rate: no window should contain two bursts
_PAGES_BURST_SECONDS = 1.0


class Bucket:
    """A token bucket: refilled at a steady rate, up to a burst."""

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock.monotonic()
        self._not_before = self._filled_at
        self._state = threading.Lock()
        self._turn = threading.Lock()

    def change(self, rate: float, burst: float) -> None:
        """Change the rate."""
        with self._state:
            self._fill(self._clock.monotonic())
            self._rate, self._burst = rate, burst

    def take(self, amount: float) -> float:
        """Take tokens, waiting in line if necessary. Returns the seconds waited.

        Raises:
            Cancelled: the run is being ended. Threads waiting behind this one get the same at once.
        """
        waited = 0.0
        with self._turn:  # held while waiting: first come, first served, so a large request is not starved
            while (wait := min(self.try_to_take(amount), _LONGEST_SLEEP)) > 0:
                self._clock.sleep(wait)
                waited += wait
        return waited

    def pause(self, seconds: float) -> None:
        """Grant no tokens for a while: the API asked for a pause."""
        with self._state:
            self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def try_to_take(self, amount: float) -> float:
        """Take tokens if they are available. Returns 0 if they were taken, or the seconds until they may be."""
        with self._state:
            now = self._clock.monotonic()
            if now < self._not_before:
                return self._not_before - now
            self._fill(now)
            lacking = min(amount, self._burst) - self._tokens
            # Ignore a deficit of a millionth: floating-point error must not cause ever smaller waits.
            if lacking > 1e-6:
                return lacking / self._rate
            self._tokens -= amount
            return 0.0


class _Limit:
    """One limit: a bucket with a fixed or a learned rate.

    Args:
        fixed_rate: units per second; None to learn the rate.
        start: the initial rate in units per second, if it is learned.
        burst: the bucket's size at a fixed rate.
        burst_seconds: the bucket's size at a learned rate, in seconds of that rate.
        clock: the clock to wait by.
    """

    def __init__(
        self, fixed_rate: float | None, start: float, burst: float, burst_seconds: float, clock: Clock
    ) -> None:
        self._learned = LearnedRate(start, clock) if fixed_rate is None else None
        self._start, self._clock = start, clock
        self._changing = threading.Lock()
        self._burst_seconds = burst_seconds
        self.bucket = Bucket(fixed_rate or start, burst if fixed_rate is not None else self._burst(start), clock)

    def set(self, fixed_rate: float | None, burst: float) -> None:
        """Switch to a fixed or a learned rate; see the arguments of this class."""
        with self._changing:
            if fixed_rate is not None:
                self._learned = None
                self.bucket.change(fixed_rate, burst)
            elif self._learned is None:
                self._learned = LearnedRate(self._start, self._clock)
                self.bucket.change(self._start, self._burst(self._start))

    def _burst(self, rate: float) -> float:
        return max(1.0, self._burst_seconds * rate)

    @property
    def learned(self) -> float | None:
        """The learned rate; None if the rate is fixed."""
        learned = self._learned
        return learned.rate if learned is not None else None

    def take(self, amount: float) -> float:
        """Take tokens, waiting if necessary. Returns the seconds waited."""
        waited = self.bucket.take(amount)
        learned = self._learned
        if learned is not None and waited > 0:
            learned.granted()
            self._use_rate(learned)
        return waited

    def reported(self, limit: float) -> None:
        """Note a limit reported by the API, in units per second."""
        learned = self._learned
        if learned is not None:
            learned.reported(limit)
            self._use_rate(learned)

    def refused(self) -> None:
        """Note a refusal."""
        learned = self._learned
        if learned is not None:
            learned.refused()
            self._use_rate(learned)

    def _use_rate(self, learned: LearnedRate) -> None:
        with self._changing:
            if learned is self._learned:  # another thread may have switched to a fixed rate, which is a hard limit
                self.bucket.change(learned.rate, self._burst(learned.rate))


class Throttle:
    """All limits of the API. Submissions and polls share a learned rate only if the API counts them together.

    Args:
        requests_per_second: API calls: uploads and status calls, not downloads.
        pages_per_minute: pages in uploads.
        clock: the clock to wait by.

    Attributes:
        server_time: estimates the server's time, by which limits are reported.
    """

    def __init__(self, requests_per_second: Rate, pages_per_minute: Rate, clock: Clock) -> None:
        fixed_rate = None if requests_per_second == "auto" else requests_per_second
        minute = None if pages_per_minute == "auto" else pages_per_minute
        self._submissions = _Limit(fixed_rate, START_REQUESTS, max(1.0, fixed_rate or 0.0), _BURST_SECONDS, clock)
        self._polls_apart = _Limit(None, START_REQUESTS, 1.0, _BURST_SECONDS, clock)
        pages = None if minute is None else minute / 60
        self._pages = _Limit(pages, START_PAGES / 60, minute or 0.0, _PAGES_BURST_SECONDS, clock)
        self._clock = clock
        self.server_time = ServerTime(clock)
        self._one_limit = OneLimit(clock)
        self._reported: dict[str, Allowance] = {}
        self._waited, self._adding = 0.0, threading.Lock()
        self._minutes: dict[str, float] = {}  # by kind: when a window longer than a second was last seen

    def set_rates(self, requests_per_second: Rate, pages_per_minute: Rate) -> None:
        """Change the limits; see the arguments of this class. Learned rates are kept."""
        fixed_rate = None if requests_per_second == "auto" else requests_per_second
        minute = None if pages_per_minute == "auto" else pages_per_minute
        self._submissions.set(fixed_rate, max(1.0, fixed_rate or 0.0))
        self._pages.set(None if minute is None else minute / 60, minute or 0.0)

    @property
    def _polls(self) -> _Limit:
        """The limit of polls: that of submissions if it is fixed or the API counts both together."""
        shared = self._submissions.learned is None or self._one_limit.shared
        return self._submissions if shared else self._polls_apart

    def take(self, pages: int = 0) -> float:
        """Wait until a call is within the limits. Returns the seconds waited.

        Args:
            pages: pages of a submission; 0 for any other call.

        Raises:
            Cancelled: the run is being ended.
        """
        # Pages first, in their own bucket: a status call must not wait behind a submission that waits for its pages.
        waited = self._pages.take(pages) if pages else 0.0
        waited += (self._submissions if pages else self._polls).take(1)
        with self._adding:
            self._waited += waited
        return waited

    @property
    def waited(self) -> float:
        """Total seconds that calls have waited, over all threads."""
        return self._waited

    def pause(self, seconds: float) -> None:
        """Stop all calls for a while after a 429, for at most `LONGEST_PAUSE`."""
        for limit in (self._submissions, self._polls):
            limit.bucket.pause(min(seconds, LONGEST_PAUSE))

    def refused(self, headers: Mapping[str, str], wait: float | None, *, submitting: bool) -> None:
        """Learn from a 429, and stop calls for as long as it asks.

        Args:
            headers: the answer's headers.
            wait: the seconds that it asks to wait, if it does.
            submitting: whether a submission was refused.
        """
        pages = allowances(headers, self.server_time.heard(headers)).get("pages")
        if submitting and self._pages.learned is not None and pages is not None and _is_used_up(pages):
            self._pages.refused()
            if wait:
                self._pages.bucket.pause(min(wait, LONGEST_PAUSE))
            return
        (self._submissions if submitting else self._polls).refused()
        if wait:
            self.pause(wait)

    def learn_from(self, headers: Mapping[str, str], sent: Sent | None = None) -> None:
        """Learn from the headers of any answer of the API. If a window is used up, pause until its end.

        Args:
            headers: the answer's headers.
            sent: the call that was answered, if it was accepted.
        """
        now = self.server_time.heard(headers)
        reported = allowances(headers, now)
        if not reported:
            return
        self._reported = self._reported | reported
        if sent is not None and (requests := reported.get("requests")) is not None:
            self._one_limit.answered(sent, requests, now.timestamp(), self._window("requests", requests))
        # OCR does not consume tokens.
        for kind, limits in (("requests", self._limits_of(sent)), ("pages", {self._pages})):
            allowance = reported.get(kind)
            if allowance is None:
                continue
            for limit in limits:
                if allowance.limit is not None:
                    limit.reported(allowance.limit / self._window(kind, allowance))
                if allowance.remaining is not None and allowance.reset and allowance.remaining <= 0:
                    limit.bucket.pause(min(allowance.reset, _LONGEST_WINDOW))

    def _limits_of(self, sent: Sent | None) -> set[_Limit]:
        """Return the limits of requests that the answer to a call is about."""
        if not self._one_limit.different:
            return {self._submissions, self._polls}
        if sent is None:
            return set()
        return {self._submissions if sent.submitting else self._polls}

    def _window(self, kind: str, allowance: Allowance) -> float:
        """Return the window of a limit in seconds: requests are per second, unless a longer window was reported."""
        now = self._clock.monotonic()
        if (allowance.reset or 0.0) > _LONGEST_SECOND:
            self._minutes[kind] = now
        by_minute = kind == "pages" or now - self._minutes.get(kind, -math.inf) < _MINUTE_REMEMBERED
        return _LONGEST_WINDOW if by_minute else 1.0

    @property
    def reported(self) -> Mapping[str, Allowance]:
        """The account's limits as last reported by the API, by kind: "requests", "pages", "tokens"."""
        return self._reported

    @property
    def learned(self) -> Mapping[str, float]:
        """The learned rates: "submissions" and "polls" per second, "pages" per minute."""
        rates = {
            "submissions": self._submissions.learned,
            "polls": self._polls.learned,
            "pages": None if self._pages.learned is None else 60 * self._pages.learned,
        }
        return {kind: rate for kind, rate in rates.items() if rate is not None}


def _is_used_up(allowance: Allowance) -> bool:
    return allowance.retry_after is not None or (allowance.remaining is not None and allowance.remaining <= 0)
