"""Jobs taken over from a slow or dead worker: what may be paid twice is counted, in record and report alike."""

import json
from typing import Any

import pytest

from tasks.faults import CredentialsRefused
from tasks.job.outcome import Outcome
from tasks.job.record import Document, PageRange, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.sample_documents import docx
from tests.steps.conftest import World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule

AT_ONCE: dict[str, Any] = {"mode": "sync", "limits": Limits(sync_pages=10)}
LEASE_OVER = 10_000.0


def killed_at(world: World, flaky: FlakyS3, path: str, document: Document, skip: int = 0, **options: Any) -> None:
    """A worker whose credentials run out at a write: from there on nothing it does reaches the store."""

    def down() -> None:
        flaky.fail(Rule("refuse", times=-1, status=400, code="ExpiredToken"))

    flaky.fail(Rule("refuse", path, "PUT", skip=skip, status=400, code="ExpiredToken", before=down))
    with pytest.raises(CredentialsRefused):
        submit_document(world.context(objects=flaky.objects(), **options), document)
    flaky.rules.clear()
    world.clock.advance(LEASE_OVER)


def test_record_and_reports_agree_on_what_a_slow_worker_may_have_paid_twice(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(2)), world.context()
    outcomes: list[Outcome] = []

    def take_over() -> None:
        world.clock.advance(other.options.lease_seconds + 1)
        outcomes.append(collect_job(other, job_id(document, "ocr")))

    # Its third write is the one with the request.
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", skip=2, before=take_over))
    outcomes.insert(0, submit_document(world.context(objects=flaky.objects()), document))
    outcomes.reverse()
    outcomes += world.finish(other, document)
    assert sorted(outcome.kind for outcome in outcomes) == ["done", "open", "skipped"]
    counted = world.done(document).job.possible_duplicates
    assert counted == sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert sum(outcome.pages_sent for outcome in outcomes) == sum(world.billed_pages()) == 4
    record = world.done(document).job
    assert (len(record.requests), record.pages_sent, record.pages_lost, record.lost) == (2, 4, 0, ())


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_recorded_after_another_worker_has_ended_the_job_is_counted_once(
    world: World, flaky: FlakyS3, fails: bool
) -> None:
    body = pdf(2)
    world.api.set(fail_requests=[{"sha256": sha(body)}] if fails else [])
    document, other = world.put(body), world.context(rounds=1 if fails else 3)
    outcomes: list[Outcome] = []

    def take_over_and_finish() -> None:
        world.clock.advance(other.options.lease_seconds + 1)
        outcomes.append(collect_job(other, job_id(document, "ocr")))
        outcomes.extend(world.finish(other, document))

    flaky.fail(Rule("pass", "_jobs/open/", "PUT", skip=2, before=take_over_and_finish))
    outcomes.append(submit_document(world.context(objects=flaky.objects()), document))
    assert sorted(outcome.kind for outcome in outcomes if outcome.kind != "open") == [
        *(["failed"] if fails else ["done"]),
        "skipped",
    ]
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    record = world.failed(document) if fails else world.done(document)
    assert record.job.possible_duplicates == 1
    assert sum(outcome.pages_sent for outcome in outcomes) == sum(world.billed_pages())


@pytest.mark.parametrize(("key", "body"), [("in/a.pdf", pdf(4)), ("in/a.docx", docx(["1", "2", "3", "4"]))])
def test_pages_kept_by_a_worker_that_died_before_it_recorded_them_are_used_and_not_counted(
    world: World, flaky: FlakyS3, key: str, body: bytes
) -> None:
    document = world.put(body, key)
    killed_at(world, flaky, "_jobs/open/", document, skip=2, **AT_ONCE)
    outcome = collect_job(world.context(), job_id(document, "ocr"))
    assert (outcome.kind, outcome.pages, outcome.possible_duplicates) == ("done", 4, 0)
    assert world.done(document).job.possible_duplicates == 0
    assert world.billed_pages() == [4]


@pytest.mark.parametrize(("key", "body"), [("in/a.pdf", pdf(4)), ("in/a.docx", docx(["1", "2", "3", "4"]))])
def test_an_answer_that_a_worker_took_with_it_is_counted_once(
    world: World, flaky: FlakyS3, key: str, body: bytes
) -> None:
    document, other = world.put(body, key), world.context(mode="sync")
    killed_at(world, flaky, "_jobs/pages/", document, **AT_ONCE)
    outcomes = [collect_job(other, job_id(document, "ocr")), *world.finish(other, document)]
    assert [outcome.kind for outcome in outcomes] == ["open", "done"]
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert world.done(document).job.possible_duplicates == 1
    assert world.billed_pages() == [4, 4]


def test_pages_kept_by_somebody_else_do_not_hide_an_answer_that_was_lost(world: World, flaky: FlakyS3) -> None:
    """A worker died with the answer about pages 11-14; what else lies kept is a slower worker's, about other pages."""
    document, other = world.put(pdf(14)), world.context(**AT_ONCE)
    identity = job_id(document, "ocr")
    killed_at(world, flaky, "_jobs/pages/", document, skip=1, **AT_ONCE)
    [kept] = world.listing("out/_jobs/pages/")
    answer = json.loads(world.s3.get_object(Bucket=world.bucket, Key=kept)["Body"].read())
    answer["pages"] = answer["pages"][:7]
    other.ledger.keep_pages(identity, PageRange(first=1, last=7), json.dumps(answer).encode())
    outcomes = [collect_job(other, identity), *world.finish(other, document)]
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert world.done(document).job.possible_duplicates == 1
    assert world.billed_pages() == [10, 4, 4]
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 15)]


@pytest.mark.parametrize("fault", ["store", "permission", "credentials"])
def test_an_answer_that_cannot_be_kept_is_counted_and_says_which_pages_it_was_about(
    world: World, flaky: FlakyS3, fault: str
) -> None:
    """The pages came, and there is nowhere to put them: they are paid again by the next worker, and counted."""
    document, other = world.put(pdf(4)), world.context(mode="sync")
    status, code = {
        "store": (503, "SlowDown"),
        "permission": (403, "AccessDenied"),
        "credentials": (400, "ExpiredToken"),
    }[fault]
    down = flaky.fail(Rule("refuse", "_jobs/pages/", "PUT", times=-1, status=status, code=code))
    context = world.context(mode="sync", objects=flaky.objects())
    if fault == "credentials":
        with pytest.raises(CredentialsRefused, match="pages 1-4 were recognised but could not be recorded"):
            submit_document(context, document)
        assert down.hits == 1, "credentials that ran out stay so"
    else:
        outcome = submit_document(context, document)
        assert (outcome.kind, outcome.requests, outcome.pages_sent) == ("later", 1, 4)
        assert "pages 1-4 were recognised but could not be kept" in outcome.message
        assert down.hits > 3, "money was spent on them: it is tried for many minutes"
    assert submit_document(other, document).kind == "skipped", "until its lease is over"
    world.clock.advance(LEASE_OVER)
    outcomes = [collect_job(other, job_id(document, "ocr")), *world.finish(other, document)]
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert world.done(document).job.possible_duplicates == 1
    assert world.billed_pages() == [4, 4]
