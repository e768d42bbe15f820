"""The rate limit of the account: requests a second and pages a minute, as token buckets shared by all threads.

A bucket may go into debt: one request can hold more pages (1,000) than the smallest tier allows a minute
(300), and a limiter that never grants more than its capacity would wait for ever.
"""

import threading

from tasks.clock import Clock


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
        """Take tokens, waiting for them in turn. Returns the seconds waited."""
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

    def take(self, pages: int = 0) -> float:
        """Wait until a call with that many pages is within the limits. Returns the seconds waited."""
        # Pages first and apart: a status call does not wait behind a submission that waits for its pages.
        waited = self._pages.take(pages) if pages else 0.0
        return waited + self._requests.take(1)

    def pause(self, seconds: float) -> None:
        """Let nobody call for a while, after a 429."""
        self._requests.pause(seconds)
