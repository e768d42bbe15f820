"""Stand-ins for what a test wants to hold still."""

import threading
from datetime import UTC, datetime, timedelta

from tasks.clock import Clock


class FakeClock(Clock):
    """Time that moves only by sleeping or by `advance`. Safe between threads."""

    def __init__(self, start: datetime = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)) -> None:
        super().__init__()
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self._elapsed += max(0.0, seconds)

    def sleep_through(self, seconds: float) -> None:
        self.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody waiting."""
        with self._lock:
            self._elapsed += seconds
