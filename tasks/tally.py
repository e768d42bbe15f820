"""The job states and sums of one run. States are kept on disk, so that millions of jobs need no memory."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.backfills.figures import Figures
from tasks.clock import Clock
from tasks.job.outcome import Outcome
from tasks.report import RunReport
from tasks.scratch import scratch_database
from tasks.store.ledger import Held, Ledger, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Census:
    """The number of a run's documents in each state.

    Attributes:
        open: the job is open in the ledger.
        done: finished in this run.
        failed: given up in this run.
        done_before: finished before this run, or by another run.
        failed_before: given up before this run, or by another run.
        aside: set aside in this run.
        left: without a job; nothing was sent.
    """

    open: int = 0
    done: int = 0
    failed: int = 0
    done_before: int = 0
    failed_before: int = 0
    aside: int = 0
    left: int = 0

    @property
    def finished(self) -> int:
        """The documents that are done or failed, in this run or before."""
        return self.done + self.failed + self.done_before + self.failed_before

    @property
    def documents(self) -> int:
        """The documents in any state."""
        return self.finished + self.open + self.aside + self.left


def _all(_job_id: str) -> bool:
    return True


class KnownJobs:
    """The job ids in the ledger when the run began, updated with what the run learns, in a temporary SQLite file.

    It only saves calls. Claims in the ledger decide who works on a job, so an outdated entry costs a call, never money.
    Not thread-safe.

    Args:
        folder: where the file is created.
    """

    def __init__(self, folder: Path) -> None:
        self._ledger: Ledger | None = None
        self._path = folder / "known-jobs.sqlite"
        self._database = scratch_database(self._path)
        self._database.execute(
            "CREATE TABLE known "
            "(id TEXT PRIMARY KEY, state TEXT, before INTEGER, counted INTEGER, written REAL, "
            "left_over INTEGER DEFAULT 0, aside INTEGER DEFAULT 0) WITHOUT ROWID"
        )

    def load(
        self,
        ledger: Ledger,
        states: tuple[State, ...] = ("open", "failed", "done"),
        ours: Callable[[str], bool] = _all,
    ) -> int:
        """List the jobs of this run. Returns how many of them are open.

        Open jobs are listed first, so that a job that is closed during the listing is not missed. Done jobs are listed
        last, so that `done` wins where there is a failed record as well.

        Args:
            ledger: the ledger.
            states: the states to list, in this order.
            ours: whether a job id belongs to this run.
        """
        for _ in self.load_gradually(ledger, states, ours):
            pass
        return self.number("open")

    def load_gradually(
        self,
        ledger: Ledger,
        states: tuple[State, ...] = ("open", "failed", "done"),
        ours: Callable[[str], bool] = _all,
    ) -> Iterator[None]:
        """Do the same, but yield after each job, so that the caller regains control."""
        for state in states:
            for entry in filter(lambda entry: ours(entry.id), ledger.entries(state)):
                self._database.execute(
                    "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, ?, 0, ?) "
                    "ON CONFLICT (id) DO UPDATE "
                    "SET state = excluded.state, before = excluded.before, written = excluded.written",
                    (entry.id, state, state != "open", entry.last_modified.timestamp()),
                )
                yield
        self._database.commit()

    def load_open(self, ledger: Ledger, ours: Callable[[str], bool] = _all) -> int:
        """List the open jobs only, for the first time or again. Returns how many of this run's there are.

        `look` then asks the ledger whether a job is done or failed. That takes two calls a document; listing the done
        jobs takes one call per thousand of all there have ever been.

        Args:
            ledger: the ledger.
            ours: whether a job id belongs to this run.
        """
        self._ledger = ledger
        # Open jobs that are no longer listed were closed or released.
        self._database.execute("DELETE FROM known WHERE NOT counted AND (state IS NULL OR state = 'open')")
        self._database.execute("UPDATE known SET state = NULL WHERE state = 'open'")
        return self.load(ledger, ("open",), ours)

    def look(self, job_id: str) -> State | None:
        """Return the state of the job; if only open jobs were listed, unknown ones are looked up in the ledger."""
        state = self.state(job_id)
        if state is not None or self._ledger is None:
            return state
        closed_states: tuple[State, ...] = ("done", "failed")
        for closed_state in closed_states:
            entry = self._ledger.entry(closed_state, job_id)
            if entry is not None:
                self._database.execute(
                    "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, 1, 0, ?) "
                    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, before = 1, written = excluded.written",
                    (job_id, closed_state, entry.last_modified.timestamp()),
                )
                return closed_state
        return None

    def state(self, job_id: str) -> State | None:
        """Return the last known state of the job; None if it is new."""
        row = self._database.execute("SELECT state FROM known WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def written(self, job_id: str) -> float:
        """Return when the job's record was written, as a UNIX time; 0 if unknown."""
        row = self._database.execute("SELECT written FROM known WHERE id = ?", (job_id,)).fetchone()
        return float(row[0] or 0) if row else 0.0

    def done_before(self, job_id: str, moment: datetime) -> bool:
        """Return whether the job was done before a moment."""
        row = self._database.execute(
            "SELECT 1 FROM known WHERE id = ? AND state = 'done' AND written < ?", (job_id, moment.timestamp())
        ).fetchone()
        return row is not None

    def count(self, job_id: str, state: State | None) -> None:
        """Count the job as one of this run's, in its latest state (None: not claimed yet)."""
        self._database.execute(
            "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, 0, 1, NULL) "
            "ON CONFLICT (id) DO UPDATE SET counted = 1, state = coalesce(excluded.state, state), "
            "before = before AND coalesce(excluded.state, state) = state, "
            "aside = aside AND coalesce(excluded.state, 'open') = 'open'",
            (job_id, state),
        )

    def forget(self, job_id: str) -> None:
        """Remove the job: the listed version of its document is gone."""
        self._database.execute("DELETE FROM known WHERE id = ?", (job_id,))

    def settle_elsewhere(self, job_id: str, state: State) -> None:
        """Set the state of a job that another run has closed."""
        self._database.execute("UPDATE known SET state = ?, before = 1, aside = 0 WHERE id = ?", (state, job_id))

    def give_back(self, job_id: str) -> None:
        """Reset a job whose claim was released: its document no longer has a job."""
        self._database.execute("UPDATE known SET state = NULL, before = 0 WHERE id = ? AND state = 'open'", (job_id,))

    def reopen(self, job_id: str) -> None:
        """Note that a document is to be done again: it has no job any more."""
        self._database.execute("UPDATE known SET state = NULL, before = 0, left_over = 0 WHERE id = ?", (job_id,))

    def leave(self, job_id: str) -> None:
        """Leave the job to later runs: this run can do nothing more for it."""
        self._database.execute(
            "INSERT INTO known (id, state, before, counted, left_over) VALUES (?, NULL, 0, 0, 1) "
            "ON CONFLICT (id) DO UPDATE SET left_over = 1",
            (job_id,),
        )

    def set_aside(self, job_id: str) -> None:
        """Count the job as set aside: it needs a person, and this run can do nothing more for it."""
        self.count(job_id, None)
        self.leave(job_id)
        self._database.execute("UPDATE known SET aside = 1 WHERE id = ?", (job_id,))

    def is_left(self, job_id: str) -> bool:
        """Return whether the job is left to later runs."""
        return (
            self._database.execute("SELECT 1 FROM known WHERE id = ? AND left_over", (job_id,)).fetchone() is not None
        )

    def settle(self, job_id: str, state: State | None) -> None:
        """Set the current state of a job; None if the job no longer exists."""
        if state is None:
            self.forget(job_id)
            return
        self._database.execute(
            "INSERT INTO known (id, state, before, counted) VALUES (?, ?, 0, 0) "
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            (job_id, state),
        )

    def unfinished(self) -> Iterator[str]:
        """Yield this run's jobs that are neither done nor failed, according to the last known state."""
        rows = self._database.execute(
            "SELECT id FROM known WHERE counted AND (state IS NULL OR state = 'open')"
        ).fetchall()
        return (row[0] for row in rows)

    def open_jobs(self) -> list[str]:
        """Return this run's open jobs, except those that are left to later runs."""
        rows = self._database.execute("SELECT id FROM known WHERE counted AND state = 'open' AND NOT left_over")
        return [row[0] for row in rows]

    def unclaimed(self) -> int:
        """Return how many of this run's documents have no job yet and are not left to later runs."""
        row = self._database.execute(
            "SELECT count(*) FROM known WHERE counted AND state IS NULL AND NOT left_over"
        ).fetchone()
        return int(row[0])

    def belongs_to_run(self, job_id: str) -> bool:
        """Return whether the job is counted as one of this run's."""
        return self._database.execute("SELECT 1 FROM known WHERE id = ? AND counted", (job_id,)).fetchone() is not None

    def in_state(self, state: State) -> Iterator[str]:
        """Yield the jobs in a state, whether they are counted for this run or not."""
        rows = self._database.execute("SELECT id FROM known WHERE state = ?", (state,)).fetchall()
        return (row[0] for row in rows)

    def number(self, state: State) -> int:
        """Return how many jobs are in a state, whether they are counted for this run or not."""
        row = self._database.execute("SELECT count(*) FROM known WHERE state = ?", (state,)).fetchone()
        return int(row[0])

    def census(self) -> Census:
        """Count this run's jobs."""
        counts = dict.fromkeys(Census.__dataclass_fields__, 0)
        for state, before, number in self._database.execute(
            "SELECT CASE WHEN aside THEN 'aside' ELSE coalesce(state, 'left') END, before AND NOT aside, count(*) "
            "FROM known WHERE counted GROUP BY 1, 2"
        ):
            counts[f"{state}_before" if before else state] += number
        return Census(**counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)


@dataclass
class StepResult:
    """The result of one task run.

    Attributes:
        outcomes: the outcomes of its documents.
        ready: jobs that can be collected, if the task was a poll.
        still_open: jobs that are still open, with the records just written.
        left: jobs that were not processed because the task run died.
        refused: why the account was refused, if it was.
        ended: the set-up fault that ends the run, if any.
        without_jobs: why the account cannot use asynchronous jobs, if it cannot.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    ready: list[Held] = field(default_factory=list)
    still_open: list[Held] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: str | None = None
    ended: str | None = None
    without_jobs: str | None = None


class Tally:
    """The sums of one run so far, from which its report is made, and the reason if the run has stopped sending.

    Not thread-safe.

    Args:
        known: the states of the jobs.
        report: the run's report, still empty.
        clock: the clock that times the run.

    Attributes:
        known: the states of the jobs.
        expiring: open jobs whose results the API will delete within days, as of the last survey.
        full_meter: the name of the meter of the ceiling that is reached, if one is.
        awaits_counts: whether documents that a ceiling leaves no room for until the API has counted others are sent
            later in this run; if not, the ceiling is reached.
    """

    def __init__(self, known: KnownJobs, report: RunReport, clock: Clock) -> None:
        self.known = known
        self.expiring = 0
        self.full_meter: str | None = None
        self.awaits_counts = False
        self._report = report
        self._clock = clock
        self._began = clock.monotonic()

    @property
    def sending(self) -> bool:
        """Whether new documents are still sent."""
        return not (self.refused or self._report.stopped)

    @property
    def refused(self) -> str | None:
        """Why the run has to end, if the account was refused or the set-up is faulty."""
        return self._report.refused or self._report.ended

    @property
    def stopped(self) -> str | None:
        """Why the run sends no more new documents, if it has stopped."""
        return self._report.stopped

    @property
    def pages_sent(self) -> int:
        """Pages submitted so far."""
        return self._report.pages_sent

    def add(self, result: StepResult, *, collected: bool = False) -> None:
        """Add the result of a task run.

        Args:
            result: the result.
            collected: whether the task worked on open jobs, some of which may be of documents outside the selection.
        """
        if result.ended and not self._report.ended:
            self._report.ended = result.ended
            log.error("stopping: %s", result.ended)
        if result.refused and not self._report.refused:
            self._report.refused = result.refused
            log.error("stopping: %s", result.refused)
        if result.without_jobs and not self._report.note:
            self._report.note = f"the account has no async access, so requests were synchronous ({result.without_jobs})"
        for job_id in result.left:
            self.known.leave(job_id)
        for outcome in result.outcomes:
            if collected and not self.known.belongs_to_run(outcome.job_id):
                self._add_other(outcome)
            else:
                self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        known = self.known
        self._report.add(outcome)
        if outcome.kind in ("done", "failed", "open"):
            known.count(outcome.job_id, outcome.kind)
        if outcome.moved:
            known.forget(outcome.listed_as or outcome.job_id)
        if outcome.listed_as and outcome.kind in ("later", "skipped"):
            known.count(outcome.job_id, None)  # its final state is read from the ledger at the end
        if outcome.set_aside:
            known.set_aside(outcome.job_id)
        if self.is_at_ceiling(outcome):
            known.leave(outcome.job_id)
            self.note_ceiling(outcome)

    def note_refused(self, uri: str, reason: str) -> None:
        """Count a named document whose metadata may not be read: only its address is known."""
        self._add(Outcome("aside", uri, uri, message=reason))

    def _add_other(self, outcome: Outcome) -> None:
        """Add the pages and requests of a collected job whose document is outside the selection."""
        self._report.add_spent(outcome)
        self._report.others += outcome.kind in ("done", "failed")
        # This run awaits no counts for the sake of other documents: a later run sends their missing pages.
        if outcome.budget_used_up:
            self._reach_ceiling(outcome)
        if outcome.set_aside or outcome.budget_used_up:
            self.known.leave(outcome.job_id)

    def is_at_ceiling(self, outcome: Outcome) -> bool:
        """Whether a ceiling left no room for a document, and will leave none during this run."""
        return outcome.budget_used_up and not (outcome.counts_awaited and self.awaits_counts)

    def note_ceiling(self, refused: Outcome) -> None:
        """Send nothing new from now on, because a ceiling has no room for a document."""
        self.stop_sending(self._reach_ceiling(refused))

    def _reach_ceiling(self, refused: Outcome) -> str:
        self._report.ceiling = f"{refused.name}: {refused.message}"
        self.full_meter = refused.meter
        return self._report.ceiling

    def stop_sending(self, why: str) -> None:
        """Send nothing new from now on."""
        self._report.stopped = why

    def note_backfill(self, name: str | None, held: str | None, figures: Figures | None, note: str | None) -> None:
        """Add the backfill to the report.

        Args:
            name: the name of the backfill.
            held: why it sends nothing, if it does not.
            figures: its progress.
            note: a note about other runs that process it.
        """
        self._report.backfill, self._report.held, self._report.figures = name, held, figures
        self._report.note = self._report.note or note

    def note_survey(self, unreadable: int, expiring: int) -> None:
        """Add the counts of a survey of the open jobs: unreadable records, and jobs whose results expire soon."""
        self._report.unreadable, self.expiring = unreadable, expiring

    def note_missing(self, count: int, first: Sequence[str]) -> None:
        """Add named documents that do not exist: how many, and the first of them."""
        self._report.missing, self._report.missing_keys = count, list(first)

    def note_messages(self, settled: int, left: int) -> None:
        """Add the counts of queue messages: settled, and left in the queue."""
        self._report.messages, self._report.messages_left = settled, left

    def note_nothing(self, why: str) -> None:
        """Add the reason why the run found no document."""
        self._report.nothing = why

    def note_texts(self, written: int) -> None:
        """Add the number of plain texts written for earlier results."""
        self._report.texts = written

    def census(self) -> Census:
        """Count this run's jobs."""
        return self.known.census()

    def report(self) -> RunReport:
        """Return the report as of now."""
        census = self.census()
        counted = {
            "done": census.done,
            "failed": census.failed,
            "open": census.open,
            "left": census.left,
            "aside": census.aside,
            "failed_before": census.failed_before,
            "skipped": census.done_before + census.failed_before,
            "documents": census.documents,
            "seconds": round(self._clock.monotonic() - self._began, 3),
        }
        return RunReport.model_validate({**dict(self._report), **counted})
