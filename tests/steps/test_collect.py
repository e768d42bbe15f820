"""Collect: every page exactly once and in order, only missing pages sent again, one result whatever happens."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.context import RunContext
from tasks.job.record import Document, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tasks.upstage.upload import Upload
from tests.sample_documents import text_pdf, tiff
from tests.steps.conftest import TEN_PAGES, World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule

DOWNLOAD = {"method": "GET", "path": "^/storage/"}
BODY = pdf(25)


def submitted(world: World, context: RunContext, body: bytes = BODY, key: str = "in/a.pdf") -> Document:
    """A document that is at the API."""
    document = world.put(body, key)
    assert submit_document(context, document).kind == "open"
    return document


def test_a_finished_job_is_published_recorded_and_closed(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    identity = world.recognised(context, document)
    outcome = collect_job(context, identity)
    uri = f"s3://{world.bucket}/out/a.pdf.ocr.json"
    assert (outcome.kind, outcome.pages, outcome.result, outcome.pages_sent) == ("done", 25, uri, 0)
    assert outcome.words == sum(len(text.split()) for text in world.texts(document))
    assert world.texts(document) == [f"page {number} of a test" for number in range(1, 26)]
    body = json.loads(world.result(document))
    assert body["usage"] == {"pages": 25}
    record = world.done(document)
    assert (record.pages, record.finished_at, record.flow_run) == (25, world.clock.now(), context.flow_run)
    assert (record.job.document, record.job.result, record.job.lease) == (document, uri, None)
    assert [(request.id, request.status) for request in record.job.requests] == [(world.bill()[0]["id"], "finished")]
    assert world.listing("out/") == [f"out/_jobs/done/{identity}.json", "out/a.pdf.ocr.json"]
    assert collect_job(context, identity).kind == "skipped"


def test_the_key_never_goes_to_the_storage_host_nor_a_url_to_the_ledger(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    assert world.api.leaked_keys() == 0
    stored = world.done(document).model_dump_json().encode() + world.result(document)
    assert b"X-Signature" not in stored
    assert world.api.key.encode() not in stored


@pytest.mark.parametrize("settings", [
    {"batch_order": "shuffled"},
    {"batch_order": "reversed"},
    {"page_ids": "document"},
    {"page_ids": "one"},
    {"duplicate_batches": [{"times": -1}]},
    {"duplicate_batches": [{"times": -1}], "batch_order": "shuffled"},
    {"limits": {"batch_pages": 7}},
    {"limits": {"batch_pages": 1}},
])  # fmt: skip
def test_order_numbering_and_repetition_of_batches_change_nothing(world: World, settings: dict[str, Any]) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(**settings)
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    assert world.result(document) == expected
    assert world.billed_pages() == [25]


@pytest.mark.parametrize("pages", [25, 7])
@pytest.mark.parametrize("face", ["documented", "recorded"])
def test_the_batches_make_what_one_answer_would_be(world: World, face: str, pages: int, tmp_path: Path) -> None:
    world.api.set(face=face)
    context = world.context()
    document = submitted(world, context, pdf(pages))
    world.finish(context, document)
    file = tmp_path / "document.pdf"
    file.write_bytes(pdf(pages))
    context.client.recognise(Upload(file, "a.pdf", "application/pdf", "ocr", pages), tmp_path / "answer")
    body = json.loads(world.result(document))
    assert body == json.loads((tmp_path / "answer").read_bytes())
    ids = [word["id"] for page in body["pages"] for word in page["words"]]
    assert ids == list(range(5 * pages))
    assert ("bounding_box" if face == "documented" else "boundingBox") in body["pages"][-1]["words"][0]
    assert world.texts(document)[-1] == f"page {pages} of a test"


@pytest.mark.parametrize(("mishap", "status"), [
    ("fail_batches", "completed"), ("fail_batches", "failed"), ("drop_batches", "completed"),
])  # fmt: skip
def test_a_batch_that_did_not_come_is_sent_again_alone(world: World, mishap: str, status: str) -> None:
    expected = world.undisturbed(world.put(BODY))
    rule = {"sha256": sha(BODY), "batch": 1}
    world.api.set(request_status_on_failed_batch=status, **{mishap: [rule]})
    context = world.context()
    document = submitted(world, context)
    outcomes = world.finish(context, document)
    assert [(outcome.kind, outcome.pages_sent) for outcome in outcomes] == [("open", 10), ("done", 0)]
    assert world.billed_pages() == [25, 10]
    assert world.result(document) == expected
    job = world.done(document).job
    assert ([str(request.pages) for request in job.requests], job.rounds) == (["1-25", "11-20"], 2)
    assert job.possible_duplicates == 0


def test_several_holes_are_sent_as_they_are(world: World) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 0}, {"sha256": sha(BODY), "batch": 2}])
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    assert world.billed_pages() == [25, 10, 5]
    assert world.result(document) == expected


def test_holes_in_a_tiff_are_mended_too(world: World) -> None:
    body = tiff([f"frame {number}" for number in range(12)])
    world.api.set(fail_batches=[{"sha256": sha(body), "batch": 0}])
    context = world.context()
    document = submitted(world, context, body, "in/a.tif")
    world.finish(context, document)
    assert (world.billed_pages(), world.done(document).pages) == ([12, 10], 12)


def test_a_request_that_failed_as_a_whole_is_sent_again(world: World) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(fail_requests=[{"sha256": sha(BODY)}])
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    assert world.billed_pages() == [25, 25]
    assert world.result(document) == expected


def test_a_batch_with_fewer_pages_than_it_says_is_never_published(world: World) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(short_batches=[{"sha256": sha(BODY), "batch": 1}])
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    assert world.billed_pages() == [25, 10]
    assert world.result(document) == expected


def test_the_result_of_several_requests_is_that_of_one(world: World) -> None:
    expected = world.undisturbed(world.put(BODY))
    context = world.context(limits=TEN_PAGES)
    document = submitted(world, context)
    assert len(world.open(document).requests) == 3
    world.finish(context, document)
    assert world.result(document) == expected


def test_urls_that_expired_on_the_way_are_asked_for_again(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    world.recognised(context, document)
    world.api.fail(DOWNLOAD | {"action": "status", "status": 403, "times": 3})
    outcomes = world.finish(context, document)
    assert [outcome.kind for outcome in outcomes] == ["done"]
    assert world.billed_pages() == [25]


def test_urls_that_are_always_too_old_leave_the_job_open_and_cost_nothing(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    identity = world.recognised(context, document)
    world.api.set(url_seconds=0)
    assert collect_job(context, identity).kind == "later"
    assert world.open(document).lease is None
    world.api.set(url_seconds=900)
    assert [outcome.kind for outcome in world.finish(context, document)] == ["done"]
    assert world.billed_pages() == [25]


def test_an_answer_kept_from_the_last_poll_is_not_used_when_it_is_too_old(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    identity = world.recognised(context, document)
    answer = context.client.status(world.open(document).requests[0].id)
    context.answers.keep(world.open(document).requests[0].id, answer)
    world.clock.advance(700)
    before = world.api.calls()
    assert collect_job(context, identity).kind == "done"
    asked = {call: count - before.get(call, 0) for call, count in world.api.calls().items() if "requests/" in call}
    assert sum(asked.values()) == 1


@pytest.mark.parametrize("fault", ["cut", "garbage", "reset_before"])
def test_a_download_that_broke_is_fetched_again(world: World, fault: str) -> None:
    expected = world.undisturbed(world.put(BODY))
    context = world.context()
    document = submitted(world, context)
    world.recognised(context, document)
    world.api.fail(DOWNLOAD | {"action": fault, "times": 2, "skip": 1})
    world.finish(context, document)
    assert world.result(document) == expected
    assert world.billed_pages() == [25]


def test_a_storage_host_that_is_down_leaves_the_job_open(world: World) -> None:
    context = world.context()
    document = submitted(world, context)
    identity = world.recognised(context, document)
    world.api.fail(DOWNLOAD | {"action": "status", "status": 500, "times": -1})
    outcome = collect_job(context, identity)
    assert outcome.kind == "later"
    assert "X-Signature" not in outcome.message
    assert world.billed_pages() == [25]
    assert world.listing("out/") == [f"out/_jobs/open/{identity}.json"]


def test_pages_that_never_come_end_the_document_with_a_reason_that_names_them(world: World) -> None:
    world.api.set(fail_batches=[{"batch": 1, "sha256": sha(BODY)}, {"batch": 0, "times": -1}])
    context = world.context(rounds=2)
    document = submitted(world, context)
    outcome = world.finish(context, document)[-1]
    assert outcome.kind == "failed"
    assert "pages 1-10 did not come back after 2 submissions" in outcome.message
    assert "recognition failed" in outcome.message
    record = world.failed(document)
    assert (record.stage, record.retry_helps) == ("recognise", True)
    assert [str(pages) for pages in record.missing] == ["1-10"]
    assert len(record.job.requests) == 2
    assert "out/a.pdf.ocr.json" not in world.listing()
    assert world.billed_pages() == [25, 20]


@pytest.mark.parametrize("how", ["changed", "vanished"])
def test_a_document_replaced_before_its_missing_pages_were_sent_is_not_mixed(world: World, how: str) -> None:
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 1}])
    context = world.context()
    document = submitted(world, context)
    if how == "changed":
        world.put(pdf(25, "another version"))
    else:
        world.s3.delete_object(Bucket=world.bucket, Key=document.key)
    assert world.finish(context, document)[-1].kind == "failed"
    assert "changed or vanished" in world.failed(document).reason
    assert [str(pages) for pages in world.failed(document).missing] == ["11-20"]
    assert "out/a.pdf.ocr.json" not in world.listing()
    assert world.billed_pages() == [25]


def test_an_api_that_counts_other_pages_than_were_sent_publishes_nothing(world: World) -> None:
    context = world.context()
    document = submitted(world, context, pdf(3))
    identity = world.recognised(context, document)
    answer = {"id": 0, "status": "completed", "start_page": 1, "end_page": 2, "download_url": "http://127.0.0.1:9/"}
    status_fields = {"status": "completed", "total_pages": 2, "completed_pages": 2, "batches": [answer]}
    world.api.fail({"action": "status", "status": 200, "path": "/requests/", "body": status_fields})
    assert collect_job(context, identity).kind == "failed"
    assert "counts 2 pages" in world.failed(document).reason
    assert "out/a.pdf.ocr.json" not in world.listing()


def test_missing_pages_beyond_the_page_budget_wait_for_another_run(world: World) -> None:
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 1}])
    document = submitted(world, world.context())
    identity = world.recognised(world.context(), document)
    poor = world.context(page_budget=5)
    outcome = collect_job(poor, identity)
    assert (outcome.kind, outcome.budget_used_up) == ("later", True)
    assert (world.open(document).lease, world.open(document).rounds) == (None, 1)
    world.finish(world.context(), document)
    assert world.billed_pages() == [25, 10]


def test_of_two_collectors_at_once_one_downloads(world: World, flaky: FlakyS3) -> None:
    first, second = world.context(objects=flaky.objects()), world.context()
    document = submitted(world, second)
    identity = world.recognised(second, document)
    kinds: list[str] = []
    flaky.fail(Rule("pass", "a.pdf.ocr.json", "PUT", before=lambda: kinds.append(collect_job(second, identity).kind)))
    assert collect_job(first, identity).kind == "done"
    assert kinds == ["skipped"]
    assert sum(count for call, count in world.api.calls().items() if "storage" in call) == 3
    assert world.done(document).pages == 25


def test_a_collector_that_read_the_record_before_another_took_it_leaves_it(world: World, flaky: FlakyS3) -> None:
    first, second = world.context(objects=flaky.objects()), world.context()
    document = submitted(world, second)
    identity = world.recognised(second, document)
    flaky.fail(Rule("pass", "_jobs/open/", "PUT", before=lambda: collect_job(second, identity)))
    assert collect_job(first, identity).kind == "skipped"
    assert sum(count for call, count in world.api.calls().items() if "storage" in call) == 3
    assert world.done(document).job.requests[0].status == "finished"


def test_a_slow_collector_and_the_one_that_took_over_publish_the_same(world: World, flaky: FlakyS3) -> None:
    expected = world.undisturbed(world.put(BODY))
    slow, other = world.context(objects=flaky.objects()), world.context()
    document = submitted(world, other)
    identity = world.recognised(other, document)
    kinds: list[str] = []

    def overtake() -> None:
        world.clock.advance(other.options.lease_seconds + 1)
        kinds.append(collect_job(other, identity).kind)

    flaky.fail(Rule("pass", "a.pdf.ocr.json", "PUT", before=overtake))
    collect_job(slow, identity)
    assert kinds == ["done"]
    assert world.done(document).pages == 25
    assert world.result(document) == expected
    assert world.billed_pages() == [25]


def test_a_claim_left_by_a_worker_killed_before_it_saw_the_result_is_cleared_away_not_paid(
    world: World, flaky: FlakyS3
) -> None:
    context = world.context()
    document = submitted(world, context)
    world.finish(context, document)
    flaky.fail(Rule("refuse", "_jobs/done/", "HEAD"))
    outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert (outcome.kind, "could not look at" in outcome.message) == ("later", True)
    world.clock.advance(context.options.lease_seconds + 1)
    assert collect_job(context, job_id(document, "ocr")).kind == "skipped"
    assert world.done(document).pages == 25
    assert world.billed_pages() == [25]


def test_where_a_result_came_from_stands_in_its_metadata(world: World) -> None:
    context = world.context()
    document = submitted(world, context, key="in/a b ü.pdf")
    world.finish(context, document)
    metadata = world.s3.head_object(Bucket=world.bucket, Key="out/a b ü.pdf.ocr.json")["Metadata"]
    assert metadata["source"] == f"s3://{world.bucket}/in/a%20b%20%C3%BC.pdf"
    assert metadata["source-etag"] == document.etag
    assert (metadata["pages"], metadata["requests"]) == ("25", "1")
    assert metadata["request-ids"] == world.bill()[0]["id"]
    assert metadata["bulk-ocr-job"] == job_id(document, "ocr")


@pytest.mark.parametrize("key", ["in/" + "k" * 1000 + ".pdf", "in/" + "ü" * 500 + ".pdf"])
def test_metadata_of_a_very_long_key_stays_within_what_s3_takes(world: World, key: str) -> None:
    world.api.set(limits={"async_pages": 1})
    context = world.context(limits=TEN_PAGES.model_copy(update={"pages": 1}))
    document = submitted(world, context, pdf(12), key)
    world.finish(context, document)
    published = f"out/{key.removeprefix('in/')}.ocr.json"
    metadata = world.s3.head_object(Bucket=world.bucket, Key=published)["Metadata"]
    assert all(f"{name}{value}".isascii() for name, value in metadata.items())
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048
    assert (metadata["requests"], world.done(document).job.document.key) == ("12", key)


def test_hostile_text_survives_unchanged(world: World) -> None:
    texts = ['"quotes" \\ and </script>', "line\nbreak", ""]
    context = world.context()
    document = submitted(world, context, text_pdf(texts))
    world.finish(context, document)
    assert [text.split() for text in world.texts(document)] == [text.split() for text in texts]
