"""What `usage` counts is what the API bills, within 1 %, whatever goes wrong: to be held against an invoice."""

import pytest

from tasks.catalogue.catalogue import open_catalogue
from tasks.catalogue.queries import Usage, usage
from tasks.context import RunContext
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf, sha

PRICE = 0.01
SUBMISSION = {"method": "POST", "path": "/async$"}


def counted(context: RunContext) -> Usage:
    """All that was spent at the destination."""
    with open_catalogue(context.objects, context.destination) as catalogue:
        (found,) = usage(catalogue, None, otherwise=7)
    return found


@pytest.fixture
def context(world: World) -> RunContext:
    return world.context(price_per_page=PRICE, reuse_identical=True)


def test_the_sum_is_the_bill_whatever_went_wrong(world: World, context: RunContext) -> None:
    bodies = {name: pdf(pages, name) for name, pages in (("calm", 30), ("hole", 25), ("lost", 12), ("gone", 40))}
    documents = {name: world.put(body, f"in/2026/{name}.pdf") for name, body in bodies.items()}
    copy = world.put(bodies["calm"], "in/2026/copy.pdf")
    broken = world.put(b"%PDF-1.4 nonsense", "in/broken.pdf")
    world.api.set(fail_batches=[{"sha256": sha(bodies["hole"]), "batch": 1}])
    once = world.context(price_per_page=PRICE, rounds=1)

    assert submit_document(context, documents["calm"]).kind == "open"
    world.finish(context, documents["calm"])
    assert submit_document(context, copy).kind == "done", "copied"
    assert submit_document(context, broken).kind == "failed"
    assert submit_document(once, documents["hole"]).kind == "open"
    assert world.finish(once, documents["hole"])[-1].kind == "failed"
    world.api.fail(SUBMISSION | {"action": "reset_after"}, SUBMISSION | {"action": "status_after", "status": 502})
    assert submit_document(context, documents["lost"]).kind == "open"
    world.finish(context, documents["lost"])
    # The API forgets a request: its pages are sent and paid once more, and are under way at the end.
    assert submit_document(context, documents["gone"]).kind == "open"
    world.api.fail({"method": "GET", "path": "/requests/", "action": "status", "status": 404, "times": -1})
    for _ in range(2):
        assert collect_job(context, context.job_id(documents["gone"])).kind == "open"
        world.clock.advance(1000)
    context.close()

    found, bill = counted(context), world.bill()
    assert sum(submission["pages"] for submission in bill) == 30 + 25 + 3 * 12 + 2 * 40
    assert found.possible_pages == 24, "the two answers that were lost"
    assert found.possible_duplicates == 3, "and the request that was forgotten"
    assert found.pages + found.possible_pages == sum(submission["pages"] for submission in bill)
    assert found.requests + 2 == len(bill)
    assert found.cost + found.possible_cost == pytest.approx(PRICE * sum(submission["pages"] for submission in bill))
    assert found.billed_pages == 30 + 12, "what the published answers say"
    assert found.unpriced_pages == 0
