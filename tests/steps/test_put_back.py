"""Failed jobs put back: what came is kept, and only what is missing is paid for."""

from tasks.job.record import job_id
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf, sha

BODY = pdf(25)


def test_pages_that_came_are_kept_and_a_retry_pays_for_the_others_only(world: World) -> None:
    expected = world.undisturbed(world.put(BODY))
    document, context = world.put(BODY), world.context(rounds=1)
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 1, "times": 1}])
    submit_document(context, document)
    world.finish(context, document)
    failed = world.failed(document)
    assert (failed.code, [str(pages) for pages in failed.missing]) == ("missing-pages", ["11-20"])
    assert "pages 11-20" in failed.reason
    assert [str(pages) for pages in failed.job.kept] == ["1-10", "21-25"]

    world.api.set(limits={"result_seconds": 0.0})  # the API has forgotten the first request by then
    assert context.ledger.put_back(failed)
    world.api.set(limits={"result_seconds": 2_592_000.0})
    world.finish(context, document)
    assert world.result(document) == expected
    assert sorted(world.billed_pages()) == [10, 25]
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{job_id(document, 'ocr')}.json"]


def test_a_job_is_put_back_once_however_often_it_is_asked_for(world: World) -> None:
    document, context = world.put(pdf(1)), world.context(rounds=1)
    world.api.set(fail_requests=[{"times": 1}])
    submit_document(context, document)
    world.finish(context, document)
    failed = world.failed(document)
    assert context.ledger.put_back(failed)
    assert not context.ledger.put_back(failed)
    world.finish(context, document)
    assert world.texts(document) == ["page 1 of a test"]
    assert not context.ledger.put_back(failed), "what is known of it is out of date"
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{job_id(document, 'ocr')}.json"]
