"""Poll: asked less often the older it gets, and nothing taken for lost or finished too early."""

from datetime import timedelta
from typing import Any

import pytest

from tasks.context import RunContext
from tasks.faults import AccountFault
from tasks.job import transitions
from tasks.job.record import Document, Job, job_id
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, ask, poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

STATUS = {"method": "GET", "path": "/requests/"}


def hanging(world: World, context: RunContext, pages: int = 2) -> Document:
    """A submitted document that the API does not finish."""
    world.api.set(hang_requests=[{"times": -1}])
    document = world.put(pdf(pages, "a hanging request"))
    assert submit_document(context, document).kind == "open"
    return document


def says(**answer: Any) -> dict[str, Any]:
    """A rule that makes the API answer so when it is asked for a request."""
    return STATUS | {"action": "status", "status": 200, "times": -1, "body": answer}


def wait_of(job: Job, world: World) -> float:
    """How long a job wants to be left alone."""
    assert job.poll_after is not None
    return (job.poll_after - world.clock.now()).total_seconds()


def test_a_job_is_asked_for_less_often_the_older_it_gets(world: World) -> None:
    context = world.context(poll_seconds=2, longest_poll_seconds=600)
    document = hanging(world, context)
    identity, waits = job_id(document, "ocr"), []
    for age in (0, 10, 100, 1000, 10_000, 100_000):
        world.clock.advance(age)
        assert not poll_job(context, identity)
        waits.append(wait_of(world.open(document), world))
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2, 600)
    assert 2 < waits[2] < 100


def test_a_survey_leaves_a_job_alone_until_it_is_due(world: World, flaky: FlakyS3) -> None:
    context = world.context(objects=flaky.objects())
    document = hanging(world, context)
    identity, jobs = job_id(document, "ocr"), OpenJobs(context)
    assert [held.job.id for held in jobs.survey().due] == [identity]
    poll_job(context, identity)
    first = jobs.survey()
    assert (first.open, first.due, first.ready) == ([identity], [], [])
    assert first.next_due == world.open(document).poll_after
    reads = flaky.calls("GET", "_jobs/open/.*json")
    assert jobs.survey().next_due == first.next_due
    assert flaky.calls("GET", "_jobs/open/.*json") == reads, "a record that did not change is not read again"
    world.clock.advance(3)
    assert [held.job.id for held in jobs.survey().due] == [identity]


def test_a_survey_respects_a_lease_and_sees_when_it_is_over(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(2)), world.context()
    surveys = []
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", after=lambda: surveys.append(OpenJobs(other).survey())))
    submit_document(world.context(objects=flaky.objects()), document)
    assert (surveys[0].open, surveys[0].due, surveys[0].ready) == ([job_id(document, "ocr")], [], [])
    assert surveys[0].next_due == world.clock.now() + timedelta(seconds=other.options.lease_seconds)


def test_a_survey_sweeps_what_a_killed_closer_left_and_nothing_sooner(world: World, flaky: FlakyS3) -> None:
    document, context = world.put(pdf(2)), world.context(objects=flaky.objects())
    submit_document(context, document)
    flaky.fail(Rule("refuse", "_jobs/open/", "DELETE", status=500, code="InternalError"))
    identity = world.recognised(context, document)
    assert collect_job(context, identity).kind == "done"
    assert [context.ledger.done(identity) is not None, context.ledger.read(identity) is not None] == [True, True]
    assert (OpenJobs(context).survey().open, collect_job(context, identity).kind) == ([], "skipped")
    assert not poll_job(context, identity)
    world.clock.advance(1000)
    OpenJobs(context).survey()
    assert world.done(document).pages == 2


def test_a_survey_leaves_a_record_of_a_newer_program_alone(world: World) -> None:
    context = world.context()
    world.put(b'{"format": 99}', "out/_jobs/open/abc.json")
    survey = OpenJobs(context).survey()
    assert (survey.unreadable, survey.open, survey.due, survey.ready) == (1, [], [], [])
    assert "out/_jobs/open/abc.json" in world.listing()


def test_a_request_that_is_not_known_at_once_is_not_taken_for_lost(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.set(not_found_polls=3)
    submit_document(context, document)
    assert [poll_job(context, job_id(document, "ocr")) for _ in range(3)] == [False] * 3
    world.finish(context, document)
    assert world.done(document).pages == 2
    assert world.billed_pages() == [2]


def test_a_finished_request_that_is_not_known_for_a_moment_is_not_paid_again(world: World) -> None:
    """Of two requests one was seen finished; when both are asked for fresh URLs, the API misses one."""
    document, context = world.put(pdf(15)), world.context(limits=TEN_PAGES)
    submit_document(context, document)
    identity = world.recognised(context, document)
    first = world.open(document).requests[0].id
    held = context.ledger.read(identity)
    assert held is not None
    context.ledger.update(held, ask(context, held.job, finished_too=True).job)
    world.api.fail(STATUS | {"action": "status", "status": 404, "path": f"/requests/{first}"})
    assert collect_job(context, identity).kind == "open"
    world.finish(context, document)
    assert world.done(document).pages == 15
    assert world.billed_pages() == [10, 5]


def test_a_request_that_expired_at_the_api_is_lost_and_its_pages_are_sent_again(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    world.recognised(context, document)
    gone = world.open(document).requests[0].id
    world.api.fail(STATUS | {"action": "status", "status": 404, "path": f"/requests/{gone}", "times": -1})
    world.clock.advance(31 * 86_400)
    assert not poll_job(context, context.job_id(document))  # one answer that does not know it is no loss yet
    assert world.open(document).requests[0].status == "open"
    world.clock.advance(1000)  # a quarter of an hour of such answers is
    outcomes = world.finish(context, document)
    assert [outcome.kind for outcome in outcomes] == ["open", "done"]
    assert [request.status for request in world.done(document).job.requests] == ["resent", "finished"]
    assert world.done(document).job.requests[0].note
    assert world.billed_pages() == [2, 2]


def test_a_request_that_never_ends_is_given_up_after_the_hours_set_and_not_before(world: World) -> None:
    context = world.context(give_up_hours=96)
    document = hanging(world, context)
    identity = job_id(document, "ocr")
    world.clock.advance(95.9 * 3600)
    assert not poll_job(context, identity)
    world.api.set(hang_requests=[])
    world.clock.advance(0.2 * 3600)
    assert poll_job(context, identity)
    world.finish(context, document)
    requests = world.done(document).job.requests
    assert [request.status for request in requests] == ["resent", "finished"]
    assert "96 hours" in requests[0].note


@pytest.mark.parametrize("word", ["queued", "paused", "", None, "COMPLETED"])
def test_an_unknown_word_for_the_status_counts_as_still_running(world: World, word: str | None) -> None:
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    world.recognised(context, document)
    world.api.fail(says(status=word, total_pages=2, batches=None))
    assert not poll_job(context, job_id(document, "ocr"))
    assert collect_job(context, job_id(document, "ocr")).kind == "open"
    world.api.fail()
    world.finish(context, document)
    assert world.billed_pages() == [2]


@pytest.mark.parametrize("batches", ["list", "null", "empty", "missing"])
def test_batches_may_be_missing_until_the_work_starts(world: World, batches: str) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.set(unfinished_batches=batches, queue_seconds=600)
    submit_document(context, document)
    assert not poll_job(context, job_id(document, "ocr"))
    world.api.set(queue_seconds=0)
    world.finish(context, document)
    assert world.done(document).pages == 2


@pytest.mark.parametrize("fault", [{"action": "garbage"}, {"action": "cut"}, {"action": "status", "status": 500}])
def test_an_api_that_cannot_be_asked_is_asked_later_and_the_job_stays(world: World, fault: dict[str, Any]) -> None:
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.fail(STATUS | fault | {"times": -1})
    assert not poll_job(context, identity)
    assert wait_of(world.open(document), world) >= context.options.poll_seconds
    assert collect_job(context, identity).kind == "later"
    assert world.open(document).lease is None
    world.api.fail()
    world.finish(context, document)
    assert world.billed_pages() == [2]


def test_a_refused_key_stops_polling_and_collecting_and_leaves_the_job_as_it_is(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.set(api_key="another")
    for step in (poll_job, collect_job):
        with pytest.raises(AccountFault, match="401"):
            step(context, identity)
    job = world.open(document)
    assert (job.lease, [request.status for request in job.requests]) == (None, ["open"])
    world.api.reset()
    world.finish(world.context(), document)
    assert world.billed_pages() == [2]


def test_how_far_the_api_is_goes_on_record_for_people_to_see(world: World) -> None:
    document, context = world.put(pdf(12)), world.context()
    submit_document(context, document)
    world.api.fail(says(status="started", total_pages=12, completed_pages=7, batches=[]))
    poll_job(context, job_id(document, "ocr"))
    assert world.open(document).pages_completed == 7


def test_a_job_that_was_closed_meanwhile_is_nobodys(world: World) -> None:
    context = world.context()
    assert not poll_job(context, "gone")
    assert collect_job(context, "gone").kind == "skipped"


def test_two_pollers_do_not_undo_each_other(world: World, flaky: FlakyS3) -> None:
    first, second = world.context(objects=flaky.objects()), world.context()
    document = hanging(world, second)
    identity = job_id(document, "ocr")
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", before=lambda: poll_job(second, identity)))
    assert not poll_job(first, identity)
    job = world.open(document)
    assert [request.status for request in job.requests] == ["open"]
    assert job.flow_run == second.flow_run


def test_a_job_given_back_by_a_closer_that_died_is_not_brought_back_to_life(world: World) -> None:
    """Its record may be deleted at any moment: whoever sent pages under it would lose their request."""
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    identity = world.recognised(context, document)
    held = context.ledger.read(identity)
    assert held is not None
    closed = transitions.closed(held.job.model_copy(update={"requests": ()}), "closer", "nonce")
    left = context.ledger.update(held, closed)
    assert not poll_job(context, identity)
    assert collect_job(context, identity).kind == "skipped"
    assert context.ledger.read(identity) == left
    assert world.billed_pages() == [2]
