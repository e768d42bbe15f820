"""A listing of source and ledger that brings a backfill's figures up to date, a little at a time.

A listing of a million documents takes minutes. Meanwhile the figures are read, and what they find is newer than the
listing, which shows the ledger as it was when it began.
"""

import tempfile
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path

from tasks.backfills.done import DoneDocuments
from tasks.backfills.failed import FailedDocuments
from tasks.context import RunContext
from tasks.job.record import Document
from tasks.scratch import process_folder
from tasks.steps.census import Census
from tasks.steps.discover import discover
from tasks.store.aside import AsideNotes
from tasks.tally import KnownJobs

_WRITTEN_SECONDS = 90.0  # between the end of a document and its record, with clocks that differ by half a minute


class CensusListing:
    """One listing. Not thread-safe.

    Args:
        context: the context, opened for all documents of the backfill.
        census: the documents by state.
        done: the finished documents that are known.
        failed: the failed documents that are known.
        partition_of: returns the partition of a document.

    Attributes:
        began_at: when it began.
        seconds: how long has been spent on it.
    """

    def __init__(
        self,
        context: RunContext,
        census: Census,
        done: DoneDocuments,
        failed: FailedDocuments,
        partition_of: Callable[[Document], str],
    ) -> None:
        self.began_at: datetime = context.clock.now()
        self.seconds = 0.0
        self._context, self._census, self._done, self._failed = context, census, done, failed
        self._partition_of = partition_of
        self._steps = self._list()

    def go_on(self, seconds: float | None = None) -> bool:
        """Continue.

        Args:
            seconds: for how long; None to list everything.

        Returns:
            Whether it is complete.

        Raises:
            SetupFault, TransientFault: source or ledger cannot be read. The listing cannot be continued.
        """
        clock = self._context.clock
        began = clock.monotonic()
        try:
            for _ in self._steps:
                if seconds is not None and clock.monotonic() - began >= seconds:
                    return False
        finally:
            self.seconds += clock.monotonic() - began
        return True

    def close(self) -> None:
        """Delete its temporary files."""
        self._steps.close()

    def _list(self) -> Generator[None]:
        """List source and ledger, and note the state of every document; yields often."""
        context, census = self._context, self._census
        for file in (census, self._done, self._failed):
            file.begin()  # before the ledger is listed: what changes from then on is newer
        with tempfile.TemporaryDirectory(dir=process_folder()) as folder, KnownJobs(Path(folder)) as known:
            yield from known.load_gradually(context.ledger)
            aside = set(AsideNotes(context.objects, context.destination).ids())
            for discovered in discover(context, known, look_only=True):
                job_id, state = (
                    discovered.job_id,
                    discovered.state or ("aside" if discovered.job_id in aside else "new"),
                )
                written, is_known = known.written(job_id), False
                if state == "done":
                    is_known = self._done.confirm(job_id, written, _WRITTEN_SECONDS)
                elif state == "failed":
                    is_known = self._failed.confirm(job_id, written)
                census.put(job_id, self._partition_of(discovered.document), state, known=is_known, written=written)
                yield
        for file in (census, self._done, self._failed):
            file.end()
