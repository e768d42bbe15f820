"""Reusing results of identical documents: a document gets a copy of its own text, never of another's."""

import pytest

from tasks.job.record import job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule


def text_beside(world: World, key: str) -> str:
    """The plain text that lies beside a result."""
    return world.s3.get_object(Bucket=world.bucket, Key=f"out/{key}.ocr.txt")["Body"].read().decode()


@pytest.mark.parametrize("first_is", ["open", "done"])
def test_documents_with_different_bytes_each_get_their_own_text(world: World, first_is: str) -> None:
    context = world.context(reuse_identical=True)
    first, second = world.put(pdf(2, "the first"), "in/a.pdf"), world.put(pdf(2, "the second"), "in/b.pdf")
    assert submit_document(context, first).kind == "open"
    if first_is == "done":
        world.finish(context, first)
    assert submit_document(context, second).kind == "open", "nobody else recognises these bytes"
    for document, title in ((first, "the first"), (second, "the second")):
        world.finish(context, document)
        assert world.texts(document) == [f"page 1 of {title}", f"page 2 of {title}"]
        assert world.done(document).copied_from is None
    assert world.billed_pages() == [2, 2]


def test_the_record_names_the_bytes_that_were_sent(world: World) -> None:
    """The hash is what a later document is compared by, so it has to be that of the bytes and of nothing else."""
    context = world.context()
    bodies = {"in/a.pdf": pdf(2, "the first"), "in/b.pdf": pdf(2, "the second")}
    for key, body in bodies.items():
        document = world.put(body, key)
        submit_document(context, document)
        assert world.open(document).content == sha(body)
        world.finish(context, document)
        assert world.done(document).job.content == sha(body) == world.bill()[-1]["sha256"]


@pytest.mark.parametrize("text", [True, False])
def test_a_copied_result_has_its_text_beside_it_where_texts_are_wanted(world: World, text: bool) -> None:
    context = world.context(reuse_identical=True, text=text)
    first, second = world.put(pdf(2), "in/a.pdf"), world.put(pdf(2), "in/b.pdf")
    submit_document(context, first)
    world.finish(context, first)
    copied = submit_document(context, second)
    assert (copied.kind, world.done(second).copied_from) == ("done", job_id(first, "ocr"))
    assert world.result(second) == world.result(first)
    if text:
        assert text_beside(world, "b.pdf") == text_beside(world, "a.pdf") == "page 1 of a test\fpage 2 of a test"
    else:
        assert not [key for key in world.listing("out/") if key.endswith(".txt")]
    assert world.billed_pages() == [2]


def test_a_copied_result_gets_its_text_though_the_first_has_none(world: World) -> None:
    first, second = world.put(pdf(2), "in/a.pdf"), world.put(pdf(2), "in/b.pdf")
    plain, with_text = world.context(reuse_identical=True), world.context(reuse_identical=True, text=True)
    submit_document(plain, first)
    world.finish(plain, first)
    assert submit_document(with_text, second).kind == "done"
    assert text_beside(world, "b.pdf") == "page 1 of a test\fpage 2 of a test"
    assert "out/a.pdf.ocr.txt" not in world.listing("out/")
    assert world.billed_pages() == [2]


def test_a_result_that_another_version_has_replaced_is_not_copied(world: World) -> None:
    """Its place holds the text of other bytes by now."""
    context = world.context(reuse_identical=True)
    first = world.put(pdf(2, "the first"), "in/a.pdf")
    submit_document(context, first)
    world.finish(context, first)
    replaced = world.put(pdf(2, "the second"), "in/a.pdf")
    submit_document(context, replaced)
    world.finish(context, replaced)
    again = world.put(pdf(2, "the first"), "in/b.pdf")
    assert submit_document(context, again).kind == "open"
    collect_job(context, world.recognised(context, again))
    assert world.texts(again) == ["page 1 of the first", "page 2 of the first"]
    assert world.billed_pages() == [2, 2, 2]


def test_a_result_that_changes_while_it_is_copied_is_copied_by_a_later_pass(world: World, flaky: FlakyS3) -> None:
    first, second = world.put(pdf(2), "in/a.pdf"), world.put(pdf(2), "in/b.pdf")
    context = world.context(objects=flaky.objects(), reuse_identical=True)
    submit_document(context, first)
    world.finish(context, first)
    flaky.fail(Rule("refuse", "/out/a.pdf.ocr.json", "GET", status=412, code="PreconditionFailed"))
    outcome = submit_document(context, second)
    assert (outcome.kind, outcome.moved) == ("later", False), "it is the result that moved, and not the document"
    assert "/out/a.pdf.ocr.json" in outcome.message
    assert submit_document(context, second).kind == "done"
    assert world.billed_pages() == [2]
