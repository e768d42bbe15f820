"""Time as a parameter: everything that waits or dates something asks a clock, so tests need no waiting."""

import threading
import time
from datetime import UTC, datetime

from tasks.faults import Cancelled


class Clock:
    """The real clock. Its waits end as soon as somebody ends the run."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def now(self) -> datetime:
        """The time of day, in UTC, for records that other machines read."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment, for measuring spans; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Cancelled: the run is being ended; waits that begin from then on end at once as well.
        """
        if self._ended.wait(seconds):
            raise Cancelled("the run is shutting down; everything sent is recorded")

    def sleep_through(self, seconds: float) -> None:
        """Wait a second or two, also while the run is being ended: for what still has to be put on record."""
        time.sleep(seconds)

    def end(self) -> None:
        """End all waits, in every thread. From a signal handler too."""
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether the run is being ended."""
        return self._ended.is_set()
