"""From items to task runs to results: how items are shared out over task runs, and how many of those are under way.

Every stage (submit, poll, collect) is a lane: a bounded queue of what waits, and the task runs under way. Small runs
have a task run for each document, which is what people look at. Beyond, a task run stands for some seconds of work:
Prefect's server records a bounded number of task runs a second and drops what comes faster.
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
_CHUNK_SECONDS = 5.0  # of work in a task run, at the rate that the stage has had so far
_SMALLEST_CHUNK = 50
_LARGEST_CHUNK = 1000
_GATHER_SECONDS = 3.0  # items are waited for so long, to make a chunk of them
_LONGEST_GATHER_SECONDS = 30.0
_GATHERED = 60  # items that are worth waiting for: three stages make a twentieth of a task run a document
_LIKELY_RATE = 10.0  # requests a second, where the account's limit is to be found out
_POLL_SECONDS = 15  # of the rate limit in one task run of polls


class Pace:
    """How many items one task run of a stage gets, by how many there have been and how fast they came.

    Attributes:
        items: how many were started so far.
    """

    def __init__(self) -> None:
        self.items = 0
        self._began: float | None = None

    def note(self, items: int, now: float) -> None:
        """Note that so many items more were started."""
        self.items += items
        if self._began is None:
            self._began = now

    @property
    def one_by_one(self) -> bool:
        """Whether each item gets a task run of its own."""
        return self.items < _ONE_BY_ONE

    def most(self, now: float) -> int:
        """The most items for the next task run."""
        if self.one_by_one:
            return 1
        return int(min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, self.items // 100, self._rate(now) * _CHUNK_SECONDS)))

    def gather_seconds(self, now: float) -> float:
        """How long fewer items than that are kept waiting for others to come."""
        if self.one_by_one:
            return 0.0
        worth = min(_GATHERED, self.items / 20) / max(self._rate(now), 1e-6)
        return min(_LONGEST_GATHER_SECONDS, max(_GATHER_SECONDS, worth))

    def _rate(self, now: float) -> float:
        """Items a second so far."""
        return 0.0 if self._began is None else self.items / max(now - self._began, 1.0)


class Lane:
    """One stage: what waits to be started, and how much of it is under way.

    Args:
        step: the task.
        places: how many task runs of one item each are under way at most.
        processes: how many processes there are: two chunks for each are under way at most.
        most: items in one task run at most, whatever the pace; None for the pace's own.
        gather: seconds that the first item waits for others to come, where that is longer than at the lane's pace.

    Attributes:
        waiting: the items that wait.
        running: how many task runs are under way.
        items: how many items these have.
    """

    def __init__(
        self, step: Task[Any, Any], places: int, processes: int, most: int | None = None, gather: float = 0.0
    ) -> None:
        self.step = step
        self.waiting: deque[Item] = deque()
        self.running = self.items = 0
        self._places, self._processes, self._most, self._gather = places, processes, most, gather
        self._pace = Pace()
        self._since = 0.0  # when the oldest item that waits came

    def room(self, now: float) -> int:
        """How many items more it takes."""
        if self._most is None and self._pace.one_by_one:
            return max(0, self._places - self.running - len(self.waiting))
        return max(0, 2 * self._size(now) - len(self.waiting))

    def add(self, item: Item, now: float) -> None:
        """Let an item wait."""
        if not self.waiting:
            self._since = now
        self.waiting.append(item)

    def take(self, now: float, *, at_once: bool) -> list[Item]:
        """What the next task run gets; nothing while there is no place for one, or too little waits.

        Args:
            now: the time.
            at_once: whether nothing else is to be waited for.
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
        """Whether no other task run can be started before one has ended."""
        one_by_one = self._pace.one_by_one or self._most is not None
        return self.running >= (self._places if one_by_one else 2 * self._processes)

    def ended(self, items: int) -> None:
        """Note the end of a task run that had so many items."""
        self.running -= 1
        self.items -= items

    def ripe_at(self, now: float) -> float:
        """When what waits is started, however little it is."""
        return self._since + max(self._gather, self._pace.gather_seconds(now))

    def _size(self, now: float) -> int:
        return self._pace.most(now) if self._most is None else self._most


@dataclass(frozen=True)
class Ended:
    """A task run that has ended.

    Attributes:
        stage: the stage it belonged to.
        items: what it had to work on.
        result: what it gave.
    """

    stage: Stage
    items: Sequence[Item]
    result: StepResult


class Dispatcher:
    """Runs the steps of one flow run as task runs on an engine, with a bounded number under way.

    Args:
        engine: what the task runs work on.
        flow_run: the flow run's id.
        clock: the time to go by.
    """

    def __init__(self, engine: Engine, flow_run: str | None, clock: Clock) -> None:
        self._engine = engine
        self._flow_run = flow_run
        self._clock = clock
        poll = max(engine.settings.options.workers, int(_POLL_SECONDS * self.requests_per_second))
        places, processes = engine.places, engine.processes
        self._lanes: dict[Stage, Lane] = {
            "submit": Lane(submit_step, places, processes),
            "poll": Lane(poll_step, 1, 1, poll, min(_GATHER_SECONDS, engine.settings.options.poll_seconds)),
            "collect": Lane(collect_step, places, processes),
        }
        self._under_way: dict[Any, tuple[Stage, Sequence[Item]]] = {}  # by future
        self._ended: SimpleQueue[Any] = SimpleQueue()

    def room(self, stage: Stage) -> int:
        """How many items more a stage takes at this moment: its queue is bounded."""
        return self._lanes[stage].room(self._clock.monotonic())

    def add(self, stage: Stage, items: Iterable[Item]) -> None:
        """Let items wait for a task run of a stage."""
        now = self._clock.monotonic()
        for item in items:
            self._lanes[stage].add(item, now)

    def items(self, stage: Stage) -> int:
        """How many items of a stage wait or are under way."""
        lane = self._lanes[stage]
        return lane.items + len(lane.waiting)

    def drop(self, stage: Stage) -> list[Item]:
        """Take out what waits in a stage."""
        waiting = self._lanes[stage].waiting
        dropped = list(waiting)
        waiting.clear()
        return dropped

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._under_way and not any(lane.waiting for lane in self._lanes.values())

    @property
    def working(self) -> list[Stage]:
        """The stages of which something is under way."""
        return [stage for stage in STAGES if self._lanes[stage].running]

    def start(self, at_once: Collection[Stage] = ()) -> float:
        """Start the task runs that there is room for.

        Args:
            at_once: the stages for which nothing else will come. Small chunks are started at once in any case while
                nothing is under way: what they would be waiting for cannot come.

        Returns:
            The seconds until there is something to start again, if nothing comes in between.
        """
        now, seconds = self._clock.monotonic(), _LONGEST_GATHER_SECONDS
        for stage in STAGES:
            lane = self._lanes[stage]
            while items := lane.take(now, at_once=stage in at_once or not self._under_way):
                self._start(stage, items)
            if lane.waiting and not lane.full:  # what has no place waits for the end of a task run
                seconds = min(seconds, lane.ripe_at(now) - now)
        return max(0.0, seconds)

    def next(self, seconds: float) -> Ended | None:
        """Wait for the end of a task run; None when none has ended in so many seconds.

        Raises:
            EndsRun: the process that worked cannot, or the cluster is gone: no document's trouble.
        """
        self._engine.look_at_cluster()
        try:
            future = self._ended.get(timeout=max(0.0, seconds)) if seconds > 0 else self._ended.get_nowait()
        except Empty:
            return None
        stage, items = self._under_way.pop(future)
        self._lanes[stage].ended(len(items))
        return Ended(stage, items, _result(future, stage, items))

    def drain(self) -> Iterator[Ended]:
        """Wait for all that is under way, whatever comes of it: what ends the run will end it again."""
        while self._under_way:
            with suppress(EndsRun):
                ended = self.next(1.0)
                if ended is not None:
                    yield ended

    @property
    def requests_per_second(self) -> float:
        """The rate of one process of the engine: a poll is one process's work. A guess, where it is learned."""
        rate = self._engine.settings.options.requests_per_second
        return _LIKELY_RATE if rate == "auto" else rate

    def let_end(self) -> None:
        """Wait for the task runs under way, as far as their engine does not do so by itself."""
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
    """What a task run is called after its stage."""
    if stage == "poll":
        return f"{len(items)} jobs" if len(items) > 1 else "1 job"
    first, last = _key(items[0]), _key(items[-1])
    return first if len(items) == 1 else f"{len(items)} documents, {first} to {last}"


def _key(item: Item) -> str:
    return item.job.document.key if isinstance(item, Held) else item.key


def _result(future: Any, stage: Stage, items: Sequence[Item]) -> StepResult:
    """What a task run gave.

    Raises:
        EndsRun: the process that worked cannot: no document's trouble.
    """
    result = outcome_of(future)
    if isinstance(result, EndsRun):
        raise result
    if isinstance(result, StepResult):
        return result
    log.error("a task run over %d documents died: %s; a later pass or run retries them", len(items), result)
    # Jobs that could not even be asked for are asked for again.
    return StepResult(left=[item.job.id for item in items if isinstance(item, Held)] if stage == "collect" else [])
