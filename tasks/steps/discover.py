"""Step 1: find the selected documents of the source, and determine which are new.

They come from a listing, from given keys, or from an inventory; all are processed in the same way.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tasks.context import RunContext
from tasks.faults import Cancelled, DocumentFault, ObjectRefused
from tasks.job.record import Document
from tasks.steps.beside import is_result
from tasks.steps.publish import result_is_of_another_version
from tasks.store.ledger import State
from tasks.store.listings import Once, inventory_entries, is_address, manifest_keys, object_address, storable
from tasks.store.location import LEDGER_FOLDER, is_marker, is_output, may_be_output
from tasks.store.object_store import Entry
from tasks.tally import KnownJobs

LISTED = 100  # of the missing documents
_DEEPEST = 5  # maximum depth of the search for folders at which a listing can be divided
_LOOKS_AT_ONCE = 32  # concurrent look-ups of named documents: each is a call, which mostly waits

Refused = Callable[[str, ObjectRefused], None]
"""Receives the key of a document that may not be read, and the reason."""

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """A document of the source, and its job's state when the ledger was last listed (None: no job yet)."""

    document: Document
    job_id: str
    state: State | None


@dataclass
class Missing:
    """Named documents that do not exist, are outside the source, or may not be read.

    Attributes:
        count: their number.
        first: the first of them, with the reason if there is one.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, uri: str, reason: str = "") -> None:
        """Add a missing document."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(f"{uri}: {reason}" if reason else uri)

    def refused_by(self, bucket: str) -> Refused:
        """Return a callback that counts unreadable documents of a bucket as missing, with the reason."""
        return lambda key, fault: self.add(f"s3://{bucket}/{key}", str(fault))


def discover(
    context: RunContext,
    known: KnownJobs,
    missing: Missing | None = None,
    *,
    named: Iterable[tuple[str, str]] | None = None,
    refused: Refused | None = None,
    look_only: bool = False,
    looked: Callable[[], object] = lambda: None,
) -> Iterator[Found]:
    """Yield the documents of the run's selection and shard lazily: memory does not grow with their number.

    Args:
        context: the run's context.
        known: the jobs in the ledger.
        missing: collects named documents that do not exist.
        named: the documents to look up, as bucket and key, instead of those of the selection.
        refused: called with the key of a named document that may not be read, and why. By default, it is missing.
        look_only: change nothing in the ledger.
        looked: called for every object that was considered, selected or not, to show progress.

    Raises:
        SetupFault: the source, the manifest or the inventory cannot be read.
        Cancelled: the run is being ended.
    """
    source, selection = context.source, context.settings.selection
    missing = Missing() if missing is None else missing
    turned_away = refused or missing.refused_by(context.source.bucket)
    objects = _objects(context, missing, turned_away) if named is None else _named(context, named, missing, turned_away)
    for entry in objects:
        looked()
        if context.clock.ended:
            raise Cancelled("the run is shutting down; nothing more is listed")
        if entry is None:
            continue
        relative = source.relative(entry.key)
        # A document that is named explicitly is selected, whatever it looks like.
        size = None if selection.key else entry.size
        if _is_no_document(context, entry.key, size) or not selection.takes(relative, entry.size, entry.last_modified):
            continue
        if may_be_output(entry.key) and _is_searchable_pdf(context, entry):
            continue
        document = Document(
            bucket=source.bucket,
            key=entry.key,
            etag=entry.etag,
            size=entry.size,
            last_modified=entry.last_modified,
        )
        identity = context.job_id(document)
        if not context.is_ours(identity):
            continue
        state = known.look(identity)
        if known.done_before(identity, document.last_modified):
            # Read before the result is looked up: a newer record may be another run's.
            record_entry = context.ledger.entry("done", identity)
            if record_entry is not None and _restored(context, document, identity):
                state = None if look_only or context.ledger.forget_done(identity, record_entry.etag) else state
        yield Found(document, identity, state)


def _restored(context: RunContext, document: Document, identity: str) -> bool:
    """Whether an old version was restored over a newer one, whose result has replaced the old version's result."""
    try:
        result = context.result_key(document)
    except DocumentFault:
        return False
    return result_is_of_another_version(context, result, identity)


def _objects(context: RunContext, missing: Missing, refused: Refused) -> Iterator[Entry | None]:
    source, selection = context.source, context.settings.selection
    if selection.inventory is not None:
        with context.scratch() as folder:
            yield from inventory_entries(context.objects, selection.inventory, source.bucket, source.prefix, folder)
    elif selection.manifest is not None:
        with context.scratch() as folder:
            named = manifest_keys(context.objects, selection.manifest, source.bucket, folder)
            yield from _named(context, named, missing, refused)
    elif selection.key:
        named = (object_address(key) if is_address(key) else (source.bucket, key) for key in selection.key)
        yield from _named(context, named, missing, refused)
    else:
        yield from _listed(context, selection.folders(), refused)


def _listed(context: RunContext, folders: Iterable[str], refused: Refused) -> Iterator[Entry]:
    source = context.source
    empty = True
    for folder in folders:
        prefix = source.key(folder)
        for entry in context.objects.list(source.bucket, prefix, divide=partial(_folders, context, prefix)):
            empty = False
            yield entry
    if empty and source.prefix:
        # The source may be a single document instead of a folder.
        key = source.prefix.rstrip("/")
        try:
            single = context.objects.head(source.bucket, key, document=True)
        except ObjectRefused as fault:
            refused(key, fault)
            return
        if single is not None:
            yield single


def _folders(context: RunContext, prefix: str) -> list[str]:
    """Return the keys that divide a long listing: its folders, below any that contain only a single folder."""
    objects, bucket = context.objects, context.source.bucket
    for _ in range(_DEEPEST):
        names = objects.names(bucket, prefix)
        if len(names) != 1 or not names[0].endswith("/"):
            break
        prefix += names[0]
    return [prefix + name for name in names]


def _named(
    context: RunContext,
    named: Iterable[tuple[str, str]],
    missing: Missing,
    refused: Refused,
) -> Iterator[Entry | None]:
    """Look up each named document; yields None for one that needs no work."""
    objects, bucket = context.objects, context.source.bucket

    def look(key: str) -> Entry | ObjectRefused | None:
        try:
            return objects.head(bucket, key, document=True)
        except ObjectRefused as fault:
            return fault

    keys = _worth_a_look(context, named, missing)
    for key, looked_up in several(look, keys, _LOOKS_AT_ONCE, context.options.workers):
        if isinstance(looked_up, ObjectRefused):
            refused(key, looked_up)
        elif looked_up is None:
            missing.add(f"s3://{bucket}/{key}")
        yield looked_up if isinstance(looked_up, Entry) else None


def _worth_a_look(context: RunContext, named: Iterable[tuple[str, str]], missing: Missing) -> Iterator[str]:
    """Yield the keys that are in the source and that the selection accepts by name, each once."""
    source = context.source
    with context.scratch() as folder, closing(Once(folder)) as once:
        for bucket, key in named:
            if not once.first(f"{bucket}/{key}"):
                continue
            if bucket != source.bucket or not storable(key) or not is_in_source(context, key):
                missing.add(f"s3://{bucket}/{key}")
            elif context.settings.selection.takes_name(source.relative(key)) and not _is_no_document(context, key):
                yield key


def is_in_source(context: RunContext, key: str) -> bool:
    """Whether a key of the source's bucket is in the source."""
    source = context.source
    if key.startswith(source.prefix):
        return True
    # As in a listing: the source is this document, unless it is a folder.
    itself = key == source.prefix.rstrip("/")
    return itself and next(context.objects.list(source.bucket, source.prefix), None) is None


def _is_no_document(context: RunContext, key: str, size: int | None = None) -> bool:
    """Whether an object is not a document: a folder marker, or an output of this program for any destination."""
    if is_marker(key, size) or is_output(key):
        return True
    source, destination = context.source, context.destination
    if source.bucket != destination.bucket or not key.startswith(destination.prefix):
        return False
    if destination.prefix.startswith(source.prefix) and destination.prefix != source.prefix:
        return True
    return key.startswith(destination.key(LEDGER_FOLDER))


def _is_searchable_pdf(context: RunContext, entry: Entry) -> bool:
    """Whether this program wrote a PDF beside a result: shown by its metadata, not by its name."""
    try:
        described = context.objects.head(context.source.bucket, entry.key, document=True)
    except ObjectRefused:  # the step that fetches it reports this
        return False
    return described is not None and is_result(described)


def several(
    work: Callable[[Item], Value], items: Iterable[Item], threads: int, first: int | None = None
) -> Generator[tuple[Item, Value]]:
    """Process items concurrently and yield the results in order, taking items no further ahead than needed.

    Args:
        work: the function to apply to each item.
        items: the items, taken lazily.
        threads: the number of threads.
        first: how many items to take before the first result. Then two are taken per result, up to twice the number of
            threads ahead, so that a caller who needs only a few results does not pay for many.
    """
    pending: deque[tuple[Item, Future[Value]]] = deque()
    ahead = first or 2 * threads
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) >= ahead:
                    oldest, result = pending.popleft()
                    yield oldest, result.result()
                    ahead = min(ahead + 2, 2 * threads)
            for item, result in pending:
                yield item, result.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
