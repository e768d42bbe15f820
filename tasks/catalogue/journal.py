"""Rows of documents that were just published, on their way into the catalogue: one small object for many documents.

It only saves reading: what is not in a journal, because a process was killed, is read from the ledger by whoever brings
the catalogue up to date. Needs no database, so that a worker needs none.
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
    """Gathers the rows of one process. Safe between threads; it never raises.

    Args:
        objects: the store.
        bucket: the ledger's.
        folder: the ledger's key prefix.
    """

    def __init__(self, objects: ObjectStore, bucket: str, folder: str) -> None:
        self._objects = objects
        self._bucket = bucket
        self._folder = f"{folder}{JOURNAL_FOLDER}"
        self._rows: list[bytes] = []
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        """Add a row; many together are written as one object."""
        line = row.model_dump_json().encode() + b"\n"
        with self._lock:
            self._rows.append(line)
            full = self._take() if len(self._rows) >= _MOST_ROWS else ()
        if full:
            self._write(full)

    def close(self) -> None:
        """Write what is left; where many small journals have come together, make them one."""
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
        """Gzip files one after the other are a gzip file. A row that two mergers took over counts once all the same."""
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
