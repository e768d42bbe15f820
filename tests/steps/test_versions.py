"""Documents that are replaced, restored, or share a place or their bytes with another."""

from datetime import timedelta
from pathlib import Path

from tasks.job.record import Document, job_id
from tasks.steps.collect import collect_job
from tasks.steps.discover import discover
from tasks.steps.submit import submit_document
from tasks.tally import KnownJobs
from tests.steps.conftest import World, pdf


def _later(document: Document, seconds: float) -> Document:
    """The same version as if it had been written at another time: S3 stamps with whole seconds, tests don't wait."""
    return document.model_copy(update={"last_modified": document.last_modified + timedelta(seconds=seconds)})


def test_an_old_version_that_ends_last_does_not_replace_the_newer_result(world: World) -> None:
    context = world.context()
    old = _later(world.put(pdf(1, "old")), -60)
    submit_document(context, old)
    new = world.put(pdf(1, "new"))
    submit_document(context, new)
    collect_job(context, world.recognised(context, new))
    published = world.result(new)
    outcome = collect_job(context, world.recognised(context, old))
    assert outcome.kind == "done"
    assert world.result(new) == published
    assert world.done(old).superseded
    assert not world.done(new).superseded


def test_a_newer_version_replaces_the_older_result(world: World) -> None:
    context = world.context()
    old = world.put(pdf(1, "old"))
    submit_document(context, old)
    world.finish(context, old)
    new = world.put(pdf(1, "new"))  # within the same second, as far as S3 tells: what lies in the source is newer
    submit_document(context, new)
    world.finish(context, new)
    assert world.texts(new) == ["page 1 of new"]
    assert not world.done(new).superseded


def test_an_old_version_put_back_over_a_newer_one_is_recognised_again(world: World, tmp_path: Path) -> None:
    context = world.context()
    for name in ("first", "second"):
        document = world.put(pdf(1, name))
        submit_document(context, document)
        world.finish(context, document)
    restored = world.put(pdf(1, "first"))
    with KnownJobs(tmp_path) as known:
        known.load(context.ledger)
        assert known.done_before(job_id(restored, "ocr"), restored.last_modified)
        [found] = discover(context, known)
    assert found.state is None
    submit_document(context, found.document)
    world.finish(context, restored)
    assert world.texts(restored) == ["page 1 of first"]


def test_two_sources_do_not_write_over_each_others_results(world: World) -> None:
    in_worker, other_worker = world.context(source="in"), world.context(source="other")
    mine, theirs = world.put(pdf(1, "mine"), "in/x.pdf"), world.put(pdf(2, "theirs"), "other/x.pdf")
    submit_document(in_worker, mine)
    world.finish(in_worker, mine)
    billed = world.billed_pages()
    outcome = submit_document(other_worker, theirs)
    assert outcome.kind == "failed"
    assert "use a separate destination for each source" in outcome.message
    assert world.failed(theirs).code == "result-taken"
    assert world.billed_pages() == billed
    assert world.texts(mine) == ["page 1 of mine"]


def test_a_users_own_file_in_the_results_place_is_left_alone(world: World) -> None:
    document = world.put(pdf(1))
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.json", Body=b"mine")
    outcome = submit_document(world.context(), document)
    assert (outcome.kind, world.failed(document).code) == ("failed", "result-taken")
    assert world.result(document) == b"mine"
    assert world.billed_pages() == []


def test_identical_bytes_are_recognised_twice_by_default(world: World) -> None:
    context = world.context()
    for key in ("in/a.pdf", "in/b.pdf"):
        document = world.put(pdf(2), key)
        submit_document(context, document)
        world.finish(context, document)
    assert world.billed_pages() == [2, 2]


def test_identical_bytes_are_copied_when_asked_for(world: World) -> None:
    context = world.context(reuse_identical=True)
    first, second = world.put(pdf(2), "in/a.pdf"), world.put(pdf(2), "in/b.pdf")
    submit_document(context, first)
    assert submit_document(context, second).kind == "later", "the first is being recognised: nobody pays meanwhile"
    assert world.listing("out/_jobs/open/") == [f"out/_jobs/open/{job_id(first, 'ocr')}.json"]
    world.finish(context, first)
    copied = submit_document(context, second)
    assert (copied.kind, copied.pages, copied.requests) == ("done", 2, 0)
    assert world.result(second) == world.result(first)
    assert world.done(second).copied_from == job_id(first, "ocr")
    assert world.billed_pages() == [2]


def test_identical_bytes_of_a_failed_document_are_recognised(world: World) -> None:
    context = world.context(reuse_identical=True, rounds=1)
    first, second = world.put(pdf(2), "in/a.pdf"), world.put(pdf(2), "in/b.pdf")
    world.api.set(fail_requests=[{"times": 1}])
    submit_document(context, first)
    world.finish(context, first)
    assert world.failed(first).code == "missing-pages"
    assert submit_document(context, second).kind == "open"
    world.finish(context, second)
    assert world.texts(second) == ["page 1 of a test", "page 2 of a test"]


def test_identical_bytes_are_recognised_when_the_result_to_copy_is_gone(world: World) -> None:
    context = world.context(reuse_identical=True)
    first, second = world.put(pdf(1), "in/a.pdf"), world.put(pdf(1), "in/b.pdf")
    submit_document(context, first)
    world.finish(context, first)
    world.s3.delete_object(Bucket=world.bucket, Key="out/a.pdf.ocr.json")
    assert submit_document(context, second).kind == "open"
    world.finish(context, second)
    assert world.texts(second) == ["page 1 of a test"]
