"""What a run shows while it works and when it ends: to whoever watches in this process, and in Prefect's UI."""

import json
import logging
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
from prefect.runtime import deployment
from prefect.states import Completed, Failed

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
_MOST_DELETED = 20  # empty runs in one go: one is left by each run, unless the server was gone
_SHOW_SECONDS = 0.5
_ARTIFACT_SECONDS = 5
_SHARE = 0.05  # of the time, at most, goes into counting how far the run is


class ProgressArtifact:
    """The bar of a backfill in the UI."""

    def __init__(self) -> None:
        self._id: Any = None  # Prefect's
        self._tables: dict[str, Any] = {}

    def show(self, progress: Progress, still_open: int, figures: Figures | None) -> None:
        """Create the bar, or move it; of a backfill, the table of its partitions as well."""
        percent = 100.0 * progress.finished / progress.total if progress.total else 100.0
        words = f"{progress.finished} of {progress.total} documents finished, {still_open} open"
        key = "bulk-ocr-progress"  # of a run whose figures are not known yet
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
        """Create a table, or bring it up to date."""
        words = figures.sentence()
        if what in self._tables:
            _update_table(self._tables[what], rows, words)
        else:
            self._tables[what] = create_table_artifact(
                rows, key=artifact_key(figures.destination, figures.name, what), description=words
            )


def artifact_key(destination: str, name: str, what: str) -> str:
    """The key of an artifact, in the letters that keys have: artifacts of one key are versions of one another.

    Args:
        destination: where results and ledger lie.
        name: the backfill's, or the flow's for a run that serves none.
        what: what it shows.
    """
    named = f"{destination.removeprefix('s3://')} {name}"
    return f"bulk-ocr-{re.sub(r'[^a-z0-9]+', '-', named.lower()).strip('-')}-{what}"


def _report_key(report: RunReport) -> str:
    return artifact_key(report.destination, report.backfill or report.flow, "report")


def failure_rows(figures: Figures, link: RunLink) -> list[dict[str, str]]:
    """The documents that failed as rows of a table, each with a link to the run that gave it up.

    Args:
        figures: of the backfill.
        link: gives the address of a run in the UI.
    """
    return [
        {
            "document": printable(failed.document),
            "partition": printable(failed.partition),
            "code": failed.code,
            # Before the reason, which is longer than the UI's tables are wide.
            "run": f"[{(failed.run or '')[:8]}]({address})" if (address := link(failed.run)) else failed.run or "",
            "reason": printable(failed.reason),
        }
        for failed in figures.failed_documents
    ]


def partition_rows(figures: Figures) -> list[dict[str, str]]:
    """The partitions as rows of a table, with their sum as the first: there can be many."""
    rows = [
        _row(part.name, part.finished, part.total, part, part.spent, part.cost, aside=bool(figures.aside))
        for part in figures.partitions
    ]
    spent = figures.pages_sent + figures.pages_lost
    total = _row("all", figures.finished, figures.total, figures, spent, figures.cost, aside=bool(figures.aside))
    return [total, *rows]


def _row(
    name: str, finished: int, total: int, part: Figures | PartitionFigures, spent: int, cost: float, *, aside: bool
) -> dict[str, str]:
    """A row; the column of what is set aside only where something is, since the UI's tables are narrow."""
    return {
        "partition": printable(name),
        "finished": f"{finished:,} of {total:,}",
        "failed": f"{part.failed:,}",
        **({"set aside": f"{part.aside:,}"} if aside else {}),
        "open": f"{part.open:,}",
        "new": f"{part.new:,}",
        "pages": f"{part.pages:,}",
        "pages paid": f"{spent:,}",
        "cost": f"${cost:,.2f}",
    }


def _update_table(artifact: Any, rows: list[dict[str, str]], words: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=json.dumps(rows), description=words))


class Announcer:
    """Announces the progress and the report of one run.

    Args:
        flow: its flow.
        tally: its counts.
        watcher: whoever started it in this process.
        steering: the backfill that the run serves, whose figures are shown; without one, the run's own counts are.
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
        self._rest = 0.0  # seconds that make the counting a small part of the work

    def show(self, doing: str, *, always: bool = False) -> None:
        """Tell whoever watches, and the UI from time to time, how far the run is.

        Args:
            doing: what goes on at this moment.
            always: however short the last time is ago.
        """
        now = self._watcher.clock.monotonic()
        if not always and now - self._shown_at < max(_SHOW_SECONDS, self._rest):
            return  # counting takes longer the more documents there are; once a document would be too often
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
            report: what the run did.
            left_open: jobs that are open at the destination, whoever sent them; None if unknown.
            expiring: jobs whose results the API forgets within days.
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
    """Delete the scheduled runs of a deployment that had nothing to do: the one that ends now tells as much.

    A schedule of a minute would leave 1,440 a day among the runs that did something.

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
    """Leave a report of a run that ends in the middle: by a fault, a crash, or because it is cancelled.

    Not for runs at a terminal, whose person waits for the end of the command.
    """
    if attended():
        return
    try:
        report = tally.report()
        report.figures = steering.figures
        report.backfill = None if steering.figures is None else steering.figures.name
        report.ended = report.ended or f"the run ended early: {error or type(error).__name__}"
        create_markdown_artifact(report.markdown(), key=_report_key(report), description=report.sentence())
    except Exception as failure:  # noqa: BLE001  # what ended the run is what has to be told
        log.warning("the report of this run could not be written: %s", failure)


def final_state(report: RunReport) -> State[RunReport]:
    """The flow run's last state, with a name that tells how it ended; the report is its result.

    Documents that failed leave the run completed: it did its work, and their task runs are red. A ceiling that was
    reached, or a backfill that was paused, is no success, and no fault either that somebody has to be woken for.
    """
    if report.ended:
        return Failed(name="Set-up", message=printable(report.ended), data=report)
    if report.refused:
        return Failed(name="Account refused", message=printable(report.refused), data=report)
    if report.ceiling:
        return State(type=StateType.CANCELLED, name="Budget reached", message=printable(report.ceiling), data=report)
    if report.held:
        name = "Backfill cancelled" if report.figures and report.figures.state == "cancelled" else "Backfill paused"
        return State(type=StateType.CANCELLED, name=name, message=printable(report.held), data=report)
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
