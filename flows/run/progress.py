"""How far a run is, and who in this process wants to know. Knows nothing of Prefect, nor of a terminal."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from tasks.backfills.figures import Figures
from tasks.clock import Clock
from tasks.report import RunReport


@dataclass(frozen=True)
class Progress:
    """How far a run, or the command `file`, is.

    Attributes:
        doing: what goes on at this moment, as in `submitting`.
        finished: documents that are done, failed or set aside.
        total: documents known of so far; None as long as nothing can be said of it.
        details: further counts in words, as in `3 open, 25 pages sent`.
        figures: of the backfill that a run serves.
    """

    doing: str
    finished: int = 0
    total: int | None = None
    details: str = ""
    figures: Figures | None = None

    def line(self) -> str:
        """The same in words."""
        if self.total is None:
            return self.doing
        counts = f"{self.doing}: {self.finished} of {self.total} documents finished"
        return f"{counts}, {self.details}" if self.details else counts


def _ignore(_: object) -> None:
    """Nobody is watching."""


@dataclass(frozen=True)
class Watcher:
    """Whoever starts a run in their own process, as the command line does.

    Attributes:
        progress: takes how far the run is, a few times a second at most.
        report: takes the report, also when Prefect's server is lost before the flow returns it.
        clock: the run's clock; ending it ends the run.
    """

    progress: Callable[[Progress], None] = _ignore
    report: Callable[[RunReport], None] = _ignore
    clock: Clock = field(default_factory=Clock)


watching: ContextVar[Watcher | None] = ContextVar("watching", default=None)
