"""The loop that decides: what it leaves alone, and when it ends."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.task_runners import TaskRunner

from flows.run.awaiting_counts import AwaitingCounts
from flows.run.dispatch import Dispatcher, Ended
from flows.run.engines import Engine
from flows.run.meant import Meant
from flows.run.pumps import Pumps
from flows.run.steering import Steering
from tasks.backfills.record import new_backfill
from tasks.context import RunContext
from tasks.faults import TransientFault
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import Document, Request
from tasks.options import Options, RunSettings
from tasks.report import RunReport
from tasks.selection import Selection
from tasks.steps.poll import OpenJobs
from tasks.store.ledger import Held
from tasks.store.local_folder import FolderObjects
from tasks.store.object_store import Stored
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


class _Waits(Dispatcher):
    """Notes how long the run would wait for a task run to end."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waits: list[float] = []

    def next(self, seconds: float) -> Ended | None:
        self.waits.append(seconds)
        return super().next(seconds)


class _Store(FolderObjects):
    """A store in a folder that can be away."""

    away = False

    def get(self, bucket: str, key: str) -> Stored | None:
        if self.away:
            raise TransientFault("could not read: Service Unavailable (503)")
        return super().get(bucket, key)


class Trial:
    """A run over a store in a folder, whose steps do what a test says."""

    def __init__(
        self,
        folder: Path,
        give: Give,
        include: tuple[str, ...] = (),
        behind: float = 0,
        backfill: str | None = None,
        **options: Any,
    ) -> None:
        settings = RunSettings(
            source="s3://scans",
            destination="s3://out",
            options=Options(workers=2, poll_seconds=0.05, **options),
            selection=Selection(include=include),
            backfill=backfill,
        )
        self.clock = FakeClock(datetime.now(UTC) - timedelta(seconds=behind))  # the store's clock is the machine's
        self.store = _Store(folder / "store")
        self.context = RunContext(settings, self.store, self.clock, key="up_test_key")
        self.known = KnownJobs(folder)
        self.tally = Tally(
            self.known, RunReport(flow="backfill", source="s3://scans", destination="s3://out"), self.clock
        )
        self.runner = _Runner(give)
        engine = Engine(cast(TaskRunner[Any], self.runner), settings, 1, lambda _: 1)
        meant = Meant(self.context, self.known)
        self.dispatcher = _Waits(engine, "run", self.clock)
        self.pumps = Pumps(
            self.context,
            self.tally,
            self.dispatcher,
            OpenJobs(self.context, meant.document),
            meant,
            Steering(self.context),
            self.tally.add,
            lambda _: self.clock.advance(0.05),
        )

    def documents(self, number: int) -> Iterator[Document]:
        """New documents."""
        for place in range(number):
            document = Document(bucket="scans", key=f"{place}.pdf", etag="e", size=1, last_modified=self.clock.now())
            self.known.count(self.context.job_id(document), None)
            yield document

    def claimed(self, document: Document | None = None) -> Held:
        """A job that this process has just claimed."""
        document = document or next(self.documents(1))
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

    def sent(self, document: Document | None = None) -> Held:
        """A job that is at the API."""
        held = self.claimed(document)
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


def test_documents_of_a_listing_that_broke_off_count_for_the_limit(trial: Callable[..., Trial]) -> None:
    listings: list[int] = []

    def give(_stage: str, items: list[Any]) -> StepResult:
        return StepResult([Outcome("done", run.context.job_id(item), item.uri) for item in items])

    def new() -> Iterator[Document | None]:
        listings.append(len(run.runner.runs))
        for place, document in enumerate(run.documents(20)):
            if len(listings) == 1 and place == 3:
                run.clock.advance(30)  # the pause after a fault, which the loop would sit out in real time
                raise TransientFault("the listing broke off")
            yield document if run.known.state(run.context.job_id(document)) is None else None

    run = trial(give, behind=20)  # its clock and the store's must not differ by more than half a minute
    run.pumps.run(new, 0, limit=5)
    assert len(listings) == 2
    assert run.tally.census().done == 5


def test_a_run_that_has_nothing_else_to_do_lists_without_pauses(trial: Callable[..., Trial]) -> None:
    def known() -> Iterator[Document | None]:
        for _ in range(20):
            run.clock.advance(0.3)
            yield None
        waits.extend(run.dispatcher.waits)

    waits: list[float] = []
    run = trial(lambda _stage, _items: StepResult())
    run.pumps.run(known, 0)
    assert set(waits) == {0.0}


class Office:
    """Documents of unknown page count under a ceiling: some are refused while others are under way."""

    def __init__(self, run: Callable[[], Trial], admitted: int, total: int) -> None:
        self.run, self.admitted, self.total = run, admitted, total
        self.under_way: list[Held] = []
        self.sent: list[str] = []
        self.refused = 0

    def give(self, stage: str, items: list[Any]) -> StepResult:
        """Submit as many as the ceiling admits; poll and collect what is under way."""
        if stage == "submit":
            return StepResult([self._submit(item) for item in items])
        if stage == "poll":
            return StepResult(ready=items)
        outcomes = []
        for held in items:
            self.run().context.ledger.close(held)
            self.under_way = [other for other in self.under_way if other.job.id != held.job.id]
            outcomes.append(Outcome("done", held.job.id, held.job.document.uri, counted=True))
        return StepResult(outcomes)

    def _submit(self, document: Document) -> Outcome:
        run, name = self.run(), document.uri
        job_id = run.context.job_id(document)
        if len(self.sent) == self.total:
            return Outcome("later", job_id, name, message="nothing is left", budget_used_up=True)
        if len(self.under_way) == self.admitted:
            self.refused += 1
            return Outcome("later", job_id, name, message="it waits", budget_used_up=True, counts_awaited=True)
        self.sent.append(document.key)
        self.under_way.append(run.sent(document))
        return Outcome("open", job_id, name)


def test_documents_wait_until_others_are_counted_and_are_sent_in_the_same_run(trial: Callable[..., Trial]) -> None:
    office = Office(lambda: run, admitted=2, total=100)
    run = trial(office.give)
    run.pumps.run(lambda: run.documents(8), 0)
    report = run.tally.report()
    assert (report.done, report.left, report.ceiling) == (8, 0, None)
    assert sorted(office.sent) == [f"{number}.pdf" for number in range(8)], "each once"
    assert office.refused <= 16, "tried again only when something was counted"


def test_what_does_not_fit_after_all_ends_the_run_at_its_ceiling(trial: Callable[..., Trial]) -> None:
    office = Office(lambda: run, admitted=2, total=5)
    run = trial(office.give)
    run.pumps.run(lambda: run.documents(8), 0)
    report = run.tally.report()
    assert (report.done, report.left) == (5, 3)
    assert "nothing is left" in str(report.ceiling)


def test_a_run_does_not_wait_for_documents_of_others(trial: Callable[..., Trial]) -> None:
    """Another destination that shares the meter, or another run with other documents: it may take days."""
    office = Office(lambda: run, admitted=0, total=5)
    run = trial(office.give)
    run.pumps.run(lambda: run.documents(3), 0)
    report = run.tally.report()
    assert (report.done, report.left, office.refused <= 6) == (0, 3, True)
    assert "it waits" in str(report.ceiling)


def test_one_pass_ends_where_documents_have_to_wait_for_counts(trial: Callable[..., Trial]) -> None:
    office = Office(lambda: run, admitted=2, total=100)
    run = trial(office.give)
    run.pumps.submit(run.documents(8), 8, lambda _: None)
    report = run.tally.report()
    assert (len(office.sent), report.left) == (2, 6)
    assert "it waits" in str(report.ceiling)


def test_a_pass_goes_on_while_the_record_of_its_backfill_cannot_be_read_and_ends_when_it_is_paused(
    trial: Callable[..., Trial],
) -> None:
    sent: list[Document] = []

    def give(_: str, items: Any) -> StepResult:
        sent.extend(items)
        run.store.away = False
        return StepResult([Outcome("open", run.context.job_id(item), item.key) for item in items])

    run = trial(give, backfill="live")
    now = run.clock.now()
    run.context.backfills.make(new_backfill(run.context.settings, "live", now))
    run.store.away = True
    assert run.pumps.submit(run.documents(3), 3, lambda _: None) == 3
    assert len(sent) == 3
    run.context.backfills.change("live", lambda record: record.moved("paused", "month's end", now))
    run.context.followed.forget("live")
    assert run.pumps.submit(run.documents(3), 3, lambda _: None) == 0


def test_missing_pages_that_no_count_of_this_run_makes_room_for_are_left_to_a_later_run(
    trial: Callable[..., Trial],
) -> None:
    tries = 0

    def give(stage: str, items: list[Any]) -> StepResult:
        nonlocal tries
        if stage == "poll":
            return StepResult(ready=items)
        tries += 1
        (job,) = [held.job for held in items]
        name = job.document.uri
        return StepResult(
            [Outcome("later", job.id, name, message="it waits", budget_used_up=True, counts_awaited=True)]
        )

    run = trial(give)
    run.sent()
    run.pumps.run(lambda: run.documents(0), 1)
    assert ("it waits" in str(run.tally.report().ceiling), tries) == (True, 2)


def test_documents_that_are_to_be_done_again_are_taken_in_before_the_run_ends(trial: Callable[..., Trial]) -> None:
    submitted: list[str] = []

    def give(_stage: str, items: list[Any]) -> StepResult:
        return StepResult([submit(item) for item in items])

    def submit(document: Document) -> Outcome:
        submitted.append(document.key)
        ledger, held = run.context.ledger, run.claimed(document)
        done = transitions.done(
            held.job, pages=1, now=run.clock.now(), superseded=False, copied_from=None, flow_run="run"
        )
        assert ledger.finish(held, done) is not None
        if submitted == ["0.pdf", "1.pdf"]:  # somebody runs `redo` for the first one, whose result is poor
            [first] = [entry for entry in ledger.entries("done") if entry.id != held.job.id]
            record = ledger.done(first.id)
            assert record is not None
            assert ledger.open_again(record, first)
        return Outcome("done", held.job.id, document.uri, pages=1)

    def new() -> Iterator[Document | None]:
        for document in run.documents(2):
            known = run.known.state(run.context.job_id(document))
            yield document if known is None else None

    run = trial(give)
    run.pumps.run(new, 0)
    assert submitted == ["0.pdf", "1.pdf", "0.pdf"]
    assert (run.tally.report().done, run.tally.report().pages) == (2, 3)


def test_a_job_outside_the_selection_that_waits_for_counts_does_not_keep_the_run(tmp_path: Path) -> None:
    tried: list[str] = []

    def give(stage: str, items: list[Any]) -> StepResult:
        if stage == "poll":
            return StepResult(ready=items)
        tried.append(stage)
        assert len(tried) < 20, "tried again and again"
        (job,) = [held.job for held in items]
        waits = Outcome("later", job.id, job.document.uri, message="waits", budget_used_up=True, counts_awaited=True)
        return StepResult([waits])

    run = Trial(tmp_path, give, include=("other*",))
    run.sent(Document(bucket="scans", key="0.pdf", etag="e", size=1, last_modified=run.clock.now()))
    run.pumps.run(lambda: iter(()), 1)
    assert tried == ["collect"]


def test_a_job_that_was_sent_after_it_had_waited_in_vain_is_not_given_up() -> None:
    awaited = AwaitingCounts(lambda document: document.key)
    waits = Outcome("later", "j", "j", budget_used_up=True, counts_awaited=True)
    awaited.note(waits, sent=False)
    awaited.note(waits, sent=False)
    assert awaited.all_stuck({"j"})
    awaited.note(Outcome("open", "j", "j", pages_sent=3, requests=1), sent=False)
    assert not awaited.all_stuck({"j"})
