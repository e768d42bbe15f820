"""Step 1: find the documents of the source that are meant, and tell which are new.

They come from a listing, from keys that somebody names, or from an inventory; what follows is the same for all.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

from tasks.faults import CredentialsRefused, DocumentFault, SetupFault
from tasks.models import Document
from tasks.publish import result_is_of_another_version
from tasks.session import Session
from tasks.store.known import KnownJobs
from tasks.store.ledger import State
from tasks.store.listings import Once, inventory_entries, is_address, manifest_keys, object_address, storable
from tasks.store.location import LEDGER_FOLDER, looks_like_result
from tasks.store.object_store import Entry

LISTED = 100  # of the documents that are missing

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """A document of the source, and how its job stood when the ledger was last listed (None: no job yet)."""

    document: Document
    job_id: str
    state: State | None


@dataclass
class Missing:
    """Documents that were named, but do not exist or lie outside the source: how many, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, uri: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(uri)


def discover(
    session: Session,
    known: KnownJobs,
    missing: Missing | None = None,
    *,
    named: Iterable[tuple[str, str]] | None = None,
    refused: Callable[[str, SetupFault], None] | None = None,
    look_only: bool = False,
) -> Iterator[Found]:
    """The documents of the run's selection and shard, lazily: memory does not grow with their number.

    Args:
        session: the tools.
        known: what the ledger knows.
        missing: takes up what was named and is not there.
        named: the documents to look at, as bucket and key, where it is not the selection that says which.
        refused: gets the key of a named document that may not be looked at, and why; raised when left out.
        look_only: change nothing in the ledger.

    Raises:
        SetupFault: the source, the manifest or the inventory cannot be read.
    """
    source, selection = session.source, session.settings.selection
    missing = Missing() if missing is None else missing
    for entry in _objects(session, missing) if named is None else _named(session, named, missing, refused):
        relative = source.relative(entry.key)
        if _is_no_document(session, entry.key) or not selection.takes(relative, entry.size, entry.last_modified):
            continue
        document = Document(
            bucket=source.bucket,
            key=entry.key,
            etag=entry.etag,
            size=entry.size,
            last_modified=entry.last_modified,
        )
        identity = session.job_id(document)
        if not session.is_ours(identity):
            continue
        state = known.look(identity)
        if known.done_before(identity, document.last_modified) and _restored(session, document, identity):
            if not look_only:
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


def _objects(session: Session, missing: Missing) -> Iterator[Entry]:
    source, selection = session.source, session.settings.selection
    if selection.inventory is not None:
        with session.scratch() as folder:
            yield from inventory_entries(session.objects, selection.inventory, source.bucket, source.prefix, folder)
    elif selection.manifest is not None:
        with session.scratch() as folder:
            named = manifest_keys(session.objects, selection.manifest, source.bucket, folder)
            yield from _named(session, named, missing)
    elif selection.key:
        named = (object_address(key) if is_address(key) else (source.bucket, key) for key in selection.key)
        yield from _named(session, named, missing)
    else:
        yield from _listed(session, selection.folders())


def _listed(session: Session, folders: Iterable[str]) -> Iterator[Entry]:
    source = session.source
    empty = True
    for folder in folders:
        for entry in session.objects.list(source.bucket, source.key(folder)):
            empty = False
            yield entry
    if empty and source.prefix:
        # The source may name one document instead of a folder.
        single = session.objects.head(source.bucket, source.prefix.rstrip("/"))
        if single is not None:
            yield single


def _named(
    session: Session,
    named: Iterable[tuple[str, str]],
    missing: Missing,
    refused: Callable[[str, SetupFault], None] | None = None,
) -> Iterator[Entry]:
    """Look at each of the documents that are named."""
    objects, bucket = session.objects, session.source.bucket

    def look(key: str) -> Entry | None:
        try:
            return objects.head(bucket, key)
        except SetupFault as fault:
            if refused is None or isinstance(fault, CredentialsRefused):
                raise
            refused(key, fault)
            return None

    keys = _worth_a_look(session, named, missing)
    for key, entry in several(look, keys, session.options.workers):
        if entry is None:
            missing.add(f"s3://{bucket}/{key}")
        else:
            yield entry


def _worth_a_look(session: Session, named: Iterable[tuple[str, str]], missing: Missing) -> Iterator[str]:
    """The keys that are in the source and that the selection takes by name, each once."""
    source = session.source
    with session.scratch() as folder, closing(Once(folder)) as once:
        for bucket, key in named:
            if not once.first(f"{bucket}/{key}"):
                continue
            if bucket != source.bucket or not storable(key) or not is_in_source(session, key):
                missing.add(f"s3://{bucket}/{key}")
            elif session.settings.selection.takes_name(source.relative(key)) and not _is_no_document(session, key):
                yield key


def is_in_source(session: Session, key: str) -> bool:
    """Whether a key of the source's bucket lies in the source."""
    source = session.source
    if key.startswith(source.prefix):
        return True
    # As in a listing: the source is this document, unless it is a folder.
    itself = key == source.prefix.rstrip("/")
    return itself and next(session.objects.list(source.bucket, source.prefix), None) is None


def _is_no_document(session: Session, key: str) -> bool:
    """Markers of folders are no documents, nor are results and ledger records, where they lie within the source."""
    if key.endswith("/"):
        return True
    destination = session.destination
    if session.source.bucket != destination.bucket or not key.startswith(destination.prefix):
        return False
    if destination.prefix.startswith(session.source.prefix) and destination.prefix != session.source.prefix:
        return True
    return key.startswith(destination.key(LEDGER_FOLDER)) or looks_like_result(key)


def several(work: Callable[[Item], Value], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Value]]:
    """Work on items several at a time and give the results in order, taking items no further ahead than needed."""
    pending: deque[tuple[Item, Future[Value]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) == 2 * threads:
                    oldest, result = pending.popleft()
                    yield oldest, result.result()
            for item, result in pending:
                yield item, result.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
