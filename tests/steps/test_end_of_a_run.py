"""A run ends when every document is done or failed, whatever others do with its jobs meanwhile; no Prefect."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from flows.run.dispatch import Ended, Item, Stage
from flows.run.meant import Meant
from flows.run.pumps import Pumps
from flows.run.steering import Steering
from tasks.backfills.record import new_backfill
from tasks.clock import Clock
from tasks.context import RunContext
from tasks.faults import TransientFault
from tasks.job import transitions
from tasks.job.record import Document
from tasks.options import RunSettings
from tasks.prefect_tasks import work_through
from tasks.report import RunReport
from tasks.steps.collect import collect_job
from tasks.steps.discover import discover
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tasks.store.ledger import Held
from tasks.tally import Census, KnownJobs, StepResult, Tally
from tests.fakes import FakeClock
from tests.steps.conftest import World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule

_MOST_PAUSES = 10_000


class OneByOne:
    """A dispatcher that does one step at a time, in the thread that asks."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._waiting: deque[tuple[Stage, Item]] = deque()
        self.begin: Callable[[Stage], object] = lambda _: None
        self.pauses = 0

    def expect(self, documents: int) -> None:
        pass

    def room(self, _stage: Stage) -> int:
        return 10

    def add(self, stage: Stage, items: list[Item]) -> None:
        self._waiting.extend((stage, item) for item in items)

    def items(self, stage: Stage) -> int:
        return sum(waiting == stage for waiting, _ in self._waiting)

    def drop(self, stage: Stage) -> list[Item]:
        dropped = [item for waiting, item in self._waiting if waiting == stage]
        self._waiting = deque(task for task in self._waiting if task[0] != stage)
        return dropped

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def working(self) -> list[Stage]:
        return []

    requests_per_second = 100.0

    def start(self, at_once: object = ()) -> float:
        del at_once
        return 1.0

    def next(self, seconds: float) -> Ended | None:
        if not self._waiting:
            self.pauses += 1
            assert self.pauses < _MOST_PAUSES, "the run does not end"
            if isinstance(clock := self._context.clock, FakeClock):
                clock.advance(max(seconds, 0.01))
            time.sleep(0.005)  # the stand-in works in real time
            return None
        if seconds == 0:
            return None
        stage, item = self._waiting.popleft()
        self.begin(stage)
        return Ended(stage, [item], self._work(stage, item))

    def _work(self, stage: Stage, item: Item) -> StepResult:
        if isinstance(item, Document):
            return work_through(self._context, [item], submit_document, lambda _: True)
        if stage == "collect":
            return work_through(self._context, [item], collect_job, lambda _: True)
        result = StepResult()
        if poll_job(self._context, item):
            result.ready.append(item)
        written = self._context.records.take(item.job.id)
        result.still_open += [written] if written is not None else []
        return result


class Running:
    """A run over the documents of a world."""

    def __init__(self, world: World, folder: Path, *, backfill: str | None = None, **options: Any) -> None:
        quick: dict[str, Any] = {"clock": Clock(), "lease_seconds": 1, "poll_seconds": 0.05}
        quick.update(options)
        self.context = context = world.context(**quick)
        if backfill is not None:
            context.settings = RunSettings.model_validate({**dict(context.settings), "backfill": backfill})
        self.known = KnownJobs(folder)
        self.dispatcher = OneByOne(context)
        self.tally = Tally(self.known, RunReport(flow="backfill", source=None, destination="s3://b/out"), context.clock)
        meant, self.steering = Meant(context, self.known), Steering(context)
        self._pumps = Pumps(
            context,
            self.tally,
            cast(Any, self.dispatcher),
            OpenJobs(context, meant.document),
            meant,
            self.steering,
            lambda result, collected: self.tally.add(result, collected=collected),
            lambda _: None,
        )

    def load(self) -> int:
        """What a run learns before it begins."""
        return self.known.load(self.context.ledger)

    def documents(self) -> Iterator[Document | None]:
        """The new documents, as a run lists them."""
        for found in discover(self.context, self.known):
            self.known.count(found.job_id, found.state)
            new = found.state is None and not self.known.is_left(found.job_id)
            yield found.document if new else None

    def to_the_end(self, documents: Callable[[], Iterator[Document | None]] | None = None) -> Census:
        """Run. Gives how the documents stand in the end."""
        self._pumps.run(documents or self.documents, self.known.number("open"))
        return self.tally.census()


def claim(world: World, context: RunContext, document: Document) -> Held:
    """Claim a document as a worker does that has done no more yet."""
    claimed = context.ledger.claim(
        transitions.claimed(
            context.job_id(document),
            document,
            model="ocr",
            answer_schema=None,
            result=f"s3://{world.bucket}/out/a.pdf.ocr.json",
            now=world.clock.now(),
            lease=context.lease("reading"),
            flow_run="another",
        )
    )
    assert claimed is not None
    return claimed


def test_what_another_run_had_claimed_and_gives_back_is_sent(world: World, tmp_path: Path) -> None:
    """It is claimed when the run begins and is listed; later its record is gone, and there is no other."""
    document, other = world.put(pdf(1)), world.context()
    world.put(pdf(1, "one more"), "in/b.pdf")
    claimed = claim(world, other, document)
    run = Running(world, tmp_path)
    assert run.load() == 1
    run.dispatcher.begin = lambda stage: stage == "submit" and other.ledger.close(claimed)
    assert run.to_the_end() == Census(done=2)
    assert world.done(document).pages == 1
    assert world.billed_pages() == [1, 1]


def test_what_a_run_gives_back_itself_while_it_takes_it_over_is_sent(
    world: World, tmp_path: Path, flaky: FlakyS3
) -> None:
    """A worker died over its claim; whoever takes the job over cannot send it at first."""
    document = world.put(pdf(1))
    flaky.fail(Rule("refuse", "/in/a.pdf", "GET", times=-1, status=503, code="SlowDown"))
    dead = world.context()
    claim(world, dead, document)
    run = Running(world, tmp_path, objects=flaky.objects())
    run.load()
    lists = iter(range(10))

    def documents() -> Iterator[Document | None]:
        if next(lists) == 1:
            flaky.rules.clear()
        return run.documents()

    assert run.to_the_end(documents) == Census(done=1)
    assert world.billed_pages() == [1]


@pytest.mark.parametrize("done", [True, False])
def test_a_record_that_was_closed_and_not_deleted_is_no_reason_to_leave_its_document(
    world: World, tmp_path: Path, done: bool
) -> None:
    """Its closer was killed between the two; the run found the job open, and waits until the record may be deleted."""
    document, dead = world.put(pdf(1)), world.context()
    submit_document(dead, document)
    identity = world.recognised(dead, document)
    held = dead.ledger.read(identity)
    assert held is not None
    run = Running(world, tmp_path)
    run.load()
    if done:
        assert collect_job(dead, identity).kind == "done"
    closed = transitions.closed(held.job, "dead", "nonce")
    if done:
        world.s3.put_object(
            Bucket=world.bucket, Key=f"out/_jobs/open/{identity}.json", Body=closed.model_dump_json().encode()
        )
    else:
        assert dead.ledger.update(held, closed)
    assert run.to_the_end() == (Census(done_before=1) if done else Census(done=1))
    assert dead.ledger.done(identity) is not None


def test_a_listing_that_is_begun_anew_sends_nothing_twice(world: World, tmp_path: Path) -> None:
    """S3 fails in the middle of a listing, which is begun anew half a minute later."""
    for number in range(3):
        world.put(pdf(1, f"{number}"), f"in/{number}.pdf")
    run = Running(world, tmp_path, clock=world.clock, lease_seconds=1000)
    run.load()
    lists = iter(range(10))

    def documents() -> Iterator[Document | None]:
        fails = next(lists) == 0
        for number, document in enumerate(run.documents()):
            if fails and number == 2:
                raise TransientFault("the listing failed")
            yield document

    submits: list[Stage] = []
    run.dispatcher.begin = submits.append
    assert run.to_the_end(documents) == Census(done=3)
    assert (submits.count("submit"), world.billed_pages()) == (3, [1, 1, 1])


def test_a_cancelled_backfill_does_not_wait_for_pages_that_it_does_not_send(world: World, tmp_path: Path) -> None:
    """What is at the API is collected; a job that lacks pages stays open, for whoever resumes the backfill."""
    bad, good = pdf(2, "bad"), pdf(2, "good")
    world.api.set(fail_requests=[{"sha256": sha(bad)}])
    documents = [world.put(bad, "in/bad.pdf"), world.put(good, "in/good.pdf")]
    run = Running(world, tmp_path, backfill="work")
    run.load()
    run.context.backfills.make(new_backfill(run.context.settings, "work", world.clock.now()))
    sent: list[Stage] = []

    def cancel(stage: Stage) -> None:
        sent.append(stage)
        if stage != "submit" and sent.count("submit") == 2 and sent.count(stage) == 1:
            run.context.backfills.change("work", lambda record: record.moved("cancelled", "", world.clock.now()))
            run.context.followed.forget("work")

    run.dispatcher.begin = cancel
    assert run.to_the_end() == Census(done=1, open=1)
    assert [request.id for request in world.open(documents[0]).requests] != []
    assert world.billed_pages() == [2, 2]


def test_a_backfill_whose_record_cannot_be_read_for_a_moment_is_not_paused(world: World, flaky: FlakyS3) -> None:
    context = world.context(objects=flaky.objects())
    context.settings = RunSettings.model_validate({**dict(context.settings), "backfill": "letters"})
    context.backfills.make(new_backfill(context.settings, "letters", context.clock.now()))
    steering = Steering(context)
    flaky.fail(Rule("refuse", "_jobs/backfills/letters.json", "GET", times=-1))
    assert (steering.sends, steering.held) == (False, None), "nothing is sent, but nobody has paused it"
    flaky.rules.clear()
    assert (steering.sends, steering.held) == (True, None)
    context.backfills.change("letters", lambda record: record.moved("paused", "", context.clock.now()))
    context.followed.forget("letters")
    assert not steering.sends
    assert "letters is paused" in (steering.held or "")


@pytest.mark.parametrize("failures", [1, 7])
def test_a_record_that_cannot_be_read_for_a_moment_does_not_end_the_run(
    world: World, tmp_path: Path, flaky: FlakyS3, failures: int
) -> None:
    world.put(pdf(1))
    run = Running(world, tmp_path, backfill="work", clock=world.clock, lease_seconds=1000, objects=flaky.objects())
    run.load()
    run.context.backfills.make(new_backfill(run.context.settings, "work", world.clock.now()))
    refused = flaky.fail(Rule("refuse", "_jobs/backfills/work.json", "GET", times=failures))
    assert run.to_the_end() == Census(done=1)
    assert refused.hits == failures
