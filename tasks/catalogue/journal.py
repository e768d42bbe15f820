"""Journals: the catalogue rows of newly published documents, many to one small object.

A journal only saves reads. Rows that are missing because a process was killed are read from the ledger at the
catalogue's next refresh. Writing one needs no database, so workers need none.
"""

import gzip
import logging
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress

from tasks.catalogue.row import Row
from tasks.faults import Fault
from tasks.store.object_store import Entry, ObjectStore

CATALOGUE_FOLDER = "catalogue/"
JOURNAL_FOLDER = f"{CATALOGUE_FOLDER}journal/"
JOURNAL_ENDING = ".jsonl.gz"

log = logging.getLogger(__name__)

_MOST_ROWS = 2000  # in memory, about 4 MB
_MOST_JOURNALS = 50  # a scheduled collect leaves one each minute at most
_LARGE = 2_000_000  # bytes; larger ones are left as they are


class Journal:
    """Collects the rows of one process and writes them. Thread-safe. Faults are logged, not raised.

    Args:
        objects: the store.
        bucket: the ledger's bucket.
        folder: the ledger's key prefix.
    """

    def __init__(self, objects: ObjectStore, bucket: str, folder: str) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = f"{folder}{JOURNAL_FOLDER}"
        self._rows: list[bytes] = []
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        """Add a row, and write the collected rows as one object when there are enough."""
        line = row.model_dump_json().encode() + b"\n"
        with self._lock:
            self._rows.append(line)
            full = self._take() if len(self._rows) >= _MOST_ROWS else ()
        if full:
            self._write(full)

    def close(self) -> None:
        """Write the remaining rows, and merge small journals if there are many."""
        with self._lock:
            unwritten = self._take()
        if unwritten and self._write(unwritten):
            try:
                self._merge()
            except Fault as fault:
                log.info("the journals of the catalogue were not merged: %s", fault)

    def _take(self) -> Sequence[bytes]:
        rows, self._rows = self._rows, []
        return rows

    def _write(self, rows: Sequence[bytes]) -> bool:
        try:
            return self._create(gzip.compress(b"".join(rows), 6))
        except Fault as fault:
            log.info(
                "%d rows of the catalogue were not written, and will be read from the ledger: %s", len(rows), fault
            )
            return False

    def _create(self, body: bytes) -> bool:
        return self._objects.create(self._bucket, f"{self._folder}{uuid.uuid4().hex}{JOURNAL_ENDING}", body) is not None

    def _merge(self) -> None:
        """Merge small journals into one by concatenation: concatenated gzip files are a valid gzip file.

        Two processes may merge the same journals; duplicate rows do no harm.
        """
        small: list[Entry] = [
            entry
            for entry in self._objects.list(self._bucket, self._folder)
            if entry.key.endswith(JOURNAL_ENDING) and entry.size < _LARGE
        ]
        if len(small) < _MOST_JOURNALS:
            return
        merged = []
        body = bytearray()
        for entry in small:
            stored = self._objects.get(self._bucket, entry.key)
            if stored is not None and stored.etag == entry.etag:
                body += stored.body
                merged.append(entry)
        if self._create(bytes(body)):
            for entry in merged:
                with suppress(Fault):
                    self._objects.remove(self._bucket, entry.key, entry.etag)
