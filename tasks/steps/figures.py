"""Reads the figures of a backfill from the ledger; what does not change is read once."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tasks.backfills.figures import Counted, DoneFigures, FailedFigures, Figures, OpenFigures, figures
from tasks.backfills.record import Backfill
from tasks.context import RunContext
from tasks.faults import RecordUnreadable
from tasks.job.record import Document, Job
from tasks.options import Options, RunSettings
from tasks.scratch import process_folder
from tasks.steps.discover import discover
from tasks.store.aside import AsideNotes
from tasks.tally import KnownJobs
from tasks.upstage.budget import Charged, read_charged

_READERS = 8
_MOST_READ = 5000  # records in one look; the others come with the next
_MOST_KEPT = 200_000
_MOST_OPEN = 500
_SHOWN_RUN = 8  # letters of a run's id: enough to find it

Value = TypeVar("Value")


def settings_of(backfill: Backfill, settings: RunSettings | None = None) -> RunSettings:
    """The settings that mean all the documents of a backfill.

    Args:
        backfill: the backfill.
        settings: those of a run, for how its store is used and where the secrets are.
    """
    # As the model declares it: pydantic takes "schema" as well as the field's name.
    changes = {"model": backfill.model, "answer_schema": backfill.answer_schema, "shards": 1, "shard": 1}
    given = {} if settings is None else dict(settings.options)
    return RunSettings(
        source=backfill.source,
        destination=backfill.destination,
        selection=backfill.selection,
        options=Options.model_validate({**given, **changes}),
        **({} if settings is None else {"credentials": settings.credentials}),
        backfill=backfill.name,
    )


class FiguresReader:
    """Reads the figures of one backfill again and again.

    Args:
        context: the tools, opened for all the documents of the backfill: see `settings_of`.
        name: the backfill's.
    """

    def __init__(self, context: RunContext, name: str) -> None:
        self._context = context
        self._name = name
        self._done: dict[str, tuple[float, DoneFigures]] = {}
        self._failed: dict[str, tuple[float, FailedFigures]] = {}
        self._earlier: dict[str, tuple[str, int]] = {}  # by record: partition, and pages spent

    def read(self) -> Figures | None:
        """The figures as they are now; None when there is no such backfill.

        Raises:
            SetupFault, Passes: source or ledger cannot be read.
        """
        backfill = self._context.backfills.read(self._name)
        return None if backfill is None else self.read_of(backfill)

    def read_of(self, backfill: Backfill) -> Figures:
        """The figures of a backfill that need not be on record yet.

        Raises:
            SetupFault, Passes: as for `read`.
        """
        context = self._context
        with tempfile.TemporaryDirectory(dir=process_folder()) as folder, KnownJobs(Path(folder)) as known:
            known.load(context.ledger)
            aside = set(AsideNotes(context.objects, context.destination).ids())
            states: Counter[tuple[str, str]] = Counter()
            unread: dict[str, list[tuple[str, str]]] = {"done": [], "failed": [], "open": []}
            done, failed = [], []
            for found in discover(context, known, look_only=True):
                partition = self._partition(found.document)
                state = found.state or ("aside" if found.job_id in aside else "new")
                states[partition, state] += 1
                written = known.written(found.job_id)
                if state == "done":
                    have = self._done.get(found.job_id)
                    if have is not None and have[0] == written:
                        done.append(have[1])
                        continue
                elif state == "failed":
                    given_up = self._failed.get(found.job_id)
                    if given_up is not None and given_up[0] == written:
                        failed.append(given_up[1])
                        continue
                if state in unread and len(unread[state]) < (_MOST_OPEN if state == "open" else _MOST_READ):
                    unread[state].append((found.job_id, partition))
            for job_id, one in self._several(unread["done"], self._read_done):
                if len(self._done) < _MOST_KEPT:
                    self._done[job_id] = known.written(job_id), one
                done.append(one)
            for job_id, other in self._several(unread["failed"], self._read_failed):
                self._failed[job_id] = known.written(job_id), other
                failed.append(other)
            for key, job in context.ledger.earlier(self._earlier):
                self._earlier[key] = self._partition(job.document), self._spent(job)
            opened = [job for _, job in self._several(unread["open"], self._read_open)]
        # The meter last: what was counted above is on it by now.
        stored = context.ledger.read_budget(backfill.meter)
        spent = Charged() if stored is None else read_charged(backfill.meter, stored[0])
        now = context.clock.now()
        earlier = list(self._earlier.values())
        return figures(backfill, now, Counted(states), done, opened, failed, earlier, spent, self.serving(backfill))

    def serving(self, backfill: Backfill) -> list[str]:
        """The runs that work for a backfill now: their processes show that they live."""
        return [
            f"{server.who}, since {server.since:%Y-%m-%d %H:%M} UTC (run {server.run[:_SHOWN_RUN]})"
            for server in backfill.served_by
            if self._context.heartbeats.alive(server.owner)
        ]

    def _partition(self, document: Document) -> str:
        context = self._context
        return context.settings.selection.partition_of(context.source.relative(document.key), document.last_modified)

    def _several(
        self, jobs: list[tuple[str, str]], read: Callable[[str, str], Value | None]
    ) -> Iterator[tuple[str, Value]]:
        if not jobs:
            return
        with ThreadPoolExecutor(min(_READERS, len(jobs))) as pool:
            for (job_id, _), value in zip(jobs, pool.map(lambda job: read(*job), jobs), strict=True):
                if value is not None:
                    yield job_id, value

    def _read_done(self, job_id: str, partition: str) -> DoneFigures | None:
        try:
            record = self._context.ledger.done(job_id)
        except RecordUnreadable:
            return None
        if record is None:
            return None
        seconds = (record.finished_at - record.job.claimed_at).total_seconds()
        uri = record.job.document.uri
        return DoneFigures(
            partition,
            uri,
            record.pages,
            self._spent(record.job),
            seconds,
            record.finished_at,
            record.durations.at_api if record.durations else None,
            record.measured.confidence if record.measured else None,
        )

    def _read_failed(self, job_id: str, partition: str) -> FailedFigures | None:
        try:
            record = self._context.ledger.failed(job_id)
        except RecordUnreadable:
            return None
        if record is None:
            return None
        return FailedFigures(partition, record.code, record.reason, self._spent(record.job))

    def _read_open(self, job_id: str, partition: str) -> OpenFigures | None:
        try:
            held = self._context.ledger.read(job_id)
        except RecordUnreadable:
            return None
        if held is None:
            return None
        lease = held.job.lease
        stopped = lease is not None and not self._context.heartbeats.alive(lease.owner)
        at_api = lease is None and bool(held.job.open_requests)
        return OpenFigures(partition, at_api, lease.until if lease and stopped else None, self._spent(held.job))

    def _spent(self, job: Job) -> int:
        """The pages of a job that are paid for, or may be, on this backfill's account."""
        return job.pages_sent + job.pages_lost if job.backfill == self._name else 0
