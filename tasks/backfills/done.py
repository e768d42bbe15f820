"""The finished documents of a backfill, as far as its figures need them: in a file, so that memory does not grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tasks.job.record import CONFIDENCE_BINS, Confidence
from tasks.scratch import scratch_database

MOST_MINUTES = 720
"""Minutes for which the published pages are told."""

_RECENT = 500  # documents that the times are computed from
_NOTABLE = 10  # slowest documents, and least confident ones
_MINUTE = 60
_BINS = tuple(f"bin_{number}" for number in range(CONFIDENCE_BINS))


@dataclass(frozen=True, slots=True)
class DoneFigures:
    """The data of a finished document that the figures need."""

    partition: str
    document: str
    pages: int
    spent: int
    possible_duplicates: int
    seconds: float
    finished_at: datetime
    at_api: float | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True)
class RecentDocument:
    """The times of one of the documents finished last.

    Attributes:
        finished_at: when it was done.
        pages: number of pages.
        seconds: from claim to result.
        at_api: seconds at the API, if known.
    """

    finished_at: datetime
    pages: int
    seconds: float
    at_api: float | None


@dataclass(frozen=True)
class DoneSummary:
    """What the figures need of all finished documents.

    Attributes:
        documents: number of documents whose records were read.
        pages: number of pages.
        spent: pages paid or possibly paid for.
        possible_duplicates: submissions that may be billed and were, or will be, repeated.
        by_partition: pages, and pages spent, by partition.
        recent: the documents finished last, in the order in which they were finished.
        slowest: documents with their seconds from claim to result, slowest first.
        least_confident: documents with the mean confidence of their words, lowest first.
        confidence: words by confidence: from 0 to 0.1, …, from 0.9 to 1; empty if no document has any.
        per_minute: pages by the minute in which they were published, in the last `MOST_MINUTES` minutes.
    """

    documents: int = 0
    pages: int = 0
    spent: int = 0
    possible_duplicates: int = 0
    by_partition: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    recent: Sequence[RecentDocument] = ()
    slowest: Sequence[tuple[str, float]] = ()
    least_confident: Sequence[tuple[str, float]] = ()
    confidence: Sequence[int] = ()
    per_minute: Mapping[datetime, int] = field(default_factory=dict)


class DoneDocuments:
    """The finished documents whose records have been read. Not thread-safe.

    Args:
        folder: the folder of its file; None to keep it in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = scratch_database(None if folder is None else folder / "done.sqlite")
        self._database.execute(
            "CREATE TABLE done (id TEXT PRIMARY KEY, written REAL, listed INTEGER, partition TEXT, document TEXT, "
            "pages INTEGER, spent INTEGER, possible_duplicates INTEGER, seconds REAL, finished_at REAL, at_api REAL, "
            f"mean REAL, {', '.join(f'{name} INTEGER' for name in _BINS)}) WITHOUT ROWID"
        )
        self._database.execute("CREATE INDEX by_end ON done (finished_at)")
        self._listing = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, job_id: str, done: DoneFigures) -> None:
        """Add a document, or replace what was known of it."""
        confidence = done.confidence
        values = (
            *(job_id, None, self._listing, done.partition, done.document, done.pages, done.spent),
            *(done.possible_duplicates, done.seconds, done.finished_at.timestamp(), done.at_api),
            *((None,) * (1 + len(_BINS)) if confidence is None else (confidence.mean, *confidence.bins)),
        )
        self._database.execute(f"INSERT OR REPLACE INTO done VALUES ({','.join('?' * len(values))})", values)

    def forget(self, job_id: str) -> None:
        """Remove a document: it is to be done again."""
        self._database.execute("DELETE FROM done WHERE id = ?", (job_id,))

    def begin(self) -> None:
        """Begin a listing: documents that are not confirmed by `confirm` are removed at its end."""
        self._listing += 1

    def confirm(self, job_id: str, written: float, tolerance: float) -> bool:
        """Confirm a document whose record the listing found, if what is known of it comes from that record.

        Args:
            job_id: its job.
            written: when its record was written, as a UNIX time.
            tolerance: maximum number of seconds between the document's end and its record, while only the former is
                known.

        Returns:
            Whether it is known. Otherwise, its record has to be read.
        """
        confirmed = self._database.execute(
            "UPDATE done SET written = ?1, listed = ?2 WHERE id = ?3 "
            "AND (written = ?1 OR (written IS NULL AND abs(finished_at - ?1) < ?4))",
            (written, self._listing, job_id, tolerance),
        )
        return confirmed.rowcount > 0

    def end(self) -> None:
        """End a listing."""
        self._database.execute("DELETE FROM done WHERE listed < ?", (self._listing,))
        self._database.commit()

    def summary(self) -> DoneSummary:
        """Sum up all documents."""
        query = self._database.execute
        bins = ", ".join(f"sum({name})" for name in _BINS)
        number, pages, spent, duplicates, last, *words = query(
            "SELECT count(*), coalesce(sum(pages), 0), coalesce(sum(spent), 0), "
            f"coalesce(sum(possible_duplicates), 0), max(finished_at), {bins} FROM done"
        ).fetchone()
        if not number:
            return DoneSummary()
        partitions = query("SELECT partition, sum(pages), sum(spent) FROM done GROUP BY 1")
        recent = query(
            "SELECT finished_at, pages, seconds, at_api FROM done ORDER BY finished_at DESC LIMIT ?", (_RECENT,)
        ).fetchall()
        last_minute = int(last // _MINUTE)
        minutes = query(
            "SELECT CAST(finished_at / ?1 AS INTEGER), sum(pages) FROM done WHERE finished_at >= ?2 GROUP BY 1",
            (float(_MINUTE), _MINUTE * (last_minute - MOST_MINUTES + 1)),
        )
        slowest = query("SELECT document, seconds FROM done ORDER BY seconds DESC LIMIT ?", (_NOTABLE,))
        least_confident = query(
            "SELECT document, mean FROM done WHERE mean IS NOT NULL ORDER BY mean LIMIT ?", (_NOTABLE,)
        )
        return DoneSummary(
            documents=number,
            pages=pages,
            spent=spent,
            possible_duplicates=duplicates,
            by_partition={partition: (of_pages, of_spent) for partition, of_pages, of_spent in partitions},
            recent=[RecentDocument(_moment(finished_at), *times) for finished_at, *times in reversed(recent)],
            slowest=slowest.fetchall(),
            least_confident=least_confident.fetchall(),
            confidence=() if None in words else words,
            per_minute={_moment(minute * _MINUTE): of_pages for minute, of_pages in minutes},
        )


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
