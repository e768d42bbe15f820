"""What a run knows of jobs and what it has done: states by the million without a growing memory, and the sums."""

import logging
import sqlite3
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
from tasks.store.ledger import Held, Ledger, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Census:
    """How many documents of a run are in which state.

    Attributes:
        open: its job is open in the ledger.
        done: finished in this run.
        failed: given up in this run.
        done_before: finished before this run, or by another one.
        failed_before: given up before this run, or by another one.
        aside: set aside in this run.
        left: without a job: nothing was sent of it.
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
        """The documents that are done or failed, whenever they were finished."""
        return self.done + self.failed + self.done_before + self.failed_before

    @property
    def documents(self) -> int:
        """All of them."""
        return self.finished + self.open + self.aside + self.left


def _all(_job_id: str) -> bool:
    return True


class KnownJobs:
    """The ledger's ids as they were when the run began, and what the run has learned since, in a temporary file.

    It only saves work: a claim is what decides, so an entry that is out of date costs a call, never money.
    For one thread.
    """

    def __init__(self, folder: Path) -> None:
        self._asked: Ledger | None = None
        self._path = folder / "known-jobs.sqlite"
        self._database = sqlite3.connect(self._path)
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA journal_mode=OFF")
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
        """Take the snapshot of the jobs that are ours. Returns how many of them are open.

        Open first: a job that is closed while we list is then found as open or as closed, never missed. Done last:
        where there is a failed record as well, the result is what counts.
        """
        for state in states:
            for entry in filter(lambda entry: ours(entry.id), ledger.entries(state)):
                self._database.execute(
                    "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, ?, 0, ?) "
                    "ON CONFLICT (id) DO UPDATE "
                    "SET state = excluded.state, before = excluded.before, written = excluded.written",
                    (entry.id, state, state != "open", entry.last_modified.timestamp()),
                )
        self._database.commit()
        return self.number("open")

    def load_open(self, ledger: Ledger, ours: Callable[[str], bool] = _all) -> int:
        """Take a snapshot of the open jobs only, once or again and again. Returns how many of ours there are.

        Whether another job is done or failed is asked of the ledger when `look` wants to know: two calls a document,
        where listing the done ones takes one for each thousand of all that ever were.
        """
        self._asked = ledger
        # Open jobs that are not listed any more were closed, or given back.
        self._database.execute("DELETE FROM known WHERE NOT counted AND (state IS NULL OR state = 'open')")
        self._database.execute("UPDATE known SET state = NULL WHERE state = 'open'")
        return self.load(ledger, ("open",), ours)

    def look(self, job_id: str) -> State | None:
        """How the job stands; one that is not known is looked up, where only the open ones were listed."""
        state = self.state(job_id)
        if state is not None or self._asked is None:
            return state
        closed: tuple[State, ...] = ("done", "failed")
        for each in closed:
            entry = self._asked.entry(each, job_id)
            if entry is not None:
                self._database.execute(
                    "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, 1, 0, ?) "
                    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, before = 1, written = excluded.written",
                    (job_id, each, entry.last_modified.timestamp()),
                )
                return each
        return None

    def state(self, job_id: str) -> State | None:
        """How the job stands as far as the run knows; None when it is new."""
        row = self._database.execute("SELECT state FROM known WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def written(self, job_id: str) -> float:
        """When the job's record was written, as a UNIX time, as far as the run knows; 0 when it does not."""
        row = self._database.execute("SELECT written FROM known WHERE id = ?", (job_id,)).fetchone()
        return float(row[0] or 0) if row else 0.0

    def done_before(self, job_id: str, moment: datetime) -> bool:
        """Whether the job was done before that moment."""
        row = self._database.execute(
            "SELECT 1 FROM known WHERE id = ? AND state = 'done' AND written < ?", (job_id, moment.timestamp())
        ).fetchone()
        return row is not None

    def count(self, job_id: str, state: State | None) -> None:
        """Count the job as one of this run's, in its latest state (None: not claimed by anybody yet)."""
        self._database.execute(
            "INSERT INTO known (id, state, before, counted, written) VALUES (?, ?, 0, 1, NULL) "
            "ON CONFLICT (id) DO UPDATE SET counted = 1, state = coalesce(excluded.state, state), "
            "before = before AND coalesce(excluded.state, state) = state, "
            "aside = aside AND coalesce(excluded.state, 'open') = 'open'",
            (job_id, state),
        )

    def forget(self, job_id: str) -> None:
        """Leave the job out: what was listed is not there any more."""
        self._database.execute("DELETE FROM known WHERE id = ?", (job_id,))

    def settle_elsewhere(self, job_id: str, state: State) -> None:
        """Note that another run has closed the job."""
        self._database.execute("UPDATE known SET state = ?, before = 1, aside = 0 WHERE id = ?", (state, job_id))

    def give_back(self, job_id: str) -> None:
        """Note that whoever had claimed the job has given it back: its document has no job any more."""
        self._database.execute("UPDATE known SET state = NULL, before = 0 WHERE id = ? AND state = 'open'", (job_id,))

    def leave(self, job_id: str) -> None:
        """Note that this run can do nothing more for the job; a later one may."""
        self._database.execute(
            "INSERT INTO known (id, state, before, counted, left_over) VALUES (?, NULL, 0, 0, 1) "
            "ON CONFLICT (id) DO UPDATE SET left_over = 1",
            (job_id,),
        )

    def set_aside(self, job_id: str) -> None:
        """Count the job as one that a person has to help; this run can do nothing more for it."""
        self.count(job_id, None)
        self.leave(job_id)
        self._database.execute("UPDATE known SET aside = 1 WHERE id = ?", (job_id,))

    def is_left(self, job_id: str) -> bool:
        """Whether this run can do nothing more for the job."""
        return (
            self._database.execute("SELECT 1 FROM known WHERE id = ? AND left_over", (job_id,)).fetchone() is not None
        )

    def settle(self, job_id: str, state: State | None) -> None:
        """Note the state of a job as it is now; None when there is no such job any more."""
        if state is None:
            self.forget(job_id)
            return
        self._database.execute(
            "INSERT INTO known (id, state, before, counted) VALUES (?, ?, 0, 0) "
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            (job_id, state),
        )

    def unfinished(self) -> Iterator[str]:
        """This run's jobs that are neither done nor failed, as far as the run knows."""
        rows = self._database.execute(
            "SELECT id FROM known WHERE counted AND (state IS NULL OR state = 'open')"
        ).fetchall()
        return (row[0] for row in rows)

    def open_jobs(self) -> list[str]:
        """This run's jobs that are open, as far as the run knows, and that it can do something for."""
        rows = self._database.execute("SELECT id FROM known WHERE counted AND state = 'open' AND NOT left_over")
        return [row[0] for row in rows]

    def unclaimed(self) -> int:
        """How many of this run's documents have no job, and may get one yet."""
        row = self._database.execute(
            "SELECT count(*) FROM known WHERE counted AND state IS NULL AND NOT left_over"
        ).fetchone()
        return int(row[0])

    def met(self, job_id: str) -> bool:
        """Whether the job is one of this run's."""
        return self._database.execute("SELECT 1 FROM known WHERE id = ? AND counted", (job_id,)).fetchone() is not None

    def in_state(self, state: State) -> Iterator[str]:
        """The jobs in a state, whether this run has met them or not."""
        rows = self._database.execute("SELECT id FROM known WHERE state = ?", (state,)).fetchall()
        return (row[0] for row in rows)

    def number(self, state: State) -> int:
        """How many jobs are in a state, whether this run has met them or not."""
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
    """What one task run gave.

    Attributes:
        outcomes: what became of its documents.
        ready: of a poll: jobs that can be collected.
        still_open: jobs that are open now, with their records as they were just written.
        left: jobs that it was to work on when it died.
        refused: why the account was refused, if it was.
        ended: why the set-up ends the run, if it does.
        without_jobs: why the account takes no jobs, if it takes none.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    ready: list[Held] = field(default_factory=list)
    still_open: list[Held] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: str | None = None
    ended: str | None = None
    without_jobs: str | None = None


class Tally:
    """What one run has done so far, and why it sends no more, if it does not. Its report is made from this.

    For one thread.

    Args:
        known: the states of the jobs.
        report: the run's report, with nothing in it yet.
        clock: the time to go by.

    Attributes:
        known: the states of the jobs.
        expiring: open jobs whose results the API forgets within days, as of the last look.
    """

    def __init__(self, known: KnownJobs, report: RunReport, clock: Clock) -> None:
        self.known = known
        self.expiring = 0
        self._report = report
        self._clock = clock
        self._began = clock.monotonic()

    @property
    def sending(self) -> bool:
        """Whether new documents are still sent."""
        return not (self.refused or self._report.stopped)

    @property
    def refused(self) -> str | None:
        """Why the account, or the set-up, ends the run, if it does."""
        return self._report.refused or self._report.ended

    @property
    def stopped(self) -> str | None:
        """Why the run sends less than there is, if it does."""
        return self._report.stopped

    @property
    def pages_sent(self) -> int:
        """Pages submitted so far."""
        return self._report.pages_sent

    def add(self, result: StepResult, *, collected: bool = False) -> None:
        """Add what a task run gave.

        Args:
            result: what it gave.
            collected: whether it was about open jobs, of which some may be of documents that are not meant.
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
            if collected and not self.known.met(outcome.job_id):
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
            known.count(outcome.job_id, None)  # what became of it, the ledger knows in the end
        if outcome.set_aside:
            known.set_aside(outcome.job_id)
        if outcome.budget_used_up:
            known.leave(outcome.job_id)
            self._report.ceiling = f"{outcome.name}: {outcome.message}"
            self.stop_sending(self._report.ceiling)

    def note_refused(self, uri: str, reason: str) -> None:
        """Note a named document that may not even be looked at: nothing is known of it but its address."""
        self._add(Outcome("aside", uri, uri, message=reason))

    def _add_other(self, outcome: Outcome) -> None:
        """Add what was spent for a job of a document that is not meant, and that it was collected."""
        self._report.add_spent(outcome)
        self._report.others += outcome.kind in ("done", "failed")
        if outcome.budget_used_up:
            self._report.ceiling = f"{outcome.name}: {outcome.message}"
        if outcome.set_aside or outcome.budget_used_up:
            self.known.leave(outcome.job_id)

    def stop_sending(self, why: str) -> None:
        """Send nothing new from now on."""
        self._report.stopped = why

    def note_backfill(self, name: str | None, held: str | None, figures: Figures | None, note: str | None) -> None:
        """Note the backfill that the run served: why it sends nothing, how it stands, and who else serves it."""
        self._report.backfill, self._report.held, self._report.figures = name, held, figures
        self._report.note = self._report.note or note

    def note_survey(self, unreadable: int, expiring: int) -> None:
        """Note what a look at the open jobs found."""
        self._report.unreadable, self.expiring = unreadable, expiring

    def note_missing(self, count: int, first: Sequence[str]) -> None:
        """Note documents that were named and are not there: how many, and the first of them."""
        self._report.missing, self._report.missing_keys = count, list(first)

    def note_messages(self, settled: int, left: int) -> None:
        """Note what became of the messages of a queue."""
        self._report.messages, self._report.messages_left = settled, left

    def note_nothing(self, why: str) -> None:
        """Note why there was no document at all."""
        self._report.nothing = why

    def note_texts(self, written: int) -> None:
        """Note how many plain texts of earlier results were written."""
        self._report.texts = written

    def census(self) -> Census:
        """Count this run's jobs."""
        return self.known.census()

    def report(self) -> RunReport:
        """The report as of now."""
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
