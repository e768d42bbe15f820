"""The catalogue's database: rows in a temporary file on disk, queried with SQL. The only module that uses DuckDB.

DuckDB reads and writes Parquet, spills to disk when sorting and grouping exceed its memory limit, and is a single wheel
without dependencies. docs/catalogue.md names the alternatives.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.faults import SetupFault

MEMORY_MB = 768
_FETCHED = 1000

_SPEND = (
    'STRUCT("at" TIMESTAMP, pages INTEGER, accepted BOOLEAN, run VARCHAR, price DOUBLE, request VARCHAR, '
    "possible_duplicates INTEGER, number INTEGER)[]"
)
# The fields of `row.Row`, in the same order. Times are UTC, without a time zone.
COLUMNS: Mapping[str, str] = {
    "id": "VARCHAR",
    "etag": "VARCHAR",
    "state": "VARCHAR",
    "document": "VARCHAR",
    "bucket": "VARCHAR",
    "key": "VARCHAR",
    "version": "VARCHAR",
    "size": "BIGINT",
    "modified_at": "TIMESTAMP",
    "result": "VARCHAR",
    "path": "VARCHAR",
    "prefix": "VARCHAR",
    "model": "VARCHAR",
    "answer_schema": "VARCHAR",
    "text_layers": "VARCHAR",
    "run": "VARCHAR",
    "backfill": "VARCHAR",
    "claimed_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP",
    "pages": "INTEGER",
    "words": "BIGINT",
    "blank_pages": "INTEGER",
    "confidence_min": "DOUBLE",
    "confidence_mean": "DOUBLE",
    "confidence_bins": "BIGINT[]",
    "pages_from_api": "INTEGER",
    "pages_reused": "INTEGER",
    "pages_from_text_layer": "INTEGER",
    "billed_pages": "INTEGER",
    "pages_sent": "INTEGER",
    "pages_lost": "INTEGER",
    "requests": "INTEGER",
    "possible_duplicates": "INTEGER",
    "cost": "DOUBLE",
    "possible_cost": "DOUBLE",
    "waiting_seconds": "DOUBLE",
    "api_seconds": "DOUBLE",
    "collecting_seconds": "DOUBLE",
    "total_seconds": "DOUBLE",
    "superseded": "BOOLEAN",
    "copied_from": "VARCHAR",
    "code": "VARCHAR",
    "reason": "VARCHAR",
    "retry_helps": "BOOLEAN",
    "spends": _SPEND,
}
TIME_COLUMNS = tuple(name for name, kind in COLUMNS.items() if kind == "TIMESTAMP")
# In files, times have a time zone: readers would take them for local ones. Files of earlier versions have none.
COLUMNS_IN_FILES: Mapping[str, str] = {
    name: kind.replace("TIMESTAMP", "TIMESTAMP WITH TIME ZONE") for name, kind in COLUMNS.items()
}


class Database:
    """Tables on disk, with a memory limit. Not thread-safe.

    Args:
        folder: for the database and for data that does not fit in memory.

    Raises:
        SetupFault: DuckDB is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise SetupFault(
                "the catalogue needs DuckDB, which is not installed: "
                "pip install --constraint constraints.txt '.[catalogue]'"
            ) from error
        self._folder = folder
        self._connection = duckdb.connect(
            str(folder / "catalogue.duckdb"),
            config={
                "memory_limit": f"{MEMORY_MB}MB",
                "temp_directory": str(folder / "spilled"),
                "threads": 2,
                "preserve_insertion_order": False,
                # A query must not download anything.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self.run("SET TimeZone = 'UTC'")
        columns = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
        self.run(f"CREATE TABLE history ({columns}, saved BOOLEAN)")
        for table in ("listed_before", "listed", "earlier"):
            self.run(f"CREATE TABLE {table} (id VARCHAR, etag VARCHAR, state VARCHAR)")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement."""
        self._connection.execute(sql, list(parameters))

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of a query, fetched as needed. No other statement may run until the last one is taken.

        Times have the time zone UTC, which the columns themselves do not have.
        """
        cursor = self._connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description or ()]
        times = [column[0] for column in cursor.description or () if str(column[1]) == "TIMESTAMP"]
        while fetched := cursor.fetchmany(_FETCHED):
            for values in fetched:
                row = dict(zip(names, values, strict=True))
                for name in times:
                    if row[name] is not None:
                        row[name] = row[name].replace(tzinfo=UTC)
                yield row

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any]:
        """Return the only row of a query."""
        return next(self.rows(sql, parameters))

    def load_parquet(self, file: Path, *, saved: bool) -> None:
        """Load the rows of a catalogue file into the history. Columns missing in the file are NULL.

        Times may have a time zone or, in files of earlier versions, be UTC without one.

        Args:
            file: the file.
            saved: whether the rows remain in their file. If not, they are saved again.
        """
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        self.run("CREATE OR REPLACE TEMP VIEW loaded AS SELECT * FROM history WHERE false")
        self.run(
            f"INSERT INTO history ({names}, saved) SELECT {names}, ? FROM "
            "(SELECT * FROM loaded UNION ALL BY NAME SELECT * FROM read_parquet(?))",
            [saved, str(file)],
        )

    def load_lines(self, file: Path, table: str = "history") -> None:
        """Load rows from JSON lines, compressed or not, into a table. Invalid lines are skipped."""
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        self.run(
            f"INSERT INTO {table} ({names}, saved) SELECT {names}, false FROM "
            f"read_json(?, format = 'newline_delimited', columns = {{{columns}}}, ignore_errors = true) "
            "WHERE id IS NOT NULL",
            [str(file)],
        )

    def load_listing(self, file: Path, table: str) -> None:
        """Load a listing of the ledger into a table: tab-separated id, ETag and state."""
        self.run(
            f"INSERT INTO {table} SELECT * FROM read_csv(?, delim = '\t', header = false, quote = '', escape = '', "
            "auto_detect = false, "
            "columns = {'id': 'VARCHAR', 'etag': 'VARCHAR', 'state': 'VARCHAR'})",
            [str(file)],
        )

    def write_parquet(self, query: str, file: Path) -> int:
        """Write the rows of a query to a Parquet file. Returns the number of rows."""
        cursor = self._connection.execute(f"COPY ({query}) TO '{_quoted(file)}' (FORMAT parquet, COMPRESSION zstd)")
        row = cursor.fetchone()
        return int(row[0]) if row else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def _quoted(file: Path) -> str:
    return str(file).replace("'", "''")
