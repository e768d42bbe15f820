"""The ledger: every job is one object under `{destination}/_jobs/`, and conditional writes decide all races.

Order of writes: open (claim) … result … done (or failed) … open closed, then deleted. A job is closed with a
conditional write before its open record is deleted, and only that version is deleted: exactly one of several collectors
deletes it, and none can delete the record of a later claim.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.faults import Cancelled, CredentialsRefused, Fault, RecordUnreadable, Superseded, TransientFault
from tasks.job import transitions
from tasks.job.record import RECORD_FORMAT, ContentOwner, DoneJob, FailedJob, Job, RequestOwner
from tasks.job.transitions import NOTHING, Change, Counts
from tasks.store.object_store import JSON, Stored
from tasks.store.side_records import SideRecords

log = logging.getLogger(__name__)

_DIGITS = "123456789abcdef"
_ATTEMPTS = 10


@dataclass(frozen=True)
class Held:
    """An open job as read or written: the record, and the ETag that a replacement must match."""

    job: Job
    etag: str


class _Earlier(BaseModel):
    """The common part of the records of done and failed jobs."""

    job: Job


State = Literal["open", "done", "failed"]
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class RecordEntry:
    """A record as listed."""

    id: str
    etag: str
    last_modified: datetime


class Ledger(SideRecords):
    """Reads and writes the records of one destination."""

    def _key(self, state: State, job_id: str) -> str:
        return f"{self._folder}{state}/{job_id}.json"

    def claim(self, job: Job) -> Held | None:
        """Claim a new job. Returns None if it is already claimed, done or failed.

        Done and failed records are checked after the claim: they are written before the open record is deleted, so a
        claim that succeeded because the open record had just been deleted still sees them.
        """
        etag = self._objects.create(self._bucket, self._key("open", job.id), _bytes(job))
        if etag is None:
            return None
        held = Held(job, etag)
        closed: tuple[State, ...] = ("done", "failed")
        try:
            ended = any(self._objects.exists(self._bucket, self._key(state, job.id)) for state in closed)
        except Cancelled:  # nobody should have to wait for a claim of a run that is being ended
            with suppress(Fault):
                self.close(held)
            raise
        if ended:
            self.close(held)
            return None
        return held

    def settled(self, job: Job) -> bool:
        """Whether an open record is a leftover of a worker that was stopped between two writes.

        The worker was closing a finished job, or had claimed it late and was stopped before it checked for done and
        failed records. A job that was put back after it failed is not a leftover; nor is one whose failed record knows
        less than the open record, because that was written by a worker that had lost the job.
        """
        if self._objects.exists(self._bucket, self._key("done", job.id)):
            posting = job.lease is not None and job.lease.doing == "posting"
            return (job.untouched and not posting) or not self._is_of_another_claim(job)
        failed = self.failed(job.id)
        return failed is not None and transitions.knows_as_much(failed.job, job)

    def _is_of_another_claim(self, job: Job) -> bool:
        """Whether the done record is of another claim: the document was done again, and its worker came too late."""
        try:
            done = self.done(job.id)
        except RecordUnreadable:
            return False
        return done is None or done.job.claimed_at != job.claimed_at

    def is_current(self, job: Job) -> bool:
        """Whether the open record is of the same claim as a job: otherwise it has ended, and may be done again."""
        held = self.read(job.id)
        return held is not None and held.job.claimed_at == job.claimed_at

    def read(self, job_id: str) -> Held | None:
        """Read an open job; None if it is not open any more."""
        stored = self._objects.get(self._bucket, self._key("open", job_id))
        return None if stored is None else Held(self._parse(Job, stored.body, job_id), stored.etag)

    def update(self, held: Held, job: Job) -> Held:
        """Replace the version of the record that was read.

        Raises:
            Superseded: another worker has replaced or closed it meanwhile.
        """
        etag = self._objects.replace(self._bucket, self._key("open", job.id), _bytes(job), held.etag)
        if etag is None:
            raise Superseded(job.id)
        return Held(job, etag)

    def amend(self, held: Held, change: Callable[[Job], Change]) -> tuple[Held | None, Counts]:
        """Apply a change that must not be lost, even if others write the record meanwhile.

        Returns:
            The record as written and the counts of the change; None and no counts if the job is not open any more, or
            only because its document is done again: what the change is about belongs to the attempt before.
        """
        current: Held | None = held
        while current is not None and current.job.closed is None and current.job.claimed_at == held.job.claimed_at:
            changed = change(current.job)
            try:
                return self.update(current, changed.job), changed.counts
            except Superseded:
                current = self.read(held.job.id)
        return None, NOTHING

    def close(self, held: Held) -> bool:
        """Delete the open record if it is still the version that is held. Returns whether it was."""
        # With a nonce: if two closers wrote the same bytes, both would believe that they had won.
        closed = transitions.closed(held.job, self._owner, uuid.uuid4().hex)
        etag = self._objects.replace(self._bucket, self._key("open", closed.id), _bytes(closed), held.etag)
        if etag is not None:
            self._objects.remove(self._bucket, self._key("open", closed.id), etag, just_written=True)
        return etag is not None

    def sweep(self, held: Held) -> None:
        """Delete exactly this closed record, not one that has replaced it."""
        self._objects.remove(self._bucket, self._key("open", held.job.id), held.etag)

    def finish(self, held: Held, done: DoneJob) -> str | None:
        """Record that the result is published, and close the job.

        A failure to clean up afterwards is not an error: the next worker that sees the leftovers removes them.

        Returns:
            The done record's ETag; None if another worker was first, even if the document is to be done again since.
        """
        first = self._write_done(held.job, _bytes(done))
        try:
            if held.job.kept and self.is_current(held.job):
                self.drop_kept(held.job.id)
            closed = self.close(held)
            if first is not None and not closed and self._was_done_again(held.job):
                self._objects.remove(self._bucket, self._key("done", held.job.id), first)
                return None
            # A failed record remains if putting the job back was interrupted, or if another worker gave the job up
            # after this worker's lease had ended. The result exists, so the done record takes precedence.
            if held.job.retries or not closed:
                self._forget("failed", held.job.id)
        except CredentialsRefused:
            raise
        except Fault as fault:
            log.warning("job %s is done, and its open record could not be closed: %s", held.job.id, fault)
        return first

    def _write_done(self, job: Job, body: bytes) -> str | None:
        """Write the done record, over that of an earlier claim if its worker came too late to see the redo.

        Returns:
            Its ETag; None if there is one of this claim, or of a later one.

        Raises:
            TransientFault: others write and remove it all the time.
        """
        key = self._key("done", job.id)
        for _ in range(_ATTEMPTS):
            etag = self._objects.create(self._bucket, key, body)
            if etag is not None:
                return etag
            stored = self._objects.get(self._bucket, key)
            if stored is None:
                continue
            try:
                before = self._parse(DoneJob, stored.body, job.id)
            except RecordUnreadable:
                return None
            if before.job.claimed_at == job.claimed_at or not self.is_current(job):
                return None
            etag = self._objects.replace(self._bucket, key, body, stored.etag)
            if etag is not None:
                return etag
        raise TransientFault(f"other workers keep changing the done record of {job.document.uri}; the job stays open")

    def _was_done_again(self, job: Job) -> bool:
        """Whether a document was marked to be done again since another worker ended this claim."""
        if self.earlier_attempt(job) is not None:
            return True
        held = self.read(job.id)
        return held is not None and held.job.claimed_at != job.claimed_at

    def fail(self, held: Held, failed: FailedJob) -> bool:
        """Record why the job was given up, and close it.

        Returns:
            False if this worker had lost the job: another one continues it, or has finished it.
        """
        before, etag = self._write_failed(held.job, failed)
        owned = self.close(held)
        done = self._objects.exists(self._bucket, self._key("done", held.job.id))
        # `finish` looks for a failed record only if it could not close the job itself.
        if owned and not done:
            return True
        key = self._key("failed", held.job.id)
        if etag is not None and (before is None or done):
            self._objects.remove(self._bucket, key, etag)
        elif etag is not None and before is not None:
            self._objects.replace(self._bucket, key, before.body, etag)  # restore the rightful owner's record
        return False

    def _write_failed(self, job: Job, failed: FailedJob) -> tuple[Stored | None, str | None]:
        """Write the failed record, unless there is one whose writer knew as much about the job.

        Returns:
            The previous record, and the ETag of the new one; None for either if there is none.
        """
        key = self._key("failed", job.id)
        while True:
            before = self._objects.get(self._bucket, key)
            if before is None:
                etag = self._objects.create(self._bucket, key, _bytes(failed))
            elif transitions.knows_as_much(self._parse(FailedJob, before.body, job.id).job, job):
                return before, None
            else:
                etag = self._objects.replace(self._bucket, key, _bytes(failed), before.etag)
            if etag is not None:
                return before, etag

    def put_back(self, failed: FailedJob) -> bool:
        """Open a failed job again, with everything known about its requests and pages.

        The open record is written before the failed one is deleted. If this is interrupted in between, the job is open,
        and its failed record is replaced or deleted when the job ends.

        Returns:
            False if the job is already open (it is being closed, or somebody else has put it back).
        """
        # With a nonce, as in `close`: of two that put the same job back, only one may believe that it was first.
        job = transitions.put_back(failed, uuid.uuid4().hex)
        etag = self._objects.create(self._bucket, self._key("open", job.id), _bytes(job))
        if etag is None:
            return False
        key = self._key("failed", job.id)
        stored = self._objects.get(self._bucket, key)
        if stored is None or self._parse(FailedJob, stored.body, job.id) != failed:
            # Put back by another worker meanwhile, and ended again: our copy of the failed record is out of date.
            self.close(Held(job, etag))
            return False
        self._objects.remove(self._bucket, key, stored.etag)
        return True

    def _forget(self, state: State, job_id: str) -> None:
        """Delete the current record in a state, and no later one."""
        entry = self.entry(state, job_id)
        if entry is not None:
            self._objects.remove(self._bucket, self._key(state, job_id), entry.etag)

    def claim_request(self, request_id: str, job_id: str) -> bool:
        """Record that the pages of a request belong to a job. Returns False if they belong to another job.

        The API's ids should be unique. If two processes got the same one, neither would notice, and one text would be
        published for two documents.
        """
        key = f"{self._folder}requests/{hashlib.sha256(request_id.encode()).hexdigest()[:40]}.json"
        if self._objects.create(self._bucket, key, _bytes(RequestOwner(job=job_id))) is not None:
            return True
        stored = self._objects.get(self._bucket, key)
        return stored is None or self._parse(RequestOwner, stored.body, job_id).job == job_id

    def claim_content(self, content: str, variant: str, job_id: str) -> str:
        """Record that a job recognises this content. Returns the id of the job that does: this one or an earlier one.

        Args:
            content: the hash of the document's bytes.
            variant: everything else that determines the result: model and schema.
            job_id: the job.
        """
        key = self._content_key(content, variant)
        if self._objects.create(self._bucket, key, _bytes(ContentOwner(job=job_id))) is not None:
            return job_id
        stored = self._objects.get(self._bucket, key)
        return job_id if stored is None else self._parse(ContentOwner, stored.body, job_id).job

    def take_content(self, content: str, variant: str, job_id: str, instead_of: str) -> bool:
        """Replace the job for this content, which has no result. Returns False if another job was first."""
        key = self._content_key(content, variant)
        stored = self._objects.get(self._bucket, key)
        if stored is None or self._parse(ContentOwner, stored.body, job_id).job != instead_of:
            return False
        return self._objects.replace(self._bucket, key, _bytes(ContentOwner(job=job_id)), stored.etag) is not None

    def _content_key(self, content: str, variant: str) -> str:
        return f"{self._folder}content/{content}-{hashlib.sha256(variant.encode()).hexdigest()[:16]}.json"

    def forget_done(self, job_id: str, etag: str) -> bool:
        """Make a document count as new, because its result is gone.

        Args:
            job_id: its job.
            etag: ETag of the done record as seen before the result was looked for.

        Returns:
            False if the done record has been replaced since: check again.
        """
        return self._objects.remove(self._bucket, self._key("done", job_id), etag)

    def open_again(self, record: DoneJob | FailedJob, entry: RecordEntry) -> bool:
        """Make a document count as new, so that it is recognised and paid for again. Its result stays in place.

        Its record is first copied to `earlier/`. Pages that arrived are not kept: they would be taken for those that
        are paid for now.

        Args:
            record: the document's record as read.
            entry: the document's record as listed.

        Returns:
            False if the record has been replaced since.
        """
        state: State = "done" if isinstance(record, DoneJob) else "failed"
        key = f"{self._folder}earlier/{entry.id}/{entry.etag.strip(chr(34))}.json"
        self._objects.put(self._bucket, key, _bytes(record), {}, JSON)
        self.close_leftover(entry.id)
        kept = list(self._kept_entries(entry.id))  # listed now: a new job may store pages with the same names
        if not self._objects.remove(self._bucket, self._key(state, entry.id), entry.etag):
            return False
        for pages, etag in kept:
            self._objects.remove(self._bucket, self._kept_key(entry.id, pages), etag)
        return True

    def close_leftover(self, job_id: str) -> None:
        """Close what a worker that was stopped left open of a job that has ended: it would be collected once more."""
        with suppress(RecordUnreadable):
            held = self.read(job_id)
            if held is not None and self.settled(held.job):
                self.close(held)

    def earlier_keys(self, known: Container[str] = ()) -> Iterator[str]:
        """Yield the keys of the earlier records of redone documents.

        Args:
            known: keys to leave out: these records never change.
        """
        for entry in self._objects.list(self._bucket, f"{self._folder}earlier/"):
            if entry.key not in known:
                yield entry.key

    def earlier_job(self, key: str) -> Job | None:
        """Read the job of an earlier record; None if it is gone, or was written by another version of this program."""
        stored = self._objects.get(self._bucket, key)
        if stored is not None:
            with suppress(ValidationError):
                return _Earlier.model_validate_json(stored.body).job
        return None

    def earlier_attempt(self, job: Job) -> Job | None:
        """Read how this claim of a job had ended before its document was redone; None if it was not."""
        for entry in self._objects.list(self._bucket, f"{self._folder}earlier/{job.id}/"):
            earlier = self.earlier_job(entry.key)
            if earlier is not None and earlier.claimed_at == job.claimed_at:
                return earlier
        return None

    def opened_since(self, moment: datetime) -> Iterator[str]:
        """Yield the jobs of documents that were marked to be done again since a moment, by the store's clock."""
        for entry in self._objects.list(self._bucket, f"{self._folder}earlier/"):
            if entry.last_modified >= moment:
                yield entry.key.rpartition("/")[0].rpartition("/")[2]

    def was_redone(self, job_id: str) -> bool:
        """Tell whether a document was ever marked to be done again."""
        return any(True for _ in self._objects.list(self._bucket, f"{self._folder}earlier/{job_id}/"))

    def earlier_record(self, job_id: str, etag: str) -> DoneJob | FailedJob | None:
        """Read a record as it was before its document was redone; None if there is none.

        Args:
            job_id: the job.
            etag: the record's ETag at that time.

        Raises:
            RecordUnreadable: it was written by another version of this program.
        """
        stored = self._objects.get(self._bucket, f"{self._folder}earlier/{job_id}/{etag}.json")
        if stored is None:
            return None
        try:
            return self._parse(DoneJob, stored.body, job_id)
        except RecordUnreadable:
            return self._parse(FailedJob, stored.body, job_id)

    def entries(self, state: State) -> Iterator[RecordEntry]:
        """List the records in a state, without reading them. In no order: long listings are split by first digit."""
        folder = f"{self._folder}{state}/"
        for entry in self._objects.list(self._bucket, folder, divide=lambda: [folder + digit for digit in _DIGITS]):
            yield RecordEntry(entry.key.rpartition("/")[2].removesuffix(".json"), entry.etag, entry.last_modified)

    def entry(self, state: State, job_id: str) -> RecordEntry | None:
        """Return the record of one job in a state as it would be listed; None if there is none."""
        record = self._objects.head(self._bucket, self._key(state, job_id))
        return None if record is None else RecordEntry(job_id, record.etag, record.last_modified)

    def done(self, job_id: str) -> DoneJob | None:
        """Read the record of a finished job; None if there is none."""
        return self._closed(DoneJob, "done", job_id)

    def failed(self, job_id: str) -> FailedJob | None:
        """Read the record of a job that was given up; None if there is none."""
        return self._closed(FailedJob, "failed", job_id)

    def _closed(self, model: type[Record], state: State, job_id: str) -> Record | None:
        stored = self._objects.get(self._bucket, self._key(state, job_id))
        return None if stored is None else self._parse(model, stored.body, job_id)

    def _parse(self, model: type[Record], body: bytes, job_id: str) -> Record:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            record = f"the ledger record of job {job_id} under s3://{self._bucket}/{self._folder}"
            record_format = _format(body)
            if record_format is not None and record_format > RECORD_FORMAT:
                raise RecordUnreadable(
                    f"{record} was written by a newer version of this program (format {record_format}, and this one "
                    f"knows {RECORD_FORMAT}) and is left alone: update the program here, or let the newer one "
                    "continue with it"
                ) from error
            first = error.errors()[0]
            raise RecordUnreadable(
                f"{record} cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']}) and is left alone: it "
                "was written by another version of this program, or edited; use that version, or move the record away"
            ) from error


def _format(body: bytes) -> int | None:
    """Return a record's format number; None if it has none."""
    try:
        record = json.loads(body)
    except ValueError:
        return None
    number = record.get("format") if isinstance(record, dict) else None
    return number if isinstance(number, int) else None


def _bytes(record: BaseModel) -> bytes:
    return record.model_dump_json(indent=1).encode()
