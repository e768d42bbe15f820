"""Records closed under somebody's hands: what comes too late is counted, and nothing of a later claim is deleted."""

from typing import Any

import pytest

from tasks.job.outcome import Outcome
from tasks.job.record import Document, job_id
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tests.sample_documents import docx
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

GONE = 1000.0  # seconds after which whoever closed a record is not about to delete it any more
POST_RECORDED = 2  # writes of the open record before the one with the request: the claim, and "posting"


def closed_but_not_deleted(world: World, flaky: FlakyS3) -> Document:
    """A document that is done; whoever closed its record was stopped before they deleted it."""
    document, context = world.put(pdf(2)), world.context(objects=flaky.objects())
    submit_document(context, document)
    flaky.fail(Rule("refuse", "_jobs/open/", "DELETE", status=500, code="InternalError"))
    assert collect_job(context, world.recognised(context, document)).kind == "done"
    assert world.listing("out/_jobs/open/") == [f"out/_jobs/open/{job_id(document, 'ocr')}.json"]
    return document


def test_a_closed_record_is_left_to_its_closer_and_swept_when_that_one_is_gone(world: World, flaky: FlakyS3) -> None:
    """Until then nobody takes it for a job, and afterwards it is not recognised again."""
    document, context = closed_but_not_deleted(world, flaky), world.context()
    identity, left = job_id(document, "ocr"), world.listing("out/_jobs/open/")
    survey = OpenJobs(context).survey()
    assert (survey.open, survey.due, survey.ready) == ([], [], []), "nobody works on it"
    assert (poll_job(context, identity), collect_job(context, identity).kind) == (False, "skipped")
    assert submit_document(context, document).kind == "skipped"
    assert world.listing("out/_jobs/open/") == left, "its closer may be about to delete it"
    world.clock.advance(GONE)
    OpenJobs(context).survey()
    assert world.done(document).pages == 2
    assert submit_document(context, document).kind == "skipped"
    assert world.billed_pages() == [2]


KEPT = "_jobs/pages/"  # where the pages of a synchronous answer are written before they are recorded
RECORD = "_jobs/open/"


@pytest.mark.parametrize(
    ("key", "body", "options", "write", "skip"),
    [
        ("in/a.pdf", pdf(2), {}, RECORD, POST_RECORDED),
        ("in/a.pdf", pdf(2), {"mode": "sync"}, KEPT, 0),
        ("in/a.docx", docx(["page 1 of a test", "page 2 of a test"]), {"mode": "sync"}, KEPT, 0),
    ],
)
def test_an_answer_that_comes_after_another_worker_has_finished_the_job_is_counted_and_leaves_nothing_behind(
    world: World, flaky: FlakyS3, key: str, body: bytes, options: dict[str, Any], write: str, skip: int
) -> None:
    document, other = world.put(body, key), world.context()
    outcomes: list[Outcome] = []

    def finish_elsewhere() -> None:
        world.clock.advance(other.options.lease_seconds + 1000)
        outcomes.extend(world.finish(other, document))

    flaky.fail(Rule("pass", write, "PUT", skip=skip, before=finish_elsewhere))
    late = submit_document(world.context(objects=flaky.objects(), **options), document)
    assert [outcome.kind for outcome in outcomes] == ["open", "done"]
    assert (late.kind, late.requests) == ("skipped", 1)
    assert world.billed_pages() == [2, 2]
    assert world.texts(document) == ["page 1 of a test", "page 2 of a test"]
    record = world.done(document)
    assert record.job.possible_duplicates == 1
    assert sum(outcome.possible_duplicates for outcome in [late, *outcomes]) == 1
    left = world.listing("out/_jobs/")
    assert left == [f"out/_jobs/done/{record.job.id}.json"]


def test_pages_that_come_after_the_job_was_given_up_elsewhere_are_kept(world: World, flaky: FlakyS3) -> None:
    """They are paid for, and nothing else holds them."""
    document, other = world.put(pdf(2)), world.context()

    def give_up() -> None:
        world.clock.advance(other.options.lease_seconds + 1000)
        world.s3.delete_object(Bucket=world.bucket, Key=document.key)
        assert collect_job(other, job_id(document, "ocr")).kind == "failed"

    flaky.fail(Rule("pass", KEPT, "PUT", before=give_up))
    late = submit_document(world.context(mode="sync", objects=flaky.objects()), document)
    assert (late.kind, late.requests) == ("skipped", 1)
    identity = world.failed(document).job.id
    assert world.listing("out/_jobs/") == [
        f"out/_jobs/failed/{identity}.json",
        f"out/_jobs/pages/{identity}/1-2.json",
    ]


def test_a_result_that_comes_after_another_gave_the_job_up_is_what_counts(world: World, flaky: FlakyS3) -> None:
    """A slow collector publishes while its lease is over, and somebody else has put the job on record as failed."""
    document, slow = world.put(pdf(2)), world.context(objects=flaky.objects())
    submit_document(slow, document)
    identity = world.recognised(slow, document)
    other = world.context(rounds=1)

    def give_up() -> None:
        world.clock.advance(other.options.lease_seconds + 1000)
        request = world.open(document).requests[0].id
        rule = {"action": "status", "status": 200, "path": f"/requests/{request}$"}
        world.api.fail(rule | {"body": {"id": request, "status": "failed", "failure_message": "no luck"}})
        assert collect_job(other, identity).kind == "failed"

    flaky.fail(Rule("pass", "a.pdf.ocr.json", "PUT", before=give_up))
    assert collect_job(slow, identity).kind == "done"
    assert world.done(document).pages == 2, "and it is not on record as failed"
    assert world.texts(document) == ["page 1 of a test", "page 2 of a test"]
    assert world.billed_pages() == [2]
