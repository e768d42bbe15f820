"""Answers that contradict each other or the document: no crash, no guess, no second payment but on request.

The document ends failed with an actionable reason. Put back, it is sent anew where that can help: asked again, the
same requests would give the same answer.
"""

import re
from typing import Any

import pytest

from tasks.context import RunContext
from tasks.job.record import Document
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.sample_documents import docx
from tests.steps.conftest import World, pdf, sha

NOWHERE = "http://127.0.0.1:9/batch"


def says(request_id: str, total: int | None, *ranges: tuple[int, int], urls: list[str] | None = None) -> dict[str, Any]:
    """A rule that makes the API answer so about one request, for ever."""
    batches = [
        {"id": number, "status": "completed", "start_page": first, "end_page": last, "download_url": NOWHERE}
        for number, (first, last) in enumerate(ranges)
    ]
    for batch, url in zip(batches, urls or [], strict=False):
        batch["download_url"] = url
    status_fields = {
        "id": request_id,
        "status": "completed",
        "total_pages": total,
        "completed_pages": 1,
        "batches": batches,
    }
    return {"action": "status", "status": 200, "times": -1, "path": f"/requests/{request_id}$", "body": status_fields}


def uncounted(world: World, context: RunContext, pages: int = 3) -> Document:
    """A document whose pages only the API can count, recognised."""
    document = world.put(docx([f"this is page {number}" for number in range(1, pages + 1)]), "in/a.docx")
    submit_document(context, document)
    world.recognised(context, document)
    return document


def requests(world: World, document: Document) -> list[str]:
    """The ids of a job's requests."""
    return [request.id for request in world.open(document).requests]


@pytest.mark.parametrize("total", [0, -1, 100_001])
def test_an_impossible_page_count_of_the_api_fails_the_document(world: World, total: int) -> None:
    context = world.context()
    document = uncounted(world, context)
    world.api.fail(says(requests(world, document)[0], total, (1, 1)))
    assert collect_job(context, context.job_id(document)).kind == "failed"
    failed = world.failed(document)
    assert (failed.code, failed.stage) == ("wrong-answer", "collect")
    assert f"the API counts {total} pages in the document" in failed.reason
    assert world.billed_pages() == [3]


@pytest.mark.parametrize("ranges", [[(2, 3)], [(1, 1), (3, 3)]])
def test_batches_with_a_gap_and_no_total_do_not_tell_how_many_pages_there_are(
    world: World, ranges: list[tuple[int, int]]
) -> None:
    context = world.context()
    document = uncounted(world, context)
    world.api.fail(says(requests(world, document)[0], None, *ranges))
    assert collect_job(context, context.job_id(document)).kind == "failed"
    failed = world.failed(document)
    assert (failed.code, failed.retry_helps) == ("wrong-answer", False)
    assert "counts the document's pages not at all: convert it to PDF" in failed.reason
    assert world.billed_pages() == [3], "sent again, they would be counted no better"


def test_batches_without_a_gap_tell_how_many_pages_there_are(world: World) -> None:
    context = world.context()
    document = uncounted(world, context, pages=12)
    answer = context.client.status(requests(world, document)[0])
    ranges = [(batch.start_page, batch.end_page) for batch in answer.batches]
    urls = [batch.download_url for batch in answer.batches]
    world.api.fail(says(requests(world, document)[0], None, *ranges, urls=urls))
    assert collect_job(context, context.job_id(document)).kind == "done"
    assert world.texts(document) == [f"this is page {number}" for number in range(1, 13)]


def sent_twice(world: World, context: RunContext) -> Document:
    """A document whose pages only the API can count, sent again since its first request had failed as a whole."""
    body = docx(["this is page 1", "this is page 2", "this is page 3"])
    world.api.set(fail_requests=[{"sha256": sha(body)}])
    document = world.put(body, "in/a.docx")
    submit_document(context, document)
    assert collect_job(context, world.recognised(context, document)).kind == "open"
    world.recognised(context, document)
    return document


def test_two_requests_that_count_different_pages_fail_the_document(world: World) -> None:
    context = world.context()
    document = sent_twice(world, context)
    first, second = requests(world, document)
    world.api.fail(says(first, 4, (1, 4)), says(second, 3, (1, 3)))
    assert collect_job(context, context.job_id(document)).kind == "failed"
    failed = world.failed(document)
    assert (failed.code, failed.retry_helps) == ("wrong-answer", False)
    assert "differently each time (3, 4): convert it to PDF" in failed.reason
    assert world.billed_pages() == [3, 3]


def test_two_requests_of_which_one_tells_the_page_count_are_believed(world: World) -> None:
    context = world.context()
    document = sent_twice(world, context)
    first, _ = requests(world, document)
    world.api.fail(says(first, None, (2, 3)))
    assert collect_job(context, context.job_id(document)).kind == "done"
    assert world.texts(document) == ["this is page 1", "this is page 2", "this is page 3"]
    assert world.billed_pages() == [3, 3]


CONTRADICTIONS: dict[str, tuple[int | None, list[tuple[int, int]], str]] = {
    "another page count than was sent": (11, [(1, 10), (11, 11)], "counts 11 pages in request .*, but 12 were sent"),
    "pages beyond the document": (None, [(1, 10), (11, 13)], "returned pages 11-13 of a document of 12"),
    "overlapping batches": (None, [(1, 10), (5, 12)], "returned overlapping batches around page 5"),
}


@pytest.mark.parametrize(("total", "ranges", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_document_failed_by_a_wrong_answer_is_sent_anew_when_it_is_put_back(
    world: World, total: int | None, ranges: list[tuple[int, int]], reason: str
) -> None:
    context, document = world.context(), world.put(pdf(12))
    submit_document(context, document)
    identity = world.recognised(context, document)
    world.api.fail(says(requests(world, document)[0], total, *ranges))  # for ever: this request has no better answer
    outcome = collect_job(context, identity)
    assert outcome.kind == "failed"
    failed = world.failed(document)
    assert (failed.code, failed.retry_helps) == ("wrong-answer", True)
    assert re.search(reason, failed.reason)
    assert "out/a.pdf.ocr.json" not in world.listing("out/")
    assert world.billed_pages() == [12], "nothing is paid again before somebody asks for it"

    assert context.ledger.put_back(failed)
    outcomes = world.finish(context, document)
    assert [outcome.kind for outcome in outcomes] == ["open", "done"]
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 13)]
    assert world.billed_pages() == [12, 12]
    counted = world.done(document).job.possible_duplicates
    assert sum(outcome.possible_duplicates for outcome in outcomes) == counted == 1, "what is paid twice is counted"
    assert len(world.done(document).job.requests) == 2, "the first stays on record"
