"""The rate limit of the account: requests a second and pages a minute, as token buckets shared by all threads.

A bucket may go into debt: one request can hold more pages (1,000) than the smallest tier allows a minute
(300), and a limiter that never grants more than its capacity would wait for ever.
"""

import threading
from collections.abc import Mapping

from tasks.clock import Clock
from tasks.upstage.rates import Allowance, allowances

LONGEST_PAUSE = 300.0
"""Seconds that one refusal may stop all calls for, whatever it asks for."""

_LONGEST_WINDOW = 60.0  # seconds; the limits count by the second or the minute


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

    def take(self, amount: float) -> float:
        """Take tokens, waiting for them in turn. Returns the seconds waited.

        Raises:
            Cancelled: the run is being ended; whoever waits for a turn behind this one is told at once as well.
        """
        waited = 0.0
        with self._turn:  # held while waiting: first come, first served, so a large request is not starved
            while (wait := self._try(amount)) > 0:
                self._clock.sleep(wait)
                waited += wait
        return waited

    def pause(self, seconds: float) -> None:
        """Give nothing for a while: the other side asked for a rest."""
        with self._state:
            self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _try(self, amount: float) -> float:
        with self._state:
            now = self._clock.monotonic()
            if now < self._not_before:
                return self._not_before - now
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            lacking = min(amount, self._burst) - self._tokens
            # A millionth of a token is granted: waits are floats, and must not end in ever smaller ones.
            if lacking > 1e-6:
                return lacking / self._rate
            self._tokens -= amount
            return 0.0


class Throttle:
    """The two limits of the API together.

    Args:
        requests_per_second: calls to the API; uploads and status calls alike, downloads not.
        pages_per_minute: pages in uploads.
        clock: the time to go by.
    """

    def __init__(self, requests_per_second: float, pages_per_minute: float, clock: Clock) -> None:
        self._requests = Bucket(requests_per_second, max(1.0, requests_per_second), clock)
        self._pages = Bucket(pages_per_minute / 60, pages_per_minute, clock)
        self._clock = clock
        self._told: dict[str, Allowance] = {}

    def take(self, pages: int = 0) -> float:
        """Wait until a call with that many pages is within the limits. Returns the seconds waited.

        Raises:
            Cancelled: the run is being ended.
        """
        # Pages first and apart: a status call does not wait behind a submission that waits for its pages.
        waited = self._pages.take(pages) if pages else 0.0
        return waited + self._requests.take(1)

    def pause(self, seconds: float) -> None:
        """Let nobody call for a while, after a 429; for `LONGEST_PAUSE` at the most."""
        self._requests.pause(min(seconds, LONGEST_PAUSE))

    def heed(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of any answer of the API. Where nothing is left of a window, rest till its end."""
        told = allowances(headers, self._clock.now())
        if not told:
            return
        self._told = self._told | told
        for kind, bucket in (("requests", self._requests), ("pages", self._pages)):  # OCR uses up no tokens
            allowance = told.get(kind)
            if allowance is None or allowance.remaining is None or not allowance.reset:
                continue
            if allowance.remaining <= 0:
                bucket.pause(min(allowance.reset, _LONGEST_WINDOW))

    @property
    def told(self) -> Mapping[str, Allowance]:
        """What the API last told of the account's limits, by kind: "requests", "pages", "tokens"."""
        return self._told
