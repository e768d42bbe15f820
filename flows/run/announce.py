"""What a run shows while it works and when it ends: to whoever watches in this process, and in Prefect's UI."""

import logging
from collections.abc import Callable
from typing import Any, Literal

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.states import Completed, Failed

from flows.run.events import emit_events
from flows.run.progress import Progress, Watcher
from tasks.clock import Clock
from tasks.printable import printable
from tasks.report import RunReport
from tasks.tally import Tally

log = logging.getLogger(__name__)

_SHOW_SECONDS = 0.5
_ARTIFACT_SECONDS = 5
_SILENCE_SECONDS = 300  # a call to a server that is gone takes a minute of retries
_SHARE = 0.05  # of the time, at most, goes into telling how far the run is


class Server:
    """Prefect's server, as far as the UI is concerned: the work does not depend on it.

    A call that fails is followed by five minutes without any, and a slow one by a rest that makes it cheap.

    Args:
        clock: the time to go by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = self._resting_until = clock.monotonic()

    def tell(self, call: Callable[[], object], *, once: bool = False) -> None:
        """Make a call that puts something into the UI, if the server is there.

        Args:
            call: the call.
            once: whether it is made once only, so that it does not wait for a better moment.
        """
        now = self._clock.monotonic()
        if now < self._silent_until or (now < self._resting_until and not once):
            return
        try:
            call()
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("Prefect's server cannot be told how far the run is (%s); it goes on", type(error).__name__)
            self._silent_until = self._clock.monotonic() + _SILENCE_SECONDS
        ended = self._clock.monotonic()
        self._resting_until = ended + (ended - now) * (1 / _SHARE - 1)


class ProgressArtifact:
    """The bar of a backfill in the UI."""

    def __init__(self) -> None:
        self._id: Any = None  # Prefect's

    def show(self, progress: Progress, still_open: int) -> None:
        """Create the bar, or move it."""
        percent = 100.0 * progress.finished / progress.total if progress.total else 100.0
        words = f"{progress.finished} of {progress.total} documents finished, {still_open} open"
        if self._id is None:
            self._id = create_progress_artifact(percent, key="bulk-ocr-progress", description=words)
        else:
            update_progress_artifact(self._id, percent, description=words)


class Announcer:
    """Announces the progress and the report of one run.

    Args:
        flow: its flow.
        tally: its counts.
        watcher: whoever started it in this process.
    """

    def __init__(
        self, flow: Literal["submit", "listen", "collect", "backfill"], tally: Tally, watcher: Watcher
    ) -> None:
        self._tally = tally
        self._watcher = watcher
        self._server = Server(watcher.clock)
        self._artifact = ProgressArtifact() if flow == "backfill" else None
        self._shown_at = self._artifact_at = watcher.clock.monotonic()

    def show(self, doing: str, *, always: bool = False) -> None:
        """Tell whoever watches, and the UI from time to time, how far the run is.

        Args:
            doing: what goes on at this moment.
            always: however short the last time is ago.
        """
        now = self._watcher.clock.monotonic()
        if not always and now - self._shown_at < _SHOW_SECONDS:
            return  # counting takes longer the more documents there are; once a document would be too often
        self._shown_at = now
        census = self._tally.census()
        details = f"{census.open} open, {self._tally.pages_sent} pages sent"
        progress = Progress(doing, census.finished + census.aside, census.documents, details)
        self._watcher.progress(progress)
        artifact = self._artifact
        if artifact is not None and (always or now - self._artifact_at > _ARTIFACT_SECONDS):
            self._artifact_at = now
            self._server.tell(lambda: artifact.show(progress, census.open), once=always)

    def close(self, report: RunReport, *, left_open: int | None, expiring: int) -> None:
        """Announce the end.

        Args:
            report: what the run did.
            left_open: jobs that are open at the destination, whoever sent them; None if unknown.
            expiring: jobs whose results the API forgets within days.
        """
        self.show("finished", always=True)
        self._watcher.report(report)
        key, page, sentence = f"bulk-ocr-{report.flow}", report.markdown(), report.sentence()
        self._server.tell(lambda: create_markdown_artifact(page, key=key, description=sentence), once=True)
        self._server.tell(lambda: emit_events(report, left_open=left_open, expiring=expiring), once=True)
        log.info("%s", sentence)


def final_state(report: RunReport) -> State[RunReport]:
    """The flow run's last state, with a name that tells how it ended; the report is its result.

    Documents that failed leave the run completed: it did its work, and their task runs are red.
    """
    if report.ended:
        return Failed(name="Set-up", message=printable(report.ended), data=report)
    if report.refused:
        return Failed(name="Account refused", message=printable(report.refused), data=report)
    if report.nothing:
        return Completed(name="Nothing found", message=printable(report.nothing), data=report)
    if report.failed:
        return Completed(name="Some failed", message=report.sentence(), data=report)
    if report.aside:
        return Completed(name="Some set aside", message=report.sentence(), data=report)
    if report.missing:
        return Completed(name="Some missing", message=report.sentence(), data=report)
    return Completed(message=report.sentence(), data=report)
