"""A document gets its own text, never another's, and never a part of it for the whole."""

from typing import Any

import pytest

from tasks.job.outcome import Outcome
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.sample_documents import docx
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

LONG = [f"paragraph {number} of many" for number in range(1, 24)]
FIVE: dict[str, Any] = {"mode": "sync", "limits": Limits(pages=1000, sync_pages=5)}


def test_an_id_that_another_job_owns_is_an_answer_lost(world: World) -> None:
    context = world.context()
    documents = [world.put(pdf(number + 1, f"document {number}"), f"in/{number}.pdf") for number in range(3)]
    world.api.set(request_ids="same")
    assert submit_document(context, documents[0]).kind == "open"
    later = submit_document(context, documents[1])
    assert (later.kind, later.possible_duplicates) == ("later", 3)
    assert "which belongs to another document" in later.message
    world.api.set(request_ids="uuid")
    assert submit_document(context, documents[2]).kind == "open"
    for document in documents:
        world.finish(context, document)
        number = document.key.removeprefix("in/").removesuffix(".pdf")
        assert all(f"of document {number}" in text for text in world.texts(document)), "its own text"
    assert world.done(documents[1]).job.possible_duplicates == 3


def test_an_id_that_two_records_hold_is_used_for_one_of_them(world: World) -> None:
    """Two processes were given the same id: neither could know."""
    documents = [world.put(pdf(2, f"document {number}"), f"in/{number}.pdf") for number in range(2)]
    world.api.set(request_ids="same")
    for document in documents:
        assert submit_document(world.context(), document).kind == "open"
    world.api.set(request_ids="uuid")
    context = world.context()
    outcomes: list[Outcome] = []
    for document in documents:
        outcomes += world.finish(context, document)
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert all("of document 1" in text for text in world.texts(documents[1]))


def test_one_id_given_to_two_processes_is_used_by_whoever_collects_first(world: World) -> None:
    """Submitted and collected by processes that know nothing of one another."""
    documents = [world.put(pdf(2, f"document {number}"), f"in/{number}.pdf") for number in range(2)]
    contexts = [world.context() for _ in documents]
    world.api.set(request_ids="same")
    for context, document in zip(contexts, documents, strict=True):
        assert submit_document(context, document).kind == "open"
    world.api.set(request_ids="uuid")
    outcomes: list[Outcome] = []
    for context, document in zip(contexts, documents, strict=True):
        outcomes += world.finish(context, document)
    assert [outcome.kind for outcome in outcomes if outcome.kind != "open"] == ["done", "done"]
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert world.texts(documents[0]) != world.texts(documents[1])
    assert world.texts(documents[1]) == ["page 1 of document 1", "page 2 of document 1"]


def test_whoever_goes_on_with_a_job_uses_what_it_collected_before(world: World, flaky: FlakyS3) -> None:
    """A worker stops between the look at the ledger and the result; another one goes on."""
    document, context = world.put(pdf(2)), world.context()
    submit_document(context, document)
    identity = world.recognised(context, document)
    flaky.fail(Rule("refuse", r"out/a.pdf.ocr.json", "PUT", times=-1, status=503, code="SlowDown"))
    assert collect_job(world.context(objects=flaky.objects()), identity).kind == "later"
    assert len(world.listing("out/_jobs/requests/")) == 1
    world.clock.advance(1000)
    assert world.finish(context, document)[-1].kind == "done"
    assert world.billed_pages() == [2]


def test_one_id_given_to_two_parts_of_a_document_is_an_answer_lost(world: World) -> None:
    world.api.set(request_ids="same")
    document, context = world.put(pdf(15)), world.context(limits=TEN_PAGES)
    first = submit_document(context, document)
    assert (first.kind, first.possible_duplicates) == ("later", 3)
    assert "which already covers pages 1-10 of this document" in first.message
    world.api.set(request_ids="uuid")
    assert world.finish(context, document)[-1].kind == "done"
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 16)]
    assert world.done(document).job.possible_duplicates == 3


def test_a_synchronous_answer_of_the_most_pages_there_can_be_proves_nothing(world: World) -> None:
    world.api.set(over_page_limit="first", limits={"sync_pages": 5})
    document, context = world.put(docx(LONG), "in/a.docx"), world.context(**FIVE)
    first = submit_document(context, document)
    assert (first.kind, first.possible_duplicates) == ("open", 1)
    world.finish(context, document)
    assert world.texts(document) == LONG
    assert world.billed_pages() == [5, 23]
    assert world.done(document).job.possible_duplicates == 1


def test_where_there_are_no_jobs_it_fails_with_the_reason(world: World) -> None:
    world.api.set(over_page_limit="first", limits={"sync_pages": 5}, refuse_async=True)
    context = world.context(**FIVE | {"mode": "async"})
    assert submit_document(context, world.put(pdf(1), "in/first.pdf")).kind == "open", "tells that there are no jobs"
    document = world.put(docx(LONG), "in/a.docx")
    outcome = submit_document(context, document)
    assert outcome.kind == "failed"
    assert "convert it to PDF" in outcome.message
    assert world.failed(document).job.possible_duplicates == 1
    assert world.billed_pages() == [1, 5]


@pytest.mark.parametrize("pages", [4, 6])
def test_an_answer_of_fewer_pages_or_of_counted_ones_is_the_whole(world: World, pages: int) -> None:
    world.api.set(over_page_limit="first", limits={"sync_pages": 5})
    context = world.context(**FIVE)
    body, key = (docx(LONG[:pages]), "in/a.docx") if pages < 5 else (pdf(pages), "in/a.pdf")
    document = world.put(body, key)
    outcomes = [submit_document(context, document), *world.finish(context, document)]
    assert outcomes[-1].kind == "done"
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 0
    assert sum(world.billed_pages()) == pages == world.done(document).pages
