"""Step 1: list the documents of the source and tell which are new."""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.faults import DocumentFault
from tasks.models import Document
from tasks.publish import result_is_of_another_version
from tasks.session import Session
from tasks.store.known import KnownJobs
from tasks.store.ledger import State
from tasks.store.location import LEDGER_FOLDER, looks_like_result
from tasks.store.objects import Entry


@dataclass(frozen=True)
class Found:
    """A document of the source, and how its job stood when the ledger was last listed (None: no job yet)."""

    document: Document
    job_id: str
    state: State | None


def discover(session: Session, known: KnownJobs) -> Iterator[Found]:
    """List the source, lazily: memory does not grow with the number of documents."""
    source = session.source
    for entry in _objects(session):
        if _is_ours(session, entry.key) or entry.key.endswith("/"):
            continue
        document = Document(
            bucket=source.bucket,
            key=entry.key,
            etag=entry.etag,
            size=entry.size,
            last_modified=entry.last_modified,
        )
        identity = session.job_id(document)
        state = known.state(identity)
        if known.done_before(identity, document.last_modified) and _restored(session, document, identity):
            session.ledger.forget_done(identity)
            state = None
        yield Found(document, identity, state)


def _restored(session: Session, document: Document, identity: str) -> bool:
    """Whether an old version was put back over a newer one, whose result has replaced its own since."""
    try:
        result = session.result_key(document)
    except DocumentFault:
        return False
    return result_is_of_another_version(session, result, identity)


def _objects(session: Session) -> Iterator[Entry]:
    source = session.source
    empty = True
    for entry in session.objects.list(source.bucket, source.prefix):
        empty = False
        yield entry
    if empty and source.prefix:
        # The source may name one document instead of a folder.
        single = session.objects.head(source.bucket, source.prefix.rstrip("/"))
        if single is not None:
            yield single


def _is_ours(session: Session, key: str) -> bool:
    """Results and ledger records are no documents, where the destination lies within the source."""
    destination = session.destination
    if session.source.bucket != destination.bucket or not key.startswith(destination.prefix):
        return False
    if destination.prefix.startswith(session.source.prefix) and destination.prefix != session.source.prefix:
        return True
    return key.startswith(destination.key(LEDGER_FOLDER)) or looks_like_result(key)
