"""The ledger: every job is one object under `{destination}/_jobs/`, and conditional writes decide all races.

Order of writes: open (claim) … result … done (or failed) … open closed, then deleted. A job is closed by a conditional
write before its open record is deleted, and only that version is deleted: of several collectors exactly one deletes,
and none can delete the record of a later claim.
"""

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.faults import Cancelled, CredentialsRefused, Fault, RecordUnreadable, Superseded
from tasks.job import transitions
from tasks.job.record import RECORD_FORMAT, ContentOwner, DoneJob, FailedJob, Job, PageRange, RequestOwner
from tasks.job.transitions import NOTHING, Change, Counts
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import JSON, ObjectStore, Stored

log = logging.getLogger(__name__)

_DIGITS = "123456789abcdef"


@dataclass(frozen=True)
class Held:
    """An open job as read or written: the record, and the ETag that a replacement must match."""

    job: Job
    etag: str


class _Earlier(BaseModel):
    """What records of done and of failed jobs share."""

    job: Job


State = Literal["open", "done", "failed"]
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class RecordEntry:
    """One record in a listing."""

    id: str
    etag: str
    last_modified: datetime


class Ledger:
    """Reads and writes the records of one destination."""

    def __init__(self, objects: ObjectStore, destination: Location, owner: str = "") -> None:
        self._owner = owner
        self._objects = objects
        self._bucket = destination.bucket
        self._folder = destination.key(LEDGER_FOLDER)

    @property
    def folder(self) -> str:
        """The key prefix all records lie under."""
        return self._folder

    @property
    def address(self) -> str:
        """The folder's address."""
        return f"s3://{self._bucket}/{self._folder}"

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
        try:
            ended = any(self._objects.exists(self._bucket, self._key(state, job.id)) for state in closed)
        except Cancelled:  # nobody should wait for the claim of a run that is being ended
            with suppress(Fault):
                self.close(held)
            raise
        if ended:
            self.close(held)
            return None
        return held

    def settled(self, job: Job) -> bool:
        """Whether an open record is a leftover of somebody who was stopped between two writes.

        Either the closer of a finished job, or a claimer that came late and did not get to look at done and
        failed. A job that was put back since it failed is none, nor is one of which the failed record knows less: that
        was written by a worker who had lost the job.
        """
        if self._objects.exists(self._bucket, self._key("done", job.id)):
            return True
        failed = self.failed(job.id)
        return failed is not None and transitions.knows_as_much(failed.job, job)

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

    def amend(self, held: Held, change: Callable[[Job], Change]) -> tuple[Held | None, Counts]:
        """Apply a change that must not be lost, whoever else writes the record meanwhile.

        Returns:
            The record as written and what the change counted; None and nothing when the job is not open any more.
        """
        current: Held | None = held
        while current is not None and current.job.closed is None:
            changed = change(current.job)
            try:
                return self.update(current, changed.job), changed.counts
            except Superseded:
                current = self.read(held.job.id)
        return None, NOTHING

    def close(self, held: Held) -> bool:
        """Delete the open record, if it is still the one we know. Returns whether it was."""
        # A mark of our own: two closers that write the same bytes would both take themselves for the winner.
        closed = transitions.closed(held.job, self._owner, uuid.uuid4().hex)
        etag = self._objects.replace(self._bucket, self._key("open", closed.id), _bytes(closed), held.etag)
        if etag is not None:
            self._objects.remove(self._bucket, self._key("open", closed.id), etag, just_written=True)
        return etag is not None

    def sweep(self, held: Held) -> None:
        """Delete a closed record, and no other that may lie there by now."""
        self._objects.remove(self._bucket, self._key("open", held.job.id), held.etag)

    def finish(self, held: Held, done: DoneJob) -> str | None:
        """Say that the result is published, and close the job. Returns the record's ETag; None when another was first.

        What is left to tidy up after that is nobody's failure: whoever meets it next does it.
        """
        first = self._objects.create(self._bucket, self._key("done", held.job.id), _bytes(done))
        try:
            if held.job.kept:
                self.drop_kept(held.job.id)
            closed = self.close(held)
            # A failed record is left behind when whoever put the job back was stopped in between, or when another
            # worker gave the job up after our lease was over. The result is there: done is what counts.
            if held.job.retries or not closed:
                self._forget("failed", held.job.id)
        except CredentialsRefused:
            raise
        except Fault as fault:
            log.warning("job %s is done, and its open record could not be closed: %s", held.job.id, fault)
        return first

    def fail(self, held: Held, failed: FailedJob) -> bool:
        """Say why the job was given up, and close it.

        Returns:
            False when the job was not ours any more: another worker goes on with it, or has finished it.
        """
        before, etag = self._write_failed(held.job, failed)
        ours = self.close(held)
        done = self._objects.exists(self._bucket, self._key("done", held.job.id))
        # Whoever finishes a job looks for a failed record only when the job was not theirs to close.
        if ours and not done:
            return True
        key = self._key("failed", held.job.id)
        if etag is not None and (before is None or done):
            self._objects.remove(self._bucket, key, etag)
        elif etag is not None and before is not None:
            self._objects.replace(self._bucket, key, before.body, etag)  # it was the rightful owner's
        return False

    def _write_failed(self, job: Job, failed: FailedJob) -> tuple[Stored | None, str | None]:
        """Write why a job was given up, unless that was written by somebody who knew as much of the job.

        Returns:
            What lay there before, and the ETag of what was written, if anything was.
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
        """Open a failed job again, with all that is known of its requests and pages.

        The open record is written before the failed one is deleted: stopped in between, the job is open, and
        its failed record is written over or deleted when the job ends.

        Returns:
            False when the job is open already (it is being closed, or somebody else put it back).
        """
        # A nonce, as in `close`: two that put the same job back must not both take themselves for the first.
        job = transitions.put_back(failed, uuid.uuid4().hex)
        etag = self._objects.create(self._bucket, self._key("open", job.id), _bytes(job))
        if etag is None:
            return False
        key = self._key("failed", job.id)
        stored = self._objects.get(self._bucket, key)
        if stored is None or self._parse(FailedJob, stored.body, job.id) != failed:
            # Put back by another meanwhile, and ended again: what we know of it is out of date.
            self.close(Held(job, etag))
            return False
        self._objects.remove(self._bucket, key, stored.etag)
        return True

    def _forget(self, state: State, job_id: str) -> None:
        """Delete the record that lies there now, and no later one."""
        entry = self.entry(state, job_id)
        if entry is not None:
            self._objects.remove(self._bucket, self._key(state, job_id), entry.etag)

    def keep_pages(self, job_id: str, pages: PageRange, body: bytes | BinaryIO) -> None:
        """Keep pages that came: of a request that was answered at once, or of a job that failed."""
        self._objects.put(self._bucket, self._kept_key(job_id, pages), body, {}, JSON)

    def kept_pages(self, job_id: str, pages: PageRange) -> bytes | None:
        """A batch kept before; None when it is gone."""
        stored = self._objects.get(self._bucket, self._kept_key(job_id, pages))
        return None if stored is None else stored.body

    def kept_ranges(self, job_id: str) -> list[PageRange]:
        """Which pages of a job are kept, whether its record says so or not."""
        ranges = [pages for pages, _ in self._kept_entries(job_id)]
        return sorted(ranges, key=lambda pages: (pages.first, pages.last))

    def drop_kept(self, job_id: str) -> None:
        """Delete the kept pages of a job that is done, whether its record names them or not."""
        for pages, etag in list(self._kept_entries(job_id)):
            self._objects.remove(self._bucket, self._kept_key(job_id, pages), etag)

    def _kept_entries(self, job_id: str) -> Iterator[tuple[PageRange, str]]:
        for entry in self._objects.list(self._bucket, f"{self._folder}pages/{job_id}/"):
            name = re.fullmatch(r"(\d+)-(\d+)\.json", entry.key.rpartition("/")[2])
            # Strangers' files, and the markers that some tools leave for folders, are none.
            if name is not None and 1 <= int(name[1]) <= int(name[2]):
                yield PageRange(first=int(name[1]), last=int(name[2])), entry.etag

    def _kept_key(self, job_id: str, pages: PageRange) -> str:
        return f"{self._folder}pages/{job_id}/{pages.first}-{pages.last}.json"

    def claim_request(self, request_id: str, job_id: str) -> bool:
        """Say that the pages of a request are a job's. Returns False when another job has said so before.

        The API's ids should be unique. Where two processes are given the same one, neither can know, and one text would
        be published for two documents.
        """
        key = f"{self._folder}requests/{hashlib.sha256(request_id.encode()).hexdigest()[:40]}.json"
        if self._objects.create(self._bucket, key, _bytes(RequestOwner(job=job_id))) is not None:
            return True
        stored = self._objects.get(self._bucket, key)
        return stored is None or self._parse(RequestOwner, stored.body, job_id).job == job_id

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

    def forget_done(self, job_id: str, etag: str) -> bool:
        """Let a document count as new: its result is not there any more.

        Args:
            job_id: its job.
            etag: the done record that was seen before the result was looked for.

        Returns:
            False when another has written a newer one since: look again.
        """
        return self._objects.remove(self._bucket, self._key("done", job_id), etag)

    def open_again(self, record: DoneJob | FailedJob, entry: RecordEntry) -> bool:
        """Let a document count as new, so that it is recognised and paid for again; its result stays where it is.

        What was on record is kept under `earlier/` first.

        Args:
            record: the record of the document as it was read.
            entry: the same as it was listed.

        Returns:
            False when another has written a newer one since.
        """
        state: State = "done" if isinstance(record, DoneJob) else "failed"
        key = f"{self._folder}earlier/{entry.id}/{entry.etag.strip(chr(34))}.json"
        self._objects.put(self._bucket, key, _bytes(record), {}, JSON)
        return self._objects.remove(self._bucket, self._key(state, entry.id), entry.etag)

    def earlier(self, known: Container[str] = ()) -> Iterator[tuple[str, Job]]:
        """The jobs of documents as they were before they were done again, by the keys of their records.

        Args:
            known: keys that are left out: these records never change.
        """
        for entry in self._objects.list(self._bucket, f"{self._folder}earlier/"):
            stored = None if entry.key in known else self._objects.get(self._bucket, entry.key)
            if stored is not None:
                with suppress(ValidationError):  # of another version of this program
                    yield entry.key, _Earlier.model_validate_json(stored.body).job

    def earlier_record(self, job_id: str, etag: str) -> DoneJob | FailedJob | None:
        """A record as it was before its document was done again; None when there is none.

        Args:
            job_id: the job.
            etag: what the record's ETag was.

        Raises:
            RecordUnreadable: it is of another version of this program.
        """
        stored = self._objects.get(self._bucket, f"{self._folder}earlier/{job_id}/{etag}.json")
        if stored is None:
            return None
        try:
            return self._parse(DoneJob, stored.body, job_id)
        except RecordUnreadable:
            return self._parse(FailedJob, stored.body, job_id)

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """What a budget has been charged so far, with its ETag; None when nothing was."""
        stored = self._objects.get(self._bucket, self._budget_key(name))
        return None if stored is None else (stored.body, stored.etag)

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a budget over nothing (`etag` is None), or over the version read. False when another was first."""
        if etag is None:
            return self._objects.create(self._bucket, self._budget_key(name), body) is not None
        return self._objects.replace(self._bucket, self._budget_key(name), body, etag) is not None

    def _budget_key(self, name: str) -> str:
        return f"{self._folder}budgets/{name}.json"

    def read_backfill(self, name: str) -> tuple[bytes, str] | None:
        """The record of a backfill, with its ETag; None when there is none of that name."""
        stored = self._objects.get(self._bucket, self._backfill_key(name))
        return None if stored is None else (stored.body, stored.etag)

    def write_backfill(self, name: str, body: bytes, etag: str | None) -> bool:
        """Write a backfill's record over nothing, or over the version read. False when another was first."""
        if etag is None:
            return self._objects.create(self._bucket, self._backfill_key(name), body) is not None
        return self._objects.replace(self._bucket, self._backfill_key(name), body, etag) is not None

    def backfill_names(self) -> list[str]:
        """The backfills of this destination."""
        folder = f"{self._folder}backfills/"
        keys = (entry.key.removeprefix(folder) for entry in self._objects.list(self._bucket, folder))
        return [key.removesuffix(".json") for key in keys if key.endswith(".json") and "/" not in key]

    def report_key(self, name: str) -> str:
        """Where the report of a backfill lies, a page for people."""
        return f"{self._folder}backfills/{name}/report.html"

    def _backfill_key(self, name: str) -> str:
        return f"{self._folder}backfills/{name}.json"

    def entries(self, state: State) -> Iterator[RecordEntry]:
        """The records in one state, as listed; costs no reads. In no order: many are listed by their first digits."""
        folder = f"{self._folder}{state}/"
        for entry in self._objects.list(self._bucket, folder, divide=lambda: [folder + digit for digit in _DIGITS]):
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
                    f"{RECORD_FORMAT}) and is left alone: update the program here, or let the newer one "
                    "continue with it"
                ) from error
            first = error.errors()[0]
            raise RecordUnreadable(
                f"{record} cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']}) and is left alone: it "
                "was written by another version of this program, or edited; use that version, or move the record away"
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
