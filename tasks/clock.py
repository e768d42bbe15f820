"""Time as a parameter: everything that waits or dates something asks a clock, so tests need no waiting."""

import time
from datetime import UTC, datetime


class Clock:
    """The real clock."""

    def now(self) -> datetime:
        """The time of day, in UTC, for records that other machines read."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment, for measuring spans; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
