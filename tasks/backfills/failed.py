"""The failed documents of a backfill, as far as its figures need them: in a file, so that memory does not grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.scratch import scratch_database

MOST_LISTED = 100
"""Failed documents that are listed one by one."""


@dataclass(frozen=True, slots=True)
class FailedFigures:
    """The data of a failed document that the figures need."""

    partition: str
    code: str
    reason: str
    spent: int
    possible_duplicates: int
    document: str = ""
    run: str | None = None


@dataclass(frozen=True)
class FailedSummary:
    """What the figures need of all failed documents.

    Attributes:
        codes: documents by the code of the failure, the most frequent first.
        reasons: a reason for each code.
        first: the first documents in the order of their names, at most `MOST_LISTED`.
        by_partition: pages paid or possibly paid for, by partition.
        possible_duplicates: submissions that may be billed and were, or will be, repeated.
    """

    codes: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[FailedFigures] = ()
    by_partition: Mapping[str, int] = field(default_factory=dict)
    possible_duplicates: int = 0


class FailedDocuments:
    """The failed documents whose records have been read. Not thread-safe.

    Args:
        folder: the folder of its file; None to keep it in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = scratch_database(None if folder is None else folder / "failed.sqlite")
        self._database.execute(
            "CREATE TABLE failed (id TEXT PRIMARY KEY, written REAL, listed INTEGER, partition TEXT, code TEXT, "
            "reason TEXT, spent INTEGER, possible_duplicates INTEGER, document TEXT, run TEXT) WITHOUT ROWID"
        )
        self._database.execute("CREATE INDEX by_document ON failed (document)")
        self._listing = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, job_id: str, written: float, failed: FailedFigures) -> None:
        """Add a document, or replace what was known of it.

        Args:
            job_id: its job.
            written: when its record was written, as a UNIX time.
            failed: its data.
        """
        self._database.execute(
            "INSERT OR REPLACE INTO failed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(job_id, written, self._listing, failed.partition, failed.code, failed.reason),
                *(failed.spent, failed.possible_duplicates, failed.document, failed.run),
            ),
        )

    def forget(self, job_id: str) -> None:
        """Remove a document: it is to be done again, or is done."""
        self._database.execute("DELETE FROM failed WHERE id = ?", (job_id,))

    def begin(self) -> None:
        """Begin a listing: documents that are not confirmed by `confirm` are removed at its end."""
        self._listing += 1

    def confirm(self, job_id: str, written: float) -> bool:
        """Confirm a document whose record the listing found. Returns whether what is known comes from that record."""
        # Some stores list fractions of seconds, and no header has them.
        confirmed = self._database.execute(
            "UPDATE failed SET listed = ? WHERE id = ? AND abs(written - ?) < 1", (self._listing, job_id, written)
        )
        return confirmed.rowcount > 0

    def end(self) -> None:
        """End a listing."""
        self._database.execute("DELETE FROM failed WHERE listed < ?", (self._listing,))
        self._database.commit()

    def summary(self) -> FailedSummary:
        """Sum up all documents."""
        query = self._database.execute
        codes = query("SELECT code, count(*), max(reason) FROM failed GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
        partitions = query("SELECT partition, sum(spent) FROM failed GROUP BY 1")
        first = query(
            "SELECT partition, code, reason, spent, possible_duplicates, document, run FROM failed "
            "ORDER BY document LIMIT ?",
            (MOST_LISTED,),
        )
        (duplicates,) = query("SELECT coalesce(sum(possible_duplicates), 0) FROM failed").fetchone()
        return FailedSummary(
            codes={code: number for code, number, _ in codes},
            reasons={code: reason for code, _, reason in codes},
            first=[FailedFigures(*columns) for columns in first],
            by_partition=dict(partitions.fetchall()),
            possible_duplicates=duplicates,
        )
