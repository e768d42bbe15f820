"""The server's time, to a fraction of a second, from the `Date` headers of its answers.

Rate-limit headers give the end of a window as a time of the server's clock. `Date` has a resolution of one second, so a
wait computed from a single one is up to a second too long: enough to leave half of a one-second window unused.
"""

import math
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tasks.clock import Clock

_MOST_SKEW = 300.0  # seconds; a Date further off is more likely the server's error than this machine's
_KEPT_SECONDS = 60.0  # at least this long a sample counts: the clocks drift, and the server's may be set


class ServerTime:
    """Estimates the server's time. Thread-safe.

    Each `Date` was true when the answer was sent, or up to a second earlier: it is a lower bound of the server's time.
    The greatest bound of the last one to two minutes is the estimate. So it is never ahead of the server, it gets more
    precise with every answer, and the outdated `Date` of a busy server or of a cache does not count.

    Args:
        clock: this machine's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Server minus monotonic time in seconds: the greatest of the current period and of the previous one.
        self._current = self._previous = -math.inf
        self._begun = clock.monotonic()

    def heard(self, headers: Mapping[str, str]) -> datetime:
        """Return the server's time.

        Args:
            headers: headers of an answer that has just arrived, case-insensitive.

        Returns:
            The server's time now; this machine's if the server has not told a plausible one lately.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        date = http_date(headers.get("Date", ""))
        with self._lock:
            if (periods := int((monotonic - self._begun) / _KEPT_SECONDS)) > 0:
                self._previous = self._current if periods == 1 else -math.inf
                self._current = -math.inf
                self._begun = monotonic
            if date is not None and abs((date - now).total_seconds()) <= _MOST_SKEW:
                self._current = max(self._current, date.timestamp() - monotonic)
            ahead = max(self._current, self._previous)
        return now if ahead == -math.inf else datetime.fromtimestamp(monotonic + ahead, UTC)


def http_date(value: str) -> datetime | None:
    """Parse an HTTP date; None if it is none, or has no time zone."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
