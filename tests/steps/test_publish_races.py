"""Publishing while others write: the newest version's result stays, with its own text, and a lost write is no result.

A slow worker may publish an old version of a document right between another worker's look at the place and its write.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.context import RunContext
from tasks.job.record import Document
from tasks.steps.collect import collect_job
from tasks.steps.discover import discover
from tasks.steps.submit import submit_document
from tasks.steps.texts import write_missing_texts
from tasks.tally import KnownJobs
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

RESULT = "out/a.pdf.ocr.json"
TEXT = "out/a.pdf.ocr.txt"


def written_at(document: Document, moment: Document, seconds: float = 0) -> Document:
    """The same version as if it had been written when another was, or so many seconds later."""
    return document.model_copy(update={"last_modified": moment.last_modified + timedelta(seconds=seconds)})


def ready(world: World, context: RunContext, title: str) -> Document:
    """A version of the document whose pages the API has recognised, and that nobody has collected."""
    document = world.put(pdf(1, title))
    assert submit_document(context, document).kind == "open"
    world.recognised(context, document)
    return document


def collect(world: World, context: RunContext, document: Document) -> str:
    """Collect a job that is ready; gives the outcome's kind."""
    return collect_job(context, world.recognised(context, document)).kind


def text(world: World) -> str:
    """The plain text beside the result."""
    return world.s3.get_object(Bucket=world.bucket, Key=TEXT)["Body"].read().decode()


def writer(world: World, key: str) -> Callable[[], None]:
    """Writes what lies there now again and again, each time as another object, as a worker of that version would."""
    published = world.s3.get_object(Bucket=world.bucket, Key=key)
    body, metadata, spaces = published["Body"].read(), published["Metadata"], iter(range(1, 1000))

    def write() -> None:
        padded = body + b" " * next(spaces)
        world.s3.put_object(Bucket=world.bucket, Key=key, Body=padded, Metadata=metadata)

    return write


def test_an_older_version_published_between_look_and_write_is_written_over(world: World, flaky: FlakyS3) -> None:
    other, context = world.context(), world.context(objects=flaky.objects())
    old = ready(world, other, "old")
    new = ready(world, other, "new")
    race = flaky.fail(Rule("pass", RESULT, "PUT", before=lambda: collect(world, other, old)))
    assert collect(world, context, new) == "done"
    assert (race.hits, world.done(old).pages) == (1, 1)
    assert world.texts(new) == ["page 1 of new"], "the write that lost the race does not count as written"
    assert not world.done(new).superseded


def test_a_newer_version_published_between_look_and_write_stays(world: World, flaky: FlakyS3) -> None:
    other, context = world.context(), world.context(objects=flaky.objects())
    old = ready(world, other, "old")
    new = ready(world, other, "new")
    flaky.fail(Rule("pass", RESULT, "PUT", before=lambda: collect(world, other, new)))
    assert collect(world, context, old) == "done"
    assert world.texts(new) == ["page 1 of new"]
    assert (world.done(old).superseded, world.done(new).superseded) == (True, False)


def test_a_place_that_others_keep_writing_leaves_the_job_open_and_costs_nothing(world: World, flaky: FlakyS3) -> None:
    other, context = world.context(), world.context(objects=flaky.objects())
    old = ready(world, other, "old")
    assert collect(world, other, old) == "done"
    new = ready(world, other, "new")
    flaky.fail(Rule("pass", RESULT, "PUT", times=-1, before=writer(world, RESULT)))
    outcome = collect_job(context, world.recognised(context, new))
    assert outcome.kind == "later"
    assert "other workers keep writing the result" in outcome.message
    assert world.texts(old) == ["page 1 of old"]
    flaky.rules.clear()
    assert world.finish(context, new)[-1].kind == "done"
    assert world.texts(new) == ["page 1 of new"]
    assert world.billed_pages() == [1, 1]


def test_a_result_that_was_written_though_the_answer_was_lost_is_published_once(world: World, flaky: FlakyS3) -> None:
    """The first attempt gets through, its answer does not, and the second finds the place taken: by ourselves."""
    document = ready(world, world.context(), "new")
    flaky.fail(Rule("hang_up", RESULT, "PUT"))
    context = world.context(objects=flaky.objects(attempts=2))
    assert collect(world, context, document) == "done"
    assert world.texts(document) == ["page 1 of new"]
    assert not world.done(document).superseded
    assert flaky.calls("PUT", RESULT) == 2, "the lost answer and the attempt that was refused; no third"


@pytest.mark.parametrize("first", ["old", "new"])
def test_of_two_versions_of_a_deleted_document_the_newer_result_stays(world: World, first: str) -> None:
    context = world.context()
    old = ready(world, context, "old")
    new = written_at(world.put(pdf(1, "new")), old, 60)
    submit_document(context, new)
    world.s3.delete_object(Bucket=world.bucket, Key=old.key)
    for document in (old, new) if first == "old" else (new, old):
        assert collect(world, context, document) == "done"
    assert world.texts(new) == ["page 1 of new"]
    assert (world.done(old).superseded, world.done(new).superseded) == (first == "new", False)


@pytest.mark.parametrize("source", ["deleted", "third version"])
@pytest.mark.parametrize("first", ["a", "b"])
def test_of_two_versions_of_one_second_the_one_published_first_stays(world: World, source: str, first: str) -> None:
    """Nobody can tell which is newer, and neither lies in the source: whatever is published is left alone."""
    context = world.context()
    a = ready(world, context, "a")
    b = written_at(world.put(pdf(1, "b")), a)
    submit_document(context, b)
    if source == "deleted":
        world.s3.delete_object(Bucket=world.bucket, Key=a.key)
    else:
        world.put(pdf(1, "the third"))
    winner, loser = (a, b) if first == "a" else (b, a)
    assert [collect(world, context, winner), collect(world, context, loser)] == ["done", "done"]
    assert world.texts(winner) == [f"page 1 of {first}"]
    assert (world.done(winner).superseded, world.done(loser).superseded) == (False, True)


def test_a_version_of_the_same_second_that_lies_in_the_source_replaces_the_other(world: World) -> None:
    context = world.context()
    a = ready(world, context, "a")
    assert collect(world, context, a) == "done"
    b = written_at(world.put(pdf(1, "b")), a)
    submit_document(context, b)
    assert collect(world, context, b) == "done"
    assert world.texts(b) == ["page 1 of b"]
    assert not world.done(b).superseded


def test_a_collector_stopped_after_its_write_does_not_lose_to_its_own_result(world: World, flaky: FlakyS3) -> None:
    """The document is deleted meanwhile, so only the times of the versions are left to go by, and these are equal."""
    document = ready(world, world.context(), "new")
    flaky.fail(Rule("refuse", "_jobs/done/", "PUT", times=-1))
    assert collect(world, world.context(objects=flaky.objects()), document) == "later"
    assert RESULT in world.listing("out/")
    world.s3.delete_object(Bucket=world.bucket, Key=document.key)
    assert world.finish(world.context(), document)[-1].kind == "done"
    assert not world.done(document).superseded
    assert world.texts(document) == ["page 1 of new"]


def test_a_result_replaced_while_its_text_is_written_gets_the_text_of_the_new_one(world: World, flaky: FlakyS3) -> None:
    other = world.context()
    old = ready(world, other, "old")
    collect(world, other, old)
    new = ready(world, other, "new")
    flaky.fail(Rule("pass", TEXT, "PUT", before=lambda: collect(world, other, new)))
    assert write_missing_texts(world.context(objects=flaky.objects(), text=True)) == 1
    assert world.texts(new) == ["page 1 of new"]
    assert text(world) == "page 1 of new"


def test_a_text_of_an_older_version_that_slips_in_does_not_stay_beside_the_newer_result(
    world: World, flaky: FlakyS3
) -> None:
    with_text, other = world.context(text=True), world.context()
    old = ready(world, with_text, "old")
    collect(world, with_text, old)
    write_old_text = writer(world, TEXT)
    collect(world, other, ready(world, other, "new"))
    world.s3.delete_object(Bucket=world.bucket, Key=TEXT)
    flaky.fail(Rule("pass", TEXT, "PUT", before=write_old_text))
    assert write_missing_texts(world.context(objects=flaky.objects(), text=True)) == 1
    assert text(world) == "page 1 of new"


def test_a_strangers_text_that_appears_before_publishing_costs_neither_the_result_nor_the_text(world: World) -> None:
    """The pages are paid for by then: the result is published, the stranger's file stays, and nothing is sent again."""
    context = world.context(text=True)
    document = ready(world, context, "new")
    world.s3.put_object(Bucket=world.bucket, Key=TEXT, Body=b"my own notes")
    assert collect(world, context, document) == "done"
    assert world.texts(document) == ["page 1 of new"]
    assert text(world) == "my own notes"
    assert (world.done(document).pages, world.done(document).superseded) == (1, False)
    assert world.billed_pages() == [1]


def test_a_strangers_result_that_appears_before_publishing_is_left_alone_and_a_retry_publishes(world: World) -> None:
    context = world.context()
    document = ready(world, context, "new")
    world.s3.put_object(Bucket=world.bucket, Key=RESULT, Body=b"mine")
    assert collect(world, context, document) == "failed"
    assert world.result(document) == b"mine"
    failed = world.failed(document)
    assert (failed.code, failed.retry_helps) == ("result-taken", True), "moved away, the same document can be done"
    world.s3.delete_object(Bucket=world.bucket, Key=RESULT)
    assert context.ledger.put_back(failed)
    assert world.finish(context, document)[-1].kind == "done"
    assert world.texts(document) == ["page 1 of new"]
    assert world.billed_pages() == [1]


@pytest.fixture
def rewritten(world: World) -> Iterator[Document]:
    """A document that is done, and whose same bytes were uploaded again afterwards."""
    context = world.context()
    document = ready(world, context, "new")
    assert collect(world, context, document) == "done"
    again = world.put(pdf(1, "new"))
    assert again.etag == document.etag
    yield again
    assert world.billed_pages() == [1]


@pytest.mark.parametrize("place", ["its own result", "a stranger's file", "nothing"])
def test_the_same_bytes_uploaded_again_are_not_recognised_again(
    world: World, rewritten: Document, place: str, tmp_path: Path
) -> None:
    """Only another version's result in its place says that this version was restored over a newer one."""
    if place == "a stranger's file":
        world.s3.put_object(Bucket=world.bucket, Key=RESULT, Body=json.dumps({"pages": []}).encode())
    if place == "nothing":
        world.s3.delete_object(Bucket=world.bucket, Key=RESULT)
    context = world.context()
    with KnownJobs(tmp_path) as known:
        known.load(context.ledger)
        assert known.done_before(context.job_id(rewritten), rewritten.last_modified)
        [found] = discover(context, known)
    assert found.state == "done"
    assert submit_document(context, found.document).kind == "skipped"
