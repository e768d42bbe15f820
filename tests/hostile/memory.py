"""A store in memory, for the many examples of a property test; the rest of the tests use the real S3 server."""
# ruff: noqa: ARG002 - the arguments are those of the real store, and there is one bucket

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from tasks.faults import DocumentChanged
from tasks.store.object_store import Described, Entry, Stored
from tasks.store.objects import Objects


class MemoryObjects(Objects):
    """Objects of one bucket, with the conditions that the ledger relies on."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, Described]] = {}

    def _write(self, key: str, body: bytes, metadata: Mapping[str, str]) -> str:
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self._objects[key] = (body, Described(key, etag, len(body), datetime.now(UTC), dict(metadata)))
        return etag

    def _etag(self, key: str) -> str | None:
        return self._objects[key][1].etag if key in self._objects else None

    def get(self, bucket: str, key: str) -> Stored | None:
        found = self._objects.get(key)
        return None if found is None else Stored(found[0], found[1].etag)

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        return replace(self._objects[key][1]) if key in self._objects else None

    def _put_if(self, bucket: str, key: str, body: bytes, etag: str | None) -> str | None:
        return self._write(key, body, {}) if self._etag(key) == etag else None

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        if self._etag(key) != over:
            return False
        self._write(key, file.read_bytes(), metadata)
        return True

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        self._write(key, body if isinstance(body, bytes) else body.read(), metadata)

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:  # it heeds conditions
        if self._etag(key) == etag:
            self.delete(bucket, key)
        return key not in self._objects

    def delete(self, bucket: str, key: str) -> None:
        self._objects.pop(key, None)

    def list(self, bucket: str, prefix: str, **divided: Any) -> Iterator[Entry]:
        for key in sorted(self._objects):
            if key.startswith(prefix):
                yield self._objects[key][1]

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        raise NotImplementedError

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        if self._etag(key) != etag:
            raise DocumentChanged(key)
        to.write_bytes(self._objects[key][0])
