"""Whether the API counts submissions and polls against one limit, told from the headers of its answers.

The API's documentation does not say. Two learned rates for one limit get in each other's way: each burst of polls
causes refusals that lower both, although one process has the account to itself. One rate for two limits uses half of
them. So the kinds share a rate as soon as their answers report the same limit, until answers prove that they are
counted separately: they report fewer requests than this process alone has made in that window.
"""

import math
import threading
from bisect import bisect_left
from dataclasses import dataclass

from tasks.clock import Clock
from tasks.upstage.rates import Allowance

_PROOFS = 3  # windows; a server that restarts or counts late must not seem to count separately


@dataclass(frozen=True)
class Sent:
    """A call that the API accepted.

    Attributes:
        submitting: whether it was a submission; any other call is a poll.
        at: when it was sent, or a little earlier: monotonic time in seconds.
    """

    submitting: bool
    at: float


class OneLimit:
    """Compares what answers report as used with the calls this process has made. Thread-safe.

    Args:
        clock: the clock that `Sent.at` is read from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[bool, float] = {}  # reported last to polls and to submissions
        self._ends = -math.inf  # of the current window, in the server's time
        self._answered: list[float] = []  # when calls that were surely counted in this window were answered
        self._counts_itself = 1  # whether a call is included in what its own answer reports
        self._proofs, self._proved_at = 0, -math.inf

    @property
    def shared(self) -> bool:
        """Whether submissions and polls share a limit, as far as the answers show."""
        return len(self._limits) == 2 and self._limits[True] == self._limits[False] and self._proofs < _PROOFS

    @property
    def different(self) -> bool:
        """Whether submissions and polls have limits of their own, which differ."""
        return len(self._limits) == 2 and self._limits[True] != self._limits[False]

    def answered(self, sent: Sent, allowance: Allowance, server_time: float, window: float) -> None:
        """Note what the answer to a call reports of the limit of requests.

        Args:
            sent: the call.
            allowance: the limit.
            server_time: the server's time now (UNIX time), never ahead of it.
            window: length of the limit's window in seconds.
        """
        if allowance.limit is None:
            return
        with self._lock:
            now = self._clock.monotonic()  # in here, so that times are in order
            self._limits[sent.submitting] = allowance.limit
            if allowance.remaining is None or allowance.reset is None or allowance.reset > window:
                return  # a window that ends later than it can would hide all those that end before
            ends = server_time + allowance.reset
            if ends > self._ends + window / 2:
                self._ends, self._answered = ends, []
            # The answer may be late, and the call may have been counted in the window before.
            if ends < self._ends - window / 2 or sent.at < now + allowance.reset - window:
                return
            used = allowance.limit - allowance.remaining
            if sent.submitting and used <= 0:
                self._counts_itself = 0
            # Calls under way at the same time may have been counted after this one.
            if used < bisect_left(self._answered, sent.at) + self._counts_itself and self._proved_at != self._ends:
                self._proofs, self._proved_at = self._proofs + 1, self._ends
            self._answered.append(now)
