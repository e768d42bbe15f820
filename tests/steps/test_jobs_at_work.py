"""A job that one thread of a process has in hand is not one that its process has left behind."""

from collections.abc import Callable

import pytest

from tasks.context import RunContext
from tasks.job.outcome import Outcome
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, Survey
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule

REQUEST = b'"requests": ?\\[\\s*\\{'


def while_recording(flaky: FlakyS3, act: Callable[[], object]) -> None:
    """Do something in the moment before the record of a request reaches the store: the request is paid for."""
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", body=REQUEST, before=act))


@pytest.mark.parametrize("changed", [False, True])
def test_a_look_at_the_open_jobs_leaves_out_what_is_being_sent(world: World, flaky: FlakyS3, changed: bool) -> None:
    """Of a document that changed since it was listed, the run's loop does not know the job."""
    context, surveys = world.context(objects=flaky.objects()), list[Survey]()
    document = world.put(pdf(2, "as listed"))
    if changed:
        world.put(pdf(3, "as it is now"))
    while_recording(flaky, lambda: surveys.append(OpenJobs(context).survey()))
    assert submit_document(context, document).kind == "open"
    [survey] = surveys
    assert (survey.open, survey.ready, survey.due) == ([], [], [])
    assert world.billed_pages() == [3 if changed else 2]


def test_two_threads_do_not_work_on_one_job(world: World, flaky: FlakyS3) -> None:
    """A listing that is begun anew finds a document that is being sent; a survey found its job just before."""
    context, outcomes = world.context(objects=flaky.objects()), list[Outcome]()
    document = world.put(pdf(2))
    identity = context.job_id(document)

    def again() -> None:
        outcomes.append(submit_document(context, document))
        outcomes.append(collect_job(context, identity))

    while_recording(flaky, again)
    sent = submit_document(context, document)
    assert [outcome.kind for outcome in outcomes] == ["skipped", "skipped"]
    assert (sent.kind, sent.possible_duplicates) == ("open", 0)
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 0
    assert world.billed_pages() == [2]


def test_missing_pages_that_are_being_sent_are_not_sent_by_another_thread(world: World, flaky: FlakyS3) -> None:
    body = pdf(2)
    world.api.set(fail_requests=[{"sha256": sha(body)}])
    context = world.context(objects=flaky.objects())
    document = world.put(body)
    submit_document(context, document)
    identity, other = world.recognised(context, document), list[tuple[Survey, Outcome]]()
    flaky.fail(
        Rule("pass", "_jobs/open/", "PUT", body=b'"doing": ?"posting"', before=lambda: other.append(look(context)))
    )

    def look(context: RunContext) -> tuple[Survey, Outcome]:
        return OpenJobs(context).survey(), collect_job(context, identity)

    assert collect_job(context, identity).kind == "open"
    [(survey, outcome)] = other
    assert (survey.ready, outcome.kind) == ([], "skipped")
    assert world.billed_pages() == [2, 2]
