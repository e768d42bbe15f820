"""Reads the figures of a backfill from the ledger. Records that no longer change are read once."""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from tasks.backfills.done import DoneDocuments, DoneFigures
from tasks.backfills.earlier import EarlierRecords
from tasks.backfills.failed import FailedDocuments, FailedFigures
from tasks.backfills.figures import Counted, Figures, OpenFigures, figures
from tasks.backfills.published import Published
from tasks.backfills.record import Backfill
from tasks.budget.charged import Charged, read_charged
from tasks.context import RunContext
from tasks.faults import RecordUnreadable, TransientFault
from tasks.job.record import Document, DoneJob, Job
from tasks.options import Options, RunSettings
from tasks.scratch import process_folder
from tasks.steps.census import Census
from tasks.steps.census_listing import CensusListing
from tasks.steps.discover import several
from tasks.store.ledger import Held, RecordEntry

log = logging.getLogger(__name__)

_READERS = 8
_MOST_READ = 5000  # records per reading; the rest follow with the next one
_READ_SECONDS = 0.3  # for which records of a state are read, except with a complete listing
_MOST_OPEN = 500
_SHARE = 0.1  # maximum share of the time spent on reading, without listings
_LISTING_REST = 19  # pause after a listing, as a multiple of its duration: listings take a twentieth of the time
_LISTING_SECONDS = 0.2  # for which a listing is continued in a reading; half as long as the reading if that is longer
_LISTING_FAULT_SECONDS = 60.0  # pause after a listing that broke off
_SHOWN_RUN = 8  # letters of a run's id: enough to find it

Value = TypeVar("Value")


def settings_of(backfill: Backfill, settings: RunSettings | None = None) -> RunSettings:
    """Run settings that select all documents of a backfill.

    Args:
        backfill: the backfill.
        settings: a run's settings, for its store options and the source of its secrets.
    """
    # By field name: pydantic also accepts the alias "schema".
    changes = {"model": backfill.model, "answer_schema": backfill.answer_schema, "shards": 1, "shard": 1}
    run_options = {} if settings is None else dict(settings.options)
    return RunSettings(
        source=backfill.source,
        destination=backfill.destination,
        selection=backfill.selection,
        options=Options.model_validate({**run_options, **changes}),
        **({} if settings is None else {"credentials": settings.credentials}),
        backfill=backfill.name,
    )


class FiguresReader:
    """Reads the figures of one backfill repeatedly.

    Source and ledger are listed completely for the first reading. Later listings are divided among many readings, and
    take a twentieth of the time. In between, only what can change is read: the open jobs, which are few, and those that
    are no longer open.

    Args:
        context: the context, opened for all documents of the backfill; see `settings_of`.
        name: the name of the backfill.
        published: documents that this process publishes itself, and whose records it need not read.

    Attributes:
        pause: seconds to wait before the next reading, so that readings, without listings, take a tenth of the time.
            After a complete listing, which may have taken minutes, it is 0: the next reading is short.
    """

    def __init__(self, context: RunContext, name: str, published: Published | None = None) -> None:
        self.pause = 0.0
        self._context = context
        self._name = name
        self._published = published
        self._open: dict[str, tuple[str, Job]] = {}  # by job: the version of its record, and the record
        self._folder = tempfile.TemporaryDirectory(dir=process_folder())
        self._census = Census(Path(self._folder.name))
        self._done = DoneDocuments(Path(self._folder.name))
        self._failed = FailedDocuments(Path(self._folder.name))
        self._earlier = EarlierRecords(Path(self._folder.name))
        self._listing: CensusListing | None = None
        self._listed_at: datetime | None = None
        self._list_at = 0.0  # by the monotonic clock
        self._looked_for = 0.0  # duration of the last short reading, without listing
        self._reading = threading.Lock()
        if published is not None:
            published.follow(self._figures_of)

    def read(self, *, everything: bool = False) -> Figures | None:
        """Return the current figures; None if there is no such backfill.

        Args:
            everything: list source and ledger completely, however recent the last listing is.

        Raises:
            SetupFault, TransientFault: source or ledger cannot be read.
        """
        backfill = self._context.backfills.read(self._name)
        return None if backfill is None else self.read_of(backfill, everything=everything)

    def read_of(self, backfill: Backfill, *, everything: bool = False) -> Figures:
        """Return the figures of a backfill that need not be recorded yet.

        Raises:
            SetupFault, TransientFault: as for `read`. A listing after the first that breaks off by a fault of the
                moment is begun anew later instead.
        """
        clock = self._context.clock
        with self._reading:
            if everything or self._listed_at is None:
                self.pause = 0.0
                self._list()
                return self._look_at(backfill, None)
            try:
                self._continue_listing()
            except TransientFault as fault:  # nothing that is read below depends on it: failures are seen all the same
                log.info("the listing of backfill %s broke off, and begins anew later: %s", self._name, fault)
                self._list_at = clock.monotonic() + _LISTING_FAULT_SECONDS
            began = clock.monotonic()
            try:
                return self._look_at(backfill, _READ_SECONDS)
            finally:
                self._looked_for = clock.monotonic() - began
                self.pause = self._looked_for / _SHARE

    def _list(self) -> None:
        """List source and ledger completely."""
        if self._listing is not None:
            self._listing.close()
        self._go_on(self._new_listing(), None)

    def _continue_listing(self) -> None:
        """Continue the listing in progress, or begin one if it is due."""
        if self._listing is None and self._context.clock.monotonic() < self._list_at:
            return
        self._go_on(self._listing or self._new_listing(), max(_LISTING_SECONDS, self._looked_for / 2))

    def _new_listing(self) -> CensusListing:
        return CensusListing(self._context, self._census, self._done, self._failed, self._partition)

    def _go_on(self, listing: CensusListing, seconds: float | None) -> None:
        self._listing = None  # one that fails cannot be continued
        if not listing.go_on(seconds):
            self._listing = listing
            return
        self._listed_at = listing.began_at
        self._list_at = self._context.clock.monotonic() + listing.seconds * _LISTING_REST

    def _look_at(self, backfill: Backfill, seconds: float | None) -> Figures:
        """Read what has changed, and return the figures.

        Args:
            backfill: the backfill.
            seconds: for how long the records of a state are read; None for no limit.
        """
        context, census = self._context, self._census
        self._take_published()
        open_now = {entry.id: entry for entry in context.ledger.entries("open")}
        self._look(open_now)
        read = []
        for job_id, done in self._several(census.unknown("done", _MOST_READ), self._read_done, seconds):
            if isinstance(done, DoneFigures):
                self._done.put(job_id, done)
            read.append(job_id)
        for job_id, failed in self._several(census.unknown("failed", _MOST_READ), self._read_failed, seconds):
            if isinstance(failed, tuple):
                written, figures_of = failed
                self._failed.put(job_id, written, figures_of)
            read.append(job_id)
        census.note_known(read)
        unread = [(key, "") for key in islice(context.ledger.earlier_keys(self._earlier), _MOST_READ)]
        for key, earlier in self._several(unread, self._read_earlier, seconds):
            if isinstance(earlier, Job):
                self._earlier.put(key, self._partition(earlier.document), *self._spent(earlier))
            else:
                self._earlier.put(key, None, 0, 0)
        opened = self._read_open(open_now, seconds)
        # The meter is read last, so that it includes everything counted above.
        stored = context.ledger.read_budget(backfill.meter)
        spent = Charged() if stored is None else read_charged(backfill.meter, stored[0])
        backfill_figures = figures(
            backfill,
            context.clock.now(),
            Counted(census.counted()),
            self._done.summary(),
            opened,
            self._failed.summary(),
            self._earlier.summary(),
            spent,
            self.serving(backfill),
        )
        backfill_figures.listed_at = self._listed_at
        return backfill_figures

    def close(self) -> None:
        """Delete the temporary files."""
        with self._reading:
            if self._listing is not None:
                self._listing.close()
            for file in (self._census, self._done, self._failed, self._earlier):
                file.close()
            self._folder.cleanup()

    def _look(self, open_now: Mapping[str, RecordEntry]) -> None:
        """Note changes since the listing: which jobs are open, and the new states of those that no longer are."""
        census, ledger, now = self._census, self._context.ledger, self._context.clock.now().timestamp()
        opened = []
        for job_id, (_, state) in census.found(open_now).items():
            # A job that is being closed has an open and a done record for a moment; one that is done again does not.
            if state != "open" and not (state == "done" and ledger.entry("done", job_id) is not None):
                opened.append(job_id)
                if state in ("done", "failed"):
                    self._forget(job_id)
        census.change(opened, "open", now)
        failed_now = {entry.id for entry in ledger.entries("failed")}
        # If there are both records, done takes precedence.
        failed = (job_id for job_id, (_, state) in census.found(failed_now).items() if state not in ("failed", "done"))
        census.change(failed, "failed", now)
        put_back = [job_id for job_id in census.ids("failed") if job_id not in failed_now and job_id not in open_now]
        for job_id in put_back:
            self._forget(job_id)
        census.change(put_back, "new", now)
        vanished = [job_id for job_id in census.ids("open") if job_id not in open_now]
        # Most likely published; if there is no done record, its claim was released.
        entries = list(several(partial(ledger.entry, "done"), vanished, _READERS))
        census.change((job_id for job_id, done in entries if done is not None), "done", now)
        census.change((job_id for job_id, done in entries if done is None), "new", now)

    def _take_published(self) -> None:
        """Note what this process has published since the last reading."""
        published = {} if self._published is None else dict(self._published.take())
        found = self._census.found(published)
        for job_id, (_, state) in found.items():
            if state == "failed":
                self._failed.forget(job_id)
            self._done.put(job_id, published[job_id])
        self._census.change(found, "done", self._context.clock.now().timestamp(), known=True)

    def _forget(self, job_id: str) -> None:
        self._done.forget(job_id)
        self._failed.forget(job_id)

    def serving(self, backfill: Backfill) -> list[str]:
        """Return the runs that currently serve a backfill, according to the heartbeats of their processes."""
        return [
            f"{server.who}, since {server.since:%Y-%m-%d %H:%M} UTC (run {server.run[:_SHOWN_RUN]})"
            for server in backfill.served_by
            if self._context.heartbeats.alive(server.owner)
        ]

    def _partition(self, document: Document) -> str:
        context = self._context
        return context.settings.selection.partition_of(context.source.relative(document.key), document.last_modified)

    def _several(
        self, jobs: list[tuple[str, str]], read: Callable[[str, str], Value | None], seconds: float | None = None
    ) -> Iterator[tuple[str, Value]]:
        """Read the records of jobs concurrently, and yield those that exist; for so many seconds at most."""
        clock = self._context.clock
        began = clock.monotonic()
        with closing(several(lambda job: read(*job), jobs, _READERS)) as values:
            for (job_id, _), value in values:
                if value is not None:
                    yield job_id, value
                if seconds is not None and clock.monotonic() - began >= seconds:
                    return

    def _read_done(self, job_id: str, _partition: str) -> DoneFigures | Literal["unreadable"] | None:
        try:
            record = self._context.ledger.done(job_id)
        except RecordUnreadable:
            return "unreadable"  # by this version of the program, now and later
        return None if record is None else self._figures_of(record)

    def _figures_of(self, record: DoneJob) -> DoneFigures:
        return DoneFigures(
            self._partition(record.job.document),
            record.job.document.uri,
            record.pages,
            *self._spent(record.job),
            (record.finished_at - record.job.claimed_at).total_seconds(),
            record.finished_at,
            record.durations.at_api if record.durations else None,
            record.measured.confidence if record.measured else None,
        )

    def _read_failed(self, job_id: str, partition: str) -> tuple[float, FailedFigures] | Literal["unreadable"] | None:
        """Return when the record was written, and its data."""
        try:
            entry, record = self._context.ledger.entry("failed", job_id), self._context.ledger.failed(job_id)
        except RecordUnreadable:
            return "unreadable"
        if record is None or entry is None:
            return None
        figures_of = FailedFigures(
            partition,
            record.code,
            record.reason,
            *self._spent(record.job),
            record.job.document.uri,
            record.flow_run,
        )
        return entry.last_modified.timestamp(), figures_of

    def _read_earlier(self, key: str, _partition: str) -> Job | Literal["unreadable"]:
        return self._context.ledger.earlier_job(key) or "unreadable"

    def _read_open(self, open_now: Mapping[str, RecordEntry], seconds: float | None) -> list[OpenFigures]:
        """Return the figures of open jobs, up to a limit; only records that have changed are read again."""
        entries = self._census.found(open_now).items()
        selected = dict(islice(((job_id, where) for job_id, where in entries if where[1] == "open"), _MOST_OPEN))
        unread = [
            (job_id, partition)
            for job_id, (partition, _) in selected.items()
            if job_id not in self._open or self._open[job_id][0] != open_now[job_id].etag
        ]
        unread.sort(key=lambda job: job[0] in self._open)  # those that are not known at all first
        for job_id, held in self._several(unread, self._read_held, seconds):
            self._open[job_id] = open_now[job_id].etag, held.job
        self._open = {job_id: record for job_id, record in self._open.items() if job_id in selected}
        return [self._open_figures(selected[job_id][0], job) for job_id, (_, job) in self._open.items()]

    def _read_held(self, job_id: str, _partition: str) -> Held | None:
        try:
            return self._context.ledger.read(job_id)
        except RecordUnreadable:
            return None

    def _open_figures(self, partition: str, job: Job) -> OpenFigures:
        lease = job.lease
        stopped = lease is not None and not self._context.heartbeats.alive(lease.owner)
        at_api = lease is None and bool(job.open_requests)
        until = lease.until if lease and stopped else None
        return OpenFigures(partition, at_api, until, *self._spent(job), job.claimed_at)

    def _spent(self, job: Job) -> tuple[int, int]:
        """Return what a job has charged to this backfill: pages paid or possibly paid for, and possible duplicates."""
        if job.backfill != self._name:
            return 0, 0
        return job.pages_sent + job.pages_lost, job.possible_duplicates
