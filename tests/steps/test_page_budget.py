"""The page budget and the report: pages sent, sent again or estimated too low are charged; pages not sent are returned.

What is left of a budget is measured from outside: a document of exactly that many pages is sent, one of a page more is
not.
"""

import io
import re
import zipfile
from datetime import timedelta
from typing import Any

import pytest

from tasks.budget.charged import Charged
from tasks.context import RunContext
from tasks.job import transitions
from tasks.job.record import PageRange
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.sample_documents import docx
from tests.steps.conftest import World, pdf, sha
from tests.steps.kills import Doomed, Killed, passes
from tests.store.flaky_s3 import FlakyS3, Rule

SUBMIT = {"method": "POST", "path": "/async$"}
SYNC = {"method": "POST", "path": "document-digitization$"}
ANY_POST = {"method": "POST", "path": "document-digitization(/async)?$"}
LONG = [f"this is page {number}" for number in range(1, 24)]


def claiming(pages: int, texts: list[str]) -> bytes:
    """A Word document whose properties claim so many pages, whatever it holds."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx(texts))) as original, zipfile.ZipFile(out, "w") as changed:
        for member in original.infolist():
            body = original.read(member)
            if member.filename == "docProps/app.xml":
                body, replacements = re.subn(rb"<Pages>\d+</Pages>", b"<Pages>%d</Pages>" % pages, body)
                assert replacements == 1
            changed.writestr(member, body)
    return out.getvalue()


def assert_left(world: World, context: RunContext, pages: int) -> None:
    """Prove that exactly so many pages may still be sent."""
    more = submit_document(context, world.put(pdf(pages + 1, "one page too many"), "in/more.pdf"))
    assert (more.kind, more.budget_used_up) == ("later", True), f"more than {pages} pages are left"
    if pages:
        exactly = submit_document(context, world.put(pdf(pages, "what is left"), "in/exactly.pdf"))
        assert (exactly.kind, exactly.message) == ("open", ""), f"fewer than {pages} pages are left"


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_all_pages_of_a_refused_document_go_back_into_the_budget(world: World, mode: str) -> None:
    context = world.context(mode=mode, page_budget=8)
    world.api.fail(ANY_POST | {"action": "status", "status": 422, "body": {"message": "corrupted"}})
    assert submit_document(context, world.put(pdf(8))).kind == "failed"
    assert_left(world, context, 8)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_lost_answer_is_charged_as_well_as_its_repeat(world: World, mode: str) -> None:
    context = world.context(mode=mode, page_budget=9)
    world.api.fail(ANY_POST | {"action": "reset_after"})
    outcome = submit_document(context, world.put(pdf(3)))
    assert (outcome.kind, outcome.possible_duplicates) == ("open", 1)
    assert world.billed_pages() == [3, 3]
    assert_left(world, context, 3)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_repeat_that_would_overdraw_the_budget_is_not_sent(world: World, mode: str) -> None:
    document, context = world.put(pdf(3)), world.context(mode=mode, page_budget=5)
    world.api.fail(ANY_POST | {"action": "reset_after"})
    outcome = submit_document(context, document)
    assert (outcome.kind, outcome.requests, outcome.possible_duplicates) == ("later", 0, 1)
    assert "the page budget has no room to send it again" in outcome.message
    assert world.billed_pages() == [3]
    assert_left(world, context, 2)
    world.finish(world.context(), document)
    assert world.done(document).job.possible_duplicates == 1
    assert world.billed_pages() == [3, 2, 3]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_repeat_that_is_refused_goes_back_into_the_budget_and_the_lost_answer_does_not(
    world: World, mode: str
) -> None:
    context = world.context(mode=mode, page_budget=9)
    refused = {"action": "status", "status": 422, "body": {"message": "corrupted"}}
    world.api.fail(ANY_POST | {"action": "reset_after"}, ANY_POST | refused)
    outcome = submit_document(context, world.put(pdf(3)))
    assert (outcome.kind, outcome.possible_duplicates) == ("failed", 1)
    assert world.billed_pages() == [3]
    assert_left(world, context, 6)


@pytest.mark.parametrize("jobs", [True, False])
def test_a_request_that_took_too_long_is_charged_before_it_goes_on_another_way(world: World, jobs: bool) -> None:
    """As a job where the account takes jobs, in halves where it takes none; the pages may be paid for twice."""
    world.api.set(refuse_async=not jobs)
    world.api.fail(SYNC | {"action": "status", "status": 504})
    context = world.context(mode="sync", page_budget=9)
    if not jobs:  # found out with the first document that is sent as a job
        context = world.context(page_budget=9)
    outcome = submit_document(context, world.put(pdf(2)))
    assert (outcome.kind, outcome.possible_duplicates, outcome.pages_sent) == ("open", 1, 2)
    assert_left(world, context, 5)


@pytest.mark.parametrize("jobs", [True, False])
def test_a_request_that_took_too_long_is_not_repeated_beyond_the_budget(world: World, jobs: bool) -> None:
    world.api.set(refuse_async=not jobs)
    world.api.fail(SYNC | {"action": "status", "status": 504})
    context = world.context(mode="sync" if jobs else "async", page_budget=3)
    outcome = submit_document(context, world.put(pdf(2)))
    assert (outcome.kind, outcome.possible_duplicates, outcome.requests) == ("later", 1, 0)
    assert "the page budget has no room to send it again" in outcome.message
    assert world.bill() == []
    assert_left(world, context, 1)


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("claimed", [1, 23, 28])
def test_pages_that_only_the_api_can_count_are_charged_and_reported_as_it_counts_them(
    world: World, mode: str, claimed: int
) -> None:
    document, context = world.put(claiming(claimed, LONG), "in/a.docx"), world.context(mode=mode, page_budget=30)
    first = submit_document(context, document)
    assert first.pages_sent == (claimed if mode == "async" else 23)
    if mode == "sync":  # answered at once, so the pages are known at once
        assert world.open(document).pages == 23
        assert_left(world, context, 7)
    rest = world.finish(context, document)
    assert first.pages_sent + sum(outcome.pages_sent for outcome in rest) == 23
    assert [
        submission["pages"] for submission in world.bill() if submission["sha256"] == sha(claiming(claimed, LONG))
    ] == [23]
    assert world.texts(document) == LONG
    if mode == "async":
        assert_left(world, context, 7)


def test_pages_that_were_reckoned_too_high_are_given_back_to_the_day_they_were_sent(world: World) -> None:
    """Else they would enlarge the next day's ceiling."""
    document, context = world.put(claiming(28, ["1", "2", "3"]), "in/a.docx"), world.context(max_pages_per_day=30)
    assert submit_document(context, document).kind == "open"
    sent = world.clock.now()
    world.clock.advance(timedelta(days=1).total_seconds())
    assert world.finish(context, document)[-1].kind == "done"
    context.close()
    [key] = world.listing("out/_jobs/budgets/day-")
    assert key == f"out/_jobs/budgets/day-{sent:%Y-%m-%d}.json"
    charged = Charged.model_validate_json(world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read())
    assert charged.model_copy(update={"charges": ()}) == Charged(sent=3, cost=3 * 1500)


def test_an_estimate_is_corrected_on_the_day_on_which_it_was_reserved(world: World, flaky: FlakyS3) -> None:
    """The document waited for the rate limit over midnight: it was sent on the next day."""
    document, reserved = world.put(claiming(28, ["1", "2", "3"]), "in/a.docx"), world.clock.now()
    next_day = timedelta(days=1).total_seconds()
    posting = Rule(
        "pass", "out/_jobs/open/", "PUT", body=b'"doing": ?"posting"', before=lambda: world.clock.advance(next_day)
    )
    flaky.fail(posting)
    context = world.context(objects=flaky.objects(), max_pages_per_day=30)
    assert submit_document(context, document).kind == "open"
    [request] = world.open(document).requests
    assert (request.reserved_at, request.submitted_at.date() > reserved.date()) == (reserved, True)
    assert world.finish(context, document)[-1].kind == "done"
    context.close()
    assert world.listing("out/_jobs/budgets/day-") == [f"out/_jobs/budgets/day-{reserved:%Y-%m-%d}.json"]
    assert charged_today(world) == 3


def test_a_lost_answer_about_uncounted_pages_is_charged_by_the_estimate(world: World) -> None:
    """Nobody knows how many pages were recognised in vain; the repeat is charged as it is counted."""
    context = world.context(mode="sync", page_budget=40)
    world.api.fail(SYNC | {"action": "reset_after"})
    outcome = submit_document(context, world.put(claiming(5, LONG), "in/a.docx"))
    assert (outcome.kind, outcome.pages_sent, outcome.possible_duplicates) == ("open", 23, 1)
    assert_left(world, context, 40 - 5 - 23)


@pytest.mark.parametrize("collector", ["same process", "another process", "another run"])
def test_an_estimate_is_put_right_once_and_only_in_the_run_that_sent_the_pages(world: World, collector: str) -> None:
    sender = world.context(flow_run="one run")
    other = world.context(flow_run="another run" if collector == "another run" else "one run")
    document = world.put(docx(LONG), "in/a.docx")
    first = submit_document(sender, document)
    assert first.pages_sent == 1
    rest = world.finish(sender if collector == "same process" else other, document)
    corrected = sum(outcome.pages_sent for outcome in rest)
    assert corrected == (0 if collector == "another run" else 22)
    assert world.done(document).pages == 23
    assert world.billed_pages() == [23]


def charged_today(world: World) -> int:
    """The pages that the meter of the day counts, as a ceiling would see them."""
    [key] = world.listing("out/_jobs/budgets/day-")
    return Charged.model_validate_json(world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read()).total


@pytest.mark.parametrize("claimed", [3, 28])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_collector_killed_while_it_puts_an_estimate_right_never_leaves_too_little_charged(
    world: World, s3_url: str, number: int, claimed: int
) -> None:
    """A ceiling must hold: a kill may leave the estimate charged where it was too high, and nothing twice."""
    limit: dict[str, Any] = {"max_pages_per_day": 1000}
    document, sender = world.put(claiming(claimed, LONG), "in/a.docx"), world.context(**limit)
    submit_document(sender, document)
    sender.close()
    doomed = Doomed(world, s3_url, number, "after", **limit)
    with pytest.raises(Killed):
        collect_job(doomed.context, world.recognised(world.context(**limit), document))
    context = world.context(**limit)
    passes(world, context, document)
    context.close()
    assert world.billed_pages() == [23]
    assert charged_today(world) in (23, max(23, claimed))


@pytest.mark.parametrize("claimed", [3, 28])
def test_an_estimate_is_put_right_once_however_often_that_cannot_be_recorded(
    world: World, flaky: FlakyS3, claimed: int
) -> None:
    limit: dict[str, Any] = {"max_pages_per_day": 1000}
    document, sender = world.put(claiming(claimed, LONG), "in/a.docx"), world.context(**limit)
    submit_document(sender, document)
    sender.close()
    flaky.fail(Rule("refuse", "_jobs/open/", "PUT", times=4))
    context = world.context(objects=flaky.objects(), **limit)
    identity = world.recognised(context, document)
    assert [collect_job(context, identity).kind for _ in range(2)] == ["later", "later"]
    world.finish(context, document)
    context.close()
    assert (world.billed_pages(), charged_today(world)) == ([23], 23)


def test_an_estimate_is_put_right_for_each_time_the_pages_were_sent(world: World) -> None:
    """The first request ended before the API had begun to count; both are billed in full."""
    body = docx(LONG)
    world.api.set(fail_requests=[{"sha256": sha(body)}])
    context, document = world.context(page_budget=50), world.put(body, "in/a.docx")
    outcomes = [submit_document(context, document), *world.finish(context, document)]
    assert world.billed_pages() == [23, 23]
    assert sum(outcome.pages_sent for outcome in outcomes) == 46
    assert_left(world, context, 4)


@pytest.mark.parametrize("budget", [None, 100])
def test_an_uncounted_document_too_long_to_be_answered_at_once_goes_on_as_a_job(
    world: World, budget: int | None
) -> None:
    context: RunContext = world.context(mode="sync", page_budget=budget)
    document = world.put(docx(LONG), "in/a.docx")
    world.api.set(limits={"sync_pages": 10})
    outcomes = [submit_document(context, document), *world.finish(context, document)]
    assert [submission["mode"] for submission in world.bill()] == ["async"]
    assert sum(outcome.pages_sent for outcome in outcomes) == 23
    assert world.done(document).job.possible_duplicates == 0
    assert world.texts(document) == LONG


def test_an_uncounted_document_too_long_for_an_account_without_jobs_fails_until_there_are_jobs(world: World) -> None:
    options: dict[str, Any] = {"limits": Limits(sync_pages=10)}
    context, document = world.context(**options), world.put(docx(LONG), "in/a.docx")
    world.api.set(refuse_async=True, limits={"sync_pages": 10})
    outcome = submit_document(context, document)
    assert (outcome.kind, world.bill()) == ("failed", [])
    failed = world.failed(document)
    assert (failed.code, failed.retry_helps) == ("too-large", True), "an account that takes jobs can do it"
    world.api.set(refuse_async=False)
    able = world.context(**options)
    assert able.ledger.put_back(failed)
    assert collect_job(able, failed.job.id).kind == "open"
    world.finish(able, document)
    assert world.texts(document) == LONG


def test_a_run_that_goes_on_under_its_id_has_what_is_left_of_its_budget(world: World) -> None:
    """Suspended and resumed, retried, or spread over processes: a new process, the same flow run."""
    documents = [world.put(pdf(2, f"{number}"), f"in/{number}.pdf") for number in range(4)]
    first = world.context(flow_run="one run", page_budget=5)
    assert submit_document(first, documents[0]).kind == "open"
    first.close()
    resumed = world.context(flow_run="one run", page_budget=5)
    other = world.context(flow_run="one run", page_budget=5)
    assert submit_document(resumed, documents[1]).kind == "open"
    assert submit_document(other, documents[2]).budget_used_up
    assert world.billed_pages() == [2, 2]
    assert submit_document(world.context(flow_run="another run", page_budget=5), documents[2]).kind == "open"


def test_what_a_worker_that_was_killed_may_have_paid_counts_in_the_budget_of_its_run(world: World) -> None:
    document, context = world.put(pdf(3)), world.context(flow_run="one run", page_budget=5)
    held = context.ledger.claim(
        transitions.claimed(
            context.job_id(document),
            document,
            model="ocr",
            answer_schema=None,
            result=f"s3://{world.bucket}/out/in/a.pdf.ocr.json",
            now=world.clock.now(),
            lease=transitions.lease("dead", world.clock.now(), 60, "posting", PageRange(first=1, last=3)),
            flow_run="one run",
        )
    )
    assert held is not None
    assert context.budget.reserve(held.job.id, 3) is not None
    world.clock.advance(61)
    resumed = world.context(flow_run="one run", page_budget=5)
    outcome = collect_job(resumed, held.job.id)
    assert outcome.budget_used_up, "three pages may be paid for, and three more would be over the budget"
    assert outcome.possible_duplicates == 1
    assert world.bill() == []
