"""Notes on documents that were set aside: which, why and when. Stored for people under the ledger's `aside/`.

Runs do not depend on them: each run tries such a document again, and removes its note on success.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationError

from tasks.job.record import AnswerSchema, Frozen
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import JSON, ObjectStore

ASIDE_FOLDER = "aside/"


class AsideNote(Frozen):
    """Why a document is set aside, and by which run."""

    format: Literal[1] = 1
    document: str = Field(description="its address")
    reason: str = Field(description="what prevents its processing, and how to fix it")
    noted_at: datetime
    source: str | None = None
    model: str
    answer_schema: AnswerSchema | None = None
    flow_run: str | None = None


class AsideNotes:
    """Reads and writes the notes of one destination.

    Args:
        objects: the store.
        destination: the location of results and ledger.
    """

    def __init__(self, objects: ObjectStore, destination: Location) -> None:
        self._objects = objects
        self._bucket = destination.bucket
        self._folder = destination.key(f"{LEDGER_FOLDER}{ASIDE_FOLDER}")

    def write(self, job_id: str, note: AsideNote) -> None:
        """Note that a document is set aside; a newer note replaces an older one."""
        self._objects.put(self._bucket, self._key(job_id), note.model_dump_json(indent=1).encode(), {}, JSON)

    def remove(self, job_id: str) -> None:
        """Remove the note of a document."""
        self._objects.delete(self._bucket, self._key(job_id))

    def read(self, job_id: str) -> AsideNote | None:
        """Read the note of a document; None if there is none, or none that can be parsed."""
        stored = self._objects.get(self._bucket, self._key(job_id))
        try:
            return None if stored is None else AsideNote.model_validate_json(stored.body)
        except ValidationError:  # written by another version of this program
            return None

    def ids(self) -> Iterator[str]:
        """Yield the ids of jobs that have a note."""
        for entry in self._objects.list(self._bucket, self._folder):
            yield entry.key.rpartition("/")[2].removesuffix(".json")

    def _key(self, job_id: str) -> str:
        return f"{self._folder}{job_id}.json"
