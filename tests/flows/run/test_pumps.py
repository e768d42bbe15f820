"""The loop that decides: what it leaves alone, and when it ends."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.task_runners import TaskRunner

from flows.run.dispatch import Dispatcher
from flows.run.engines import Engine
from flows.run.meant import Meant
from flows.run.pumps import Pumps
from flows.run.steering import Steering
from tasks.context import RunContext
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import Document, Request
from tasks.options import Options, RunSettings
from tasks.report import RunReport
from tasks.steps.poll import OpenJobs
from tasks.store.ledger import Held
from tasks.store.local_folder import FolderObjects
from tasks.tally import KnownJobs, StepResult, Tally
from tests.fakes import FakeClock

Give = Callable[[str, list[Any]], StepResult]


class _Ended:
    """A task run that has ended."""

    def __init__(self, result: StepResult) -> None:
        self._result = result

    def add_done_callback(self, call: Callable[[object], None]) -> None:
        call(self)

    def result(self, *, raise_on_failure: bool) -> StepResult:
        assert not raise_on_failure
        return self._result


class _Runner:
    """A task runner whose task runs give what is asked for at once."""

    def __init__(self, give: Give) -> None:
        self._give = give
        self.runs: list[tuple[str, int]] = []

    def submit(self, step: Any, arguments: dict[str, Any]) -> _Ended:
        items = list(arguments["work"].items)
        self.runs.append((step.name, len(items)))
        return _Ended(self._give(step.name, items))


class Trial:
    """A run over a store in a folder, whose steps do what a test says."""

    def __init__(self, folder: Path, give: Give, **options: Any) -> None:
        settings = RunSettings(
            source="s3://in", destination="s3://out", options=Options(workers=2, poll_seconds=0.05, **options)
        )
        self.clock = FakeClock(datetime.now(UTC))  # the store's clock is the machine's
        self.context = RunContext(settings, FolderObjects(folder / "store"), self.clock, key="up_test_key")
        self.known = KnownJobs(folder)
        self.tally = Tally(self.known, RunReport(flow="backfill", source="s3://in", destination="s3://out"), self.clock)
        self.runner = _Runner(give)
        engine = Engine(cast(TaskRunner[Any], self.runner), settings, 1, lambda _: 1)
        meant = Meant(self.context, self.known)
        self.pumps = Pumps(
            self.context,
            self.tally,
            Dispatcher(engine, "run", self.clock),
            OpenJobs(self.context, meant.document),
            meant,
            Steering(self.context),
            self.tally.add,
            lambda _: self.clock.advance(0.05),
        )

    def documents(self, number: int) -> Iterator[Document]:
        """New documents."""
        for place in range(number):
            document = Document(bucket="in", key=f"{place}.pdf", etag="e", size=1, last_modified=self.clock.now())
            self.known.count(self.context.job_id(document), None)
            yield document

    def claimed(self) -> Held:
        """A job that this process has just claimed."""
        (document,) = self.documents(1)
        job = transitions.claimed(
            self.context.job_id(document),
            document,
            model="ocr",
            answer_schema=None,
            result="s3://out/0.pdf.ocr.json",
            now=self.clock.now(),
            lease=self.context.lease("reading"),
            flow_run="run",
        )
        held = self.context.ledger.claim(job)
        assert held is not None
        return held

    def sent(self) -> Held:
        """A job that is at the API."""
        held = self.claimed()
        request = Request(id="r", pages=None, submitted_at=self.clock.now())
        posting = transitions.posting(held.job, self.context.lease("posting"))
        change = transitions.sent(
            posting.job, request, 1, owner=self.context.owner, keep=None, flow_run="run", total=None
        )
        return self.context.ledger.update(held, change.job)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Callable[..., Trial]]:
    """Makes a trial."""
    made: list[Trial] = []

    def make(give: Give, **options: Any) -> Trial:
        made.append(Trial(tmp_path, give, **options))
        return made[-1]

    yield make
    for built in made:
        built.known.__exit__(None, None, None)


def test_an_account_that_is_refused_ends_the_run_with_jobs_still_open(trial: Callable[..., Trial]) -> None:
    run = trial(lambda _stage, _items: StepResult(refused="the key is refused"))
    run.sent()
    run.pumps.run(lambda: run.documents(0), 1)
    assert run.tally.refused == "the key is refused"
    assert 1 <= run.runner.runs.count(("poll", 1)) <= 2


def test_a_lease_of_a_step_at_work_is_not_taken_for_one_left_behind(trial: Callable[..., Trial]) -> None:
    run = trial(lambda _stage, _items: StepResult())
    held = run.claimed()
    jobs = OpenJobs(run.context)
    with run.context.jobs_at_work.begin(held.job.id):
        survey = jobs.survey()
        assert (survey.open, survey.due, survey.ready) == ([], [], [])
    assert [job_id.job.id for job_id in jobs.survey().ready] == [held.job.id], "a step that ended left it behind"


def test_what_is_done_makes_room_and_the_run_ends_when_nothing_is_left(trial: Callable[..., Trial]) -> None:
    def give(stage: str, items: list[Any]) -> StepResult:
        assert stage == "submit"
        return StepResult([Outcome("done", run.context.job_id(item), item.uri) for item in items])

    run = trial(give, window=3)
    run.pumps.run(lambda: run.documents(250), 0)
    assert run.tally.census().done == 250
    assert sum(items for _, items in run.runner.runs) == 250
    assert len(run.runner.runs) >= 100
