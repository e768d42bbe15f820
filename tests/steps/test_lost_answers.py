"""The one exception: an answer lost between POST and record. It is counted, capped, and loses nothing else."""

import logging
from datetime import timedelta

import pytest

from tasks.context import RunContext
from tasks.job.record import Document, Lease, PageRange, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.store.ledger import Held
from tests.fakes import FakeClock
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

POST = {"method": "POST", "path": "/async$"}


def take_over(world: World, document: Document, context: RunContext) -> None:
    """Let the lease of whoever holds the job run out, and let another worker take it up."""
    world.clock.advance(context.options.lease_seconds + 1)
    collect_job(context, job_id(document, "ocr"))


def claimed(world: World, document: Document, lease: Lease) -> Held:
    """A job as somebody left it who was killed."""
    dead = world.context()
    assert submit_document(dead, document).kind == "open"
    held = dead.ledger.read(job_id(document, "ocr"))
    assert held is not None
    return dead.ledger.update(held, held.job.model_copy(update={"lease": lease, "requests": (), "rounds": 1}))


@pytest.mark.parametrize("fault", [{"action": "reset_after"}, {"action": "cut"}, {"action": "status", "status": 504}])
def test_a_lost_answer_is_sent_again_and_counted(world: World, fault: dict[str, object]) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.fail(POST | fault)
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.requests, outcome.possible_duplicates) == ("open", 1, 1)
    assert world.open(document).possible_duplicates == 1
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 1
    assert len(world.bill()) == (1 if fault["action"] == "status" else 2)
    assert world.texts(document) == ["page 1 of a test", "page 2 of a test"]


def test_lost_answers_are_capped_over_all_passes_and_the_document_ends_failed(world: World) -> None:
    document = world.put(pdf(2))
    world.api.fail(POST | {"action": "reset_after", "times": -1})
    outcomes = [submit_document(world.context(), document)]
    assert (outcomes[0].kind, outcomes[0].possible_duplicates) == ("later", 3)
    identity = job_id(document, "ocr")
    while world.context().ledger.read(identity) is not None:  # each pass a run of its own: none loses many in a row
        outcomes.append(collect_job(world.context(), identity))
    assert [outcome.kind for outcome in outcomes] == ["later", "later", "later", "failed"]
    assert len(world.bill()) == 9
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 9
    assert world.failed(document).job.possible_duplicates == 9


@pytest.mark.parametrize("how", ["changed", "vanished"])
def test_a_document_that_moved_after_lost_answers_ends_failed_and_not_never(world: World, how: str) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.fail(POST | {"action": "reset_after", "times": 3})
    assert submit_document(context, document).kind == "later"
    if how == "changed":
        world.put(pdf(3))
    else:
        world.s3.delete_object(Bucket=world.bucket, Key=document.key)
    assert collect_job(context, job_id(document, "ocr")).kind == "failed"
    assert "changed or vanished" in world.failed(document).reason


def test_a_worker_killed_while_reading_costs_nothing(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    held = claimed(
        world, document, Lease(owner="dead", since=world.clock.now(), until=world.clock.now(), doing="reading")
    )
    before = len(world.bill())
    assert collect_job(context, held.job.id).kind == "open"
    assert len(world.bill()) == before + 1
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 0


def test_a_worker_killed_while_posting_counts_as_one_possible_duplicate(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    lease = Lease(
        owner="dead",
        since=world.clock.now(),
        until=world.clock.now(),
        doing="posting",
        pages=PageRange(first=1, last=2),
    )
    held = claimed(world, document, lease)
    outcome = collect_job(context, held.job.id)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 1


@pytest.mark.parametrize("doing", ["reading", "posting"])
def test_a_lease_that_is_not_over_is_respected(world: World, doing: str) -> None:
    document, context = world.put(pdf(2)), world.context()
    until = world.clock.now() + timedelta(seconds=1)
    held = claimed(
        world, document, Lease.model_validate({"owner": "alive", "since": until, "until": until, "doing": doing})
    )
    assert collect_job(context, held.job.id).kind == "skipped"
    assert context.ledger.read(held.job.id) == held


def test_a_slow_worker_whose_job_was_taken_over_does_not_lose_its_request(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(2)), world.context()
    slow = world.context(objects=flaky.objects())
    # Its third write is the one with the request.
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", skip=2, before=lambda: take_over(world, document, other)))
    outcome = submit_document(slow, document)
    assert (outcome.kind, outcome.requests, outcome.possible_duplicates) == ("skipped", 1, 0), "counted already"
    job = world.open(document)
    assert {request.id for request in job.requests} == {submission["id"] for submission in world.bill()}
    assert len(job.requests) == 2
    assert (job.possible_duplicates, job.pages_lost) == (1, 0)
    assert job.lease is None
    world.finish(other, document)
    assert world.texts(document) == ["page 1 of a test", "page 2 of a test"]
    assert world.billed_pages() == [2, 2]


def test_a_wait_for_the_rate_limit_longer_than_the_lease_does_not_pay_twice(world: World) -> None:
    first, second = world.put(pdf(6, "one"), "in/1.pdf"), world.put(pdf(6, "two"), "in/2.pdf")
    other = world.context()

    class Waiting(FakeClock):
        """Lets another worker act while this one waits."""

        def now(self):  # type: ignore[no-untyped-def] # the shared clock tells the time
            return world.clock.now()

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            take_over(world, second, other)

    slow = world.context(pages_per_minute=6, clock=Waiting())
    assert submit_document(slow, first).kind == "open"
    outcome = submit_document(slow, second)
    assert (outcome.kind, outcome.requests) == ("skipped", 0)
    assert world.billed_pages() == [6, 6]
    world.finish(other, second)
    assert world.done(second).pages == 6


def test_a_wait_for_the_rate_limit_keeps_the_lease_alive(world: World) -> None:
    first, second = world.put(pdf(6, "one"), "in/1.pdf"), world.put(pdf(6, "two"), "in/2.pdf")
    slow = world.context(pages_per_minute=6, lease_seconds=30)
    assert submit_document(slow, first).kind == "open"
    assert submit_document(slow, second).kind == "open"
    assert sum(world.clock.slept) >= 30
    assert world.open(second).possible_duplicates == 0


def test_a_request_that_could_not_be_recorded_is_counted_and_not_forgotten(
    world: World, flaky: FlakyS3, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is down for many minutes, right when the receipt is to be written, then comes back."""
    document, other = world.put(pdf(2)), world.context()
    down = flaky.fail(Rule("refuse", "_jobs/open/", "PUT", skip=2, times=12))
    with caplog.at_level(logging.WARNING):
        outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert (outcome.kind, down.hits) == ("later", 12)
    assert world.bill()[0]["id"] in outcome.message
    lease = world.open(document).lease
    assert lease is not None
    assert lease.doing == "posting", "whoever takes over must know that this may be paid for"
    assert submit_document(other, document).kind == "skipped"
    world.clock.advance(other.options.lease_seconds + 1)
    outcomes = world.finish(other, document)
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert world.done(document).job.possible_duplicates == 1


def test_a_lost_answer_that_could_not_be_recorded_is_counted_all_the_same(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(2)), world.context()
    world.api.fail(POST | {"action": "reset_after"})
    flaky.fail(Rule("refuse", "_jobs/open/", "PUT", skip=2))
    outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert (outcome.kind, outcome.possible_duplicates) == ("later", 1)
    assert world.open(document).lease is not None
    world.clock.advance(other.options.lease_seconds + 1)
    world.finish(other, document)
    assert world.done(document).job.possible_duplicates == 1
    assert len(world.bill()) == 2


def test_a_receipt_written_twice_stands_once(world: World, flaky: FlakyS3) -> None:
    """The write went through, its answer and the look at it were lost: the same receipt is written again."""
    document, context = world.put(pdf(25)), world.context(objects=flaky.objects(), limits=TEN_PAGES)
    flaky.fail(Rule("hang_up", "_jobs/open/", "PUT", skip=2))
    flaky.fail(Rule("refuse", "_jobs/open/", "GET"))
    assert submit_document(context, document).kind == "open"
    assert [str(request.pages) for request in world.open(document).requests] == ["1-10", "11-20", "21-25"]
    assert world.billed_pages() == [10, 10, 5]
    assert world.open(document).possible_duplicates == 0


def test_a_receipt_that_was_written_and_overtaken_unseen_stands_once(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(2)), world.context()
    world.api.set(queue_seconds=600)
    flaky.fail(Rule("hang_up", "_jobs/open/", "PUT", skip=2, after=lambda: take_over(world, document, other)))
    flaky.fail(Rule("refuse", "_jobs/open/", "GET"))
    assert submit_document(world.context(objects=flaky.objects()), document).requests == 1
    assert [request.id for request in world.open(document).requests] == [world.bill()[0]["id"]]
    world.api.set(queue_seconds=0)
    world.finish(other, document)
    assert world.billed_pages() == [2]
