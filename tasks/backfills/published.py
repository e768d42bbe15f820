"""Records that this process has just written of documents that it published: its figures need not read them again."""

import threading
from collections import deque

from tasks.job.record import DoneJob

_KEPT = 5000


class Published:
    """Keeps records from one reading of the figures to the next, where somebody reads figures. Safe between threads."""

    def __init__(self) -> None:
        self._records: deque[DoneJob] = deque(maxlen=_KEPT)
        self._followed = False
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Keep records from now on: somebody takes them."""
        self._followed = True

    def add(self, done: DoneJob) -> None:
        """Keep a record, if anybody takes it."""
        if self._followed:
            with self._lock:
                self._records.append(done)

    def take(self) -> list[DoneJob]:
        """Those that were kept since the last time."""
        with self._lock:
            taken = list(self._records)
            self._records.clear()
        return taken
