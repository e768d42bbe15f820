"""Records of documents that this process has just published, so that its figures need not read them again."""

import threading
from collections import deque

from tasks.job.record import DoneJob

_KEPT = 5000


class Published:
    """Keeps records from one reading of the figures to the next, if the figures are read. Thread-safe."""

    def __init__(self) -> None:
        self._records: deque[DoneJob] = deque(maxlen=_KEPT)
        self._followed = False
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Start to keep records."""
        self._followed = True

    def add(self, done: DoneJob) -> None:
        """Keep a record, if `follow` was called."""
        if self._followed:
            with self._lock:
                self._records.append(done)

    def take(self) -> list[DoneJob]:
        """Return the records kept since the last call."""
        with self._lock:
            taken = list(self._records)
            self._records.clear()
        return taken
