"""What a done record tells of its document: words, blank pages, confidence, sources, money, durations."""

import json
from datetime import timedelta

import pytest

from tasks.job.record import PageSources
from tasks.job.spending import cost
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.sample_documents import text_pdf
from tests.steps.conftest import World, pdf, sha

BODY = text_pdf(["first page", "", "third page here"])


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_done_record_tells_what_the_result_holds_and_what_it_cost(world: World, mode: str) -> None:
    context = world.context(mode=mode, price_per_page=0.01)
    document = world.put(BODY)
    assert submit_document(context, document).kind == "open"
    assert [outcome.kind for outcome in world.finish(context, document)] == ["done"]
    done = world.done(document)
    words = [word for page in json.loads(world.result(document))["pages"] for word in page["words"]]
    assert done.measured is not None
    assert done.measured.confidence is not None
    assert (done.measured.words, done.measured.blank_pages, done.measured.billed_pages) == (len(words), 1, 3)
    assert done.measured.confidence.minimum == min(word["confidence"] for word in words)
    assert (done.sources, done.cost) == (PageSources(sent=3), 0.03)
    assert [request.price_per_page for request in done.job.requests] == [0.01]


def test_the_time_at_the_api_is_told_by_its_own_clock(world: World) -> None:
    context = world.context()
    document = world.put(BODY)
    submit_document(context, document)
    world.recognised(context, document)
    world.clock.advance(500)  # nobody asks for that long
    assert collect_job(context, context.job_id(document)).kind == "done"
    done = world.done(document)
    (request,) = done.job.requests
    answer = context.client.status(request.id)
    assert answer.requested_at is not None
    assert answer.completed_at is not None
    took = answer.completed_at - answer.requested_at
    assert request.completed_at == request.submitted_at + took
    assert done.durations is not None
    assert done.durations.waiting is not None
    assert done.durations.at_api is not None
    assert done.durations.at_api == pytest.approx(min(took, timedelta(seconds=500)).total_seconds(), abs=0.001)
    assert done.durations.waiting + done.durations.at_api == pytest.approx(500, abs=0.01)


def test_a_copied_result_costs_nothing_and_is_as_sure_as_the_original(world: World) -> None:
    context = world.context(reuse_identical=True)
    original, copy = world.put(BODY), world.put(BODY, "in/b.pdf")
    submit_document(context, original)
    world.finish(context, original)
    assert submit_document(context, copy).kind == "done"
    first, second = world.done(original), world.done(copy)
    assert first.measured is not None
    assert second.measured == first.measured.model_copy(update={"billed_pages": 0})
    assert (second.sources, second.cost) == (PageSources(reused=3), 0)
    assert second.durations is not None
    assert second.durations.at_api == 0


def test_pages_sent_again_are_paid_again_and_a_lost_answer_is_told_apart(world: World) -> None:
    body = pdf(25)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1, "times": 2}])
    world.api.fail({"action": "reset_after", "method": "POST", "path": "/async$"})
    context = world.context(price_per_page=0.01)
    document = world.put(body)
    submit_document(context, document)
    world.finish(context, document)
    done = world.done(document)
    assert sorted(world.billed_pages()) == [10, 25, 25]
    assert (cost(done.job).accepted, cost(done.job).possible) == (0.35, 0.25)
    assert done.cost == 0.35
    assert [(lost.pages, lost.run, lost.price_per_page) for lost in done.job.lost] == [(25, context.run, 0.01)]
