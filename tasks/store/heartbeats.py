"""Who is alive: one object for each process at work, written again and again while it lives.

Leases name their owner, and are renewed by its heartbeat: one write for a process instead of one for each of its jobs.
Whether a heartbeat is fresh is told by the store's clock, not by its writer's.
"""

import threading
from datetime import timedelta
from urllib.parse import quote, unquote

from tasks.clock import Clock
from tasks.store.object_store import JSON, Described, ObjectStore

WORKERS_FOLDER = "workers/"
_SECONDS = "lease-seconds"
_BEATS_A_LEASE = 3
_ASKED_SECONDS = 2.0  # an answer is good for so long
_FORGOTTEN = timedelta(days=1)


class Heartbeats:
    """Writes the heartbeat of one process, and reads those of others. Safe between threads.

    Args:
        objects: the store.
        bucket: the ledger's.
        folder: the ledger's key prefix.
        owner: this process, as its leases name it.
        seconds: how long a lease lasts.
        clock: the time to go by.
    """

    def __init__(
        self, objects: ObjectStore, bucket: str, folder: str, owner: str, seconds: float, clock: Clock
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = f"{folder}{WORKERS_FOLDER}"
        self._owner = owner
        self._seconds = seconds
        self._clock = clock
        self._beaten = False
        self._asked: dict[str, tuple[float, Described | None]] = {}
        self._lock = threading.Lock()

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return self._seconds / _BEATS_A_LEASE

    def beat(self) -> Described | None:
        """Show that this process lives. Returns what the store has on record of it, with the store's time."""
        key, self._beaten = self._key(self._owner), True
        self._objects.put(self._bucket, key, b"{}", {_SECONDS: f"{self._seconds:g}"}, JSON)
        return self._objects.head(self._bucket, key)

    def stop(self) -> None:
        """The process ends in order: its heartbeat is not needed any more. Without one, the store is not asked."""
        if self._beaten:
            self._objects.delete(self._bucket, self._key(self._owner))

    def alive(self, owner: str) -> bool | None:
        """Whether a process shows that it lives; None when it doesn't: it ended, was killed, or is cut off."""
        found = self._look(owner)
        if found is None:
            return None
        fresh_until = found.last_modified + timedelta(seconds=float(found.metadata.get(_SECONDS, 0)))
        return True if fresh_until > self._clock.now() else None

    def living(self) -> list[str]:
        """The processes that show that they live."""
        names = (
            unquote(entry.key.removeprefix(self._folder).removesuffix(".json"))
            for entry in self._objects.list(self._bucket, self._folder)
        )
        return [name for name in names if self.alive(name)]

    def forget_dead(self) -> None:
        """Delete the heartbeats of processes that were killed long ago."""
        for entry in self._objects.list(self._bucket, self._folder):
            if self._clock.now() - entry.last_modified > _FORGOTTEN:
                self._objects.remove(self._bucket, entry.key, entry.etag)

    def _look(self, owner: str) -> Described | None:
        with self._lock:
            now = self._clock.monotonic()
            asked = self._asked.get(owner)
            if asked is not None and now - asked[0] < _ASKED_SECONDS:
                return asked[1]
            found = self._objects.head(self._bucket, self._key(owner))
            self._asked = {name: each for name, each in self._asked.items() if now - each[0] < _ASKED_SECONDS}
            self._asked[owner] = (now, found)
            return found

    def _key(self, owner: str) -> str:
        return f"{self._folder}{quote(owner, safe='')}.json"
