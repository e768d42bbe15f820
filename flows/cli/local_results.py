"""Results of local documents: finds the document of a delivered result, and the result of a document."""

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from flows.cli.local_run import OUTPUTS, RESULTS, Delivered, output_key, state_folder
from tasks.outputs.originals import Source
from tasks.outputs.results import document_name
from tasks.store.local_folder import FolderObjects
from tasks.store.object_store import Entry


def source_of_local(result: Path) -> Source | None:
    """Find the document of a local result.

    Returns:
        The document for which 'bulk-ocr file' delivered it; otherwise the current version of the file beside it that it
        is named after; None if there is no such file.
    """
    result = result.resolve()
    with _state() as objects:
        stored = None if objects is None else objects.get(OUTPUTS, output_key(result))
    if stored is not None:
        try:
            delivered = Delivered.model_validate_json(stored.body)
        except ValidationError:  # written by another version of this program
            pass
        else:
            return Source(delivered.path, delivered.etag)
    beside = result.with_name(document_name(result.name))
    return Source(str(beside), _sha256(beside)) if beside != result and beside.is_file() else None


def fetch_local_result(document: Path, folder: Path) -> Path | None:
    """Fetch the result of a document that 'bulk-ocr file' has kept, wherever it was delivered.

    Args:
        document: the document, identified by its bytes.
        folder: where to put the result.
    """
    with _state() as objects:
        if objects is None:
            return None
        kept = max(_kept(objects, _sha256(document)), key=lambda entry: entry.last_modified, default=None)
        if kept is None:
            return None
        file = folder / "kept.ocr.json"
        objects.fetch(RESULTS, kept.key, kept.etag, file)
        return file


def _kept(objects: FolderObjects, version: str) -> Iterator[Entry]:
    return (entry for entry in objects.list(RESULTS, f"{version}.ocr") if entry.key.endswith(".json"))


@contextmanager
def _state() -> Iterator[FolderObjects | None]:
    """Open the folder of local jobs; None if nothing was ever recognised."""
    if not state_folder().is_dir():
        yield None
        return
    with closing(FolderObjects(state_folder())) as objects:
        yield objects


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
