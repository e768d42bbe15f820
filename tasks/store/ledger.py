"""The ledger: every job is one object under `{destination}/_jobs/`, and conditional writes decide all races.

Order of writes: open (claim) … result … done (or failed) … open closed, then deleted. A job is closed by a
conditional write before its open record is deleted, so of several collectors exactly one deletes, and none
can delete the record of a later claim.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.faults import Fault
from tasks.models import DoneJob, FailedJob, Job, Lease
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.objects import Objects


@dataclass(frozen=True)
class Held:
    """An open job as read or written: the record, and the ETag that a replacement must match."""

    job: Job
    etag: str


State = Literal["open", "done", "failed"]
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class RecordEntry:
    """One record in a listing."""

    id: str
    etag: str
    last_modified: datetime


class RecordUnreadable(Fault):
    """A record of another format, or a damaged one. Nobody guesses: it is left as it is."""


class Superseded(Exception):
    """Another worker wrote the record since we read it: it is theirs to go on with."""


class Ledger:
    """Reads and writes the records of one destination."""

    def __init__(self, objects: Objects, destination: Location) -> None:
        self._objects = objects
        self._bucket = destination.bucket
        self._folder = destination.key(LEDGER_FOLDER)

    @property
    def folder(self) -> str:
        """The key prefix all records lie under."""
        return self._folder

    def _key(self, state: State, job_id: str) -> str:
        return f"{self._folder}{state}/{job_id}.json"

    def claim(self, job: Job) -> Held | None:
        """Become the one owner of a new job; None when it is owned, done or failed already.

        The look at done and failed comes after the claim: whoever closes a job writes those first, so that
        a claim that was won because the open record had just been deleted still sees them.
        """
        etag = self._objects.create(self._bucket, self._key("open", job.id), _bytes(job))
        if etag is None:
            return None
        held = Held(job, etag)
        closed: tuple[State, ...] = ("done", "failed")
        if any(self._objects.exists(self._bucket, self._key(state, job.id)) for state in closed):
            self.close(held)
            return None
        return held

    def settled(self, job: Job) -> bool:
        """Whether an open record is a leftover of somebody who was stopped between two writes.

        Either the closer of a finished job, or a claimer that came late and did not get to look at done and
        failed. A failed job with requests is none: it may have been put back to collect what they hold.
        """
        if self._objects.exists(self._bucket, self._key("done", job.id)):
            return True
        return not job.requests and self._objects.exists(self._bucket, self._key("failed", job.id))

    def read(self, job_id: str) -> Held | None:
        """An open job, or None when it is not open any more."""
        stored = self._objects.get(self._bucket, self._key("open", job_id))
        return None if stored is None else Held(self._parse(Job, stored.body, job_id), stored.etag)

    def update(self, held: Held, job: Job) -> Held:
        """Replace the record we read.

        Raises:
            Superseded: somebody else replaced or closed it meanwhile.
        """
        etag = self._objects.replace(self._bucket, self._key("open", job.id), _bytes(job), held.etag)
        if etag is None:
            raise Superseded(job.id)
        return Held(job, etag)

    def amend(self, held: Held, change: Callable[[Job], Job]) -> Held | None:
        """Apply a change that must not be lost, whoever else writes the record meanwhile.

        Returns:
            The record as written; None when the job is not open any more.
        """
        current: Held | None = held
        while current is not None:
            try:
                return self.update(current, change(current.job))
            except Superseded:
                current = self.read(held.job.id)
                if current is not None and current.job.lease is not None and current.job.lease.doing == "closed":
                    return None
        return None

    def close(self, held: Held) -> None:
        """Delete the open record, if it is still the one we know."""
        # A mark of our own: two closers that write the same bytes would both take themselves for the winner.
        lease = Lease(owner=uuid.uuid4().hex, until=held.job.claimed_at, doing="closed")
        etag = self._objects.replace(
            self._bucket,
            self._key("open", held.job.id),
            _bytes(held.job.model_copy(update={"lease": lease})),
            held.etag,
        )
        if etag is not None:
            self.sweep(held.job.id)

    def sweep(self, job_id: str) -> None:
        """Delete a closed record that its closer left behind."""
        self._objects.delete(self._bucket, self._key("open", job_id))

    def finish(self, held: Held, done: DoneJob) -> None:
        """Say that the result is published, and close the job."""
        self._objects.put(self._bucket, self._key("done", held.job.id), _bytes(done), {}, "application/json")
        self.close(held)

    def fail(self, held: Held, failed: FailedJob) -> None:
        """Say why the job was given up, and close it."""
        self._objects.put(self._bucket, self._key("failed", held.job.id), _bytes(failed), {}, "application/json")
        self.close(held)

    def entries(self, state: State) -> Iterator[RecordEntry]:
        """The records in one state, as listed; costs no reads."""
        for entry in self._objects.list(self._bucket, f"{self._folder}{state}/"):
            yield RecordEntry(entry.key.rpartition("/")[2].removesuffix(".json"), entry.etag, entry.last_modified)

    def done(self, job_id: str) -> DoneJob | None:
        """The record of a finished job."""
        return self._closed(DoneJob, "done", job_id)

    def failed(self, job_id: str) -> FailedJob | None:
        """The record of a job that was given up."""
        return self._closed(FailedJob, "failed", job_id)

    def _closed(self, model: type[Record], state: State, job_id: str) -> Record | None:
        stored = self._objects.get(self._bucket, self._key(state, job_id))
        return None if stored is None else self._parse(model, stored.body, job_id)

    def _parse(self, model: type[Record], body: bytes, job_id: str) -> Record:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise RecordUnreadable(
                f"the ledger record of job {job_id} under s3://{self._bucket}/{self._folder} cannot be read "
                f"({'.'.join(map(str, first['loc']))}: {first['msg']}) and is left alone: it is of another version "
                "of this program, or was edited; use that version, or move the record away"
            ) from error


def _bytes(record: BaseModel) -> bytes:
    return record.model_dump_json(indent=1).encode()
