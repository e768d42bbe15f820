"""The catalogue of one ledger: saved rows, journals and, for the rest, the records themselves.

    _jobs/catalogue/rows/<name>.parquet      rows, saved by the last reader
    _jobs/catalogue/journal/<name>.jsonl.gz  rows of documents published since then, written by the runs

A row belongs to one version of one record, identified by the record's ETag. The ledger's listing has the current
versions, so extra, duplicate or outdated rows do no harm, and a missing row is read from its record.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from tasks.catalogue.database import COLUMNS_IN_FILES, Database
from tasks.catalogue.journal import CATALOGUE_FOLDER, JOURNAL_ENDING, JOURNAL_FOLDER
from tasks.catalogue.row import Row, row_of_done, row_of_failed, row_of_open
from tasks.faults import DocumentChanged, Fault, RecordUnreadable, SetupFault
from tasks.job.record import DoneJob, FailedJob
from tasks.scratch import scratch_folder
from tasks.store.ledger import Ledger, State
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import Entry, ObjectStore

ROWS_FOLDER = f"{CATALOGUE_FOLDER}rows/"
ROWS_ENDING = ".parquet"

log = logging.getLogger(__name__)

_PARQUET = "application/vnd.apache.parquet"
_READERS = 16
_AT_ONCE = 2000  # records read between two reports of progress
_LARGE = 32_000_000  # bytes; smaller files of rows are merged on saving
_MOST_ROWS = 1_000_000  # in a file

Tell = Callable[[str, int, int], None]
"""Receives progress: the current activity, the number of records read, and the number to read."""


def _tell_nobody(_doing: str, _read: int, _total: int) -> None:
    pass


class Catalogue:
    """The rows of a ledger as of one moment, in a temporary database. Not thread-safe.

    Tables: `history` (all known rows), `current` (the rows of records that exist), `underway` (the open jobs, always
    read from the ledger).

    Args:
        objects: the store.
        destination: the location of the results and the ledger.
        database: the database for the rows.
        folder: for temporary files.
        tell: receives progress.

    Attributes:
        database: the database to query.
        unreadable: the number of records written by another version of this program.
        read: the number of records read because no file or journal had their row.
        unread: the number of records not read because there were more than the limit; their rows are missing.
        unsaved: why the rows could not be saved; empty if they were.
    """

    def __init__(
        self,
        objects: ObjectStore,
        destination: Location,
        database: Database,
        folder: Path,
        tell: Tell = _tell_nobody,
    ) -> None:
        self.database = database
        self.unreadable = 0
        self.read = 0
        self.unread = 0
        self.unsaved = ""
        self._objects = objects
        self._destination = destination
        self._ledger = Ledger(objects, destination)
        self._base = destination.key(LEDGER_FOLDER)
        self._folder = folder
        self._tell = tell
        self._small: list[Entry] = []
        self._journals: list[Entry] = []

    def refresh(self, most: int | None = None) -> None:
        """Bring the rows up to date with the ledger, and save new ones.

        Args:
            most: a limit; if more records than this would have to be read, none is.

        Raises:
            TransientFault, SetupFault: the ledger cannot be read.
        """
        self._tell("listing the ledger", 0, 0)
        # The order ensures that a job that changes state meanwhile is listed at least once.
        self._list("listed_before", "failed")
        self._read_open()
        self._list("listed", "failed", "done")
        self.database.run("INSERT INTO listed SELECT b.* FROM listed_before b ANTI JOIN listed USING (id)")
        self._list_earlier()
        # A failed record beside a done record is a leftover.
        done = "SELECT id FROM listed WHERE state = 'done'"
        self.database.run(f"DELETE FROM listed WHERE state = 'failed' AND id IN ({done})")
        self._tell("reading the catalogue", 0, 0)
        self._load_files()
        self._read_missing(most)
        self._make_current()
        if self.read or self._journals:
            self._save()

    def _list(self, table: str, *states: State) -> None:
        lines = (
            f"{entry.id}\t{entry.etag}\t{state}\n"
            for state in states
            for entry in self._ledger.entries(state)
            if entry.id.isalnum()  # unrelated objects are ignored
        )
        self._load_listing(lines, table)

    def _list_earlier(self) -> None:
        """List the earlier records of documents that were redone: their cost still counts."""
        folder = f"{self._base}earlier/"
        names = (
            re.fullmatch(r"([0-9a-z]+)/([^/\t\n]+)\.json", entry.key.removeprefix(folder))
            for entry in self._objects.list(self._destination.bucket, folder)
        )
        self._load_listing((f"{name[1]}\t{name[2]}\tearlier\n" for name in names if name is not None), "earlier")

    def _load_listing(self, lines: Iterable[str], table: str) -> None:
        file = self._folder / "listing"
        with file.open("w", encoding="utf-8") as written:
            written.writelines(lines)
        self.database.load_listing(file, table)
        file.unlink()

    def _load_files(self) -> None:
        """Load the saved rows, then the journals. A file that vanishes meanwhile was merged into another."""
        for entry in self._listed(ROWS_FOLDER, ROWS_ENDING):
            large = entry.size >= _LARGE
            loaded = self._fetch(entry, partial(self.database.load_parquet, saved=large))
            if loaded and not large:
                self._small.append(entry)
        for entry in self._listed(JOURNAL_FOLDER, JOURNAL_ENDING):
            if self._fetch(entry, self.database.load_lines):
                self._journals.append(entry)

    def _listed(self, folder: str, ending: str) -> list[Entry]:
        entries = self._objects.list(self._destination.bucket, f"{self._base}{folder}")
        return [entry for entry in entries if entry.key.endswith(ending)]

    def _fetch(self, entry: Entry, load: Callable[[Path], None]) -> bool:
        import duckdb

        file = self._folder / entry.key.rpartition("/")[2]
        try:
            self._objects.fetch(self._destination.bucket, entry.key, entry.etag, file)
            load(file)
        except DocumentChanged:
            return False
        except duckdb.Error as error:  # derived data, which is read from the records again
            log.warning("%s cannot be read and is rebuilt: %s", entry.key, str(error).partition("\n")[0])
            return True
        finally:
            file.unlink(missing_ok=True)
        return True

    def _read_missing(self, most: int | None) -> None:
        """Read the records without a row, including the earlier records of redone documents."""
        missing = (
            "FROM (SELECT * FROM listed UNION ALL SELECT * FROM earlier) r "
            "WHERE NOT EXISTS (SELECT 1 FROM history h WHERE h.id = r.id AND h.etag = r.etag)"
        )
        total = int(self.database.one(f"SELECT count(*) AS n {missing}")["n"])
        if most is not None and total > most:
            self.unread = total
        if not total or self.unread:
            return
        todo = self._folder / "todo"
        with todo.open("w", encoding="utf-8") as lines:
            for row in self.database.rows(f"SELECT id, state, etag {missing}"):
                lines.write(f"{row['id']}\t{row['state']}\t{row['etag']}\n")
        with todo.open(encoding="utf-8") as lines, ThreadPoolExecutor(_READERS) as pool:
            while some := list(islice(lines, _AT_ONCE)):
                self._tell("reading records", self.read, total)
                self._insert(pool.map(self._row, some), "history")
                self.read += len(some)
        todo.unlink()

    def _row(self, line: str) -> Row | None:
        job_id, state, etag = line.rstrip("\n").split("\t")
        try:
            record: DoneJob | FailedJob | None
            match state:
                case "done":
                    record = self._ledger.done(job_id)
                case "failed":
                    record = self._ledger.failed(job_id)
                case _:
                    record = self._ledger.earlier_record(job_id, etag)
        except RecordUnreadable as fault:
            log.warning("%s", fault)
            self.unreadable += 1
            return None
        if isinstance(record, DoneJob):
            return row_of_done(record, etag, self._destination)
        return None if record is None else row_of_failed(record, etag, self._destination)

    def _read_open(self) -> None:
        self.database.run("CREATE TABLE underway AS SELECT * FROM history WHERE false")

        def row(entry_id: str) -> Row | None:
            try:
                held = self._ledger.read(entry_id)
            except RecordUnreadable:
                self.unreadable += 1
                return None
            if held is None or held.job.closed is not None:
                return None
            return row_of_open(held.job, held.etag, self._destination)

        with ThreadPoolExecutor(_READERS) as pool:
            ids = (entry.id for entry in self._ledger.entries("open"))
            while some := list(islice(ids, _AT_ONCE)):
                self._insert(pool.map(row, some), "underway")

    def _insert(self, rows: Iterable[Row | None], table: str) -> None:
        file = self._folder / "rows.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            written = [lines.write(row.model_dump_json() + "\n") for row in rows if row is not None]
        if written:
            self.database.load_lines(file, table)
        file.unlink()

    def _make_current(self) -> None:
        run = self.database.run
        # An open record beside a done one is left if a worker dies between two writes.
        run("DELETE FROM underway WHERE id IN (SELECT id FROM listed WHERE state = 'done')")
        run("DELETE FROM listed WHERE state = 'failed' AND id IN (SELECT id FROM underway)")
        # All rows of the same version of a record are equal.
        run("CREATE TABLE chosen (number BIGINT)")
        for part in self.parts("h.id"):
            run(
                "INSERT INTO chosen SELECT min(h.rowid) FROM history h SEMI JOIN listed USING (id, etag) "
                f"WHERE {part} GROUP BY h.id"
            )
        counts = self.database.one(
            "SELECT (SELECT count(*) FROM history) AS rows, (SELECT count(*) FROM chosen) AS chosen"
        )
        only = "" if counts["rows"] == counts["chosen"] else " WHERE rowid IN (SELECT number FROM chosen)"
        run(f"CREATE VIEW current AS SELECT * FROM history{only}")

    def parts(self, column: str) -> Sequence[str]:
        """Return SQL conditions that partition the rows by id, so that grouping by id always fits in memory.

        Args:
            column: the name of the id column.
        """
        rows = int(self.database.one("SELECT count(*) AS n FROM history")["n"])
        parts = 1 + rows // _MOST_ROWS
        return [f"hash({column}) % {parts} = {part}" for part in range(parts)]

    def _save(self) -> None:
        """Merge the small files and the new rows into one file. The data is derived, so a failure loses nothing."""
        try:
            self._tell("saving the catalogue", 0, 0)
            self._write()
            for entry in [*self._small, *self._journals]:
                self._objects.remove(self._destination.bucket, entry.key, entry.etag)
        except Fault as fault:
            self.unsaved = str(fault)
            log.info("the catalogue could not be saved and is read from the ledger again next time: %s", fault)

    def _write(self) -> None:
        names = ", ".join(f'CAST(h."{name}" AS {kind}) AS "{name}"' for name, kind in COLUMNS_IN_FILES.items())
        # Rows of deleted records are kept, for example of results that were redone: their cost still counts.
        self.database.run("CREATE TABLE saving (number BIGINT)")
        for part in self.parts("h.id"):
            self.database.run(
                f"INSERT INTO saving SELECT min(h.rowid) FROM history h WHERE {part} AND NOT h.saved "
                "AND NOT EXISTS (SELECT 1 FROM history s WHERE s.saved AND s.id = h.id AND s.etag = h.etag) "
                "GROUP BY h.id, h.etag"
            )
        total = int(self.database.one("SELECT count(*) AS n FROM saving")["n"])
        for first in range(0, total, _MOST_ROWS):
            file = self._folder / "saved.parquet"
            some = f"SELECT number FROM saving ORDER BY number LIMIT {_MOST_ROWS} OFFSET {first}"
            self.database.write_parquet(f"SELECT {names} FROM history h WHERE h.rowid IN ({some})", file)
            key = f"{self._base}{ROWS_FOLDER}{uuid.uuid4().hex}{ROWS_ENDING}"
            self._objects.put_file(self._destination.bucket, key, file, {}, _PARQUET, over=None)
            file.unlink()


@contextmanager
def open_catalogue(
    objects: ObjectStore, destination: Location, tell: Tell = _tell_nobody, most: int | None = None
) -> Iterator[Catalogue]:
    """Open the catalogue of a ledger and bring it up to date.

    Args:
        objects: the store.
        destination: the location of the results and the ledger.
        tell: receives progress.
        most: a limit; if more records than this would have to be read, none is. See `Catalogue.unread`.

    Raises:
        SetupFault: DuckDB is not installed, or the ledger cannot be read.
        TransientFault: the ledger cannot be read now.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(scratch_folder())
        database = opened.enter_context(Database(folder))
        catalogue = Catalogue(objects, destination, database, folder, tell)
        with room_in(folder):
            catalogue.refresh(most)
            yield catalogue


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Translate the database's errors about memory and disk space.

    Args:
        folder: the database's folder.

    Raises:
        SetupFault: a query ran out of memory or disk space.
    """
    import duckdb

    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        first = str(error).partition("\n")[0]
        raise SetupFault(
            f"the catalogue has no room in {folder.parent} ({first}): free some space there, or set TMPDIR "
            "to another folder"
        ) from error
