"""Source and destination of a run as one store. Their buckets may belong to different accounts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from tasks.clock import Clock
from tasks.store.aws import AwsAccount, own_account
from tasks.store.object_store import Described, Entry, ObjectStore, Stored
from tasks.store.objects import Objects, connect
from tasks.store.settings import DestinationOptions, SourceOptions


class Sides:
    """A store that uses one store for the destination's bucket, and another for all others.

    Args:
        source: the store of documents, manifests and inventories.
        destination: the store of results and ledger.
        bucket: the destination's bucket.
    """

    def __init__(self, source: ObjectStore, destination: ObjectStore, bucket: str) -> None:
        self._source = source
        self._destination = destination
        self._bucket = bucket

    def _of(self, bucket: str) -> ObjectStore:
        return self._destination if bucket == self._bucket else self._source

    def get(self, bucket: str, key: str) -> Stored | None:
        """See ObjectStore."""
        return self._of(bucket).get(bucket, key)

    def exists(self, bucket: str, key: str) -> bool:
        """See ObjectStore."""
        return self._of(bucket).exists(bucket, key)

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """See ObjectStore."""
        return self._of(bucket).head(bucket, key, document=document)

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """See ObjectStore."""
        return self._of(bucket).create(bucket, key, body)

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """See ObjectStore."""
        return self._of(bucket).replace(bucket, key, body, etag)

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """See ObjectStore."""
        return self._of(bucket).put_file(bucket, key, file, metadata, media_type, over=over)

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """See ObjectStore."""
        self._of(bucket).put(bucket, key, body, metadata, media_type)

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:
        """See ObjectStore."""
        return self._of(bucket).remove(bucket, key, etag, just_written=just_written)

    def delete(self, bucket: str, key: str) -> None:
        """See ObjectStore."""
        self._of(bucket).delete(bucket, key)

    def list(self, bucket: str, prefix: str, *, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
        """See ObjectStore."""
        return self._of(bucket).list(bucket, prefix, divide=divide)

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """See ObjectStore."""
        return self._of(bucket).names(bucket, folder)

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """See ObjectStore."""
        self._of(bucket).fetch(bucket, key, etag, to)

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """See ObjectStore."""
        return self._of(bucket).read_part(bucket, key, etag, start, length)

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """See ObjectStore."""
        return self._of(bucket).prove_conditional_writes(bucket, folder)


def account_of(side: SourceOptions | DestinationOptions, account: AwsAccount | None) -> AwsAccount:
    """Return a side's account: that of its profile, else `account`, else that of boto3's own chain.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    return own_account(side.profile) if side.profile is not None or account is None else account


def open_store(
    bucket: str,
    source: SourceOptions,
    destination: DestinationOptions,
    accounts: tuple[AwsAccount, AwsAccount],
    connections: int,
    clock: Clock | None = None,
) -> ObjectStore:
    """Open the store of a run.

    Args:
        bucket: the destination's bucket.
        source: options of the source's bucket.
        destination: options of the destination's bucket.
        accounts: the accounts of source and destination; see `account_of`.
        connections: the maximum number of pooled connections for each side.
        clock: the clock to wait by between retries; interrupts them when the run is ended.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    reading, writing = accounts
    client = connect(connections=connections, account=writing)
    own = Objects(client, clock, options=destination)
    if reading is writing and source == SourceOptions() and destination == DestinationOptions():
        return own
    other = client if reading is writing else connect(connections=connections, account=reading)
    return Sides(Objects(other, clock, options=source), own, bucket)
