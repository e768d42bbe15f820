"""Learning the account's rate limit from headers and refusals (additive increase, multiplicative decrease).

Each call that had to wait raises the rate a little, and each refusal lowers it by a percentage, so the rate settles
where a small share of calls is refused. All processes of an account step up equally and step down proportionally:
those with a larger share lose more, and the shares even out without coordination. A limit reported by the API is a
ceiling, so a process that has the account to itself is never refused.

Steps grow with the time since the last refusal, as in H-TCP (Leith and Shorten, 2004): while refusals are as frequent
as intended this matters little, and when another process ends, the rest take over its share within minutes.
"""

import math
import threading

from tasks.clock import Clock

_BELOW = 0.98  # share of the reported limit: clocks and windows do not agree to the last call
_DOWN = 0.1  # decrease after a refusal whose wait was honoured; halving once more costs a tenth of the limit
_REFUSED = 0.003  # target share of refused calls for a single process; n processes see n times as many
_EVENT_SECONDS = 1.0  # refusals this close together count once: their calls were in flight together
_SLOW_START = 0.05  # increase per call until a limit is reported or a call refused
_LOWEST = 0.02  # of the limit
_SLOWEST = 1 / 300  # units per second: no header and no number of refusals may stop calls for more than minutes


class LearnedRate:
    """A rate in units per second: of submissions, of polls, or of pages. Thread-safe.

    Args:
        start: the initial rate, used until the API reports a limit or refuses a call.
        clock: the clock that refusals are timed by.
    """

    def __init__(self, start: float, clock: Clock) -> None:
        self._clock = clock
        self._ceiling = math.inf
        self._rate = self._scale = start  # steps are proportional to the scale: the limit as far as it is known
        self._refused_at: float | None = None
        self._calls_since = 0.0  # the last refusal: as many as fit into that time at the full rate
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """The current rate in units per second."""
        return self._rate

    def reported(self, limit: float) -> None:
        """Note a limit reported by the API, in units per second."""
        with self._lock:
            ceiling = max(_SLOWEST, _BELOW * limit)
            if limit <= 0 or ceiling == self._ceiling:
                return
            self._scale, self._ceiling = max(_SLOWEST, limit), ceiling
            # Other processes may use the account as well: refusals show it.
            self._rate = self._ceiling if self._refused_at is None else min(self._rate, self._ceiling)

    def granted(self) -> None:
        """Note a call that had to wait for its turn."""
        with self._lock:
            probing = self._refused_at is None and self._ceiling == math.inf
            if probing:
                step = _SLOW_START * self._rate
            else:
                self._calls_since += self._scale / self._rate
                step = _DOWN * _REFUSED * self._scale * (1 + (self._calls_since * _REFUSED) ** 2)
            self._rate = min(self._ceiling, self._rate + step)

    def refused(self) -> None:
        """Note a refusal: a guessed rate is halved, any other is reduced slightly."""
        now = self._clock.monotonic()
        with self._lock:
            if self._refused_at is not None and now - self._refused_at < _EVENT_SECONDS:
                return
            guessed = self._refused_at is None and self._ceiling == math.inf
            self._refused_at, self._calls_since = now, 0.0
            if guessed:
                self._scale = self._rate
            self._rate = max(self._rate * (0.5 if guessed else 1 - _DOWN), _LOWEST * self._scale, _SLOWEST)
