"""Open records that this process has just written, so that the next step of a job need not read them again."""

import threading
from collections import OrderedDict

from tasks.store.ledger import Held

_RECORDS_KEPT = 4096


class RecentRecords:
    """The latest version of each record that a step wrote, until it is taken. Thread-safe.

    If another worker has changed a record since, the copy is out of date, like any record read a while ago: the next
    conditional write fails.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, held: Held) -> None:
        """Keep a record that was just written."""
        with self._lock:
            self._records[held.job.id] = held
            while len(self._records) > _RECORDS_KEPT:
                self._records.popitem(last=False)

    def take(self, job_id: str) -> Held | None:
        """Remove and return the record of a job; None if there is none."""
        with self._lock:
            return self._records.pop(job_id, None)
