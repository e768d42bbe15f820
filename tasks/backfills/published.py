"""Documents that this process has just published, so that its figures need not read their records again."""

import threading
from collections import deque
from collections.abc import Callable

from tasks.backfills.done import DoneFigures
from tasks.job.record import DoneJob

_KEPT = 5000  # documents, at one or two kilobytes each: a tenth of their records


class Published:
    """Keeps documents from one reading of the figures to the next, if the figures are read. Thread-safe."""

    def __init__(self) -> None:
        self._documents: deque[tuple[str, DoneFigures]] = deque(maxlen=_KEPT)
        self._figures_of: Callable[[DoneJob], DoneFigures] | None = None
        self._lock = threading.Lock()

    def follow(self, figures_of: Callable[[DoneJob], DoneFigures]) -> None:
        """Start to keep documents.

        Args:
            figures_of: returns the data of a record that the figures need; called in any thread.
        """
        self._figures_of = figures_of

    def add(self, done: DoneJob) -> None:
        """Keep what the figures need of a record, if `follow` was called."""
        if self._figures_of is None:
            return
        figures = self._figures_of(done)
        with self._lock:
            self._documents.append((done.job.id, figures))

    def take(self) -> list[tuple[str, DoneFigures]]:
        """Return the job ids and data of the documents kept since the last call."""
        with self._lock:
            taken = list(self._documents)
            self._documents.clear()
        return taken
