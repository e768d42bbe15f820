"""What was paid for is neither paid for again nor left uncounted, where two things go wrong one after the other."""

from typing import Any

import pytest

from tasks.collect import collect_job
from tasks.faults import AccountFault
from tasks.models import Document
from tasks.selection import Selection
from tasks.submit import submit_document
from tasks.texts import write_missing_texts
from tasks.upstage.limits import Limits
from tests.documents import docx, text_pdf
from tests.steps.conftest import World, pdf, sha
from tests.steps.test_kills import AT_ONCE, Doomed, Killed, passes
from tests.store.flaky_s3 import FlakyS3, Rule

LONG = [f"this is page {number}" for number in range(1, 24)]
SYNC = {"method": "POST", "path": "document-digitization$"}


def half_sent(world: World, s3_url: str) -> Document:
    """14 pages whose worker was killed after the first ten had been kept, and before they were recorded."""
    document = world.put(pdf(14))
    with pytest.raises(Killed):
        submit_document(Doomed(world, s3_url, 8, "before", **AT_ONCE).session, document)
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
    session = world.session(objects=flaky.objects(), **options)
    identity = session.job_id(document)
    if trouble == "credit":
        with pytest.raises(AccountFault):
            collect_job(session, identity)
    else:
        assert collect_job(session, identity).kind == "later"
    world.api.set(credit_pages=None)
    passes(world, world.session(**AT_ONCE), document)
    assert world.billed_pages() == [10, 4]
    assert world.done(document).job.possible_duplicates == 0


def test_an_account_that_is_refused_costs_no_document_its_rounds(world: World) -> None:
    bodies = [pdf(25, str(number)) for number in range(2)]
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1} for body in bodies])
    documents = [world.put(body, f"in/{number}.pdf") for number, body in enumerate(bodies)]
    session = world.session()
    for document in documents:
        submit_document(session, document)
        world.recognised(session, document)
    for _ in range(4):
        world.api.set(credit_pages=0)
        refused = world.session()
        for document in documents:
            with pytest.raises(AccountFault):
                collect_job(refused, refused.job_id(document))
    world.api.set(credit_pages=None)
    for document in documents:
        world.finish(world.session(), document)
        assert world.done(document).job.rounds == 2
    assert world.billed_pages() == [25, 25, 10, 10]


def test_kept_pages_that_vanished_are_sent_again_and_not_looked_for_for_ever(world: World) -> None:
    document, session = world.put(pdf(3)), world.session(mode="sync")
    submit_document(session, document)
    (kept,) = world.listing("out/_jobs/pages/")
    world.s3.delete_object(Bucket=world.bucket, Key=kept)
    world.finish(session, document)
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 4)]
    assert world.billed_pages() == [3, 3]


def test_kept_pages_go_with_the_job_even_where_its_closer_was_stopped(world: World, flaky: FlakyS3) -> None:
    document = world.put(pdf(3))
    submit_document(world.session(mode="sync"), document)
    session = world.session(objects=flaky.objects())
    identity = session.job_id(document)
    flaky.fail(Rule("refuse", "_jobs/pages/", "DELETE", times=-1))
    assert collect_job(session, identity).kind == "later"
    world.clock.advance(10_000)
    assert collect_job(world.session(), identity).kind == "skipped"
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{identity}.json"]
    assert world.billed_pages() == [3]


def test_what_is_no_kept_page_in_the_ledgers_folder_is_left_alone(world: World, s3_url: str) -> None:
    document = half_sent(world, s3_url)
    folder = f"out/_jobs/pages/{world.session().job_id(document)}/"
    for name in ("", "notes.txt"):
        world.s3.put_object(Bucket=world.bucket, Key=folder + name, Body=b"")
    passes(world, world.session(**AT_ONCE), document)
    assert world.billed_pages() == [10, 4]


def without_totals(answer: Any) -> Any:
    return answer.model_copy(update={"total_pages": None})


def test_pages_the_api_does_not_count_are_counted_by_its_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    document, session = world.put(docx(LONG), "in/a.docx"), world.session()
    submit_document(session, document)
    ask = session.client.status
    monkeypatch.setattr(session.client, "status", lambda request: without_totals(ask(request)))
    world.finish(session, document)
    assert world.texts(document) == LONG
    assert world.billed_pages() == [23]


def test_another_runs_estimate_is_not_this_runs_to_correct(world: World) -> None:
    document = world.put(docx(LONG), "in/a.docx")
    submit_document(world.session(), document)
    other = world.session(page_budget=5)
    assert sum(each.pages_sent for each in world.finish(other, document)) == 0
    assert other.budget.take(5)
    assert not other.budget.take(1)


def test_a_second_round_of_an_office_document_is_reckoned_by_what_the_api_counted(world: World) -> None:
    body = docx(LONG)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    document, session = world.put(body, "in/a.docx"), world.session(page_budget=100)
    first = submit_document(session, document)
    rest = world.finish(session, document)
    assert world.billed_pages() == [23, 23]
    assert first.pages_sent + sum(each.pages_sent for each in rest) == 46
    assert session.budget.take(54)
    assert not session.budget.take(1)


def test_a_refusal_of_jobs_out_of_the_blue_is_taken_for_an_accident(world: World) -> None:
    session = world.session()
    submit_document(session, world.put(pdf(1), "in/1.pdf"))
    world.api.fail({"method": "POST", "path": "/async$", "action": "status", "status": 404})
    assert submit_document(session, world.put(pdf(2), "in/2.pdf")).kind == "later"
    assert submit_document(session, world.put(pdf(3), "in/3.pdf")).kind == "open"
    assert session.async_refused() is None
    assert {each["mode"] for each in world.bill()} == {"async"}


def test_an_office_document_that_is_too_long_to_be_answered_at_once_goes_as_a_job(world: World) -> None:
    world.api.set(limits={"sync_pages": 10})
    document, session = world.put(docx(LONG), "in/a.docx"), world.session(mode="sync", limits=Limits(sync_pages=10))
    assert submit_document(session, document).kind == "open"
    world.finish(session, document)
    assert [(each["mode"], each["pages"]) for each in world.bill()] == [("async", 23)]


def test_an_old_jobs_model_that_is_gone_fails_that_job_alone(world: World) -> None:
    body = pdf(25)
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    document, old = world.put(body), world.session(model="ocr-250904")
    submit_document(old, document)
    identity = old.job_id(document)
    while not old.client.status(world_request(old, identity)).finished:
        pass
    refused = {"method": "POST", "action": "status", "status": 400, "body": {"message": "invalid model name"}}
    world.api.fail(refused | {"times": 2})
    session = world.session()
    outcome = collect_job(session, identity)
    assert (outcome.kind, session.client.stopped, session.async_refused("ocr")) == ("failed", False, None)
    assert "its missing pages cannot be sent" in outcome.message
    assert submit_document(session, world.put(pdf(1), "in/new.pdf")).kind == "open"


def world_request(session: Any, identity: str) -> str:
    return str(session.ledger.read(identity).job.requests[0].id)


def test_a_strangers_text_does_not_fail_a_job_that_was_paid(world: World) -> None:
    first = world.put(text_pdf(["old"]))
    submit_document(world.session(), first)
    world.finish(world.session(), first)
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt", Body=b"my own notes")
    second, session = world.put(text_pdf(["new"])), world.session()
    submit_document(session, second)
    assert world.finish(session, second)[-1].kind == "done"
    assert world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")["Body"].read() == b"my own notes"


def test_a_text_that_was_overtaken_is_brought_into_step(world: World, flaky: FlakyS3) -> None:
    first = world.put(text_pdf(["the old words"]))
    old = world.session(text=True, objects=flaky.objects())
    submit_document(old, first)
    identity = world.recognised(old, first)

    def overtake() -> None:
        second, plain = world.put(text_pdf(["the new words"])), world.session()
        submit_document(plain, second)
        world.finish(plain, second)

    flaky.fail(Rule("pass", "a.pdf.ocr.txt", "PUT", before=overtake))
    collect_job(old, identity)
    text = world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.txt")["Body"].read()
    assert (text, world.texts(first)) == (b"the new words", ["the new words"])
    assert write_missing_texts(world.session(text=True)) == 0


def test_a_document_that_changed_is_held_against_the_selection_again(world: World) -> None:
    listed = world.put(text_pdf(["short"]))
    session = world.session()
    session.settings = session.settings.model_copy(update={"selection": Selection(max_bytes=listed.size)})
    world.put(pdf(30))
    outcome = submit_document(session, listed)
    assert (outcome.kind, outcome.moved, world.bill()) == ("later", True, [])
