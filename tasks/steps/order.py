"""The order in which new documents are sent: as listed, or sorted on disk, so that memory does not grow."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.backfills.record import Order
from tasks.job.record import Document
from tasks.scratch import process_folder, scratch_database

_SORTED_BY = {"oldest": "written, key", "newest": "written DESC, key", "smallest": "size, key"}


def ordered(documents: Iterator[Document | None], order: Order) -> Iterator[Document | None]:
    """Yield the documents in the given order.

    Args:
        documents: consumed lazily in listing order; otherwise read completely into a temporary file. None stands for a
            document that is not new.
        order: the order.

    Yields:
        The documents. None for each that has no turn yet, so that the caller regains control while they are listed.
    """
    if order == "listed":
        yield from documents
        return
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
        database = scratch_database(Path(folder) / "order.sqlite")
        try:
            database.execute("CREATE TABLE documents (written REAL, size INTEGER, key TEXT, document TEXT)")
            for document in documents:
                if document is not None:
                    written, body = document.last_modified.timestamp(), document.model_dump_json()
                    row = (written, document.size, document.key, body)
                    database.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", row)
                yield None
            query = f"SELECT document FROM documents ORDER BY {_SORTED_BY[order]}"  # one of three constants
            for (document_json,) in database.execute(query):
                yield Document.model_validate_json(document_json)
        finally:
            database.close()
