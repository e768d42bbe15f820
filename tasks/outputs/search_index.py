"""A full-text index of results in one SQLite file, updated as results are added, changed and removed.

It can be read with plain SQL: `results` has a row for each result, `pages` a row with the text of each page, and
`page_terms` is the FTS5 table of the terms from `tasks.outputs.search_terms`, with the row ids of `pages`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from tasks.documents.results.read import read_texts
from tasks.faults import EndsDocument, SetupFault
from tasks.outputs.results import ResultFile, Results, read_ahead, storable
from tasks.outputs.search_terms import TERMS_VERSION, indexed_text

_APPLICATION = 0x6F63_7269  # "ocri": distinguishes an index from other SQLite databases
_SCHEMA = """
CREATE TABLE places (id INTEGER PRIMARY KEY, address TEXT UNIQUE NOT NULL, indexed_at TEXT);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, place INTEGER NOT NULL REFERENCES places, address TEXT NOT NULL, version TEXT NOT NULL,
    document TEXT NOT NULL, pages INTEGER NOT NULL, UNIQUE (place, address)
);
CREATE TABLE pages (
    id INTEGER PRIMARY KEY, result INTEGER NOT NULL REFERENCES results, number INTEGER NOT NULL, text TEXT NOT NULL,
    UNIQUE (result, number)
);
CREATE VIRTUAL TABLE page_terms USING fts5 (
    terms, content = '', tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
);
"""
_PATIENCE = 60.0  # seconds to wait for another process that is writing
_CACHE_KB = 16_384
_MOST_SKIPPED = 20  # named in the summary; all of them are counted


@dataclass
class IndexChanges:
    """The outcome of updating an index.

    Attributes:
        added: results that are new.
        changed: results of which it had another version.
        removed: results that no longer exist.
        unchanged: results that were already in it.
        pages: pages read in this update.
        skipped: the first results that could not be read, as address and reason.
        skipped_count: the number of results that could not be read. The next update tries them again.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    pages: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_count: int = 0

    def skip(self, result: ResultFile, why: EndsDocument) -> None:
        """Count a result that could not be read."""
        self.skipped_count += 1
        if len(self.skipped) < _MOST_SKIPPED:
            self.skipped[result.address] = str(why)


class SearchIndex:
    """The index in a file. Use it as a context manager.

    Args:
        file: the SQLite database.
        create: open the file for writing, create it if missing, and wait for other writers; otherwise it is read-only.

    Raises:
        SetupFault: it is not an index, has another version, or cannot be opened.
    """

    def __init__(self, file: Path, *, create: bool = False) -> None:
        self.file = file
        self._writes = create
        with _explained(file):
            if create:
                self._database = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)
                self._prepare()
            else:
                self._database = sqlite3.connect(
                    f"{file.resolve().as_uri()}?mode=ro", timeout=_PATIENCE, isolation_level=None, uri=True
                )
                self._check(self._number("application_id"), self._number("user_version"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # not possible while another process reads, and not required
            if self._writes:
                self._database.execute("PRAGMA journal_mode = DELETE")  # a single file again, which can be copied
        self._database.close()

    def places(self) -> dict[str, str | None]:
        """Return the indexed places, each with the time of its last complete update (ISO 8601), or None."""
        with _explained(self.file):
            return dict(self._database.execute("SELECT address, indexed_at FROM places ORDER BY address"))

    def counts(self) -> tuple[int, int]:
        """Return the number of results and of pages."""
        with _explained(self.file):
            results, pages = self._database.execute("SELECT count(*), coalesce(sum(pages), 0) FROM results").fetchone()
            return int(results), int(pages)

    def matches(self, expression: str, limit: int) -> Iterator[tuple[str, str, int, str]]:
        """Yield the pages that match an FTS5 expression, best first: document, result's address, page number, text."""
        with _explained(self.file):
            yield from self._database.execute(
                "SELECT results.document, results.address, pages.number, pages.text FROM page_terms "
                "JOIN pages ON pages.id = page_terms.rowid JOIN results ON results.id = pages.result "
                "WHERE page_terms MATCH ? ORDER BY page_terms.rank, pages.id LIMIT ?",
                (expression, limit),
            )

    def count_matches(self, expression: str) -> tuple[int, int]:
        """Return the number of results and of pages that match an FTS5 expression."""
        with _explained(self.file):
            results, pages = self._database.execute(
                "SELECT count(DISTINCT pages.result), count(*) FROM page_terms "
                "JOIN pages ON pages.id = page_terms.rowid WHERE page_terms MATCH ?",
                (expression,),
            ).fetchone()
            return int(results), int(pages)

    def update(
        self, results: Results, watch: Callable[[IndexChanges], None] = lambda _: None, threads: int = 8
    ) -> IndexChanges:
        """Bring the index up to date with a place: read new and changed results, and remove deleted ones.

        Each result is its own transaction, so an interrupted update can resume.

        Args:
            results: the results of the place.
            watch: called after every result that was read.
            threads: the number of concurrent downloads.

        Returns:
            What was changed.

        Raises:
            SetupFault, TransientFault: the place cannot be listed, or the file cannot be written.
        """
        changes = IndexChanges()
        with _explained(self.file):
            place = self._place(results.place)
            self._database.execute("CREATE TEMP TABLE IF NOT EXISTS seen (address TEXT PRIMARY KEY) WITHOUT ROWID")
            self._database.execute("DELETE FROM seen")

            def wanted(result: ResultFile) -> bool:
                address = storable(result.address)
                self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (address,))
                indexed = self._database.execute(
                    "SELECT version FROM results WHERE place = ? AND address = ?", (place, address)
                ).fetchone()
                if indexed == (result.version,):
                    changes.unchanged += 1
                    return False
                return True

            for result, file in read_ahead(results, threads, wanted):
                self._take(place, result, file, changes)
                watch(changes)
            changes.removed = self._forget_unseen(place)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._database.execute("UPDATE places SET indexed_at = ? WHERE id = ?", (now, place))
        return changes

    def _take(self, place: int, result: ResultFile, file: Path | EndsDocument, changes: IndexChanges) -> None:
        """Add a result to the index, replacing an earlier version."""
        with self._transaction():
            before = self._database.execute(
                "SELECT id FROM results WHERE place = ? AND address = ?", (place, storable(result.address))
            ).fetchone()
            if before is not None:
                self._forget(before[0])
            if isinstance(file, EndsDocument):
                changes.skip(result, file)
                return
            self._database.execute("SAVEPOINT result")
            try:
                pages = self._add(place, result, file)
            except EndsDocument as fault:
                self._database.execute("ROLLBACK TO result")
                changes.skip(result, fault)
                return
        changes.pages += pages
        if before is None:
            changes.added += 1
        else:
            changes.changed += 1

    def _add(self, place: int, result: ResultFile, file: Path) -> int:
        row = self._database.execute(
            "INSERT INTO results (place, address, version, document, pages) VALUES (?, ?, ?, ?, 0)",
            (place, storable(result.address), result.version, storable(result.document)),
        ).lastrowid
        number = 0
        for number, page_text in enumerate(read_texts(file), 1):
            text = page_text.replace("\0", " ")  # SQLite's functions treat it as the end of the text
            page_row = self._database.execute(
                "INSERT INTO pages (result, number, text) VALUES (?, ?, ?)", (row, number, text)
            ).lastrowid
            if terms := indexed_text(text):
                self._database.execute("INSERT INTO page_terms (rowid, terms) VALUES (?, ?)", (page_row, terms))
        self._database.execute("UPDATE results SET pages = ? WHERE id = ?", (number, row))
        return number

    def _forget(self, result: int) -> None:
        """Remove a result. FTS5 does not store the terms, so they have to be supplied again."""
        for page, text in self._database.execute("SELECT id, text FROM pages WHERE result = ?", (result,)):
            if terms := indexed_text(text):
                self._database.execute(
                    "INSERT INTO page_terms (page_terms, rowid, terms) VALUES ('delete', ?, ?)", (page, terms)
                )
        self._database.execute("DELETE FROM pages WHERE result = ?", (result,))
        self._database.execute("DELETE FROM results WHERE id = ?", (result,))

    def _forget_unseen(self, place: int) -> int:
        removed = self._database.execute(
            "SELECT id FROM results WHERE place = ? AND address NOT IN (SELECT address FROM seen)", (place,)
        ).fetchall()
        for (result,) in removed:
            with self._transaction():
                self._forget(result)
        return len(removed)

    def _place(self, address: str) -> int:
        self._database.execute("INSERT OR IGNORE INTO places (address) VALUES (?)", (storable(address),))
        row = self._database.execute("SELECT id FROM places WHERE address = ?", (storable(address),)).fetchone()
        return int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _prepare(self) -> None:
        with self._transaction():
            application, version = self._number("application_id"), self._number("user_version")
            tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables and not application:
                for statement in _SCHEMA.strip().split(";\n"):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._database.execute(f"PRAGMA user_version = {TERMS_VERSION}")
            else:
                self._check(application, version)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KB}")

    def _check(self, application: int, version: int) -> None:
        if application != _APPLICATION:
            raise SetupFault(f"{self.file} is a database, but not an index of results: name another file")
        if version != TERMS_VERSION:
            raise SetupFault(
                f"the index {self.file} was made by another version of this program: delete it and index again"
            )

    def _number(self, pragma: str) -> int:
        return int(self._database.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if not file.parent.is_dir():
            advice = f"there is no folder {file.parent}: create it, or name another file"
        elif not file.exists():
            advice = "index first: bulk-ocr index DESTINATION"
        elif "fts5" in str(error):
            advice = "this Python's SQLite has no full-text search: use one that has FTS5"
        elif "locked" in str(error):
            advice = "another process has been writing to it for a minute: wait until it ends"
        elif isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            advice = "it is not an index of results: name another file"
        else:
            advice = "make room, or delete it and index again"
        raise SetupFault(f"the index {file} cannot be used ({error}): {advice}") from error
