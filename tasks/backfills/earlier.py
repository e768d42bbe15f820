"""What documents of a backfill had cost before they were done again: in a file, so that memory does not grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.scratch import scratch_database


@dataclass(frozen=True)
class EarlierSummary:
    """What all documents had cost before they were done again.

    Attributes:
        by_partition: pages paid or possibly paid for, by partition.
        possible_duplicates: submissions that may be billed and were, or will be, repeated.
    """

    by_partition: Mapping[str, int] = field(default_factory=dict)
    possible_duplicates: int = 0


class EarlierRecords:
    """The earlier records that have been read, by key. Such records never change. Not thread-safe.

    Args:
        folder: the folder of its file; None to keep it in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = scratch_database(None if folder is None else folder / "earlier.sqlite")
        self._database.execute(
            "CREATE TABLE earlier (key TEXT PRIMARY KEY, partition TEXT, spent INTEGER, possible_duplicates INTEGER) "
            "WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __contains__(self, key: object) -> bool:
        return self._database.execute("SELECT 1 FROM earlier WHERE key = ?", (key,)).fetchone() is not None

    def put(self, key: str, partition: str | None, spent: int, possible_duplicates: int) -> None:
        """Add a record.

        Args:
            key: its key.
            partition: the document's partition; None if the record cannot be read.
            spent: pages paid or possibly paid for.
            possible_duplicates: submissions that may be billed and were, or will be, repeated.
        """
        self._database.execute(
            "INSERT OR REPLACE INTO earlier VALUES (?, ?, ?, ?)", (key, partition, spent, possible_duplicates)
        )

    def summary(self) -> EarlierSummary:
        """Sum up all records."""
        partitions = self._database.execute(
            "SELECT partition, sum(spent) FROM earlier WHERE partition IS NOT NULL GROUP BY 1"
        ).fetchall()
        (duplicates,) = self._database.execute("SELECT coalesce(sum(possible_duplicates), 0) FROM earlier").fetchone()
        return EarlierSummary(dict(partitions), duplicates)
