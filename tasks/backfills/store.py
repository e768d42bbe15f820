"""Backfills in the ledger: read, created and changed with conditional writes, and followed while they are served."""

import threading
from collections.abc import Callable

from pydantic import ValidationError

from tasks.backfills.record import Backfill
from tasks.clock import Clock
from tasks.faults import SetupFault, TransientFault
from tasks.store.ledger import Ledger

_ATTEMPTS = 100
_FRESH_SECONDS = 5.0
"""Changes to a backfill reach every process that serves it within this many seconds."""


class Backfills:
    """Reads and writes the backfills of one destination.

    Args:
        ledger: the destination's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self, name: str) -> Backfill | None:
        """Read a backfill; None if there is none of that name.

        Raises:
            SetupFault: its record cannot be read.
        """
        stored = self._ledger.read_backfill(name)
        return None if stored is None else _parsed(name, stored[0])

    def names(self) -> list[str]:
        """Return the names of all backfills."""
        return self._ledger.backfill_names()

    def make(self, backfill: Backfill) -> Backfill:
        """Record a new backfill, unless there is one of that name. Returns the recorded one."""
        body = backfill.model_dump_json(indent=1).encode()
        if self._ledger.write_backfill(backfill.name, body, None):
            return backfill
        return self.read(backfill.name) or self.make(backfill)

    def change(self, name: str, change: Callable[[Backfill], Backfill]) -> Backfill:
        """Change a backfill, even if others change it meanwhile. Returns the changed backfill.

        Raises:
            SetupFault: there is none of that name, or its record cannot be read.
            TransientFault: other processes keep writing it.
        """
        for _ in range(_ATTEMPTS):
            stored = self._ledger.read_backfill(name)
            if stored is None:
                raise _deleted(name)
            before = _parsed(name, stored[0])
            after = change(before)
            if after == before:
                return before
            if self._ledger.write_backfill(name, after.model_dump_json(indent=1).encode(), stored[1]):
                return after
        raise TransientFault(f"others keep writing the backfill {name}")


class Followed:
    """A cache of backfills that is a few seconds old at most. Thread-safe.

    Args:
        backfills: the backfills of a destination.
        clock: the timer.
        seconds: how long a record is reused.
    """

    def __init__(self, backfills: Backfills, clock: Clock, seconds: float = _FRESH_SECONDS) -> None:
        self._backfills = backfills
        self._clock = clock
        self._seconds = seconds
        self._known: dict[str, tuple[float, Backfill | None]] = {}
        self._lock = threading.Lock()

    def now(self, name: str) -> Backfill | None:
        """Return a backfill; None if there is none of that name.

        Raises:
            SetupFault, TransientFault: it cannot be read, or was deleted since, so nothing may be sent for it.
        """
        with self._lock:
            at = self._clock.monotonic()
            known = self._known.get(name)
            if known is None or at - known[0] >= self._seconds:
                found = self._backfills.read(name)
                if found is None and known is not None and known[1] is not None:
                    raise _deleted(name)  # and with it the ceilings
                known = (at, found)
                self._known[name] = known
            return known[1]

    def forget(self, name: str) -> None:
        """Read the record again next time."""
        with self._lock:
            self._known.pop(name, None)


def _deleted(name: str) -> SetupFault:
    return SetupFault(f"there is no backfill {name}: it was deleted; see 'bulk-ocr backfill list'")


def _parsed(name: str, body: bytes) -> Backfill:
    try:
        return Backfill.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise SetupFault(
            f"the record of backfill {name} cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']}), so "
            "nothing is sent for it: it is of another version of this program, or was edited; use that version, or "
            "move the record away"
        ) from error
