"""As jobs, at once, or both: the pages come the same way into the same result; the account decides what there is."""

import json
import logging
from typing import Any

import pytest

from tasks.collect import collect_job
from tasks.faults import AccountFault
from tasks.models import Job
from tasks.submit import submit_document
from tasks.upstage.limits import Limits
from tests.documents import docx, png, text_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

SYNC = {"method": "POST", "path": "document-digitization$"}
ASYNC = "POST /v1/document-digitization/async"
TEN_AT_ONCE = Limits(sync_pages=10)


def stood(job: Job) -> list[tuple[str, str]]:
    """The pages of each request of a job, and how it stands."""
    return [(str(request.pages), request.status) for request in job.requests]


def modes(world: World) -> list[str]:
    return [each["mode"] for each in world.bill()]


def test_a_synchronous_request_is_one_that_is_finished_at_once(world: World) -> None:
    document, session = world.put(pdf(3)), world.session(mode="sync")
    expected = world.undisturbed(document)
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.pages_sent, outcome.requests) == ("open", 3, 1)
    job = world.open(document)
    assert stood(job) == [("1-3", "answered")]
    assert (job.lease, job.kept, job.pages) == (None, (job.requests[0].pages,), 3)
    assert collect_job(world.session(), job.id).kind == "done"
    assert world.result(document) == expected
    assert (modes(world), world.done(document).pages) == (["sync"], 3)
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{job.id}.json"], "kept pages are not left behind"


def test_a_document_beyond_the_synchronous_limit_is_sent_in_parts(world: World) -> None:
    document, session = world.put(pdf(25)), world.session(mode="sync", limits=TEN_AT_ONCE)
    expected = world.undisturbed(document)
    world.api.set(limits={"sync_pages": 10})
    assert submit_document(session, document).requests == 3
    assert stood(world.open(document)) == [("1-10", "answered"), ("11-20", "answered"), ("21-25", "answered")]
    assert [each.kind for each in world.finish(session, document)] == ["done"]
    assert world.result(document) == expected


@pytest.mark.parametrize(
    ("key", "body", "mode"),
    [
        ("in/a.pdf", pdf(10), "sync"),
        ("in/a.pdf", pdf(11), "async"),
        ("in/a.png", png("one picture"), "sync"),
        ("in/a.docx", docx(["one page"]), "async"),
    ],
)
def test_auto_sends_at_once_what_is_no_longer_than_a_batch(world: World, key: str, body: bytes, mode: str) -> None:
    document, session = world.put(body, key), world.session(mode="auto")
    submit_document(session, document)
    assert modes(world) == [mode]
    assert world.finish(session, document)[-1].kind == "done"


def test_what_takes_too_long_at_once_goes_on_as_a_job(world: World) -> None:
    document, session = world.put(pdf(3)), world.session(mode="sync")
    expected = world.undisturbed(document)
    world.api.set(limits={"sync_seconds": 0}, seconds_per_page=0.001)
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    assert stood(world.open(document)) == [("1-3", "open")]
    world.finish(session, document)
    assert world.result(document) == expected
    assert modes(world) == ["sync", "async"]
    assert world.done(document).job.possible_duplicates == 1


@pytest.mark.parametrize("status", [400, 404, 405])
def test_an_account_without_jobs_is_found_out_once_and_served_at_once(
    world: World, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    documents = [world.put(pdf(pages, f"document {pages}"), f"in/{pages}.pdf") for pages in (25, 3, 2)]
    expected = [world.undisturbed(document) for document in documents]
    world.api.set(refuse_async=True, refuse_async_status=status, limits={"sync_pages": 10})
    before = world.api.calls()[ASYNC]
    session = world.session(limits=TEN_AT_ONCE)
    with caplog.at_level(logging.WARNING, "tasks"):
        assert [submit_document(session, document).kind for document in documents] == ["open"] * 3
    assert [record.getMessage() for record in caplog.records if "takes no OCR jobs" in record.getMessage()] == [
        f"this account takes no OCR jobs, so the run goes on with synchronous requests: {session.async_refused()}"
    ]
    assert world.api.calls()[ASYNC] == before + 1
    for document in documents:
        world.finish(session, document)
    assert [world.result(document) for document in documents] == expected
    assert [(each["mode"], each["pages"]) for each in world.bill()] == [
        ("sync", 10), ("sync", 10), ("sync", 5), ("sync", 3), ("sync", 2),
    ]  # fmt: skip
    assert all(world.done(document).job.possible_duplicates == 0 for document in documents)


def test_where_there_are_no_jobs_a_slow_request_is_tried_with_half_the_pages(world: World) -> None:
    document, session = world.put(pdf(12)), world.session(limits=TEN_AT_ONCE)
    world.api.set(refuse_async=True)
    world.api.fail(SYNC | {"action": "status", "status": 504})
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    assert [pages for pages, _ in stood(world.open(document))] == ["1-5", "6-10", "11-12"]
    world.finish(session, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 13)]


def test_one_page_that_is_always_too_slow_is_left_for_later(world: World) -> None:
    document, session = world.put(pdf(1)), world.session()
    world.api.set(refuse_async=True)
    world.api.fail(SYNC | {"action": "status", "status": 504, "times": -1})
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("later", 1)
    assert world.open(document).lease is None


def test_a_synchronous_answer_that_is_lost_is_asked_for_again_and_counted(world: World) -> None:
    document, session = world.put(pdf(3)), world.session(mode="sync")
    world.api.fail(SYNC | {"action": "reset_after"})
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.requests, outcome.possible_duplicates) == ("open", 1, 1)
    world.finish(session, document)
    assert world.billed_pages() == [3, 3]
    assert world.done(document).job.possible_duplicates == 1


@pytest.mark.parametrize("body", ["<html>", "{}", '{"pages": [{"id": 0, "text": "only one", "words": []}]}'])
def test_a_synchronous_answer_that_is_none_leaves_its_pages_missing(world: World, body: str) -> None:
    document, session = world.put(pdf(3)), world.session(mode="sync")
    world.api.fail(SYNC | {"action": "status", "status": 200, "body": body})
    assert submit_document(session, document).kind == "open"
    job = world.open(document)
    assert (stood(job), job.kept) == ([("1-3", "answered")], ())
    assert job.requests[0].note
    outcomes = world.finish(session, document)
    assert [(each.kind, each.pages_sent) for each in outcomes] == [("open", 3), ("done", 0)]
    assert world.done(document).job.rounds == 2


def test_an_answer_that_was_kept_and_not_recorded_is_not_paid_for_again(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(3))
    session = world.session(mode="sync", objects=flaky.objects())
    flaky.fail(Rule("refuse", "_jobs/open/", "PUT", body=b'"answered"', times=-1))
    outcome = submit_document(session, document)
    assert (outcome.kind, outcome.pages_sent) == ("later", 3)
    job = world.open(document)
    assert job.lease is not None
    assert (job.lease.doing, job.requests) == ("posting", ())
    world.clock.advance(10_000)
    collected = collect_job(world.session(), job.id)
    assert (collected.kind, collected.possible_duplicates, world.billed_pages()) == ("done", 0, [3])
    assert world.done(document).job.possible_duplicates == 0


def test_a_claim_outlives_the_time_that_a_synchronous_answer_may_take(world: World, flaky: FlakyS3) -> None:
    document, seen = world.put(pdf(1)), list[Any]()
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", body=b'"posting"', after=lambda: seen.append(world.open(document))))
    submit_document(world.session(mode="sync", lease_seconds=10, objects=flaky.objects()), document)
    assert (seen[0].lease.until - world.clock.now()).total_seconds() > 300


def test_the_page_budget_counts_synchronous_pages_too(world: World) -> None:
    session = world.session(mode="sync", page_budget=5)
    assert submit_document(session, world.put(pdf(4), "in/a.pdf")).kind == "open"
    refused = submit_document(session, world.put(pdf(2), "in/b.pdf"))
    assert (refused.kind, refused.budget_used_up, world.billed_pages()) == ("later", True, [4])


def test_an_account_without_credit_is_refused_at_once_too(world: World) -> None:
    world.api.set(credit_pages=0)
    with pytest.raises(AccountFault, match="top it up"):
        submit_document(world.session(mode="sync"), world.put(pdf(2)))
    assert world.untouched()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_plain_text_lies_beside_the_result_with_form_feeds_between_pages(world: World, mode: str) -> None:
    document = world.put(text_pdf(["first page", "second\nin two lines", "third"]))
    session = world.session(mode=mode, text=True)
    submit_document(session, document)
    world.finish(session, document)
    stored = world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")
    assert stored["Body"].read().decode() == "first page\fsecond\nin two lines\fthird"
    assert stored["ContentType"] == "text/plain; charset=utf-8"
    assert stored["Metadata"]["pages"] == "3"
    assert json.loads(world.result(document))["pages"][2]["text"] == "third"


def test_a_strangers_text_in_the_way_is_found_before_anything_is_paid(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt", Body=b"my own notes")
    outcome = submit_document(world.session(text=True), world.put(pdf(2)))
    assert outcome.kind == "failed"
    assert "out/a.pdf.ocr.txt, where that of something that is no result" in outcome.message
    assert world.bill() == []
