"""From items to task runs to results: how documents are shared out over task runs, and how many are under way.

One document a task run for the first several hundred, then chunks of a hundredth of what has been: Prefect's
server records about 28 task runs a second and drops what comes faster. A million documents at once make little more
than a thousand chunks; a chunk ends with the pass it belongs to, so small passes make more of them.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect import Task

from flows.run.engines import Engine, outcome_of
from tasks.faults import EndsRun, Fault
from tasks.job.record import Document
from tasks.prefect_tasks import collect_step, poll_step, submit_step
from tasks.printable import printable
from tasks.store.ledger import Held
from tasks.tally import StepResult

log = logging.getLogger(__name__)

_ONE_BY_ONE = 500
_SHORTEST_CHUNK = 50

Item = TypeVar("Item")


@dataclass
class Seen:
    """How many items a stage has had so far in its flow run."""

    items: int = 0


def chunks(items: Iterable[Item], seen: Seen) -> Iterator[list[Item]]:
    """Group items into what one task run works on.

    Args:
        items: taken lazily.
        seen: the count of the stage; goes on over several calls.
    """
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) >= (1 if seen.items < _ONE_BY_ONE else max(_SHORTEST_CHUNK, seen.items // 100)):
            seen.items += len(chunk)
            yield chunk
            chunk = []
    if chunk:
        seen.items += len(chunk)
        yield chunk


class Dispatcher:
    """Runs the steps of one flow run as task runs on an engine, with a bounded number under way.

    Args:
        engine: what the task runs work on.
        flow_run: the flow run's id.
    """

    def __init__(self, engine: Engine, flow_run: str | None) -> None:
        self._engine = engine
        self._flow_run = flow_run
        self._submitted, self._collected = Seen(), Seen()
        self._under_way: deque[tuple[Any, Sequence[Any]]] = deque()  # task runs, and the items of each

    def submit(self, documents: Iterable[Document]) -> Iterator[StepResult]:
        """Submit documents, taken lazily. Gives the result of each task run.

        Raises:
            EndsRun: the set-up is wrong where the work is done.
        """
        return self._stage(submit_step, "documents", chunks(documents, self._submitted), lambda document: document.key)

    def collect(self, jobs: Iterable[Held]) -> Iterator[StepResult]:
        """Collect jobs, whose records were just read. Gives the result of each task run.

        Raises:
            EndsRun: as for `submit`.
        """
        return self._stage(collect_step, "jobs", chunks(jobs, self._collected), lambda held: held.job.document.key)

    def poll(self, jobs: Sequence[Held]) -> StepResult:
        """Ask for many jobs in one task run.

        Raises:
            EndsRun: as for `submit`.
        """
        label = f"{len(jobs)} jobs" if len(jobs) > 1 else "1 job"
        return _result(self._start(poll_step, "jobs", list(jobs), label), ())

    @property
    def requests_per_second(self) -> float:
        """The rate of one process of the engine: a poll is one process's work."""
        return self._engine.settings.options.requests_per_second

    def let_end(self) -> None:
        """Wait for the task runs under way, as far as their engine does not do so by itself."""
        self._engine.let_end(future for future, _ in self._under_way)

    def _start(self, step: Task[Any, Any], parameter: str, items: Sequence[Any], label: str) -> Any:
        arguments = {
            "settings": self._engine.settings,
            "flow_run": self._flow_run,
            "label": printable(label),
            parameter: items,
        }
        return self._engine.runner.submit(step, arguments)

    def _stage(
        self,
        step: Task[Any, Any],
        parameter: str,
        work: Iterator[list[Item]],
        name: Callable[[Item], str],
    ) -> Iterator[StepResult]:
        under_way = self._under_way
        try:
            for chunk in work:
                first = name(chunk[0])
                label = first if len(chunk) == 1 else f"{len(chunk)} documents from {first}"
                under_way.append((self._start(step, parameter, chunk, label), chunk))
                # A chunk brings threads of its own.
                while len(under_way) >= 2 * (self._engine.places if len(chunk) == 1 else self._engine.processes):
                    yield _result(*under_way.popleft())
        except EndsRun:
            raise
        except Fault:
            # A listing that failed: what is being sent has to end first, or the next pass would take it for dead.
            while under_way:
                with suppress(EndsRun):  # it is what ends the run already, or soon will
                    yield _result(*under_way.popleft())
            raise
        while under_way:
            yield _result(*under_way.popleft())


def _result(future: Any, items: Sequence[Any]) -> StepResult:
    """What a task run gave.

    Raises:
        EndsRun: the process that worked cannot: no document's trouble.
    """
    result = outcome_of(future)
    if isinstance(result, EndsRun):
        raise result
    if isinstance(result, StepResult):
        return result
    log.error("a task run over %d documents died: %s; a later pass or run takes them up", max(1, len(items)), result)
    return StepResult(left=[item.job.id for item in items if isinstance(item, Held)])
