"""A run's progress and its watcher in this process. Independent of Prefect and of terminals."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from tasks.backfills.figures import Figures
from tasks.clock import Clock
from tasks.report import RunReport


@dataclass(frozen=True)
class Progress:
    """The progress of a run, or of the command `file`.

    Attributes:
        doing: the current activity, such as `submitting`.
        finished: number of documents that are done, failed or set aside.
        total: number of documents known so far; None if unknown.
        details: further counts as text, such as `3 open, 25 pages sent`.
        figures: the figures of the backfill that a run serves.
    """

    doing: str
    finished: int = 0
    total: int | None = None
    details: str = ""
    figures: Figures | None = None

    def line(self) -> str:
        """Describe the progress in one line."""
        if self.total is None:
            return self.doing
        counts = f"{self.doing}: {self.finished} of {self.total} documents finished"
        return f"{counts}, {self.details}" if self.details else counts


def _ignore(_: object) -> None:
    """Does nothing: the default callback."""


@dataclass(frozen=True)
class Watcher:
    """The callbacks of code that starts a run in its own process, such as the command line.

    Attributes:
        progress: called with the progress, at most a few times per second.
        report: called with the report, even if Prefect's server is lost before the flow returns it.
        clock: the run's clock; ending it ends the run.
    """

    progress: Callable[[Progress], None] = _ignore
    report: Callable[[RunReport], None] = _ignore
    clock: Clock = field(default_factory=Clock)


watching: ContextVar[Watcher | None] = ContextVar("watching", default=None)
