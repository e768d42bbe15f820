"""One flow run: prepares, submits and collects, and closes with a report."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from prefect.context import TagsContext
from prefect.runtime import flow_run

from flows.run.announce import Announcer, announce_early_end
from flows.run.aside import AsideBefore
from flows.run.dispatch import Dispatcher
from flows.run.engines import engine
from flows.run.meant import Meant
from flows.run.memory import spare_memory
from flows.run.progress import Watcher, watching
from flows.run.pumps import Pumps
from flows.run.steering import Steering
from tasks.access.open import open_access
from tasks.backfills.record import Order, taken_over
from tasks.context import RunContext, close_context, open_context
from tasks.faults import Cancelled, CredentialsRefused, Fault, ObjectRefused, RecordUnreadable
from tasks.job.outcome import Outcome
from tasks.job.record import Document, FailedJob
from tasks.options import RunSettings
from tasks.prefect_tasks import attach_logs
from tasks.report import RunReport
from tasks.scratch import process_folder
from tasks.steps.discover import Missing, discover, several
from tasks.steps.nearest import why_nothing
from tasks.steps.order import ordered
from tasks.steps.poll import OpenJobs
from tasks.steps.texts import write_missing_texts
from tasks.store.ledger import State
from tasks.tally import KnownJobs, StepResult, Tally

log = logging.getLogger(__name__)

_READERS = 16
_FEW_KEYS = 500  # looking up this many jobs is no slower than listing all of them


Flow = Literal["submit", "listen", "collect", "backfill"]


@contextmanager
def open_run(flow: Flow, settings: RunSettings, *, by_name: bool = False) -> Iterator["Run"]:
    """Open and close everything that a flow run needs. For use inside the flow function.

    Args:
        flow: the flow.
        settings: the flow's settings.
        by_name: whether the backfill was named explicitly: then it completes the settings.

    Raises:
        SetupFault, TransientFault: the secrets cannot be obtained, the engine cannot be used, or the backfill cannot
            be read.
    """
    attach_logs()
    spare_memory()
    watcher = watching.get() or Watcher()
    context = open_context(settings, flow_run.id, open_access, clock=watcher.clock, keep=True)
    if by_name:
        context = _as_the_backfill_says(context, watcher)
    settings = context.settings
    with ExitStack() as opened:
        opened.callback(close_context, settings, context.flow_run)
        # Task runs do not inherit the flow run's tags: each would cost a call about the tags' concurrency limits.
        opened.enter_context(TagsContext(current_tags=set()))
        folder = opened.enter_context(tempfile.TemporaryDirectory(dir=process_folder()))
        known = opened.enter_context(KnownJobs(Path(folder)))
        dispatcher = Dispatcher(opened.enter_context(engine(settings)), context.flow_run, context.clock)
        report = RunReport(flow=flow, source=settings.source, destination=settings.destination)
        tally, steering = Tally(known, report, context.clock), Steering(context)
        try:
            yield Run(context, tally, dispatcher, Announcer(flow, tally, watcher, steering), steering)
        except BaseException as error:
            # End the run for all threads: claims without submissions are released, and no thread keeps waiting for the
            # rate limit or the next attempt.
            context.stop_submitting(Cancelled("the run is shutting down"))
            context.clock.end()
            dispatcher.let_end()
            steering.end()
            announce_early_end(tally, steering, error)
            raise


def _as_the_backfill_says(context: RunContext, watcher: Watcher) -> RunContext:
    """Return the context with settings completed from the backfill; the same context if that changes nothing."""
    settings, name = context.settings, context.settings.backfill
    try:
        backfill = None if name is None else context.backfills.read(name)
        merged = settings if backfill is None else taken_over(backfill, settings)
    except BaseException:
        close_context(settings, context.flow_run)
        raise
    if merged == settings:
        return context
    close_context(settings, context.flow_run)
    return open_context(merged, context.flow_run, open_access, clock=watcher.clock, keep=True)


class Run:
    """One flow run at work.

    Attributes:
        context: the run's context.
        tally: the run's counts.
        steering: the backfill that the run serves, if any.
    """

    def __init__(
        self, context: RunContext, tally: Tally, dispatcher: Dispatcher, announcer: Announcer, steering: Steering
    ) -> None:
        self.context = context
        self.tally = tally
        self.steering = steering
        self._announcer = announcer
        self._meant = meant = Meant(context, tally.known)
        open_jobs = OpenJobs(context, meant.document)
        self._pumps = Pumps(context, tally, dispatcher, open_jobs, meant, steering, self._take, self.show)
        self._aside = AsideBefore(context)
        self._missing = Missing()

    def prepare(self, *, few: bool = False, retry_failed: bool = False) -> int:
        """Check the set-up and load the ledger. Returns the number of open jobs.

        Args:
            few: only a few documents will be processed: their jobs are looked up one by one instead of listed.
            retry_failed: first put back the failed ones of the selected documents.

        Raises:
            SetupFault, AccountFault, TransientFault: something is wrong; the message tells how to fix it.
        """
        self.context.prepare()
        self.steering.join()
        if retry_failed:
            self._put_back_failed()
        known, ledger, ours, settings = (
            self.tally.known,
            self.context.ledger,
            self.context.is_ours,
            self.context.settings,
        )
        if few or 0 < len(settings.selection.key) <= _FEW_KEYS:
            still_open = known.load_open(ledger, ours)
        else:
            states: tuple[State, ...] = ("open",) if settings.source is None else ("open", "failed", "done")
            still_open = known.load(ledger, states, ours)
        self._aside.load()
        log.info("the ledger at %s holds %d open jobs", settings.destination, still_open)
        return still_open

    def _put_back_failed(self) -> None:
        """Put back the selected documents that failed; pages already paid for are kept."""
        ledger, number = self.context.ledger, 0
        for failed in several(self._failed_and_meant, [entry.id for entry in ledger.entries("failed")], _READERS):
            number += failed[1] is not None and ledger.put_back(failed[1])
        log.info("%d documents that had failed were put back", number)

    def _failed_and_meant(self, job_id: str) -> FailedJob | None:
        """Return the record of a failed document; None if it is not selected or cannot be read."""
        try:
            failed = self.context.ledger.failed(job_id)
        except RecordUnreadable:
            return None
        if failed is None or self.context.job_id(failed.job.document) != job_id:
            return None
        return failed if self._meant.document(failed.job.document) else None

    def _show_looking(self) -> None:
        self.show("looking for new documents")

    def new_documents(self) -> Iterator[Document]:
        """Yield the selected documents without a job, in the order of the listing, and count all listed ones."""
        return (document for document in self._list() if document is not None)

    def _set_aside(self, key: str, fault: ObjectRefused) -> None:
        self.tally.note_refused(f"s3://{self.context.source.bucket}/{key}", str(fault))

    def _list(self) -> Iterator[Document | None]:
        """Yield the new documents; None for each that is not new, so that the caller regains control."""
        self._missing = missing = Missing()  # a new listing finds them again
        documents = discover(
            self.context, self.tally.known, missing, refused=self._set_aside, looked=self._show_looking
        )
        for discovered in documents:
            self.tally.known.count(discovered.job_id, discovered.state)
            new = discovered.state is None and not self.tally.known.is_left(discovered.job_id)
            yield discovered.document if new else None
        self._aside.all_listed = True

    def submit(
        self, documents: Iterator[Document], most: int, on_outcome: Callable[[Outcome], None] = lambda _: None
    ) -> int:
        """Submit up to `most` documents. Returns how many were taken; `on_outcome` is called with each outcome."""
        return self._pumps.submit(documents, most, on_outcome)

    def collect(self) -> None:
        """One pass: poll the jobs that are due and collect those that are finished."""
        self._pumps.collect()

    def work(self, open_jobs: int, order: Order = "listed", limit: int | None = None) -> None:
        """Submit, poll and collect until everything is done or failed, or nothing more can be done.

        Args:
            open_jobs: number of jobs open at the beginning, as returned by `prepare`.
            order: which documents to send first; "listed" leaves it to the backfill.
            limit: maximum number of documents to send; the backfill's limit by default.
        """
        if (backfill := self.context.backfill) is not None:
            order, limit = backfill.order if order == "listed" else order, limit or backfill.limit
        self._pumps.run(lambda: ordered(self._list(), order), open_jobs, limit)

    def _take(self, result: StepResult, *, collected: bool) -> None:
        """Count the result of a task run."""
        self.tally.add(result, collected=collected)
        for outcome in result.outcomes:
            self._aside.note(outcome)

    def write_texts(self) -> None:
        """Write plain texts that earlier runs did not write, if they are requested."""
        if not self.context.options.text or self.tally.refused:
            return
        try:
            self.tally.note_texts(write_missing_texts(self.context))
        except CredentialsRefused:
            raise
        except Fault as fault:  # the results exist; the next run writes the missing texts
            log.error("not all plain texts could be written: %s", fault)

    def show(self, doing: str) -> None:
        """Show the run's progress from time to time."""
        self._announcer.show(doing)

    def close(self) -> RunReport:
        """Finish counting, and announce the report."""
        left_open = self._settle()
        self._aside.prune(self.tally.known)
        self.tally.note_missing(self._missing.count, self._missing.first)
        if self._found_nothing():
            self._note_nothing()
        steering = self.steering
        figures = steering.finish(self.tally.stopped, self.tally.full_meter)
        steering.tell_budgets()
        self.tally.note_backfill(self.context.settings.backfill, steering.held, figures, steering.note)
        report = self.tally.report()
        self._announcer.close(report, left_open=left_open, expiring=self.tally.expiring)
        return report

    def _found_nothing(self) -> bool:
        """Whether the whole source was listed and has no documents. Not for shards, which may be empty."""
        looked = self._aside.all_listed and self.context.options.shards == 1
        return looked and not self._missing.count and not self.tally.census().documents

    def _note_nothing(self) -> None:
        try:
            self.tally.note_nothing(why_nothing(self.context))
        except Fault as fault:  # it is for information only
            log.warning("the reason why there is no document could not be determined: %s", fault)

    def _settle(self) -> int | None:
        """Check in the ledger which of this run's unfinished jobs another run has ended.

        Returns:
            The number of jobs open at the destination; None if it cannot be read.
        """
        known, ledger = self.tally.known, self.context.ledger
        left_open: int | None = None
        try:
            still_open = {entry.id for entry in ledger.entries("open")}
            left_open = len(still_open)
            for job_id in known.unfinished():
                if job_id in still_open:
                    continue
                if ledger.done(job_id) is not None:
                    known.settle_elsewhere(job_id, "done")
                elif ledger.failed(job_id) is not None:
                    known.settle_elsewhere(job_id, "failed")
        except Fault as fault:  # a report that counts too many jobs as open is better than none
            log.warning("not all jobs could be counted: %s", fault)
        return left_open
