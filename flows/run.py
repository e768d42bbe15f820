"""What the flows share: passes of submitting and collecting, counted, shown and reported."""

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from prefect import Task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.chunks import Seen, chunks
from flows.engines import engine, outcome_of
from flows.events import emit_events
from flows.progress import Progress, watcher
from tasks.credentials import access
from tasks.discover import Missing, discover
from tasks.faults import CredentialsRefused, Fault, SetupFault
from tasks.models import Document
from tasks.options import RunSettings
from tasks.outcomes import Outcome
from tasks.poll import OpenJobs, Survey
from tasks.report import RunReport
from tasks.session import close_session, open_session
from tasks.shell import StepResult, attach_logs, collect_step, poll_step, submit_step
from tasks.store.known import KnownJobs
from tasks.store.ledger import State as LedgerState
from tasks.texts import write_missing_texts
from tasks.upstage.client import Cancelled

log = logging.getLogger(__name__)

_POLL_SECONDS_A_PASS = 60
_ARTIFACT_SECONDS = 5
_SHOW_SECONDS = 0.5
_FEW_KEYS = 500  # looking up so many jobs takes no longer than listing them all might
_SILENCE_SECONDS = 300  # a call to a server that is gone takes a minute of retries

Item = TypeVar("Item")


reported: ContextVar[Callable[[RunReport], None] | None] = ContextVar("reported", default=None)


class Run:
    """One flow run at work. Use as a context manager inside the flow function."""

    def __init__(self, flow: Literal["submit", "listen", "collect", "backfill"], settings: RunSettings) -> None:
        attach_logs()
        self.settings = settings
        self._id = flow_run.id
        self.session = open_session(settings, self._id, access, keep=True)
        self.report = RunReport(flow=flow, source=settings.source, destination=settings.destination)
        self._began = self.session.clock.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="bulk-ocr-run-")
        self.known = KnownJobs(Path(self._folder.name))
        self._open_jobs = OpenJobs(self.session)
        self._set_aside: set[str] = set()  # jobs that this run can do nothing more for
        self._missing = Missing()
        self._seen = {"submit": Seen(), "collect": Seen()}
        self.open_before = 0
        self._expiring = 0
        self._left_open: int | None = None
        self._closing = ExitStack()
        self._pending: deque[tuple[Any, list[Any]]] = deque()  # task runs under way, and what they work on
        self._without_jobs: str | None = None
        self._progress_artifact: Any = None
        self._progress_at = self._began
        self._shown_at = self._began
        self._silent_until = self._began

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.callback(close_session, self.settings, self._id)
            opened.callback(self._folder.cleanup)
            opened.enter_context(self.known)
            self._engine = opened.enter_context(engine(self.settings))
            self._closing = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            if error is not None:
                # Whatever ends the run ends it for all threads: what they have claimed and not sent is given back.
                self.session.stop_submitting(Cancelled("the run is being ended"))
                self._engine.let_end(future for future, _ in self._pending)

    def prepare(self) -> None:
        """Prove the set-up, and learn what the ledger knows.

        Raises:
            SetupFault, AccountFault, MomentFault: with what to mend.
        """
        self.session.prepare()
        states: tuple[LedgerState, ...] = ("open",) if self.settings.source is None else ("open", "done", "failed")
        if self.report.flow == "listen" or 0 < len(self.settings.selection.key) <= _FEW_KEYS:
            self.open_before = self.known.load_open(self.session.ledger, self.session.is_ours)
        else:
            self.open_before = self.known.load(self.session.ledger, states, self.session.is_ours)
        log.info("the ledger at %s holds %d open jobs", self.settings.destination, self.open_before)

    def new_documents(self) -> Iterator[Document]:
        """The documents that are meant and have no job yet, in the order of the listing; counts all on the way."""
        self._missing = missing = Missing()  # listed again, they are found again
        for found in discover(self.session, self.known, missing):
            self.known.count(found.job_id, found.state)
            if found.state is None:
                yield found.document

    def submit(self, documents: Iterator[Document], most: int, heed: Callable[[Outcome], None] = lambda _: None) -> int:
        """Submit up to `most` documents. Returns how many were taken; `heed` gets what became of each."""
        taken = 0

        def limited() -> Iterator[Document]:
            nonlocal taken
            while taken < most and not self.report.refused and not self.report.stopped:
                document = next(documents, None)
                if document is None:
                    return
                taken += 1
                yield document

        for outcome in self._stage("submit", submit_step, limited(), lambda document: document.key):
            heed(outcome)
            self.show("submitting")
        return taken

    def collect(self) -> Survey:
        """Poll the jobs that are due and collect those that are finished. Returns how things stood before."""
        survey = self._open_jobs.survey()
        self._expiring = survey.expiring
        self.report.unreadable = survey.unreadable
        if survey.expiring:
            log.warning("the API soon forgets the results of %d open jobs; they are collected first", survey.expiring)
        for job_id in survey.open:
            self._adopt(job_id)
        ready = [job_id for job_id in survey.ready if job_id not in self._set_aside]
        # So many as the rate limit lets through in about a minute: URLs are fresh when the collecting begins.
        rate = self._engine.settings.options.requests_per_second
        most = max(self.settings.options.workers, int(_POLL_SECONDS_A_PASS * rate))
        if due := [job_id for job_id in survey.due if job_id not in self._set_aside][:most]:
            ready += self._poll(due)
        for _ in self._stage("collect", collect_step, iter(ready), self._label):
            self.show("collecting")
        return survey

    def _adopt(self, job_id: str) -> None:
        # A job whose document is not listed (any more) is seen to as well: it is paid for.
        self.known.count(job_id, "open")

    def still_open(self, survey: Survey) -> int:
        """How many of the jobs that a survey found open are not closed since, as far as we know."""
        still = (job_id for job_id in survey.open if job_id not in self._set_aside)
        return sum(self.known.state(job_id) == "open" for job_id in still)

    def write_texts(self) -> None:
        """Write the plain texts that earlier runs did not, where they are wanted."""
        if not self.settings.options.text or self.report.refused:
            return
        try:
            self.report.texts = write_missing_texts(self.session)
        except CredentialsRefused:
            raise
        except Fault as fault:  # the results are there; the next run writes what is missing
            log.error("not all plain texts could be written: %s", fault)

    def left_over(self) -> int:
        """How many documents were listed, but have no job: left for later."""
        return self.known.unclaimed()

    def _poll(self, due: Sequence[str]) -> list[str]:
        label = f"{len(due)} jobs" if len(due) > 1 else "1 job"
        given = {"settings": self._engine.settings, "flow_run": self._id, "job_ids": list(due), "label": label}
        result = outcome_of(self._engine.runner.submit(poll_step, given))
        if isinstance(result, SetupFault):  # of the process that works: no document's trouble
            raise result
        if isinstance(result, BaseException):
            log.error("polling failed: %s; the jobs are polled again in the next pass", result)
            return []
        ready, refused = result
        self._refuse(refused)
        return list(ready)

    def _refuse(self, refused: str | None) -> None:
        if refused and not self.report.refused:
            self.report.refused = refused
            log.error("stopping: %s", refused)

    def _label(self, job_id: str) -> str:
        try:
            held = self.session.ledger.read(job_id)
        except Fault:  # it is only a name; the step will see for itself
            return job_id
        return held.job.document.key if held else job_id

    def _stage(
        self, name: str, step: Task[Any, Any], items: Iterator[Item], label: Callable[[Item], str]
    ) -> Iterator[Outcome]:
        """Run a step over items with a bounded number of task runs under way, and count what comes out."""
        pending = self._pending
        try:
            for chunk in chunks(items, self._seen[name]):
                words = label(chunk[0]) if len(chunk) == 1 else f"{len(chunk)} documents from {label(chunk[0])}"
                arguments = {"settings": self._engine.settings, "flow_run": self._id, "label": words}
                arguments["documents" if step is submit_step else "job_ids"] = chunk
                pending.append((self._engine.runner.submit(step, arguments), chunk))
                # A chunk brings threads of its own.
                while len(pending) >= 2 * (self._engine.places if len(chunk) == 1 else self._engine.processes):
                    yield from self._take(*pending.popleft())
        except Fault:
            # A listing that failed: what is being sent has to end first, or the next pass would take it for dead.
            while pending:
                with suppress(SetupFault):  # it is what ends the run already, or soon will
                    deque(self._take(*pending.popleft()), maxlen=0)
            raise
        while pending:
            yield from self._take(*pending.popleft())

    def _take(self, future: Any, chunk: list[Item]) -> Iterator[Outcome]:
        result = outcome_of(future)
        if isinstance(result, SetupFault):
            raise result
        if not isinstance(result, StepResult):
            log.error("a step over %d documents died: %s; a later run takes them up", len(chunk), result)
            self._set_aside.update(item for item in chunk if isinstance(item, str))
            return
        self._refuse(result.refused)
        self._without_jobs = self._without_jobs or result.without_jobs
        for outcome in result.outcomes:
            self._book(outcome)
            yield outcome

    def _book(self, outcome: Outcome) -> None:
        self.report.add(outcome)
        if outcome.kind in ("done", "failed", "open"):
            self.known.count(outcome.job_id, outcome.kind)
        if outcome.moved:
            self.known.forget(outcome.listed_as or outcome.job_id)
        if outcome.listed_as and outcome.kind in ("later", "skipped"):
            self.known.count(outcome.job_id, None)  # what became of it, the ledger knows in the end
        if outcome.set_aside or outcome.budget_used_up:
            self._set_aside.add(outcome.job_id)
        if outcome.budget_used_up:
            self.report.stopped = f"{outcome.name}: {outcome.message}"

    def close(self) -> RunReport:
        """Count, and put the report into the UI."""
        self._settle()
        census = self.known.census()
        report = self.report
        report.done, report.failed, report.open = census.done, census.failed, census.open
        report.failed_before = census.failed_before
        report.skipped = census.done_before + census.failed_before
        report.documents = report.done + report.failed + report.open + report.skipped
        report.missing, report.missing_keys = self._missing.count, self._missing.first
        if self._without_jobs is not None:
            report.note = f"the account takes no OCR jobs, so requests were synchronous ({self._without_jobs})"
        report.seconds = round(self.session.clock.monotonic() - self._began, 3)
        self.show("finished", always=True)
        if (reporting := reported.get()) is not None:
            reporting(report)
        self._tell(
            lambda: create_markdown_artifact(
                report.markdown(), key=f"bulk-ocr-{report.flow}", description=report.sentence()
            )
        )
        self._tell(lambda: emit_events(report, left_open=self._left_open, expiring=self._expiring))
        log.info("%s", report.sentence())
        return report

    def _settle(self) -> None:
        """Find out which of the jobs that this run has left another run has ended: the ledger knows."""
        try:
            still_open = {entry.id for entry in self.session.ledger.entries("open")}
            self._left_open = len(still_open)
            for job_id in self.known.unfinished():
                if job_id in still_open:
                    continue
                if self.session.ledger.done(job_id) is not None:
                    self.known.settle_elsewhere(job_id, "done")
                elif self.session.ledger.failed(job_id) is not None:
                    self.known.settle_elsewhere(job_id, "failed")
        except Fault as fault:  # a report that counts a job as open which is not is better than none
            log.warning("not all jobs could be counted: %s", fault)

    def show(self, message: str, *, always: bool = False) -> None:
        """Tell whoever watches, and the UI from time to time, how far the run is."""
        now = self.session.clock.monotonic()
        if not always and now - self._shown_at < _SHOW_SECONDS:
            return  # counting takes longer the more documents there are; once a document would be too often
        self._shown_at = now
        census = self.known.census()
        finished = census.done + census.failed + census.done_before + census.failed_before
        total = finished + census.open
        watching = watcher.get()
        if watching is not None:
            watching(Progress(total, finished, census.open, self.report.pages_sent, message))
        if self.report.flow != "backfill" or not (always or now - self._progress_at > _ARTIFACT_SECONDS):
            return
        self._progress_at = now
        percent = 100.0 * finished / total if total else 100.0
        words = f"{finished} of {total} documents finished, {census.open} open"
        self._tell(lambda: self._show_artifact(percent, words))

    def _show_artifact(self, percent: float, words: str) -> None:
        if self._progress_artifact is None:
            self._progress_artifact = create_progress_artifact(percent, key="bulk-ocr-progress", description=words)
        else:
            update_progress_artifact(self._progress_artifact, percent, description=words)

    def _tell(self, call: Callable[[], object]) -> None:
        """Put something into the UI, if the server is there: the work does not depend on it."""
        now = self.session.clock.monotonic()
        if now < self._silent_until:
            return
        try:
            call()
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("Prefect's server cannot be told how far the run is (%s); it goes on", type(error).__name__)
            self._silent_until = now + _SILENCE_SECONDS


def final_state(report: RunReport) -> State[RunReport]:
    """The flow run's last state, with a name that tells how it ended; the report is its result.

    Documents that failed leave the run completed: it did its work, and their task runs are red.
    """
    if report.refused:
        return Failed(name="Account refused", message=report.refused, data=report)
    if report.failed:
        return Completed(name="Some failed", message=report.sentence(), data=report)
    if report.missing:
        return Completed(name="Some missing", message=report.sentence(), data=report)
    return Completed(message=report.sentence(), data=report)
