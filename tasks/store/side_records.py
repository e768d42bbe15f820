"""The ledger's records beside those of the jobs: budgets, backfills, and the pages kept of unfinished jobs."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from tasks.job.record import PageRange
from tasks.store.location import LEDGER_FOLDER, Location
from tasks.store.object_store import JSON, ObjectStore


class SideRecords:
    """Reads and writes the records beside those of the jobs; see `Ledger`."""

    def __init__(self, objects: ObjectStore, destination: Location, owner: str = "") -> None:
        self._owner = owner
        self._objects = objects
        self._bucket = destination.bucket
        self._folder = destination.key(LEDGER_FOLDER)

    @property
    def folder(self) -> str:
        """The key prefix of all records."""
        return self._folder

    @property
    def address(self) -> str:
        """The folder's address."""
        return f"s3://{self._bucket}/{self._folder}"

    def keep_pages(self, job_id: str, pages: PageRange, body: bytes | BinaryIO) -> None:
        """Store received pages: those of a synchronous request, or of a job that failed."""
        self._objects.put(self._bucket, self._kept_key(job_id, pages), body, {}, JSON)

    def kept_pages(self, job_id: str, pages: PageRange) -> bytes | None:
        """Read pages stored earlier; None if they are gone."""
        stored = self._objects.get(self._bucket, self._kept_key(job_id, pages))
        return None if stored is None else stored.body

    def kept_ranges(self, job_id: str) -> list[PageRange]:
        """Return the page ranges stored for a job, whether or not its record mentions them."""
        ranges = [pages for pages, _ in self._kept_entries(job_id)]
        return sorted(ranges, key=lambda pages: (pages.first, pages.last))

    def drop_kept(self, job_id: str) -> None:
        """Delete the stored pages of a finished job, whether or not its record mentions them."""
        for pages, etag in list(self._kept_entries(job_id)):
            self._objects.remove(self._bucket, self._kept_key(job_id, pages), etag)

    def _kept_entries(self, job_id: str) -> Iterator[tuple[PageRange, str]]:
        for entry in self._objects.list(self._bucket, f"{self._folder}pages/{job_id}/"):
            name = re.fullmatch(r"(\d+)-(\d+)\.json", entry.key.rpartition("/")[2])
            # Skip other files, and the folder markers that some tools create.
            if name is not None and 1 <= int(name[1]) <= int(name[2]):
                yield PageRange(first=int(name[1]), last=int(name[2])), entry.etag

    def _kept_key(self, job_id: str, pages: PageRange) -> str:
        return f"{self._folder}pages/{job_id}/{pages.first}-{pages.last}.json"

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        """Read a budget with its ETag; None if nothing has been charged yet."""
        return self._read(self._budget_key(name))

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        """Create a budget (`etag` is None), or replace the version read. Returns False if another writer was first."""
        return self._write(self._budget_key(name), body, etag)

    def _budget_key(self, name: str) -> str:
        return f"{self._folder}budgets/{name}.json"

    def read_backfill(self, name: str) -> tuple[bytes, str] | None:
        """Read a backfill's record with its ETag; None if there is none of that name."""
        return self._read(self._backfill_key(name))

    def write_backfill(self, name: str, body: bytes, etag: str | None) -> bool:
        """Create a backfill's record (`etag` is None), or replace the version read. Returns False if it had changed."""
        return self._write(self._backfill_key(name), body, etag)

    def backfill_names(self) -> list[str]:
        """Return the names of this destination's backfills."""
        folder = f"{self._folder}backfills/"
        keys = (entry.key.removeprefix(folder) for entry in self._objects.list(self._bucket, folder))
        return [key.removesuffix(".json") for key in keys if key.endswith(".json") and "/" not in key]

    def report_key(self, name: str) -> str:
        """Return the key of a backfill's report, an HTML page."""
        return f"{self._folder}backfills/{name}/report.html"

    def _backfill_key(self, name: str) -> str:
        return f"{self._folder}backfills/{name}.json"

    def _read(self, key: str) -> tuple[bytes, str] | None:
        stored = self._objects.get(self._bucket, key)
        return None if stored is None else (stored.body, stored.etag)

    def _write(self, key: str, body: bytes, etag: str | None) -> bool:
        if etag is None:
            return self._objects.create(self._bucket, key, body) is not None
        return self._objects.replace(self._bucket, key, body, etag) is not None
