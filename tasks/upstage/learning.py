"""Finding the account's rate limit: from what the API tells of it, and from what it refuses.

A rate goes up by a little with each call that had to wait for it, and down by a share with each refusal, so it settles
where a small share of calls is refused. The step up is the same for all processes of an account, and the step down is
in proportion: those that have more lose more, and they come to equal shares without knowing of one another. What the
API tells of its limit is a ceiling, so a process that has the account for itself is refused nothing.
"""

import math
import threading

from tasks.clock import Clock

_BELOW = 0.98  # of the limit that is told: clocks and windows do not agree to the last call
_DOWN = 0.1  # after a refusal whose wait was honoured; halving once more costs a tenth of the limit
_REFUSED = 0.005  # of the calls of a process that has the account for itself; of n processes, n times as many
_EVENT_SECONDS = 1.0  # refusals so close together are one: their calls were on the way at once
_SLOW_START = 0.05  # a call, as long as nothing was told and nothing refused
_LOWEST = 0.02  # of the limit


class LearnedRate:
    """A rate in units a second: of submissions, of polls, or of pages. Safe to share between threads.

    Args:
        start: the rate to begin with, until the API tells or refuses something.
        clock: the time to go by.
    """

    def __init__(self, start: float, clock: Clock) -> None:
        self._clock = clock
        self._ceiling = math.inf
        self._rate = self._scale = start  # steps are measured by the scale: the limit, as far as it is known
        self._refused_at: float | None = None
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Units a second at this moment."""
        return self._rate

    def told(self, limit: float) -> None:
        """Note the limit that the API tells, in units a second."""
        with self._lock:
            if limit <= 0 or _BELOW * limit == self._ceiling:
                return
            self._scale, self._ceiling = limit, _BELOW * limit
            # Others may use the account as well: refusals will tell.
            self._rate = self._ceiling if self._refused_at is None else min(self._rate, self._ceiling)

    def granted(self) -> None:
        """Note a call that had to wait for the rate."""
        with self._lock:
            probing = self._refused_at is None and self._ceiling == math.inf
            step = _SLOW_START * self._rate if probing else _DOWN * _REFUSED * self._scale
            self._rate = min(self._ceiling, self._rate + step)

    def refused(self) -> None:
        """Note a refusal: a rate that only was a guess is halved, any other reduced."""
        now = self._clock.monotonic()
        with self._lock:
            if self._refused_at is not None and now - self._refused_at < _EVENT_SECONDS:
                return
            guessed = self._refused_at is None and self._ceiling == math.inf
            self._refused_at = now
            if guessed:
                self._scale = self._rate
            self._rate = max(self._rate * (0.5 if guessed else 1 - _DOWN), _LOWEST * self._scale)
