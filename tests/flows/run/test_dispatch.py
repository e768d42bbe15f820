"""How documents are shared out over task runs, and what comes of those."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.task_runners import TaskRunner

from flows.run.dispatch import Dispatcher, Seen, chunks
from flows.run.engines import Engine
from tasks.faults import Passes, SetupFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, Job
from tasks.options import Options, RunSettings
from tasks.store.ledger import Held
from tasks.tally import StepResult


@given(st.lists(st.integers(0, 3000), max_size=6))
def test_every_item_is_in_exactly_one_chunk_over_any_passes(passes: list[int]) -> None:
    seen, number, out = Seen(), 0, []
    for length in passes:
        items = range(number, number + length)
        number += length
        out += [item for chunk in chunks(items, seen) for item in chunk]
    assert out == list(range(number))
    assert seen.items == number


def test_the_first_documents_have_a_task_run_each() -> None:
    assert [len(chunk) for chunk in chunks(range(500), Seen())] == [1] * 500


def test_a_million_documents_make_little_more_than_a_thousand_task_runs() -> None:
    assert sum(1 for _ in chunks(range(1_000_000), Seen())) < 1500


def test_items_are_taken_as_lazily_as_chunks_are_asked_for() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    grouped = chunks(source(), Seen())
    next(grouped)
    assert taken == [0]


class _Ended:
    """A task run that has ended."""

    def __init__(self, result: object) -> None:
        self._result = result

    def result(self, *, raise_on_failure: bool) -> object:
        assert not raise_on_failure
        return self._result


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
    return Dispatcher(Engine(cast(TaskRunner[Any], runner), settings, 1, lambda _: 1), "run"), runner


def documents(*, failing_after: int) -> Iterator[Document]:
    """A listing that fails."""
    for number in range(failing_after):
        yield Document(
            bucket="in", key=f"{number}.pdf", etag="e", size=1, last_modified=datetime(2026, 7, 1, tzinfo=UTC)
        )
    raise Passes("the listing failed")


def held(*names: str) -> list[Held]:
    """Open jobs, as they were read."""
    now = datetime(2026, 7, 1, tzinfo=UTC)
    document = Document(bucket="in", key="a.pdf", etag="e", size=1, last_modified=now)
    jobs = (Job(id=name, document=document, model="ocr", result="s3://b/r", claimed_at=now) for name in names)
    return [Held(job, "etag") for job in jobs]


def submitted(arguments: dict[str, Any]) -> StepResult:
    """What a task run gives that submits its documents."""
    return StepResult([Outcome("open", document.key, document.uri) for document in arguments["documents"]])


def test_what_was_sent_before_a_listing_failed_is_counted_before_anybody_hears_of_it() -> None:
    dispatched, runner = dispatcher(submitted)
    results = dispatched.submit(documents(failing_after=3))
    given = [next(results) for _ in range(3)]
    with pytest.raises(Passes, match="the listing failed"):
        next(results)
    assert [outcome.job_id for result in given for outcome in result.outcomes] == ["0.pdf", "1.pdf", "2.pdf"]
    assert runner.labels == ["0.pdf", "1.pdf", "2.pdf"]


def test_a_task_run_that_died_leaves_its_jobs_and_the_others_go_on() -> None:
    dispatched, _ = dispatcher(
        lambda arguments: RuntimeError("killed") if arguments["jobs"][0].job.id == "b" else StepResult()
    )
    assert [result.left for result in dispatched.collect(held("a", "b", "c"))] == [[], ["b"], []]
    died, _ = dispatcher(lambda _: RuntimeError("killed"))
    assert died.poll(held("a", "b")) == StepResult(), "they are asked for again in the next pass"


def test_a_process_that_cannot_work_ends_the_run() -> None:
    dispatched, _ = dispatcher(lambda _: SetupFault("no API key"))
    with pytest.raises(SetupFault, match="no API key"):
        list(dispatched.collect(held("a")))
    with pytest.raises(SetupFault, match="no API key"):
        dispatched.poll(held("a"))
