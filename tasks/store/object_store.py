"""What the ledger, the steps and the results ask of a store of objects; S3 is one, a folder on this machine another."""

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
    """What a look at one object tells: its line in a listing, and the metadata written with it."""

    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Stored:
    """An object's bytes with the ETag they were read at."""

    body: bytes
    etag: str


class ObjectStore(Protocol):
    """Objects in buckets, written whole, with conditional writes. Every failure is one of this project's faults."""

    def get(self, bucket: str, key: str) -> Stored | None:
        """An object's bytes, or None when it isn't there."""

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object is there."""

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """What is known of an object without reading it, or None when it isn't there.

        Args:
            bucket: the bucket.
            key: the object's key.
            document: whether it is one of many, so that a refusal is its own and not the set-up's.

        Raises:
            ObjectRefused: a document that may not be looked at.
        """

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag, or None when another was first."""

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Write over exactly the version read before. Returns the new ETag, or None when it had changed."""

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Write a file over nothing (`over` is None), or over exactly the version with that ETag; streamed.

        Returns:
            Whether it was written by this call; after a False, look whether a retry of it was.
        """

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """Write an object, whatever was there. A file is streamed."""

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:
        """Delete an object while it is exactly the version with that ETag, and no other that took its place.

        Args:
            bucket: the bucket.
            key: the object's key.
            etag: the version.
            just_written: whether the call before this one has written that version, which is as good as a look.

        Returns:
            True when that version is gone, by this call or already; False when another is in its place, left alone.
        """

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that nobody else writes; one that isn't there is fine. For all others there is `remove`."""

    def list(self, bucket: str, prefix: str, *, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
        """The objects under a prefix, in key order, as lazily as they are taken.

        Args:
            bucket: the bucket.
            prefix: what the keys begin with.
            divide: gives keys at which a long listing may be divided, to list its stretches side by side: then it is
                in key order no more.
        """

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """What lies in a folder: objects, and folders with a slash at their ends; a thousand at most."""

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Copy exactly that version into a file, in pieces.

        Raises:
            DocumentChanged: the object changed or vanished since.
            ObjectRefused: the store does not give it out.
            SetupFault: the disk is full.
            Cancelled: the run is being ended.
        """

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """Some bytes of exactly that version, from a place on.

        Raises:
            DocumentChanged, ObjectRefused, Cancelled: as for `fetch`.
        """

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """Find out whether the store honours conditional writes.

        Returns:
            When it was, by the store's clock.

        Raises:
            SetupFault: it doesn't, so it could not tell two submitters apart; or we may not write there.
        """
