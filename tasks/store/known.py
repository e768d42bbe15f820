"""Which jobs the ledger knows already, for lookups by the million without a million reads or a growing memory."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.store.ledger import Ledger, State


@dataclass(frozen=True)
class Census:
    """How many jobs of a run are in which state; `_before`: they were when it began."""

    open: int
    done: int
    failed: int
    done_before: int
    failed_before: int


def _all(_job_id: str) -> bool:
    return True


class KnownJobs:
    """The ledger's ids as they were when the run began, and what the run has learned since, in a temporary file.

    It only saves work: a claim is what decides, so an entry that is out of date costs a call, never money.
    For one thread.
    """

    def __init__(self, folder: Path) -> None:
        self._asked: Ledger | None = None
        self._path = folder / "known-jobs.sqlite"
        self._database = sqlite3.connect(self._path)
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute(
            "CREATE TABLE known "
            "(id TEXT PRIMARY KEY, state TEXT, before INTEGER, counted INTEGER, written REAL) WITHOUT ROWID"
        )

    def load(
        self,
        ledger: Ledger,
        states: tuple[State, ...] = ("open", "done", "failed"),
        ours: Callable[[str], bool] = _all,
    ) -> int:
        """Take the snapshot of the jobs that are ours. Returns how many of them are open.

        Open first: a job that is closed while we list is then found as open or as closed, never missed.
        """
        for state in states:
            for entry in filter(lambda entry: ours(entry.id), ledger.entries(state)):
                self._database.execute(
                    "INSERT INTO known VALUES (?, ?, ?, 0, ?) ON CONFLICT (id) DO UPDATE "
                    "SET state = excluded.state, before = excluded.before, written = excluded.written",
                    (entry.id, state, state != "open", entry.last_modified.timestamp()),
                )
        self._database.commit()
        row = self._database.execute("SELECT count(*) FROM known WHERE state = 'open'").fetchone()
        return int(row[0])

    def load_open(self, ledger: Ledger, ours: Callable[[str], bool] = _all) -> int:
        """Take a snapshot of the open jobs only, once or again and again. Returns how many of ours there are.

        Whether another job is done or failed is asked of the ledger when `look` wants to know: two calls a document,
        where listing the done ones takes one for each thousand of all that ever were.
        """
        self._asked = ledger
        # Open jobs that are not listed any more were closed, or given back.
        self._database.execute("DELETE FROM known WHERE NOT counted AND (state IS NULL OR state = 'open')")
        self._database.execute("UPDATE known SET state = NULL WHERE state = 'open'")
        return self.load(ledger, ("open",), ours)

    def look(self, job_id: str) -> State | None:
        """How the job stands; one that is not known is looked up, where only the open ones were listed."""
        state = self.state(job_id)
        if state is not None or self._asked is None:
            return state
        closed: tuple[State, ...] = ("done", "failed")
        for each in closed:
            entry = self._asked.entry(each, job_id)
            if entry is not None:
                self._database.execute(
                    "INSERT INTO known VALUES (?, ?, 1, 0, ?) ON CONFLICT (id) DO UPDATE "
                    "SET state = excluded.state, before = 1, written = excluded.written",
                    (job_id, each, entry.last_modified.timestamp()),
                )
                return each
        return None

    def state(self, job_id: str) -> State | None:
        """How the job stands as far as the run knows; None when it is new."""
        row = self._database.execute("SELECT state FROM known WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def done_before(self, job_id: str, moment: datetime) -> bool:
        """Whether the job was done before that moment."""
        row = self._database.execute(
            "SELECT 1 FROM known WHERE id = ? AND state = 'done' AND written < ?", (job_id, moment.timestamp())
        ).fetchone()
        return row is not None

    def count(self, job_id: str, state: State | None) -> None:
        """Count the job as one of this run's, in its latest state (None: not claimed by anybody yet)."""
        self._database.execute(
            "INSERT INTO known VALUES (?, ?, 0, 1, NULL) "
            "ON CONFLICT (id) DO UPDATE SET counted = 1, state = coalesce(excluded.state, state), "
            "before = before AND coalesce(excluded.state, state) = state",
            (job_id, state),
        )

    def forget(self, job_id: str) -> None:
        """Leave the job out: what was listed is not there any more."""
        self._database.execute("DELETE FROM known WHERE id = ?", (job_id,))

    def settle_elsewhere(self, job_id: str, state: State) -> None:
        """Note that another run has closed the job."""
        self._database.execute("UPDATE known SET state = ?, before = 1 WHERE id = ?", (state, job_id))

    def unfinished(self) -> Iterator[str]:
        """This run's jobs that are neither done nor failed, as far as the run knows."""
        rows = self._database.execute(
            "SELECT id FROM known WHERE counted AND (state IS NULL OR state = 'open')"
        ).fetchall()
        return (row[0] for row in rows)

    def unclaimed(self) -> int:
        """How many of this run's documents have no job."""
        row = self._database.execute("SELECT count(*) FROM known WHERE counted AND state IS NULL").fetchone()
        return int(row[0])

    def census(self) -> Census:
        """Count this run's jobs."""
        counts = dict.fromkeys(Census.__dataclass_fields__, 0)
        for state, before, number in self._database.execute(
            "SELECT coalesce(state, 'open'), before, count(*) FROM known WHERE counted GROUP BY 1, 2"
        ):
            counts[f"{state}_before" if before else state] += number
        return Census(**counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)
