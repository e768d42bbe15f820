"""Requests called completed before their pages can be had: waited for, given up in the end, not paid again early."""

from typing import Any

import pytest

from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf

STATUS = {"method": "GET", "path": "/requests/"}
HOUR = 3600.0


def says(world: World, *batches: dict[str, Any], status: str = "completed") -> None:
    """Make the API answer so from now on."""
    status_fields = {"status": status, "total_pages": 12, "completed_pages": 12, "batches": list(batches)}
    world.api.fail(STATUS | {"action": "status", "status": 200, "times": -1, "body": status_fields})


def batch(first: int, last: int, **told: Any) -> dict[str, Any]:
    """A batch of a status answer, without its URL unless one is given."""
    return {"id": first, "status": "completed", "start_page": first, "end_page": last, "download_url": ""} | told


UNSETTLED: dict[str, list[dict[str, Any]]] = {
    "no URL yet": [batch(1, 10), batch(11, 12)],
    "one URL yet": [batch(1, 10, download_url="http://127.0.0.1:9/x"), batch(11, 12)],
    "a batch is retried": [batch(1, 10, download_url="http://127.0.0.1:9/x"), batch(11, 12, status="retrying")],
}


@pytest.mark.parametrize("batches", UNSETTLED.values(), ids=UNSETTLED)
def test_a_request_called_completed_too_early_is_waited_for_and_not_paid_again(
    world: World, batches: list[dict[str, Any]]
) -> None:
    context, document = world.context(), world.put(pdf(12))
    submit_document(context, document)
    identity = world.recognised(context, document)
    says(world, *batches)
    world.clock.advance(HOUR)
    assert not poll_job(context, identity), "nothing to collect yet"
    assert collect_job(context, identity).kind == "open"
    world.clock.advance(94 * HOUR)
    assert not poll_job(context, identity)
    world.api.fail()
    assert [outcome.kind for outcome in world.finish(context, document)] == ["done"]
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 13)]
    assert world.billed_pages() == [12]


def test_a_request_that_stays_without_urls_is_given_up_after_the_hours_set(world: World) -> None:
    context, document = world.context(give_up_hours=96), world.put(pdf(12))
    submit_document(context, document)
    identity = world.recognised(context, document)
    says(world, *UNSETTLED["no URL yet"])
    world.clock.advance(95.9 * HOUR)
    assert not poll_job(context, identity)
    world.clock.advance(0.2 * HOUR)
    assert poll_job(context, identity)
    outcome = collect_job(context, identity)
    assert (outcome.kind, outcome.pages_sent) == ("open", 12)
    world.api.fail()
    world.finish(context, document)
    assert world.billed_pages() == [12, 12]


def test_the_batches_of_a_request_that_is_given_up_are_used_as_far_as_they_came(world: World) -> None:
    context, document = world.context(give_up_hours=96), world.put(pdf(12))
    submit_document(context, document)
    identity = world.recognised(context, document)
    first = context.client.status(world.open(document).requests[0].id).batches[0]
    says(world, batch(1, 10, download_url=first.download_url), batch(11, 12))
    world.clock.advance(96.1 * HOUR)
    outcome = collect_job(context, identity)
    assert (outcome.kind, outcome.pages_sent, outcome.possible_duplicates) == ("open", 2, 0)
    world.api.fail()
    world.finish(context, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 13)]
    assert world.billed_pages() == [12, 2]


def test_a_request_that_failed_as_a_whole_is_not_waited_for(world: World) -> None:
    context, document = world.context(), world.put(pdf(12))
    submit_document(context, document)
    identity = world.recognised(context, document)
    says(world, batch(1, 10), batch(11, 12, status="started"), status="failed")
    assert poll_job(context, identity)
    assert collect_job(context, identity).pages_sent == 12
