"""All documents of a backfill by partition and state, in a temporary file, so that memory does not grow with them."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal

from tasks.scratch import scratch_database

DocumentState = Literal["done", "failed", "open", "aside", "new"]


class Census:
    """The documents from a listing of source and ledger, updated with later changes. Not thread-safe.

    Args:
        folder: the folder of its file.
    """

    def __init__(self, folder: Path) -> None:
        self._database = scratch_database(folder / "census.sqlite")
        self._database.execute(
            "CREATE TABLE documents (id TEXT PRIMARY KEY, partition TEXT, state TEXT, known INTEGER, written REAL, "
            "listed INTEGER, changed INTEGER) WITHOUT ROWID"
        )
        self._database.execute("CREATE INDEX unread ON documents (state, known, written)")
        self._listing = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def begin(self) -> None:
        """Begin a listing: documents that it does not find are removed at its end."""
        self._listing += 1

    def put(self, job_id: str, partition: str, state: DocumentState, *, known: bool, written: float) -> None:
        """Add a document that the listing found. A change noted since the listing began is newer and is kept.

        Args:
            job_id: its job.
            partition: its partition.
            state: its state.
            known: whether its record has been read already.
            written: when its record was written, as a UNIX time.
        """
        self._database.execute(
            "INSERT INTO documents (id, partition, state, known, written, listed, changed) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0) ON CONFLICT (id) DO UPDATE SET partition = ?2, listed = ?6, "
            "state = iif(changed = ?6, state, ?3), known = iif(changed = ?6, known, ?4), "
            "written = iif(changed = ?6, written, ?5)",
            (job_id, partition, state, known, written, self._listing),
        )

    def end(self) -> None:
        """End a listing."""
        self._database.execute("DELETE FROM documents WHERE listed < ?", (self._listing,))
        self._database.commit()

    def change(self, job_ids: Iterable[str], state: DocumentState, now: float, *, known: bool = False) -> None:
        """Change the state of documents; others than those of the backfill are ignored.

        A single statement for all of them: in a busy process, each one waits for the interpreter.

        Args:
            job_ids: their jobs.
            state: their new state.
            now: the current UNIX time.
            known: whether their records have been read already.
        """
        self._database.execute(
            "UPDATE documents SET state = ?, known = ?, written = ?, changed = ? "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (state, known, now, self._listing, json.dumps(list(job_ids))),
        )

    def note_known(self, job_ids: Iterable[str]) -> None:
        """Mark the records of these jobs as read."""
        known = json.dumps(list(job_ids))
        self._database.execute("UPDATE documents SET known = 1 WHERE id IN (SELECT value FROM json_each(?))", (known,))

    def unknown(self, state: DocumentState, most: int) -> list[tuple[str, str]]:
        """Return documents in a state whose records have not been read yet, as job and partition, the newest first."""
        rows = self._database.execute(
            "SELECT id, partition FROM documents WHERE state = ? AND known = 0 ORDER BY written DESC LIMIT ?",
            (state, most),
        )
        return rows.fetchall()

    def ids(self, state: DocumentState) -> Iterator[str]:
        """Yield the jobs of the documents in a state."""
        rows = self._database.execute("SELECT id FROM documents WHERE state = ?", (state,)).fetchall()
        return (row[0] for row in rows)

    def found(self, job_ids: Collection[str]) -> dict[str, tuple[str, DocumentState]]:
        """Return partition and state of those jobs that belong to the backfill."""
        rows = self._database.execute(
            "SELECT id, partition, state FROM documents WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(job_ids)),),
        ).fetchall()
        return {job_id: (partition, state) for job_id, partition, state in rows}

    def counted(self) -> Counter[tuple[str, str]]:
        """Count the documents by partition and state."""
        rows = self._database.execute("SELECT partition, state, count(*) FROM documents GROUP BY 1, 2")
        return Counter({(partition, state): number for partition, state, number in rows})
