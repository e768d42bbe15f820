"""The interface of object stores, used by ledger, steps and results. Implementations: S3, and a local folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Entry:
    """One line of a listing."""

    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True)
class Described(Entry):
    """An object's listing entry and its metadata, without its content."""

    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Stored:
    """An object's bytes and the ETag of the version read."""

    body: bytes
    etag: str


class ObjectStore(Protocol):
    """Objects in buckets, with conditional writes of whole objects. Every failure is one of this project's faults."""

    def get(self, bucket: str, key: str) -> Stored | None:
        """Read an object; None if it does not exist."""

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object exists."""

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """Look up an object without reading it; None if it does not exist.

        Args:
            bucket: the bucket.
            key: the object's key.
            document: whether it is one of many documents, so that a refusal concerns it alone and not the set-up.

        Raises:
            ObjectRefused: a document that may not be read.
        """

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag; None if another writer was first."""

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Replace exactly the version with this ETag. Returns the new ETag; None if the object had changed."""

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Create an object from a file (`over` is None), or replace exactly the version with that ETag; streamed.

        Returns:
            Whether this call wrote it. After False, check the stored object: an earlier attempt of this call may have
            written it.
        """

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """Write an object unconditionally. A file is streamed."""

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:
        """Delete exactly the version with this ETag, never one that has replaced it.

        Args:
            bucket: the bucket.
            key: the object's key.
            etag: the version.
            just_written: whether the caller's previous call wrote that version, so that no check is needed.

        Returns:
            True if that version is gone, deleted by this call or earlier; False if another version has replaced it.
        """

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that has no other writers (otherwise use `remove`). A missing object is no error."""

    def list(self, bucket: str, prefix: str, *, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
        """Yield the objects under a prefix, lazily and in key order.

        Args:
            bucket: the bucket.
            prefix: the prefix of the keys.
            divide: returns keys at which a long listing may be divided, so that its parts can be listed concurrently.
                The result is then not in key order.
        """

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """Return the names in a folder, at most a thousand: objects, and folders with a trailing slash."""

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Stream exactly the version with this ETag into a file.

        Raises:
            DocumentChanged: the object has changed or vanished.
            ObjectRefused: the store will not release it.
            SetupFault: the disk is full.
            Cancelled: the run is being ended.
        """

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start` of exactly the version with this ETag.

        Raises:
            DocumentChanged, ObjectRefused, Cancelled: as for `fetch`.
        """

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """Check that the store honours conditional writes.

        Returns:
            The time of the check by the store's clock.

        Raises:
            SetupFault: it does not, so two submitters could claim the same document; or writing is not permitted.
        """
