"""What was paid for is neither paid for again nor left uncounted, where two things go wrong one after the other."""

from typing import Any

import pytest

from tasks.faults import AccountFault
from tasks.job.record import Document
from tasks.selection import Selection
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.steps.texts import write_missing_texts
from tasks.upstage.limits import Limits
from tests.sample_documents import docx, text_pdf
from tests.steps.conftest import World, pdf, sha
from tests.steps.kills import AT_ONCE, Doomed, Killed, passes
from tests.store.flaky_s3 import FlakyS3, Rule

LONG = [f"this is page {number}" for number in range(1, 24)]
SYNC = {"method": "POST", "path": "document-digitization$"}


def half_sent(world: World, s3_url: str) -> Document:
    """14 pages whose worker was killed after the first ten had been kept, and before they were recorded."""
    document = world.put(pdf(14))
    with pytest.raises(Killed):
        submit_document(Doomed(world, s3_url, 8, "before", **AT_ONCE).context, document)
    world.clock.advance(10_000)
    return document


@pytest.mark.parametrize("trouble", ["budget", "credit", "source"])
def test_pages_of_a_worker_that_died_are_kept_when_the_next_one_cannot_go_on(
    world: World, s3_url: str, flaky: FlakyS3, trouble: str
) -> None:
    document = half_sent(world, s3_url)
    options: dict[str, Any] = AT_ONCE | ({"page_budget": 1} if trouble == "budget" else {})
    if trouble == "credit":
        world.api.set(credit_pages=0)
    if trouble == "source":
        flaky.fail(Rule("refuse", "/in/a.pdf", "GET", status=403, code="AccessDenied", times=-1))
    context = world.context(objects=flaky.objects(), **options)
    identity = context.job_id(document)
    if trouble == "credit":
        with pytest.raises(AccountFault):
            collect_job(context, identity)
    else:
        assert collect_job(context, identity).kind == ("aside" if trouble == "source" else "later")
    world.api.set(credit_pages=None)
    passes(world, world.context(**AT_ONCE), document)
    assert world.billed_pages() == [10, 4]
    assert world.done(document).job.possible_duplicates == 0


def test_an_account_that_is_refused_costs_no_document_its_rounds(world: World) -> None:
    bodies = [pdf(25, str(number)) for number in range(2)]
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1} for body in bodies])
    documents = [world.put(body, f"in/{number}.pdf") for number, body in enumerate(bodies)]
    context = world.context()
    for document in documents:
        submit_document(context, document)
        world.recognised(context, document)
    for _ in range(4):
        world.api.set(credit_pages=0)
        refused = world.context()
        for document in documents:
            with pytest.raises(AccountFault):
                collect_job(refused, refused.job_id(document))
    world.api.set(credit_pages=None)
    for document in documents:
        world.finish(world.context(), document)
        assert world.done(document).job.rounds == 2
    assert world.billed_pages() == [25, 25, 10, 10]


def test_kept_pages_that_vanished_are_sent_again_and_not_looked_for_for_ever(world: World) -> None:
    document, context = world.put(pdf(3)), world.context(mode="sync")
    submit_document(context, document)
    (kept,) = world.listing("out/_jobs/pages/")
    world.s3.delete_object(Bucket=world.bucket, Key=kept)
    world.finish(context, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 4)]
    assert world.billed_pages() == [3, 3]


def test_kept_pages_go_with_the_job_even_where_its_closer_was_stopped(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(3))
    submit_document(world.context(mode="sync"), document)
    context = world.context(objects=flaky.objects())
    identity = context.job_id(document)
    flaky.fail(Rule("refuse", "_jobs/pages/", "DELETE", times=-1))
    assert collect_job(context, identity).kind == "done"
    world.clock.advance(10_000)
    assert collect_job(world.context(), identity).kind == "skipped"
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{identity}.json"]
    assert world.billed_pages() == [3]


def test_what_is_no_kept_page_in_the_ledgers_folder_is_left_alone(world: World, s3_url: str) -> None:
    document = half_sent(world, s3_url)
    folder = f"out/_jobs/pages/{world.context().job_id(document)}/"
    for name in ("", "notes.txt"):
        world.s3.put_object(Bucket=world.bucket, Key=folder + name, Body=b"")
    passes(world, world.context(**AT_ONCE), document)
    assert world.billed_pages() == [10, 4]


def without_totals(answer: Any) -> Any:
    return answer.model_copy(update={"total_pages": None})


def test_pages_the_api_does_not_count_are_counted_by_its_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    document, context = world.put(docx(LONG), "in/a.docx"), world.context()
    submit_document(context, document)
    ask = context.client.status
    monkeypatch.setattr(context.client, "status", lambda request: without_totals(ask(request)))
    world.finish(context, document)
    assert world.texts(document) == LONG
    assert world.billed_pages() == [23]


def test_another_runs_estimate_is_not_this_runs_to_correct(world: World) -> None:
    document = world.put(docx(LONG), "in/a.docx")
    submit_document(world.context(), document)
    other = world.context(page_budget=5)
    assert sum(outcome.pages_sent for outcome in world.finish(other, document)) == 0
    assert other.budget.reserve("another", 5) is not None
    assert [meter.last.total for meter in other.budget.used()] == [5]


def test_a_second_round_of_an_office_document_is_reckoned_by_what_the_api_counted(world: World) -> None:
    body = docx(LONG)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    document, context = world.put(body, "in/a.docx"), world.context(page_budget=100)
    first = submit_document(context, document)
    rest = world.finish(context, document)
    assert world.billed_pages() == [23, 23]
    assert first.pages_sent + sum(outcome.pages_sent for outcome in rest) == 46
    assert context.budget.reserve("another", 54) is not None
    assert [meter.last.total for meter in context.budget.used()] == [100]


def test_a_refusal_of_jobs_out_of_the_blue_is_taken_for_an_accident(world: World) -> None:
    context = world.context()
    submit_document(context, world.put(pdf(1), "in/1.pdf"))
    world.api.fail({"method": "POST", "path": "/async$", "action": "status", "status": 404})
    assert submit_document(context, world.put(pdf(2), "in/2.pdf")).kind == "later"
    assert submit_document(context, world.put(pdf(3), "in/3.pdf")).kind == "open"
    assert context.async_refused() is None
    assert {submission["mode"] for submission in world.bill()} == {"async"}


def test_an_office_document_that_is_too_long_to_be_answered_at_once_goes_as_a_job(world: World) -> None:
    world.api.set(limits={"sync_pages": 10})
    document, context = world.put(docx(LONG), "in/a.docx"), world.context(mode="sync", limits=Limits(sync_pages=10))
    assert submit_document(context, document).kind == "open"
    world.finish(context, document)
    assert [(submission["mode"], submission["pages"]) for submission in world.bill()] == [("async", 23)]


def test_an_old_jobs_model_that_is_gone_fails_that_job_alone(world: World) -> None:
    body = pdf(25)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    document, old = world.put(body), world.context(model="ocr-250904")
    submit_document(old, document)
    identity = old.job_id(document)
    while not old.client.status(world_request(old, identity)).finished:
        pass
    refused = {"method": "POST", "action": "status", "status": 400, "body": {"message": "invalid model name"}}
    world.api.fail(refused | {"times": 2})
    context = world.context()
    outcome = collect_job(context, identity)
    assert (outcome.kind, context.client.stopped, context.async_refused("ocr")) == ("failed", False, None)
    assert "its missing pages cannot be sent" in outcome.message
    assert submit_document(context, world.put(pdf(1), "in/new.pdf")).kind == "open"


def world_request(context: Any, identity: str) -> str:
    return str(context.ledger.read(identity).job.requests[0].id)


def test_a_strangers_text_does_not_fail_a_job_that_was_paid(world: World) -> None:
    first = world.put(text_pdf(["old"]))
    submit_document(world.context(), first)
    world.finish(world.context(), first)
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt", Body=b"my own notes")
    second, context = world.put(text_pdf(["new"])), world.context()
    submit_document(context, second)
    assert world.finish(context, second)[-1].kind == "done"
    assert world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")["Body"].read() == b"my own notes"


def test_a_text_that_was_overtaken_is_brought_into_step(world: World, flaky: FlakyS3) -> None:
    first = world.put(text_pdf(["the old words"]))
    old = world.context(text=True, objects=flaky.objects())
    submit_document(old, first)
    identity = world.recognised(old, first)

    def overtake() -> None:
        second, plain = world.put(text_pdf(["the new words"])), world.context()
        submit_document(plain, second)
        world.finish(plain, second)

    flaky.fail(Rule("pass", "a.pdf.ocr.txt", "PUT", before=overtake))
    collect_job(old, identity)
    text = world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")["Body"].read()
    assert (text, world.texts(first)) == (b"the new words", ["the new words"])
    assert write_missing_texts(world.context(text=True)) == 0


def test_a_document_that_changed_is_held_against_the_selection_again(world: World) -> None:
    listed = world.put(text_pdf(["short"]))
    context = world.context()
    context.settings = context.settings.model_copy(update={"selection": Selection(max_bytes=listed.size)})
    world.put(pdf(30))
    outcome = submit_document(context, listed)
    assert (outcome.kind, outcome.moved, world.bill()) == ("later", True, [])


@pytest.mark.parametrize("number", range(6))
def test_a_write_of_the_ledger_that_meets_another_call_loses_nothing(world: World, flaky: FlakyS3, number: int) -> None:
    """A 409 is no proof that another was first: a job was closed whose record of being done had not been written."""
    document, context = world.put(pdf(2)), world.context(objects=flaky.objects(attempts=2))
    rule = flaky.fail(Rule("refuse", "_jobs/", "PUT", skip=number, status=409, code="ConditionalRequestConflict"))
    assert submit_document(context, document).kind == "open"
    assert [outcome.kind for outcome in world.finish(context, document)] == ["done"]
    assert rule.hits == 1
    assert (world.done(document).pages, world.billed_pages()) == (2, [2])


def test_pages_of_a_failed_job_are_not_taken_for_those_paid_for_when_it_is_done_again(
    world: World, s3_url: str
) -> None:
    """The worker that does it again is killed when it has posted all pages, and before it has recorded that."""
    body = pdf(25)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    document, context = world.put(body), world.context(rounds=1)
    submit_document(context, document)
    assert world.finish(context, document)[-1].kind == "failed"
    failed, [entry] = world.failed(document), list(context.ledger.entries("failed"))
    assert len(failed.job.kept) == 2
    assert context.ledger.open_again(failed, entry)
    with pytest.raises(Killed):
        submit_document(Doomed(world, s3_url, 7, "before").context, document)
    passes(world, world.context(), document)
    job = world.done(document).job
    assert (job.kept, job.pages_sent, job.pages_lost, job.possible_duplicates) == ((), 25, 25, 1)
    assert world.billed_pages() == [25, 25, 25], "before it failed, lost, and what was published"
