"""As jobs, at once, or both: the pages come the same way into the same result; the account decides what there is."""

import json
import logging
from datetime import UTC, datetime

import pytest

from tasks.faults import AccountFault
from tasks.job.record import Job
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.store.heartbeats import Heartbeats
from tasks.upstage.limits import Limits
from tests.fakes import FakeClock
from tests.sample_documents import docx, png, text_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

SYNC = {"method": "POST", "path": "document-digitization$"}
ASYNC = "POST /v1/document-digitization/async"
TEN_AT_ONCE = Limits(sync_pages=10)


def stood(job: Job) -> list[tuple[str, str]]:
    """The pages of each request of a job, and how it stands."""
    return [(str(request.pages), request.status) for request in job.requests]


def modes(world: World) -> list[str]:
    return [submission["mode"] for submission in world.bill()]


def test_a_synchronous_request_is_one_that_is_finished_at_once(world: World) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    expected = world.undisturbed(document)
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.pages_sent, outcome.requests) == ("open", 3, 1)
    job = world.open(document)
    assert stood(job) == [("1-3", "answered")]
    assert (job.lease, job.kept, job.pages) == (None, (job.requests[0].pages,), 3)
    assert collect_job(world.context(), job.id).kind == "done"
    assert world.result(document) == expected
    assert (modes(world), world.done(document).pages) == (["sync"], 3)
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{job.id}.json"], "kept pages are not left behind"


def test_a_document_beyond_the_synchronous_limit_is_sent_in_parts(world: World) -> None:
    document, context = world.put(pdf(25)), world.context(mode="sync", limits=TEN_AT_ONCE)
    expected = world.undisturbed(document)
    world.api.set(limits={"sync_pages": 10})
    assert submit_document(context, document).requests == 3
    assert stood(world.open(document)) == [("1-10", "answered"), ("11-20", "answered"), ("21-25", "answered")]
    assert [outcome.kind for outcome in world.finish(context, document)] == ["done"]
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
    document, context = world.put(body, key), world.context(mode="auto")
    submit_document(context, document)
    assert modes(world) == [mode]
    assert world.finish(context, document)[-1].kind == "done"


def test_what_takes_too_long_at_once_goes_on_as_a_job(world: World) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    expected = world.undisturbed(document)
    world.api.set(limits={"sync_seconds": 0}, seconds_per_page=0.001)
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    assert stood(world.open(document)) == [("1-3", "open")]
    world.finish(context, document)
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
    before = world.api.calls().get(ASYNC, 0)
    context = world.context(limits=TEN_AT_ONCE)
    with caplog.at_level(logging.WARNING, "tasks"):
        assert [submit_document(context, document).kind for document in documents] == ["open"] * 3
    assert [record.getMessage() for record in caplog.records if "has no async access" in record.getMessage()] == [
        f"this account has no async access, so the run falls back to synchronous requests: {context.async_refused()}"
    ]
    assert world.api.calls()[ASYNC] == before + 1
    for document in documents:
        world.finish(context, document)
    assert [world.result(document) for document in documents] == expected
    assert [(submission["mode"], submission["pages"]) for submission in world.bill()] == [
        ("sync", 10), ("sync", 10), ("sync", 5), ("sync", 3), ("sync", 2),
    ]  # fmt: skip
    assert all(world.done(document).job.possible_duplicates == 0 for document in documents)


def test_where_there_are_no_jobs_a_slow_request_is_tried_with_half_the_pages(world: World) -> None:
    document, context = world.put(pdf(12)), world.context(limits=TEN_AT_ONCE)
    world.api.set(refuse_async=True)
    world.api.fail(SYNC | {"action": "status", "status": 504})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    assert [pages for pages, _ in stood(world.open(document))] == ["1-5", "6-10", "11-12"]
    world.finish(context, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 13)]


def test_one_page_that_is_always_too_slow_is_left_for_later(world: World) -> None:
    document, context = world.put(pdf(1)), world.context()
    world.api.set(refuse_async=True)
    world.api.fail(SYNC | {"action": "status", "status": 504, "times": -1})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("later", 1)
    assert world.open(document).lease is None


def test_a_synchronous_answer_that_is_lost_is_asked_for_again_and_counted(world: World) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    world.api.fail(SYNC | {"action": "reset_after"})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.requests, outcome.possible_duplicates) == ("open", 1, 1)
    world.finish(context, document)
    assert world.billed_pages() == [3, 3]
    assert world.done(document).job.possible_duplicates == 1


@pytest.mark.parametrize("body", ["<html>sign in</html>", "{}", '{"error": {"message": "busy"}}'])
def test_a_synchronous_answer_of_another_kind_is_counted_as_lost_and_asked_for_again(world: World, body: str) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    world.api.fail(SYNC | {"action": "status", "status": 200, "body": body})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    world.finish(context, document)
    assert (world.done(document).pages, world.done(document).job.possible_duplicates) == (3, 1)


@pytest.mark.parametrize(
    "body", ['{"pages": 7}', '{"pages": []}', '{"pages": [{"id": 0, "text": "only one", "words": []}]}']
)
def test_a_synchronous_answer_that_lacks_pages_leaves_them_missing(world: World, body: str) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    world.api.fail(SYNC | {"action": "status", "status": 200, "body": body})
    assert submit_document(context, document).kind == "open"
    job = world.open(document)
    assert (stood(job), job.kept) == ([("1-3", "answered")], ())
    assert job.requests[0].note
    outcomes = world.finish(context, document)
    assert [(outcome.kind, outcome.pages_sent) for outcome in outcomes] == [("open", 3), ("done", 0)]
    assert world.done(document).job.rounds == 2


def test_an_answer_that_was_kept_and_not_recorded_is_not_paid_for_again(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(3))
    context = world.context(mode="sync", objects=flaky.objects())
    flaky.fail(Rule("refuse", "_jobs/open/", "PUT", body=b'"answered"', times=-1))
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.pages_sent) == ("later", 3)
    job = world.open(document)
    assert job.lease is not None
    assert (job.lease.doing, job.requests) == ("posting", ())
    world.clock.advance(10_000)
    collected = collect_job(world.context(), job.id)
    assert (collected.kind, collected.possible_duplicates, world.billed_pages()) == ("done", 0, [3])
    assert world.done(document).job.possible_duplicates == 0


def test_a_claim_outlives_the_time_that_a_synchronous_answer_may_take(world: World, flaky: FlakyS3) -> None:
    """A worker that lives renews its leases, however long an answer takes; after a death they end within a minute."""
    clock = FakeClock(datetime.now(UTC))  # heartbeats are told by the store's clock
    document, observations = world.put(pdf(1)), list[list[bool]]()
    other = world.context(clock=clock)

    def look() -> None:
        folder = worker.ledger.folder
        beats = Heartbeats(worker.objects, world.bucket, folder, worker.owner, 300, clock)
        beats.beat()
        record = world.open(document)
        clock.advance(11)
        alive = other.held_by_another(record)
        beats.stop()
        clock.advance(3)  # answers about heartbeats are good for two seconds
        observations.append([alive, other.held_by_another(record)])

    flaky.fail(Rule("pass", "_jobs/open/", "PUT", body=b'"posting"', after=look))
    worker = world.context(mode="sync", objects=flaky.objects(), clock=clock, lease_seconds=10)
    submit_document(worker, document)
    assert observations == [[True, False]]


def test_the_page_budget_counts_synchronous_pages_too(world: World) -> None:
    context = world.context(mode="sync", page_budget=5)
    assert submit_document(context, world.put(pdf(4), "in/a.pdf")).kind == "open"
    refused = submit_document(context, world.put(pdf(2), "in/b.pdf"))
    assert (refused.kind, refused.budget_used_up, world.billed_pages()) == ("later", True, [4])


def test_an_account_without_credit_is_refused_at_once_too(world: World) -> None:
    world.api.set(credit_pages=0)
    with pytest.raises(AccountFault, match="top it up"):
        submit_document(world.context(mode="sync"), world.put(pdf(2)))
    assert world.untouched()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_plain_text_lies_beside_the_result_with_form_feeds_between_pages(world: World, mode: str) -> None:
    document = world.put(text_pdf(["first page", "second\nin two lines", "third"]))
    context = world.context(mode=mode, text=True)
    submit_document(context, document)
    world.finish(context, document)
    stored = world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")
    assert stored["Body"].read().decode() == "first page\fsecond\nin two lines\fthird"
    assert stored["ContentType"] == "text/plain; charset=utf-8"
    assert stored["Metadata"]["pages"] == "3"
    assert json.loads(world.result(document))["pages"][2]["text"] == "third"


def test_a_strangers_text_in_the_way_is_found_before_anything_is_paid(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt", Body=b"my own notes")
    outcome = submit_document(world.context(text=True), world.put(pdf(2)))
    assert outcome.kind == "failed"
    assert "out/a.pdf.ocr.txt, but that key is taken by an object that this program did not write" in outcome.message
    assert world.bill() == []
