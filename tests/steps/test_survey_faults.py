"""S3 fails on one record of many: the others are seen and go on, and that one is looked at again later."""

import pytest

from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule


def test_a_record_that_cannot_be_read_now_does_not_keep_a_survey_from_the_others(world: World, flaky: FlakyS3) -> None:
    context = world.context(objects=flaky.objects())
    documents = [world.put(pdf(1, f"document {number}"), f"in/{number}.pdf") for number in range(3)]
    identities = [submit_document(context, document).job_id for document in documents]
    for document in documents:
        world.recognised(context, document)
    jobs = OpenJobs(context)
    down = flaky.fail(Rule("refuse", f"_jobs/open/{identities[1]}", "GET"))
    survey = jobs.survey()
    assert down.hits == 1
    assert sorted(survey.open) == sorted(identities), "it still counts as open: the window is not filled over it"
    assert sorted(held.job.id for held in (*survey.due, *survey.ready)) == sorted([identities[0], identities[2]])
    assert survey.unreadable == 0, "it is not damaged"
    again = jobs.survey()
    assert sorted(held.job.id for held in (*again.due, *again.ready)) == sorted(identities)
    for document in documents:
        assert world.finish(context, document)[-1].kind == "done"
    assert world.billed_pages() == [1, 1, 1]


@pytest.mark.parametrize("action", ["refuse", "hang_up"])
def test_a_job_whose_record_cannot_be_read_now_is_left_for_later(world: World, flaky: FlakyS3, action: str) -> None:
    document, context = world.put(pdf(2)), world.context(objects=flaky.objects())
    submit_document(context, document)
    identity = world.recognised(context, document)
    rule = Rule("refuse" if action == "refuse" else "hang_up", "_jobs/open/", "GET", times=2)
    flaky.fail(rule)
    assert not poll_job(context, identity)
    outcome = collect_job(context, identity)
    assert (outcome.kind, identity in outcome.message, rule.hits) == ("later", True, 2)
    assert poll_job(context, identity)
    assert collect_job(context, identity).kind == "done"
    assert world.texts(document) == ["page 1 of a test", "page 2 of a test"]
    assert world.billed_pages() == [2]
