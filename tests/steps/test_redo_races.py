"""Documents that are done again while a worker still holds the attempt before: it was suspended, perhaps for hours."""

from collections.abc import Callable

from tasks.job.outcome import Outcome
from tasks.job.record import Document, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf
from tests.steps.kills import passes
from tests.store.flaky_s3 import FlakyS3, Rule


def _collect_suspended(world: World, flaky: FlakyS3, document: Document, meanwhile: Callable[[], object]) -> Outcome:
    """Collect a job with a worker that is suspended between result and done record, until something has happened.

    Meanwhile another worker finishes the job, and the document is marked to be done again.
    """

    def suspended() -> None:
        world.finish(world.context(), document)
        entry = world.context().ledger.entry("done", job_id(document, "ocr"))
        assert entry is not None
        world.clock.advance(3600)
        assert world.context().ledger.open_again(world.done(document), entry)
        meanwhile()

    slow = world.context(objects=flaky.objects())
    submit_document(slow, document)
    identity = world.recognised(slow, document)
    rule = flaky.fail(Rule("pass", "/done/", "PUT", before=suspended))
    outcome = collect_job(slow, identity)
    assert rule.hits == 1
    return outcome


def test_a_document_marked_meanwhile_is_done_again(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(1))
    assert _collect_suspended(world, flaky, document, lambda: None).kind == "skipped"
    assert world.context().ledger.done(job_id(document, "ocr")) is None


def test_the_record_of_a_document_done_again_tells_what_it_cost(world: World, flaky: FlakyS3) -> None:
    """The API is paid for two attempts: one is in the earlier record, the other in the current one."""
    document, context = world.put(pdf(1)), world.context()
    _collect_suspended(world, flaky, document, lambda: submit_document(context, document))
    sent = [request.id for request in world.open(document).requests]
    assert world.finish(context, document)[-1].kind == "done"
    assert [request.id for request in world.done(document).job.requests] == sent
    assert world.billed_pages() == [1, 1]


def test_the_record_of_a_failed_attempt_stays(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(1))

    def fail_again() -> None:
        context = world.context(rounds=1)
        world.api.set(fail_requests=[{"times": 1}])
        submit_document(context, document)
        assert world.finish(context, document)[-1].kind == "failed"

    assert _collect_suspended(world, flaky, document, fail_again).kind == "skipped"
    ledger, identity = world.context().ledger, job_id(document, "ocr")
    assert ledger.done(identity) is None
    failed = ledger.failed(identity)
    assert failed is not None
    assert failed.job.pages_sent == 1


def test_a_request_of_the_attempt_before_does_not_become_part_of_the_new_one(world: World, flaky: FlakyS3) -> None:
    """A worker is suspended between POST and record; others finish the document, and do it again."""
    document, other = world.put(pdf(1)), world.context()
    sent: list[str] = []

    def suspended() -> None:
        passes(world, other, document)
        entry = other.ledger.entry("done", job_id(document, "ocr"))
        assert entry is not None
        assert other.ledger.open_again(world.done(document), entry)
        submit_document(other, document)
        sent.extend(request.id for request in world.open(document).requests)

    rule = flaky.fail(Rule("pass", "/open/", "PUT", body=rb'"requests": \[\s*\{', before=suspended))
    outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert rule.hits == 1
    assert (outcome.pages_sent, outcome.possible_duplicates) == (1, 0), "the other worker has counted the duplicate"
    assert world.finish(other, document)[-1].kind == "done"
    done = world.done(document).job
    assert [request.id for request in done.requests] == sent
    (key,) = other.ledger.earlier_keys()
    earlier = other.ledger.earlier_job(key)
    assert earlier is not None
    assert (earlier.pages_sent, earlier.pages_lost, done.pages_sent, done.pages_lost) == (1, 1, 1, 0)
    assert world.billed_pages() == [1, 1, 1]


def test_an_open_record_that_was_left_behind_does_not_cancel_a_redo(world: World, flaky: FlakyS3) -> None:
    """A worker is killed between the done record and the end of its claim."""
    document, context = world.put(pdf(1)), world.context(objects=flaky.objects())
    submit_document(context, document)
    identity = world.recognised(context, document)
    flaky.fail(Rule("refuse", "/open/", "PUT", times=-1))
    assert collect_job(context, identity).kind == "done"
    flaky.rules.clear()
    assert context.ledger.read(identity) is not None
    entry, record = context.ledger.entry("done", identity), context.ledger.done(identity)
    assert entry is not None
    assert record is not None
    world.clock.advance(10)
    assert context.ledger.open_again(record, entry)
    passes(world, world.context(), document)
    assert world.billed_pages() == [1, 1]
    (key,) = context.ledger.earlier_keys()
    earlier = context.ledger.earlier_job(key)
    assert earlier is not None
    assert earlier.requests[0].id != world.done(document).job.requests[0].id
