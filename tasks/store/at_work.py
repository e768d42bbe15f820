"""The jobs that threads of this process are working on: their leases are not abandoned."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class JobsAtWork:
    """The jobs that steps of this process are working on. Thread-safe.

    A lease distinguishes processes, not threads: without this, a job that one thread is sending would look to another
    thread like a job that this process has abandoned.
    """

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def begin(self, job_id: str) -> Iterator[bool]:
        """Work on a job in the `with` block. Yields False if another thread is already working on it."""
        with self._lock:
            free = job_id not in self._jobs
            self._jobs.add(job_id)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._jobs.discard(job_id)

    def __contains__(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._jobs
