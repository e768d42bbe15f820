"""The rate limit of the account: requests a second and pages a minute, as token buckets shared by all threads.

Numbers that are given are hard limits. "auto" finds the account's: see `learning`.

A bucket may go into debt: one request can hold more pages (1,000) than the smallest tier allows a minute
(300), and a limiter that never grants more than its capacity would wait for ever.
"""

import math
import threading
from collections.abc import Mapping
from typing import Literal

from tasks.clock import Clock
from tasks.upstage.learning import LearnedRate
from tasks.upstage.rates import Allowance, allowances

Rate = float | Literal["auto"]

START_REQUESTS = 2.0
"""Requests a second of the lowest published tier: where "auto" begins, until the API tells its limit."""

START_PAGES = 1200.0
"""Pages a minute of the lowest published tier."""

LONGEST_PAUSE = 300.0
"""Seconds that one refusal may stop all calls for, whatever it asks for."""

_LONGEST_SLEEP = 5.0  # seconds; the rate may be set to another meanwhile
_LONGEST_WINDOW = 60.0  # seconds; the limits count by the second or the minute
_LONGEST_SECOND = 10.0
"""Seconds; a window that ends later is a minute's. The moment and the server's Date are whole seconds, and the Date of
a busy server or of a proxy was seen to be some seconds old: that must not make a second's limit a minute's."""

_MINUTE_REMEMBERED = 120.0  # seconds without such an answer, after which a kind of limit counts by the second again
_BURST_SECONDS = 0.05  # of a learned rate: a window should not see two bursts
_PAGES_BURST_SECONDS = 1.0


class Bucket:
    """Tokens that come back at a steady rate, up to a burst."""

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
        """Go on at another rate."""
        with self._state:
            self._fill(self._clock.monotonic())
            self._rate, self._burst = rate, burst

    def take(self, amount: float) -> float:
        """Take tokens, waiting for them in turn. Returns the seconds waited.

        Raises:
            Cancelled: the run is being ended; whoever waits for a turn behind this one is told at once as well.
        """
        waited = 0.0
        with self._turn:  # held while waiting: first come, first served, so a large request is not starved
            while (wait := min(self.try_to_take(amount), _LONGEST_SLEEP)) > 0:
                self._clock.sleep(wait)
                waited += wait
        return waited

    def pause(self, seconds: float) -> None:
        """Give nothing for a while: the other side asked for a rest."""
        with self._state:
            self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def try_to_take(self, amount: float) -> float:
        """Take tokens if they are there. Returns the seconds until they may be, 0 when they were taken."""
        with self._state:
            now = self._clock.monotonic()
            if now < self._not_before:
                return self._not_before - now
            self._fill(now)
            lacking = min(amount, self._burst) - self._tokens
            # A millionth of a token is granted: waits are floats, and must not end in ever smaller ones.
            if lacking > 1e-6:
                return lacking / self._rate
            self._tokens -= amount
            return 0.0


class _Limit:
    """One limit: a bucket at a given rate, or at one that is learned.

    Args:
        given: units a second; None to learn it.
        start: units a second to begin with, where it is learned.
        burst: the bucket's size at a given rate.
        burst_seconds: the same in seconds of a learned rate.
        clock: the time to go by.
    """

    def __init__(self, given: float | None, start: float, burst: float, burst_seconds: float, clock: Clock) -> None:
        self._learned = LearnedRate(start, clock) if given is None else None
        self._start, self._clock = start, clock
        self._burst_seconds = burst_seconds
        self.bucket = Bucket(given or start, burst if given is not None else self._burst(start), clock)

    def set(self, given: float | None, burst: float) -> None:
        """Go on at a given rate, or learn it; see the arguments of this class."""
        if given is not None:
            self._learned = None
            self.bucket.change(given, burst)
        elif self._learned is None:
            self._learned = LearnedRate(self._start, self._clock)
            self._go_on(self._learned.rate)

    def _burst(self, rate: float) -> float:
        return max(1.0, self._burst_seconds * rate)

    @property
    def learned(self) -> float | None:
        """The rate, where it is learned."""
        return self._learned.rate if self._learned is not None else None

    def take(self, amount: float) -> float:
        """Take tokens, waiting for them. Returns the seconds waited."""
        waited = self.bucket.take(amount)
        if self._learned is not None and waited > 0:
            self._learned.granted()
            self._go_on(self._learned.rate)
        return waited

    def told(self, limit: float) -> None:
        """Note what the API tells of the limit, in units a second."""
        if self._learned is not None:
            self._learned.told(limit)
            self._go_on(self._learned.rate)

    def refused(self) -> None:
        """Note a refusal."""
        if self._learned is not None:
            self._learned.refused()
            self._go_on(self._learned.rate)

    def _go_on(self, rate: float) -> None:
        self.bucket.change(rate, self._burst(rate))


class Throttle:
    """The limits of the API together. Submissions and polls are learned apart: the API may count them apart.

    Args:
        requests_per_second: calls to the API; uploads and status calls alike, downloads not.
        pages_per_minute: pages in uploads.
        clock: the time to go by.
    """

    def __init__(self, requests_per_second: Rate, pages_per_minute: Rate, clock: Clock) -> None:
        given = None if requests_per_second == "auto" else requests_per_second
        minute = None if pages_per_minute == "auto" else pages_per_minute
        self._submissions = _Limit(given, START_REQUESTS, max(1.0, given or 0.0), _BURST_SECONDS, clock)
        self._polls = (
            self._submissions if given is not None else _Limit(None, START_REQUESTS, 1.0, _BURST_SECONDS, clock)
        )
        pages = None if minute is None else minute / 60
        self._pages = _Limit(pages, START_PAGES / 60, minute or 0.0, _PAGES_BURST_SECONDS, clock)
        self._clock = clock
        self._told: dict[str, Allowance] = {}
        self._waited, self._adding = 0.0, threading.Lock()
        self._minutes: dict[str, float] = {}  # by kind: when a window was last seen that is longer than a second

    def set_rates(self, requests_per_second: Rate, pages_per_minute: Rate) -> None:
        """Keep other limits from now on; see the arguments of this class. What was learned is kept."""
        given = None if requests_per_second == "auto" else requests_per_second
        minute = None if pages_per_minute == "auto" else pages_per_minute
        self._submissions.set(given, max(1.0, given or 0.0))
        if given is not None:
            self._polls = self._submissions
        elif self._polls is self._submissions:
            self._polls = _Limit(None, START_REQUESTS, 1.0, _BURST_SECONDS, self._clock)
        self._pages.set(None if minute is None else minute / 60, minute or 0.0)

    def take(self, pages: int = 0) -> float:
        """Wait until a call is within the limits. Returns the seconds waited.

        Args:
            pages: what a submission holds; 0 for any other call.

        Raises:
            Cancelled: the run is being ended.
        """
        # Pages first and apart: a status call does not wait behind a submission that waits for its pages.
        waited = self._pages.take(pages) if pages else 0.0
        waited += (self._submissions if pages else self._polls).take(1)
        with self._adding:
            self._waited += waited
        return waited

    @property
    def waited(self) -> float:
        """Seconds that calls have waited in all, those of all threads together."""
        return self._waited

    def pause(self, seconds: float) -> None:
        """Let nobody call for a while, after a 429; for `LONGEST_PAUSE` at the most."""
        for limit in (self._submissions, self._polls):
            limit.bucket.pause(min(seconds, LONGEST_PAUSE))

    def refused(self, headers: Mapping[str, str], wait: float | None, *, submitting: bool) -> None:
        """Learn from a 429, and let nobody call for as long as it asks.

        Args:
            headers: the answer's.
            wait: the seconds that it asks to wait, where it does.
            submitting: whether a submission was refused.
        """
        pages = allowances(headers, self._clock.now()).get("pages")
        if submitting and self._pages.learned is not None and pages is not None and _is_used_up(pages):
            self._pages.refused()
            if wait:
                self._pages.bucket.pause(min(wait, LONGEST_PAUSE))
            return
        (self._submissions if submitting else self._polls).refused()
        if wait:
            self.pause(wait)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of any answer of the API. Where nothing is left of a window, rest till its end."""
        reported = allowances(headers, self._clock.now())
        if not reported:
            return
        self._told = self._told | reported
        # OCR uses up no tokens.
        for kind, limits in (("requests", (self._submissions, self._polls)), ("pages", (self._pages,))):
            allowance = reported.get(kind)
            if allowance is None:
                continue
            for limit in limits:
                if allowance.limit is not None:
                    limit.told(allowance.limit / self._window(kind, allowance))
                if allowance.remaining is not None and allowance.reset and allowance.remaining <= 0:
                    limit.bucket.pause(min(allowance.reset, _LONGEST_WINDOW))

    def _window(self, kind: str, allowance: Allowance) -> float:
        """How many seconds a limit is for: requests by the second, unless their window lasts longer."""
        now = self._clock.monotonic()
        if (allowance.reset or 0.0) > _LONGEST_SECOND:
            self._minutes[kind] = now
        by_minute = kind == "pages" or now - self._minutes.get(kind, -math.inf) < _MINUTE_REMEMBERED
        return _LONGEST_WINDOW if by_minute else 1.0

    @property
    def told(self) -> Mapping[str, Allowance]:
        """What the API last told of the account's limits, by kind: "requests", "pages", "tokens"."""
        return self._told

    @property
    def learned(self) -> Mapping[str, float]:
        """The rates that were learned: "submissions" and "polls" a second, "pages" a minute."""
        rates = {
            "submissions": self._submissions.learned,
            "polls": self._polls.learned,
            "pages": None if self._pages.learned is None else 60 * self._pages.learned,
        }
        return {kind: rate for kind, rate in rates.items() if rate is not None}


def _is_used_up(allowance: Allowance) -> bool:
    return allowance.retry_after is not None or (allowance.remaining is not None and allowance.remaining <= 0)
