"""A run's progress and report: shown to a watcher in this process, and in Prefect's UI."""

import json
import logging
import os
import re
from functools import partial
from typing import Any, Literal
from uuid import UUID

from prefect import get_client
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import Abort
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from flows.run.events import attended, emit_events
from flows.run.prefect_server import PrefectServer
from flows.run.progress import Progress, Watcher
from flows.run.run_links import RunLink, run_link
from flows.run.steering import Steering
from tasks.backfills.figures import Figures, PartitionFigures, details_of
from tasks.printable import printable
from tasks.report import RunReport
from tasks.tally import Tally

log = logging.getLogger(__name__)

_NOTHING = "Nothing to do"  # the name of a state
_MOST_DELETED = 20  # empty runs deleted at once: each run leaves one, unless the server was unavailable
_SHOW_SECONDS = 0.5
_ARTIFACT_SECONDS = 5
_SHARE = 0.05  # maximum share of the time spent on counting progress


class ProgressArtifact:
    """A backfill's progress bar and tables in the UI."""

    def __init__(self) -> None:
        self._id: Any = None  # Prefect's
        self._tables: dict[str, Any] = {}

    def show(self, progress: Progress, still_open: int, figures: Figures | None) -> None:
        """Create or update the bar and, for a backfill, the tables of partitions and failures."""
        percent = 100.0 * progress.finished / progress.total if progress.total else 100.0
        words = f"{progress.finished} of {progress.total} documents finished, {still_open} open"
        key = "bulk-ocr-progress"  # until the figures are known
        if figures is not None:
            words, key = figures.sentence(), artifact_key(figures.destination, figures.name, "progress")
        if self._id is None:
            self._id = create_progress_artifact(percent, key=key, description=words)
        else:
            update_progress_artifact(self._id, percent, description=words)
        if figures is None:
            return
        if figures.partitions:
            self._show_table("partitions", partition_rows(figures), figures)
        if figures.failed_documents:
            self._show_table("failures", failure_rows(figures, run_link()), figures)

    def _show_table(self, what: str, rows: list[dict[str, str]], figures: Figures) -> None:
        """Create or update a table."""
        words = figures.sentence()
        if what in self._tables:
            _update_table(self._tables[what], rows, words)
        else:
            self._tables[what] = create_table_artifact(
                rows, key=artifact_key(figures.destination, figures.name, what), description=words
            )


def artifact_key(destination: str, name: str, what: str) -> str:
    """Return an artifact's key, limited to the permitted characters. Artifacts with the same key are versions.

    Args:
        destination: the location of results and ledger.
        name: the backfill's name; the flow's name for a run without a backfill.
        what: the kind of artifact.
    """
    subject = f"{destination.removeprefix('s3://')} {name}"
    return f"bulk-ocr-{re.sub(r'[^a-z0-9]+', '-', subject.lower()).strip('-')}-{what}"


def _report_key(report: RunReport) -> str:
    return artifact_key(report.destination, report.backfill or report.flow, "report")


def failure_rows(figures: Figures, link: RunLink) -> list[dict[str, str]]:
    """Return the failed documents as table rows, each with a link to the run in which it failed.

    Args:
        figures: the backfill's figures.
        link: returns the address of a run in the UI.
    """
    return [
        {
            "document": printable(failed.document),
            "partition": printable(failed.partition),
            "code": failed.code,
            # Before the reason, which is wider than the UI's tables.
            "run": f"[{(failed.run or '')[:8]}]({address})" if (address := link(failed.run)) else failed.run or "",
            "reason": printable(failed.reason),
        }
        for failed in figures.failed_documents
    ]


def partition_rows(figures: Figures) -> list[dict[str, str]]:
    """Return the partitions as table rows. The total comes first, because there can be many rows."""
    rows = [
        _row(part.name, part.finished, part.total, part, part.spent, part.cost, aside=bool(figures.aside))
        for part in figures.partitions
    ]
    charged = figures.pages_charged
    total = _row("all", figures.finished, figures.total, figures, charged, figures.cost, aside=bool(figures.aside))
    return [total, *rows]


def _row(
    name: str, finished: int, total: int, part: Figures | PartitionFigures, spent: int, cost: float, *, aside: bool
) -> dict[str, str]:
    """Return a row. The column "set aside" is included only if needed, because the UI's tables are narrow."""
    return {
        "partition": printable(name),
        "finished": f"{finished:,} of {total:,}",
        "failed": f"{part.failed:,}",
        **({"set aside": f"{part.aside:,}"} if aside else {}),
        "open": f"{part.open:,}",
        "new": f"{part.new:,}",
        "pages": f"{part.pages:,}",
        "pages charged": f"{spent:,}",
        "cost": f"${cost:,.2f}",
    }


def _update_table(artifact: Any, rows: list[dict[str, str]], words: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=json.dumps(rows), description=words))


class Announcer:
    """Announces the progress and the report of one run.

    Args:
        flow: the run's flow.
        tally: the run's counts.
        watcher: the caller in this process.
        steering: the backfill that the run serves. Its figures are shown; without a backfill, the run's own counts are.
    """

    def __init__(
        self,
        flow: Literal["submit", "listen", "collect", "backfill"],
        tally: Tally,
        watcher: Watcher,
        steering: Steering,
    ) -> None:
        self._tally = tally
        self._steering = steering
        self._watcher = watcher
        self._server = PrefectServer(watcher.clock)
        self._artifact = ProgressArtifact() if flow == "backfill" else None
        self._shown_at = self._artifact_at = watcher.clock.monotonic()
        self._rest = 0.0  # seconds without counting, to keep its share of the time small

    def show(self, doing: str, *, always: bool = False) -> None:
        """Show the run's progress to the watcher, and from time to time in the UI.

        Args:
            doing: the current activity.
            always: show it even if the last time was a moment ago.
        """
        now = self._watcher.clock.monotonic()
        if not always and now - self._shown_at < max(_SHOW_SECONDS, self._rest):
            return  # counting takes longer with more documents, so it is not done for each of them
        figures = self._steering.figures
        if figures is None:
            census = self._tally.census()
            still_open = census.open
            details = f"{still_open} open, {self._tally.pages_sent} pages sent"
            progress = Progress(doing, census.finished + census.aside, census.documents, details)
        else:
            still_open = figures.open
            progress = Progress(doing, figures.finished, figures.total, details_of(figures), figures)
        self._shown_at = self._watcher.clock.monotonic()
        self._rest = (self._shown_at - now) * (1 / _SHARE - 1)
        self._watcher.progress(progress)
        artifact = self._artifact
        if artifact is not None and (always or now - self._artifact_at > _ARTIFACT_SECONDS):
            self._artifact_at = now
            self._server.tell(lambda: artifact.show(progress, still_open, figures), once=always)

    def close(self, report: RunReport, *, left_open: int | None, expiring: int) -> None:
        """Announce the end.

        Args:
            report: the run's report.
            left_open: number of jobs open at the destination, from all runs; None if unknown.
            expiring: number of jobs whose results the API will delete within days.
        """
        self.show("finished", always=True)
        self._watcher.report(report)
        key, page, sentence = _report_key(report), report.markdown(), report.sentence()
        self._server.tell(lambda: create_markdown_artifact(page, key=key, description=sentence), once=True)
        self._server.tell(lambda: emit_events(report, left_open=left_open, expiring=expiring), once=True)
        if report.did_nothing and deployment.id:
            self._server.tell(partial(_delete_empty_runs, UUID(deployment.id)), once=True)
        log.info("%s", sentence)


def _delete_empty_runs(of: UUID) -> None:
    """Delete scheduled runs of a deployment that had nothing to do: the run that is ending replaces them.

    A schedule with a run every minute would otherwise leave 1,440 empty runs a day.

    Args:
        of: the deployment.
    """
    empty = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[of]),
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[_NOTHING])),
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=empty, limit=_MOST_DELETED):
            if run.auto_scheduled:
                client.delete_flow_run(run.id)


def announce_early_end(tally: Tally, steering: Steering, error: BaseException) -> None:
    """Write a report of a run that ends early: by a fault, a crash or a cancellation.

    Not for runs at a terminal, where the command itself shows how the run ended.
    """
    if attended():
        return
    try:
        report = tally.report()
        report.figures = steering.figures
        report.backfill = None if steering.figures is None else steering.figures.name
        report.ended = report.ended or f"the run ended early: {error or type(error).__name__}"
        create_markdown_artifact(report.markdown(), key=_report_key(report), description=report.sentence())
    except Exception as failure:  # noqa: BLE001  # must not hide the error that ended the run
        log.warning("the report of this run could not be written: %s", failure)


class RunHeld(Abort):
    """Ends the process of a run that a ceiling or a pause ended, with exit status 0.

    Prefect ends such a process by raising the exception in the run's final state, and logs it with a traceback, as a
    fault of the program. It logs no traceback for its own `Abort`.
    """


def final_state(report: RunReport) -> State[Any]:
    """Return the flow run's final state, named after how it ended. The result of a completed run is the report.

    A run with failed documents is completed: it did its work, and the documents' task runs are red. A reached ceiling
    or a paused backfill is neither a success nor a fault that should wake somebody up: the run is cancelled.
    """
    if report.ended:
        return _unsuccessful(StateType.FAILED, "Set-up", report.ended)
    if report.refused:
        return _unsuccessful(StateType.FAILED, "Account refused", report.refused)
    if report.ceiling:
        return _unsuccessful(StateType.CANCELLED, "Budget reached", report.ceiling)
    if report.held:
        name = "Backfill cancelled" if report.figures and report.figures.state == "cancelled" else "Backfill paused"
        return _unsuccessful(StateType.CANCELLED, name, report.held)
    if report.nothing:
        return Completed(name="Nothing found", message=printable(report.nothing), data=report)
    if report.failed:
        return Completed(name="Some failed", message=report.sentence(), data=report)
    if report.aside:
        return Completed(name="Some set aside", message=report.sentence(), data=report)
    if report.missing:
        return Completed(name="Some missing", message=report.sentence(), data=report)
    if report.flow == "backfill" and (report.open or report.left or report.stopped):
        return Completed(name="Partly done", message=report.sentence(), data=report)
    if report.did_nothing:
        return Completed(name=_NOTHING, message=report.sentence(), data=report)
    return Completed(message=report.sentence(), data=report)


def _unsuccessful(kind: StateType, name: str, reason: str) -> State[Any]:
    """Return the final state of a run that is not completed.

    The caller of the flow gets Prefect's `FailedRun` or `CancelledRun` with the reason, which Prefect makes of a state
    without data. A run that a worker started has no caller, only a process to end: with exit status 1 and that error
    if it failed, so that whoever started the container sees it as well, and quietly if it was only held.
    """
    message = printable(reason)
    own_process = os.environ.get("PREFECT__FLOW_RUN_ID") == str(flow_run.id)
    quietly = own_process and kind == StateType.CANCELLED
    return State(type=kind, name=name, message=message, data=RunHeld(message) if quietly else None)
