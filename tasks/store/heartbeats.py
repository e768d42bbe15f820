"""Heartbeats: one object per worker process, rewritten while the process is alive.

Leases name their owner and are renewed by its heartbeat: one write per process instead of one per job. The store's
clock decides whether a heartbeat is fresh, not the writer's.
"""

import threading
from datetime import timedelta
from urllib.parse import quote, unquote

from tasks.clock import Clock
from tasks.store.object_store import JSON, Described, ObjectStore

WORKERS_FOLDER = "workers/"
_SECONDS = "lease-seconds"
_BEATS_A_LEASE = 3
_CACHE_SECONDS = 2.0  # how long a heartbeat that was read is reused
_FORGOTTEN = timedelta(days=1)


class Heartbeats:
    """Writes the heartbeat of one process, and reads those of others. Thread-safe.

    Args:
        objects: the store.
        bucket: the ledger's bucket.
        folder: the ledger's key prefix.
        owner: this process, as named in its leases.
        seconds: how long a lease lasts.
        clock: the clock to compare the store's times with.
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
        self._cache: dict[str, tuple[float, Described | None]] = {}
        self._lock = threading.Lock()

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return self._seconds / _BEATS_A_LEASE

    def beat(self) -> Described | None:
        """Write this process's heartbeat. Returns the object as stored, with the store's time."""
        key, self._beaten = self._key(self._owner), True
        self._objects.put(self._bucket, key, b"{}", {_SECONDS: f"{self._seconds:g}"}, JSON)
        return self._objects.head(self._bucket, key)

    def stop(self) -> None:
        """Delete this process's heartbeat at a regular end. Does nothing if there was no beat."""
        if self._beaten:
            self._objects.delete(self._bucket, self._key(self._owner))

    def alive(self, owner: str) -> bool | None:
        """Return True if a process has a fresh heartbeat; None if not: it ended, was killed, or is cut off."""
        heartbeat = self._read(owner)
        if heartbeat is None:
            return None
        fresh_until = heartbeat.last_modified + timedelta(seconds=float(heartbeat.metadata.get(_SECONDS, 0)))
        return True if fresh_until > self._clock.now() else None

    def living(self) -> list[str]:
        """Return the processes with a fresh heartbeat."""
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

    def _read(self, owner: str) -> Described | None:
        with self._lock:
            now = self._clock.monotonic()
            cached = self._cache.get(owner)
            if cached is not None and now - cached[0] < _CACHE_SECONDS:
                return cached[1]
            heartbeat = self._objects.head(self._bucket, self._key(owner))
            self._cache = {name: entry for name, entry in self._cache.items() if now - entry[0] < _CACHE_SECONDS}
            self._cache[owner] = (now, heartbeat)
            return heartbeat

    def _key(self, owner: str) -> str:
        return f"{self._folder}{quote(owner, safe='')}.json"
