"""Downloading batches: an expired URL or a short download is mended by asking again, not by paying again."""

import json
from typing import Any

import pytest

from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf

DOWNLOAD = {"method": "GET", "path": "^/storage/"}
STATUS = {"method": "GET", "path": "/requests/"}


def answer_with(pages: int) -> dict[str, Any]:
    """A rule that answers one download with a batch of so many pages."""
    batch = {
        "apiVersion": "1.1",
        "pages": [{"id": number, "text": f"page {number + 1} of a test", "words": []} for number in range(pages)],
    }
    return DOWNLOAD | {"action": "status", "status": 200, "body": json.dumps(batch)}


def asked(world: World) -> int:
    """How often the API was asked how a request stands."""
    return sum(count for call, count in world.api.calls().items() if "requests/" in call)


@pytest.mark.parametrize("pages", [0, 9])
def test_a_batch_that_came_short_once_is_downloaded_again_and_costs_nothing(world: World, pages: int) -> None:
    context, document = world.context(), world.put(pdf(10))
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.fail(answer_with(pages))
    before = asked(world)
    assert collect_job(context, identity).kind == "done"
    assert asked(world) == before + 2, "for the first URL, and for a fresh one"
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 11)]
    assert world.billed_pages() == [10]


def test_a_batch_that_comes_short_twice_is_sent_again_alone(world: World) -> None:
    context, document = world.context(), world.put(pdf(25))
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.fail(answer_with(9) | {"times": 2})
    outcome = collect_job(context, identity)
    assert (outcome.kind, outcome.pages_sent) == ("open", 10)
    world.finish(context, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 26)]
    assert world.billed_pages() == [25, 10]


def test_a_url_that_was_over_is_replaced_by_a_fresh_one_at_once(world: World) -> None:
    """The URLs of the last poll have expired when they are used; those of a fresh answer have not."""
    context, document = world.context(), world.put(pdf(25))
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.set(url_seconds=0)
    assert poll_job(context, identity)
    world.api.set(url_seconds=900)
    before = asked(world)
    assert collect_job(context, identity).kind == "done"
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 26)]
    assert asked(world) == before + 1, "one fresh answer has the URLs of all batches"
    assert sum(world.clock.slept) < 0.1, "an expired URL is no reason to wait"
    assert world.billed_pages() == [25]


def test_a_batch_whose_url_is_gone_from_the_fresh_answer_is_sent_again_alone(world: World) -> None:
    """Its URL is refused, and the API does not list the batch any more."""
    context, document = world.context(), world.put(pdf(25))
    submit_document(context, document)
    identity = world.recognised(context, document)
    answer = context.client.status(world.open(document).requests[0].id)
    listed = [
        {
            "id": number,
            "status": "completed",
            "start_page": batch.start_page,
            "end_page": batch.end_page,
            "download_url": batch.download_url,
        }
        for number, batch in enumerate(answer.batches)
        if batch.start_page != 11
    ]
    status_fields = {"status": "completed", "total_pages": 25, "completed_pages": 25, "batches": listed}
    world.api.fail(
        DOWNLOAD | {"action": "status", "status": 403, "skip": 1},
        STATUS | {"action": "status", "status": 200, "body": status_fields, "skip": 1},
    )
    outcome = collect_job(context, identity)
    assert (outcome.kind, outcome.pages_sent) == ("open", 10)
    world.finish(context, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 26)]
    assert world.billed_pages() == [25, 10]
