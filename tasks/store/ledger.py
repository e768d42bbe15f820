"""The ledger: every job is one object under `{destination}/_jobs/`, and conditional writes decide all races.

Order of writes: open (claim) … result … done (or failed) … open closed, then deleted. A job is closed by a
conditional write before its open record is deleted, so of several collectors exactly one deletes, and none
can delete the record of a later claim.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.faults import Fault
from tasks.models import RECORD_FORMAT, ContentOwner, DoneJob, FailedJob, Job, Lease, PageRange
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import ObjectStore


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

    def __init__(self, objects: ObjectStore, destination: Location) -> None:
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
        failed. A job that was put back since it failed is none.
        """
        if self._objects.exists(self._bucket, self._key("done", job.id)):
            return True
        failed = self.failed(job.id)
        return failed is not None and failed.job.retries >= job.retries

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

    def close(self, held: Held) -> bool:
        """Delete the open record, if it is still the one we know. Returns whether it was."""
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
        return etag is not None

    def sweep(self, job_id: str) -> None:
        """Delete a closed record that its closer left behind."""
        self._objects.delete(self._bucket, self._key("open", job_id))

    def finish(self, held: Held, done: DoneJob) -> None:
        """Say that the result is published, and close the job."""
        self._objects.put(self._bucket, self._key("done", held.job.id), _bytes(done), {}, "application/json")
        for pages in held.job.kept:
            self._objects.delete(self._bucket, self._kept_key(held.job.id, pages))
        closed = self.close(held)
        # A failed record is left behind when whoever put the job back was stopped in between, or when another
        # worker gave the job up after our lease was over. The result is there: done is what counts.
        if held.job.retries or not closed:
            self._objects.delete(self._bucket, self._key("failed", held.job.id))

    def fail(self, held: Held, failed: FailedJob) -> None:
        """Say why the job was given up, and close it."""
        self._objects.put(self._bucket, self._key("failed", held.job.id), _bytes(failed), {}, "application/json")
        self.close(held)

    def put_back(self, failed: FailedJob) -> bool:
        """Open a failed job again, with all that is known of its requests and pages.

        The open record is written before the failed one is deleted: stopped in between, the job is open, and
        its failed record is written over or deleted when the job ends.

        Returns:
            False when the job is open already (it is being closed, or somebody else put it back).
        """
        # A mark of our own, as in `close`: two that put the same job back must not both take themselves for the
        # first. As a lease it is over at once.
        lease = Lease(owner=uuid.uuid4().hex, until=failed.job.claimed_at, doing="reading")
        job = failed.job.model_copy(
            update={"lease": lease, "rounds": 0, "poll_after": None, "retries": failed.job.retries + 1}
        )
        if failed.code == "wrong-answer":  # asked again, the same requests would give the same answer
            requests = tuple(each.model_copy(update={"status": "resent"}) for each in job.requests)
            job = job.model_copy(update={"requests": requests})
        etag = self._objects.create(self._bucket, self._key("open", job.id), _bytes(job))
        if etag is None:
            return False
        if self.failed(job.id) != failed:
            # Put back by another meanwhile, and ended again: what we know of it is out of date.
            self.close(Held(job, etag))
            return False
        self._objects.delete(self._bucket, self._key("failed", job.id))
        return True

    def keep_pages(self, job_id: str, pages: PageRange, body: bytes | BinaryIO) -> None:
        """Keep pages that came: of a request that was answered at once, or of a job that failed."""
        self._objects.put(self._bucket, self._kept_key(job_id, pages), body, {}, "application/json")

    def kept_pages(self, job_id: str, pages: PageRange) -> bytes | None:
        """A batch kept before; None when it is gone."""
        stored = self._objects.get(self._bucket, self._kept_key(job_id, pages))
        return None if stored is None else stored.body

    def kept_ranges(self, job_id: str) -> list[PageRange]:
        """Which pages of a job are kept, whether its record says so or not."""
        ranges = []
        for entry in self._objects.list(self._bucket, f"{self._folder}pages/{job_id}/"):
            name = re.fullmatch(r"(\d+)-(\d+)\.json", entry.key.rpartition("/")[2])
            if name is not None:  # strangers' files, and the markers that some tools leave for folders, are none
                ranges.append(PageRange(first=int(name[1]), last=int(name[2])))
        return sorted(ranges, key=lambda pages: (pages.first, pages.last))

    def drop_kept(self, job_id: str) -> None:
        """Delete the kept pages of a job that is done, whether its record names them or not."""
        for pages in self.kept_ranges(job_id):
            self._objects.delete(self._bucket, self._kept_key(job_id, pages))

    def _kept_key(self, job_id: str, pages: PageRange) -> str:
        return f"{self._folder}pages/{job_id}/{pages.first}-{pages.last}.json"

    def claim_content(self, content: str, variant: str, job_id: str) -> str:
        """Say that a job recognises this content. Returns the job that does: this one, or one before it.

        Args:
            content: the hash of the document's bytes.
            variant: what else decides the result: the model, and the schema.
            job_id: the job.
        """
        key = self._content_key(content, variant)
        if self._objects.create(self._bucket, key, _bytes(ContentOwner(job=job_id))) is not None:
            return job_id
        stored = self._objects.get(self._bucket, key)
        return job_id if stored is None else self._parse(ContentOwner, stored.body, job_id).job

    def take_content(self, content: str, variant: str, job_id: str, instead_of: str) -> bool:
        """Become the job for this content instead of one that has no result. False when another was first."""
        key = self._content_key(content, variant)
        stored = self._objects.get(self._bucket, key)
        if stored is None or self._parse(ContentOwner, stored.body, job_id).job != instead_of:
            return False
        return self._objects.replace(self._bucket, key, _bytes(ContentOwner(job=job_id)), stored.etag) is not None

    def _content_key(self, content: str, variant: str) -> str:
        return f"{self._folder}content/{content}-{hashlib.sha256(variant.encode()).hexdigest()[:16]}.json"

    def forget_done(self, job_id: str) -> None:
        """Let a document count as new: its result is not there any more."""
        self._objects.delete(self._bucket, self._key("done", job_id))

    def entries(self, state: State) -> Iterator[RecordEntry]:
        """The records in one state, as listed; costs no reads."""
        for entry in self._objects.list(self._bucket, f"{self._folder}{state}/"):
            yield RecordEntry(entry.key.rpartition("/")[2].removesuffix(".json"), entry.etag, entry.last_modified)

    def entry(self, state: State, job_id: str) -> RecordEntry | None:
        """The record of one job in a state, as a listing would give it; None when there is none."""
        found = self._objects.head(self._bucket, self._key(state, job_id))
        return None if found is None else RecordEntry(job_id, found.etag, found.last_modified)

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
            record = f"the ledger record of job {job_id} under s3://{self._bucket}/{self._folder}"
            written = _format(body)
            if written is not None and written > RECORD_FORMAT:
                raise RecordUnreadable(
                    f"{record} was written by a newer version of this program (format {written}, and this one knows "
                    f"{RECORD_FORMAT}) and is left alone: update the program here, or let the newer one go on with it"
                ) from error
            first = error.errors()[0]
            raise RecordUnreadable(
                f"{record} cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']}) and is left alone: it "
                "is of another version of this program, or was edited; use that version, or move the record away"
            ) from error


def _format(body: bytes) -> int | None:
    """The number of the format that a record says it has."""
    try:
        record = json.loads(body)
    except ValueError:
        return None
    number = record.get("format") if isinstance(record, dict) else None
    return number if isinstance(number, int) else None


def _bytes(record: BaseModel) -> bytes:
    return record.model_dump_json(indent=1).encode()
