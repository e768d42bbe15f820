"""Which jobs the threads of this process work on: their leases are ours, and have not been left behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class JobsAtWork:
    """The jobs that steps of this process have in hand. Safe between threads.

    A lease tells processes apart, not threads: without this, a job that one thread is sending looks to another one like
    a job that somebody of ours has left behind.
    """

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def begin(self, job_id: str) -> Iterator[bool]:
        """Work on a job. Gives False where another thread already does: then it is that one's."""
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
