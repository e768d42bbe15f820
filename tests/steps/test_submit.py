"""Submit: claimed once, sent once, and every request on record before anything else happens."""

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tasks.faults import AccountFault
from tasks.job.record import Job, PageRange, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.sample_documents import encrypted_pdf, png, text_pdf, tiff, truncated_pdf
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

POST = {"method": "POST", "path": "/async$"}


def ranges(job: Job) -> list[str]:
    """The pages of each request of a job."""
    return [str(request.pages) for request in job.requests]


def noise(pages: int, seed: int = 1) -> bytes:
    """A PDF whose pages hardly compress: some 8 kB each."""
    letters = random.Random(seed)
    return text_pdf(["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=12_000)) for _ in range(pages)])


def kilobytes(size: float) -> Limits:
    """A limit on the size of a request."""
    return Limits(pages=1000, megabytes=size / 1000, pixels=200_000_000)


def test_a_job_is_claimed_then_says_that_it_posts_then_posts_then_has_its_request(world: World, flaky: FlakyS3) -> None:
    document, ledger = world.put(pdf(3)), world.context().ledger
    identity = job_id(document, "ocr")
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        held = ledger.read(identity)
        assert held is not None
        lease = held.job.lease
        doing = None if lease is None else (lease.doing, str(lease.pages) if lease.pages else None)
        seen.append((doing, len(held.job.requests), len(world.bill())))

    flaky.fail(Rule("pass", "_jobs/open/", "PUT", times=-1, after=look))
    context = world.context(objects=flaky.objects())
    outcome = submit_document(context, document)
    assert seen == [(("reading", None), 0, 0), (("posting", "1-3"), 0, 0), (None, 1, 1)]
    assert (outcome.kind, outcome.pages_sent, outcome.requests, outcome.possible_duplicates) == ("open", 3, 1, 0)
    job = world.open(document)
    assert (job.document, job.model, job.pages, job.rounds) == (document, "ocr", 3, 1)
    assert job.result == f"s3://{world.bucket}/out/a.pdf.ocr.json"
    assert (job.flow_run, job.claimed_at, job.lease) == (context.flow_run, world.clock.now(), None)
    assert [(request.id, str(request.pages), request.status) for request in job.requests] == [
        (world.bill()[0]["id"], "1-3", "open")
    ]


def test_a_document_submitted_twice_is_paid_once(world: World) -> None:
    document = world.put(pdf(2))
    assert submit_document(world.context(), document).kind == "open"
    again = submit_document(world.context(), document)
    assert (again.kind, again.pages_sent, again.requests) == ("skipped", 0, 0)
    assert world.billed_pages() == [2]


def test_a_finished_or_failed_document_is_not_sent_again(world: World) -> None:
    good, bad, context = world.put(pdf(2), "in/good.pdf"), world.put(encrypted_pdf(), "in/bad.pdf"), world.context()
    for document in (good, bad):
        submit_document(context, document)
        world.finish(context, document)
        assert submit_document(world.context(), document).kind == "skipped"
    assert world.billed_pages() == [2]
    assert world.done(good).pages == 2
    assert world.failed(bad).stage == "read"


def test_of_eight_workers_who_submit_the_same_document_one_pays(world: World) -> None:
    document, ready = world.put(pdf(2)), threading.Barrier(8)

    def submit(_: int) -> str:
        context = world.context()
        ready.wait()
        return submit_document(context, document).kind

    with ThreadPoolExecutor(8) as pool:
        kinds = sorted(pool.map(submit, range(8)))
    assert kinds == ["open"] + 7 * ["skipped"]
    assert world.billed_pages() == [2]


def test_a_document_that_vanished_since_it_was_listed_is_left_out(world: World) -> None:
    document = world.put(pdf(2))
    world.s3.delete_object(Bucket=world.bucket, Key=document.key)
    outcome = submit_document(world.context(), document)
    assert (outcome.kind, outcome.moved) == ("later", True)
    assert "changed or vanished" in outcome.message
    assert world.untouched()


def test_a_document_that_changed_since_it_was_listed_is_sent_as_it_is_now(world: World) -> None:
    listed = world.put(pdf(2))
    now = world.put(pdf(3))
    outcome = submit_document(world.context(), listed)
    assert (outcome.kind, outcome.moved, outcome.pages_sent) == ("open", True, 3)
    assert (outcome.job_id, outcome.listed_as) == (job_id(now, "ocr"), job_id(listed, "ocr"))
    assert submit_document(world.context(), listed).kind == "skipped"
    assert world.open(now).document.etag == now.etag
    assert world.billed_pages() == [3]


def test_a_download_of_the_document_that_breaks_off_is_left_to_the_next_pass(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(2))
    flaky.fail(Rule("cut", "/in/a.pdf", "GET"))
    context = world.context(objects=flaky.objects())
    assert submit_document(context, document).kind == "later"
    assert world.untouched()
    assert submit_document(context, document).kind == "open"


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("in/a.pdf", encrypted_pdf(), "encrypted"),
        ("in/a.pdf", truncated_pdf(), "broken"),
        ("in/a.pdf", b"", "empty"),
        ("in/a.pdf", text_pdf([]), "no pages"),
        ("in/a.docx.pdf", b"just some words, and no PDF", "unsupported format"),
        ("in/a.png", png("half")[:25], "broken"),
        ("in/" + "k" * 1015, pdf(1), "1024"),
    ],
)
def test_a_document_that_cannot_be_done_fails_alone_and_costs_nothing(
    world: World, key: str, body: bytes, reason: str
) -> None:
    document = world.put(body, key)
    outcome = submit_document(world.context(), document)
    assert outcome.kind == "failed"
    assert reason in outcome.message
    record = world.failed(document)
    assert (record.stage, record.reason, record.retry_helps) == ("read", outcome.message, False)
    assert (record.job.document, record.job.lease, record.failed_at) == (document, None, world.clock.now())
    assert world.bill() == []


@pytest.mark.parametrize(
    ("name", "body"), [("a.pdf", pdf(25)), ("a.tif", tiff([f"page {number}" for number in range(25)]))]
)
def test_a_document_over_the_page_limit_goes_in_consecutive_parts(world: World, name: str, body: bytes) -> None:
    world.api.set(limits={"async_pages": 10})
    document = world.put(body, f"in/{name}")
    outcome = submit_document(world.context(limits=TEN_PAGES), document)
    assert (outcome.kind, outcome.requests, outcome.pages_sent) == ("open", 3, 25)
    job = world.open(document)
    assert ranges(job) == ["1-10", "11-20", "21-25"]
    assert [request.id for request in job.requests] == [submission["id"] for submission in world.bill()]
    assert world.billed_pages() == [10, 10, 5]
    assert job.rounds == 1


def test_nobody_collects_a_document_of_which_parts_are_still_to_be_sent(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(25)), world.context()
    seen: list[str] = []
    between = Rule("pass", "_jobs/open/", "PUT", skip=2, times=3)
    between.after = lambda: seen.append(collect_job(other, job_id(document, "ocr")).kind)
    flaky.fail(between)
    submit_document(world.context(limits=TEN_PAGES, objects=flaky.objects()), document)
    assert seen == ["skipped"] * 3
    assert world.billed_pages() == [10, 10, 5]


def test_a_document_over_the_size_limit_is_halved_until_it_fits(world: World) -> None:
    body = noise(6)
    document = world.put(body)
    limit = len(body) / 2.5
    world.api.set(limits={"max_bytes": int(limit)})
    outcome = submit_document(world.context(limits=kilobytes(limit / 1000)), document)
    job = world.open(document)
    assert ranges(job) == ["1", "2-3", "4", "5-6"] or ranges(job) == ["1-2", "3", "4-5", "6"]
    assert (outcome.pages_sent, world.billed_pages()) == (6, [len(request.pages or ()) for request in job.requests])


def test_one_page_that_is_too_large_fails_the_document_and_is_named(world: World) -> None:
    small, large = "a small page", "".join(random.Random(2).choices("abcdefghijklmnop", k=60_000))
    document = world.put(text_pdf([small, small, large]))
    outcome = submit_document(world.context(limits=kilobytes(15)), document)
    assert outcome.kind == "failed"
    assert "page 3 alone" in outcome.message
    assert "compress" in world.failed(document).reason


def test_an_image_that_is_too_large_cannot_be_halved(world: World) -> None:
    document = world.put(png("one page"), "in/a.png")
    outcome = submit_document(world.context(limits=kilobytes(0.5)), document)
    assert (outcome.kind, world.bill()) == ("failed", [])
    assert "the PNG is" in outcome.message


def test_the_page_budget_is_never_overdrawn_and_what_does_not_fit_is_not_claimed(world: World) -> None:
    first, second, third = (world.put(pdf(n, str(n)), f"in/{n}.pdf") for n in (6, 5, 4))
    context = world.context(page_budget=10)
    assert submit_document(context, first).kind == "open"
    refused = submit_document(context, second)
    assert (refused.kind, refused.budget_used_up) == ("later", True)
    assert "budget" in refused.message
    assert submit_document(context, third).kind == "open"
    assert world.billed_pages() == [6, 4]
    assert context.ledger.read(job_id(second, "ocr")) is None


def test_pages_that_were_not_sent_go_back_into_the_budget(world: World) -> None:
    document, context = world.put(pdf(8)), world.context(page_budget=10)
    world.api.fail(POST | {"action": "status", "status": 422, "body": {"message": "corrupted"}})
    assert submit_document(context, document).kind == "failed"
    assert submit_document(context, world.put(pdf(9), "in/b.pdf")).kind == "open"


@pytest.mark.parametrize("fault", ["key", "credit", "model"])
def test_an_account_that_is_refused_stops_everything_and_fails_nobody(world: World, fault: str) -> None:
    document, context = world.put(pdf(2)), world.context()
    if fault == "key":
        world.api.set(api_key="another")
    elif fault == "credit":
        world.api.set(credit_pages=0)
    else:
        refused = {"action": "status", "status": 400, "body": {"message": "invalid model name"}, "times": 2}
        world.api.fail({"method": "POST"} | refused)  # as a job, and at once
    with pytest.raises(AccountFault):
        submit_document(context, document)
    assert world.untouched()

    world.api.reset()
    with pytest.raises(AccountFault):
        submit_document(context, document)
    assert world.untouched(), "the same run sends nothing more"
    assert submit_document(world.context(), document).kind == "open"
    assert world.billed_pages() == [2]


def test_credit_that_ends_between_two_parts_keeps_the_parts_that_were_paid(world: World) -> None:
    document = world.put(pdf(25))
    world.api.set(credit_pages=sum(submission["pages"] for submission in world.api.billed()) + 10)
    with pytest.raises(AccountFault):
        submit_document(world.context(limits=TEN_PAGES), document)
    assert ranges(world.open(document)) == ["1-10"]
    assert world.open(document).lease is None

    world.api.set(credit_pages=None)
    context = world.context(limits=TEN_PAGES)
    world.finish(context, document)
    assert world.done(document).pages == 25
    assert world.billed_pages() == [10, 10, 5]


@pytest.mark.parametrize(("status", "times"), [(429, 5), (503, 5)])
def test_a_storm_of_refusals_ends_with_one_submission(world: World, status: int, times: int) -> None:
    document, context = world.put(pdf(2)), world.context()
    rule = POST | {"action": "status", "status": status, "times": times}
    world.api.fail(rule | {"headers": {"Retry-After": "7"}} if status == 429 else rule)
    assert submit_document(context, document).kind == "open"
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 0
    assert world.billed_pages() == [2]
    if status == 429:
        assert sum(seconds >= 6.9 for seconds in world.clock.slept) >= times


@pytest.mark.parametrize("status", [500, 502, 520, 524])
def test_an_error_of_the_server_may_hide_an_acceptance_so_each_is_counted(world: World, status: int) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.fail(POST | {"action": "status", "status": status, "times": 2})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 2)
    world.finish(context, document)
    assert world.done(document).job.possible_duplicates == 2


def test_a_storm_that_does_not_end_leaves_the_document_to_the_next_pass(world: World) -> None:
    document, context = world.put(pdf(2)), world.context()
    world.api.fail(POST | {"action": "status", "status": 503, "times": -1})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("later", 0)
    assert world.untouched()
    world.api.fail()
    assert submit_document(context, document).kind == "open"


def test_a_connection_cut_before_the_document_arrived_is_no_possible_duplicate(world: World) -> None:
    # Larger than what the sockets hold, so that it cannot have been sent whole.
    picture = io.BytesIO()
    Image.new("RGB", (4000, 3000)).save(picture, "BMP")
    document, context = world.put(picture.getvalue(), "in/a.bmp"), world.context()
    world.api.fail(POST | {"action": "reset_before"})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 0)
    assert world.open(document).possible_duplicates == 0
    assert world.billed_pages() == [1]


def test_the_parts_of_a_refused_document_stay_on_record(world: World) -> None:
    document = world.put(pdf(25))
    world.api.fail(POST | {"action": "status", "status": 422, "body": {"message": "corrupted"}, "skip": 1})
    outcome = submit_document(world.context(limits=TEN_PAGES), document)
    assert outcome.kind == "failed"
    record = world.failed(document)
    assert (record.stage, ranges(record.job)) == ("submit", ["1-10"])
    assert record.job.requests[0].pages == PageRange(first=1, last=10)
