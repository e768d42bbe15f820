"""Dispatch of items to task runs: how many items each task run gets, and how many are in progress.

Every stage (submit, poll, collect) is a lane: a bounded queue of waiting items, and the task runs in progress. A run of
up to a hundred documents has a task run for each, which is what people look at. In a larger run, a task run covers some
seconds of work: Prefect's server records a limited number of task runs per second and drops the rest, and a task run
costs as much processor time as a document. So up to a hundred documents are queued before the first is sent, as far as
the listing is quick: by then a large run is known to be one.
"""

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Literal

from prefect import Task

from flows.run.engines import Engine, outcome_of
from flows.run.memory import Remains
from tasks.clock import Clock
from tasks.faults import EndsRun
from tasks.job.record import Document
from tasks.prefect_tasks import Work, collect_step, poll_step, submit_step
from tasks.printable import printable
from tasks.store.ledger import Held
from tasks.tally import StepResult

log = logging.getLogger(__name__)

Stage = Literal["submit", "poll", "collect"]
Item = Document | Held

STAGES: tuple[Stage, ...] = ("submit", "poll", "collect")

_ONE_BY_ONE = 100
_CHUNK_SECONDS = 5.0  # of work in a task run, at the stage's rate so far
_SMALLEST_CHUNK = 50
_LARGEST_CHUNK = 1000
_GATHER_SECONDS = 3.0  # how long to wait for more items to form a chunk
_LONGEST_GATHER_SECONDS = 30.0
_GATHERED = 60  # items worth waiting for: with three stages, a twentieth of a task run per document
_LIKELY_RATE = 10.0  # requests per second, assumed while the account's limit is being learned
_POLL_SECONDS = 15  # of the rate limit in one task run of polls


class Scale:
    """How many documents a run has, as far as that is known by now."""

    def __init__(self) -> None:
        self._documents = 0

    def expect(self, documents: int) -> None:
        """Note that there are at least so many."""
        self._documents = max(self._documents, documents)

    @property
    def small(self) -> bool:
        """Whether each document gets a task run of its own."""
        return self._documents <= _ONE_BY_ONE


class Pace:
    """The number of items per task run of a stage, depending on their number and rate so far.

    Args:
        scale: how many documents the run has.

    Attributes:
        items: number of items started so far.
    """

    def __init__(self, scale: Scale) -> None:
        self.items = 0
        self._scale = scale
        self._began: float | None = None

    def note(self, items: int, now: float) -> None:
        """Note that more items were started."""
        self.items += items
        if self._began is None:
            self._began = now

    @property
    def one_by_one(self) -> bool:
        """Whether each item gets its own task run."""
        return self._scale.small

    def most(self, now: float) -> int:
        """Return the maximum number of items for the next task run."""
        if self.one_by_one:
            return 1
        return int(min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, self.items // 100, self._rate(now) * _CHUNK_SECONDS)))

    def gather_seconds(self, now: float) -> float:
        """Return how long fewer items wait for more to arrive."""
        if self.one_by_one:
            return 0.0
        worthwhile_seconds = min(_GATHERED, self.items / 20) / max(self._rate(now), 1e-6)
        return min(_LONGEST_GATHER_SECONDS, max(_GATHER_SECONDS, worthwhile_seconds))

    def _rate(self, now: float) -> float:
        """Return the items per second so far."""
        return 0.0 if self._began is None else self.items / max(now - self._began, 1.0)


class Lane:
    """One stage: the items that wait to be started, and the number in progress.

    Args:
        step: the task.
        places: maximum number of concurrent task runs with one item each.
        processes: number of processes: each may have two chunks in progress.
        scale: how many documents the run has; None for a lane whose items come again, which says nothing about it.
        ahead: whether items are queued until the run is known to be a large one.
        most: fixed maximum of items per task run; None to let the pace decide.
        gather: minimum number of seconds that the first item waits for more to arrive.

    Attributes:
        waiting: the waiting items.
        running: number of task runs in progress.
        items: number of items in these task runs.
    """

    def __init__(
        self,
        step: Task[Any, Any],
        places: int,
        processes: int,
        scale: Scale | None = None,
        *,
        ahead: bool = False,
        most: int | None = None,
        gather: float = 0.0,
    ) -> None:
        self.step = step
        self.waiting: deque[Item] = deque()
        self.running = self.items = 0
        self._places, self._processes, self._most, self._gather = places, processes, most, gather
        self._scale, self._ahead = scale or Scale(), ahead
        self._pace = Pace(self._scale)
        self._since = 0.0  # when the oldest waiting item arrived

    def room(self, now: float) -> int:
        """Return how many more items the lane accepts."""
        if self._most is None and self._pace.one_by_one:
            if self._ahead:
                return _ONE_BY_ONE + 1 - self._pace.items - len(self.waiting)
            return max(0, self._places - self.running - len(self.waiting))
        return max(0, 2 * self._size(now) - len(self.waiting))

    def add(self, item: Item, now: float) -> None:
        """Add an item to the queue."""
        if not self.waiting:
            self._since = now
        self.waiting.append(item)
        self._scale.expect(self._pace.items + len(self.waiting))

    def take(self, now: float, *, at_once: bool) -> list[Item]:
        """Take the items for the next task run; none if no task run can start, or too few items wait.

        Args:
            now: the current time.
            at_once: do not wait for more items.
        """
        if not self.waiting or self.full:
            return []
        size = self._size(now)
        if len(self.waiting) < size and not at_once and now < self.ripe_at(now):
            return []
        items = [self.waiting.popleft() for _ in range(min(size, len(self.waiting)))]
        self._since = now
        self._pace.note(len(items), now)
        self.running += 1
        self.items += len(items)
        return items

    @property
    def full(self) -> bool:
        """Whether no other task run can start before one has ended."""
        one_by_one = self._pace.one_by_one or self._most is not None
        return self.running >= (self._places if one_by_one else 2 * self._processes)

    def ended(self, items: int) -> None:
        """Note the end of a task run with this many items."""
        self.running -= 1
        self.items -= items

    def ripe_at(self, now: float) -> float:
        """Return when the waiting items are started, however few they are."""
        return self._since + max(self._gather, self._pace.gather_seconds(now))

    def _size(self, now: float) -> int:
        return self._pace.most(now) if self._most is None else self._most


@dataclass(frozen=True)
class Ended:
    """A task run that has ended.

    Attributes:
        stage: its stage.
        items: its items.
        result: its result.
    """

    stage: Stage
    items: Sequence[Item]
    result: StepResult


class Dispatcher:
    """Runs the steps of one flow run as task runs on an engine, with a bounded number in progress.

    Args:
        engine: the engine that executes task runs.
        flow_run: the flow run's id.
        clock: the timer.
    """

    def __init__(self, engine: Engine, flow_run: str | None, clock: Clock) -> None:
        self._engine = engine
        self._flow_run = flow_run
        self._clock = clock
        poll = max(engine.settings.options.workers, int(_POLL_SECONDS * self.requests_per_second))
        places, processes = engine.places, engine.processes
        self._scale = Scale()
        gather = min(_GATHER_SECONDS, engine.settings.options.poll_seconds)
        self._lanes: dict[Stage, Lane] = {
            "submit": Lane(submit_step, places, processes, self._scale, ahead=True),
            "poll": Lane(poll_step, 1, 1, most=poll, gather=gather),
            "collect": Lane(collect_step, places, processes, self._scale),
        }
        self._under_way: dict[Any, tuple[Stage, Sequence[Item]]] = {}  # by future
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._remains = Remains()

    def expect(self, documents: int) -> None:
        """Note that the run has at least so many documents: a large run has no task run for each."""
        self._scale.expect(documents)

    def room(self, stage: Stage) -> int:
        """Return how many more items a stage accepts at the moment: its queue is bounded."""
        return self._lanes[stage].room(self._clock.monotonic())

    def add(self, stage: Stage, items: Iterable[Item]) -> None:
        """Add items to the queue of a stage."""
        now = self._clock.monotonic()
        for item in items:
            self._lanes[stage].add(item, now)

    def items(self, stage: Stage) -> int:
        """Return the number of items of a stage that are waiting or in progress."""
        lane = self._lanes[stage]
        return lane.items + len(lane.waiting)

    def drop(self, stage: Stage) -> list[Item]:
        """Remove and return the waiting items of a stage."""
        waiting = self._lanes[stage].waiting
        dropped = list(waiting)
        waiting.clear()
        return dropped

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or in progress."""
        return not self._under_way and not any(lane.waiting for lane in self._lanes.values())

    @property
    def working(self) -> list[Stage]:
        """The stages with task runs in progress."""
        return [stage for stage in STAGES if self._lanes[stage].running]

    def start(self, at_once: Collection[Stage] = ()) -> float:
        """Start as many task runs as possible.

        Args:
            at_once: the stages for which no more items will arrive. While nothing is in progress, small chunks are
                always started at once: no more items can arrive for them.

        Returns:
            The seconds until another task run can start, if nothing happens before.
        """
        now, seconds = self._clock.monotonic(), _LONGEST_GATHER_SECONDS
        for stage in STAGES:
            lane = self._lanes[stage]
            while items := lane.take(now, at_once=stage in at_once or not self._under_way):
                self._start(stage, items)
            if lane.waiting and not lane.full:  # a full lane waits for the end of a task run
                seconds = min(seconds, lane.ripe_at(now) - now)
        return max(0.0, seconds)

    def next(self, seconds: float) -> Ended | None:
        """Wait for the end of a task run; None if none has ended after this many seconds.

        Raises:
            EndsRun: the process or the cluster has failed: not the fault of any document.
        """
        self._engine.look_at_cluster()
        return self._ended_within(seconds)

    def _ended_within(self, seconds: float) -> Ended | None:
        try:
            future = self._ended.get(timeout=max(0.0, seconds)) if seconds > 0 else self._ended.get_nowait()
        except Empty:
            return None
        stage, items = self._under_way.pop(future)
        self._remains.clear(len(items))
        self._lanes[stage].ended(len(items))
        return Ended(stage, items, _result(future, stage, items))

    def drain(self) -> Iterator[Ended]:
        """Wait for all task runs in progress. A fault that ends the run is suppressed: it will be raised again.

        Raises:
            SetupFault: the cluster is gone, so no task run in progress will end.
        """
        while self._under_way:
            self._engine.look_at_cluster()
            with suppress(EndsRun):
                ended = self._ended_within(1.0)
                if ended is not None:
                    yield ended

    @property
    def requests_per_second(self) -> float:
        """The rate of one process of the engine, since a poll is one process's work. An estimate if it is learned."""
        rate = self._engine.settings.options.requests_per_second
        return _LIKELY_RATE if rate == "auto" else rate

    def let_end(self) -> None:
        """Wait for the task runs in progress, unless the engine does so by itself."""
        self._engine.let_end(list(self._under_way))

    def _start(self, stage: Stage, items: Sequence[Item]) -> None:
        lane = self._lanes[stage]
        arguments = {
            "work": Work(self._engine.settings, self._flow_run, items),
            "label": printable(_label(stage, items)),
        }
        future = self._engine.runner.submit(lane.step, arguments)
        self._under_way[future] = stage, items
        future.add_done_callback(self._ended.put)


def _label(stage: Stage, items: Sequence[Item]) -> str:
    """Return the part of a task run's name after its stage."""
    if stage == "poll":
        return f"{len(items)} jobs" if len(items) > 1 else "1 job"
    first, last = _key(items[0]), _key(items[-1])
    return first if len(items) == 1 else f"{len(items)} documents, {first} to {last}"


def _key(item: Item) -> str:
    return item.job.document.key if isinstance(item, Held) else item.key


def _result(future: Any, stage: Stage, items: Sequence[Item]) -> StepResult:
    """Return the result of a task run.

    Raises:
        EndsRun: the process has failed: not the fault of any document.
    """
    result = outcome_of(future)
    if isinstance(result, EndsRun):
        raise result
    if isinstance(result, StepResult):
        return result
    log.error("a task run over %d documents died: %s; a later pass or run retries them", len(items), result)
    # Jobs of a collect task run are left to a later run; this run polls those of other stages again.
    return StepResult(left=[item.job.id for item in items if isinstance(item, Held)] if stage == "collect" else [])
