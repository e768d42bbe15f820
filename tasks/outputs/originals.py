"""Finds the document of a result, in exactly the version that was recognised."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tasks.faults import DocumentChanged, ObjectRefused
from tasks.job.record import Document
from tasks.store.object_store import ObjectStore

_SCHEME = "s3://"
_SAVED_BEFORE = "the document of this result is unknown: name it with --document"


@dataclass(frozen=True)
class Source:
    """The version of a document that a result was made from.

    Attributes:
        name: the document's address in S3, or its path on this machine.
        version: its ETag in S3, or the SHA-256 of its bytes on this machine.
    """

    name: str
    version: str

    @property
    def in_s3(self) -> bool:
        """Whether the document is in S3."""
        return self.name.startswith(_SCHEME)


@dataclass(frozen=True)
class Original:
    """A document's file, or the reason why it is not available.

    Attributes:
        file: the file; None if the recognised version is not available.
        name: the document's name for display.
        reason: why there is no file; empty if there is one.
    """

    file: Path | None
    name: str
    reason: str = ""


def source_of_result(metadata: Mapping[str, str]) -> Source | None:
    """Return the document of a published result, from the metadata of the result's object.

    Returns:
        The document; None if the metadata do not contain it: the object is not a result, or the document's address was
        too long for metadata (the job's `done` record has it, see `source_of_document`).
    """
    name, version = metadata.get("source"), metadata.get("source-etag")
    return Source(unquote(name), version) if name and version else None


def source_of_document(document: Document) -> Source:
    """Return the document of a job."""
    return Source(document.uri, document.etag)


def find_original(source: Source | None, objects: ObjectStore | None, folder: Path) -> Original:
    """Get the document of a result, in exactly the version that was recognised.

    Args:
        source: the document; None if it is not known.
        objects: the store, for documents in S3.
        folder: the folder for a download from S3. A document on this machine is not copied.

    Raises:
        TransientFault: the store is unavailable at the moment.
        SetupFault: the store rejects the credentials, or the disk is full.
    """
    if source is None:
        return Original(None, "the document", _SAVED_BEFORE)
    if not source.in_s3:
        return _local(source)
    if objects is None:
        return Original(None, source.name, f"{source.name} is in S3, but no store was given")
    bucket, _, key = source.name.removeprefix(_SCHEME).partition("/")
    file = folder / "original"
    try:
        objects.fetch(bucket, key, source.version, file)
    except (DocumentChanged, ObjectRefused) as fault:
        return Original(None, source.name, str(fault))
    return Original(file, source.name)


def _local(source: Source) -> Original:
    path = Path(source.name)
    try:
        with path.open("rb") as content:
            version = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        return Original(None, source.name, f"{source.name} can no longer be read ({error.strerror})")
    if version != source.version:
        return Original(None, source.name, f"{source.name} changed since it was recognised: recognise it again")
    return Original(path, source.name)
