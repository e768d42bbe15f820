"""Open records as this process has just written them: whoever goes on with a job need not read its record again."""

import threading
from collections import OrderedDict

from tasks.store.ledger import Held

_RECORDS_KEPT = 4096


class RecentRecords:
    """The latest version of records that a step wrote, until somebody takes them. Safe to share between threads.

    A record that another worker has changed since is out of date, as any record is that was read a while ago: the next
    conditional write finds out.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, held: Held) -> None:
        """Keep a record as it was just written."""
        with self._lock:
            self._records[held.job.id] = held
            while len(self._records) > _RECORDS_KEPT:
                self._records.popitem(last=False)

    def take(self, job_id: str) -> Held | None:
        """Take the record of a job out, where there is one."""
        with self._lock:
            return self._records.pop(job_id, None)
