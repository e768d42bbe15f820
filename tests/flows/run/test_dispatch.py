"""How documents are shared out over task runs, and what comes of those."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.context import FlowRunContext
from prefect.states import Completed
from prefect.task_runners import TaskRunner
from prefect.utilities.engine import link_state_to_task_run_result

from flows.run.dispatch import Dispatcher, Item, Lane, Pace, Scale, Stage
from flows.run.engines import Engine
from tasks.faults import SetupFault
from tasks.job.record import Document, Job
from tasks.options import Options, RunSettings
from tasks.store.ledger import Held
from tasks.tally import StepResult
from tests.fakes import FakeClock


def lane(workers: int = 2, documents: int = 0, *, ahead: bool = False) -> Lane:
    """A lane of a process with so many workers, in a run that is known to have so many documents."""
    scale = Scale()
    scale.expect(documents)
    return Lane(cast(Any, None), workers, 1, scale, ahead=ahead)


@given(st.lists(st.integers(0, 3000), max_size=6))
def test_every_item_is_in_exactly_one_chunk_however_they_come(arrivals: list[int]) -> None:
    stage, clock, out = lane(), FakeClock(), []
    expected: list[Item] = []
    for length in arrivals:
        coming = documents(length)
        expected += coming
        for document in coming:
            stage.add(document, clock.monotonic())
        while stage.waiting:
            chunk = stage.take(clock.monotonic(), at_once=False)
            out += chunk
            if chunk:
                stage.ended(len(chunk))
            clock.advance(1)
    assert out == expected
    assert (stage.running, stage.items) == (0, 0)


def test_the_documents_of_a_small_run_have_a_task_run_each() -> None:
    scale = Scale()
    scale.expect(100)
    pace = Pace(scale)
    assert pace.most(0.0) == 1
    assert pace.gather_seconds(0.0) == 0
    scale.expect(101)
    assert pace.most(0.0) > 1


def test_a_run_that_turns_out_to_be_large_goes_on_in_chunks() -> None:
    stage, lengths = lane(ahead=True), []
    for document in documents(300):  # a listing so slow that each is sent before the next is known
        stage.add(document, 0.0)
        if chunk := stage.take(0.0, at_once=True):
            stage.ended(len(chunk))
            lengths.append(len(chunk))
    assert lengths[:100] == [1] * 100
    for document in documents(60):
        stage.add(document, 1.0)
    assert len(stage.take(1.0, at_once=True)) > 1


@pytest.mark.parametrize("rate", [2, 10, 40])
def test_a_million_documents_make_little_more_than_a_thousand_task_runs_a_stage(rate: float) -> None:
    scale = Scale()
    scale.expect(1_000_000)
    pace, now, task_runs = Pace(scale), 0.0, 0
    while pace.items < 1_000_000:
        chunk = pace.most(now)
        pace.note(chunk, now)
        now += chunk / rate
        task_runs += 1
    assert task_runs < 1600


@pytest.mark.parametrize("rate", [1, 2, 10, 40])
def test_items_that_come_one_by_one_make_a_twentieth_of_a_task_run_each_over_all_stages(rate: float) -> None:
    stage, now, arrived_items, task_runs = lane(), 0.0, 0, 0
    for document in documents(100_000):
        now = arrived_items / rate
        arrived_items += 1
        stage.add(document, now)
        if chunk := stage.take(now, at_once=False):
            stage.ended(len(chunk))
            task_runs += 1
    assert 3 * task_runs / arrived_items <= 0.055 if rate > 1 else task_runs < arrived_items / 20


def test_documents_are_queued_until_a_large_run_is_known_to_be_one() -> None:
    stage = lane(workers=2, ahead=True)
    assert stage.room(0.0) == 101
    for document in documents(100):
        stage.add(document, 0.0)
    assert stage.room(0.0) == 1
    assert len(stage.take(0.0, at_once=False)) == 1, "a hundred are a small run"
    stage.add(documents(1)[0], 0.0)
    assert len(stage.take(0.0, at_once=False)) == 50


def test_a_lane_takes_no_more_than_it_can_start_soon() -> None:
    stage = lane(workers=2)
    for document in documents(2):
        assert stage.room(0.0)
        stage.add(document, 0.0)
    assert stage.room(0.0) == 0
    assert len(stage.take(0.0, at_once=False)) == 1
    assert stage.room(0.0) == 0, "one is under way, and one waits"


def test_few_items_wait_for_others_unless_none_can_come() -> None:
    stage = lane(documents=101)
    stage.add(documents(1)[0], 10.0)
    assert stage.take(10.0, at_once=False) == []
    assert len(stage.take(10.0, at_once=True)) == 1
    stage.add(documents(1)[0], 20.0)
    assert len(stage.take(stage.ripe_at(20.0), at_once=False)) == 1


class _Ended:
    """A task run that has ended."""

    def __init__(self, result: object) -> None:
        self._result = result

    def add_done_callback(self, call: Callable[[object], None]) -> None:
        call(self)

    def result(self, *, raise_on_failure: bool) -> object:
        assert not raise_on_failure
        return self._result


class _EndlessRunner:
    """A task runner whose task runs never end."""

    def submit(self, _step: object, _arguments: object) -> "_EndlessRunner":
        return self

    def add_done_callback(self, _call: object) -> None:
        """Nothing ends, so nothing is called."""


class _Runner:
    """A task runner whose task runs give what is asked for at once."""

    def __init__(self, give: Callable[[dict[str, Any]], object]) -> None:
        self._give = give
        self.labels: list[str] = []

    def submit(self, _step: object, arguments: dict[str, Any]) -> _Ended:
        self.labels.append(arguments["label"])
        return _Ended(self._give(arguments))


def dispatcher(give: Callable[[dict[str, Any]], object]) -> tuple[Dispatcher, _Runner]:
    """A dispatcher of two workers."""
    settings = RunSettings(source="s3://in", destination="s3://out", options=Options(workers=2))
    runner = _Runner(give)
    return Dispatcher(Engine(cast(TaskRunner[Any], runner), settings, 1, lambda _: 1), "run", FakeClock()), runner


def documents(number: int) -> list[Document]:
    """So many documents; always the same ones, since a hundred thousand take a while to make."""
    return [_document(key) for key in range(number)]


@cache
def _document(key: int) -> Document:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    return Document(bucket="in", key=f"{key}.pdf", etag="e", size=1, last_modified=now)


def held(*names: str) -> list[Held]:
    """Open jobs, as they were read."""
    now = datetime(2026, 7, 1, tzinfo=UTC)
    document = Document(bucket="in", key="a.pdf", etag="e", size=1, last_modified=now)
    jobs = (Job(id=name, document=document, model="ocr", result="s3://b/r", claimed_at=now) for name in names)
    return [Held(job, "etag") for job in jobs]


def results(dispatched: Dispatcher, stage: Stage, items: Sequence[Item]) -> list[StepResult]:
    """What a stage gives for some items."""
    given: list[StepResult] = []
    waiting = list(items)
    while waiting or not dispatched.idle:
        dispatched.add(stage, [waiting.pop(0) for _ in range(min(len(waiting), dispatched.room(stage)))])
        dispatched.start()
        while (ended := dispatched.next(0)) is not None:
            assert ended.stage == stage
            given.append(ended.result)
    return given


def test_each_document_of_a_small_run_has_a_task_run_named_after_it() -> None:
    dispatched, runner = dispatcher(lambda arguments: StepResult(left=[item.key for item in arguments["work"].items]))
    assert [result.left for result in results(dispatched, "submit", documents(3))] == [["0.pdf"], ["1.pdf"], ["2.pdf"]]
    assert runner.labels == ["0.pdf", "1.pdf", "2.pdf"]


def test_the_chunks_of_a_larger_run_are_named_after_their_ranges() -> None:
    dispatched, runner = dispatcher(lambda _: StepResult())
    results(dispatched, "submit", documents(300))
    assert runner.labels[0] == "50 documents, 0.pdf to 49.pdf"
    assert len(runner.labels) <= 6


def test_of_more_jobs_than_a_small_run_has_documents_none_is_collected_alone() -> None:
    dispatched, runner = dispatcher(lambda _: StepResult())
    dispatched.expect(101)
    dispatched.add("collect", held(*(f"job {number}" for number in range(101))))
    while not dispatched.idle:
        dispatched.start(["collect"])
        dispatched.next(0)
    assert runner.labels[0].startswith("50 documents")


def test_a_task_run_that_died_leaves_its_jobs_and_the_others_go_on() -> None:
    dispatched, _ = dispatcher(
        lambda arguments: RuntimeError("killed") if arguments["work"].items[0].job.id == "b" else StepResult()
    )
    assert [result.left for result in results(dispatched, "collect", held("a", "b", "c"))] == [[], ["b"], []]
    died, _ = dispatcher(lambda _: RuntimeError("killed"))
    assert results(died, "poll", held("a", "b")) == [StepResult()], "they are asked for again in the next pass"


def test_prefect_keeps_nothing_of_task_runs_that_have_ended() -> None:
    """A state for each of them until the flow run ends would be memory that grows with the run."""
    context = cast(Any, FlowRunContext).model_construct(run_results={})
    with context:

        def give(_: object) -> StepResult:
            link_state_to_task_run_result(Completed(), result := StepResult())
            assert context.run_results, "Prefect has noted the result"
            return result

        dispatched, _ = dispatcher(give)
        assert len(results(dispatched, "submit", documents(300))) > 1
        assert context.run_results == {}


def test_a_process_that_cannot_work_ends_the_run() -> None:
    stages: tuple[Stage, ...] = ("collect", "poll")
    for stage in stages:
        dispatched, _ = dispatcher(lambda _: SetupFault("no API key"))
        with pytest.raises(SetupFault, match="no API key"):
            results(dispatched, stage, held("a"))


def test_what_is_under_way_is_counted_whatever_ends_the_run() -> None:
    dispatched, _ = dispatcher(
        lambda arguments: SetupFault("no key") if arguments["label"] == "0.pdf" else StepResult(left=["counted"])
    )
    dispatched.add("submit", documents(2))
    dispatched.start()
    assert [ended.result.left for ended in dispatched.drain()] == [["counted"]]
    assert dispatched.idle


def test_a_cluster_that_is_gone_ends_the_wait_for_what_is_under_way() -> None:
    clock = FakeClock()
    options = Options(engine="dask", cluster="tcp://cluster:8786")
    settings = RunSettings(source="s3://in", destination="s3://out", options=options)

    def count(_runner: object) -> int:
        clock.advance(60)  # a look at a minute's distance
        return 0

    engine = Engine(cast(TaskRunner[Any], _EndlessRunner()), settings, 1, count, clock.monotonic)
    dispatched = Dispatcher(engine, "run", clock)
    dispatched.add("submit", documents(1))
    dispatched.start()
    with pytest.raises(SetupFault, match="has had no processes for 120 s"):
        list(dispatched.drain())
