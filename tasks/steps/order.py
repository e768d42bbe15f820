"""The order in which new documents are sent: as listed, or sorted on disk, so that memory does not grow."""

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.backfills.record import Order
from tasks.job.record import Document
from tasks.scratch import process_folder

_SORTED_BY = {"oldest": "written, key", "newest": "written DESC, key", "smallest": "size, key"}


def ordered(documents: Iterator[Document | None], order: Order) -> Iterator[Document | None]:
    """The documents in an order.

    Args:
        documents: taken lazily where the order is that of the listing, else all at once, into a temporary file. None
            stands for one that is not new.
        order: which.
    """
    if order == "listed":
        yield from documents
        return
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
        database = sqlite3.connect(Path(folder) / "order.sqlite", check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous=OFF")
            database.execute("CREATE TABLE found (written REAL, size INTEGER, key TEXT, document TEXT)")
            rows = (
                (document.last_modified.timestamp(), document.size, document.key, document.model_dump_json())
                for document in documents
                if document is not None
            )
            database.executemany("INSERT INTO found VALUES (?, ?, ?, ?)", rows)
            query = f"SELECT document FROM found ORDER BY {_SORTED_BY[order]}"  # one of three constants
            for (found,) in database.execute(query):
                yield Document.model_validate_json(found)
        finally:
            database.close()
