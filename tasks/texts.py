"""Plain texts beside results that were published before anybody asked for them. Costs no page."""

import logging
from collections.abc import Iterator

from tasks.documents.reading import write_text
from tasks.faults import DocumentFault, DocumentMoved
from tasks.publish import is_result
from tasks.session import Session
from tasks.store.location import LEDGER_FOLDER, result_suffix, text_key
from tasks.store.object_store import TEXT

log = logging.getLogger(__name__)


def write_missing_texts(session: Session) -> int:
    """Write the text beside every result of this model and schema that has none. Returns how many were written.

    Raises:
        MomentFault, SetupFault: S3 could not be read or written.
    """
    bucket, written = session.destination.bucket, 0
    for key in _without_text(session):
        there = session.objects.head(bucket, key)
        if there is None or not is_result(there):
            continue
        with session.scratch() as folder:
            try:
                session.objects.fetch(bucket, key, there.etag, folder / "result")
                write_text(folder / "result", folder / "text")
            except DocumentMoved:  # published anew meanwhile, by a run that writes the text, or the next one does
                continue
            except DocumentFault as fault:
                log.warning("s3://%s/%s: no text was made of it: %s", bucket, key, fault)
                continue
            text = folder / "text"
            written += session.objects.put_file(bucket, text_key(key), text, there.metadata, TEXT, over=None)
    return written


def _without_text(session: Session) -> Iterator[str]:
    """The results without a text, from the listing alone: the two lie close together in the order of keys."""
    suffix, ledger = result_suffix(session.options.model, session.options.answer_schema), LEDGER_FOLDER
    waiting: list[str] = []
    for entry in session.objects.list(session.destination.bucket, session.destination.prefix):
        yield from (key for key in waiting if text_key(key) < entry.key)
        waiting = [key for key in waiting if text_key(key) > entry.key]
        if entry.key.endswith(suffix) and not entry.key.startswith(session.destination.key(ledger)):
            waiting.append(entry.key)
    yield from waiting
