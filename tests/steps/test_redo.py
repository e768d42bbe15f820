"""Finished documents that are recognised and paid for again, as `redo` marks them."""

import json
from typing import Any

from tasks.job.outcome import Outcome
from tasks.job.record import Document, job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf

BESIDE = ("out/a.pdf.ocr.pdf", "out/a.pdf.ocr.txt")


def _open_again(world: World, document: Document) -> None:
    ledger, identity = world.context().ledger, job_id(document, "ocr")
    entry = ledger.entry("done", identity)
    assert entry is not None
    assert ledger.open_again(world.done(document), entry)


def _recognise(world: World, document: Document, model: str, **options: Any) -> list[Outcome]:
    """Submit and collect a document while the API's alias stands for this model, which the result names."""
    world.api.set(model_snapshot=model)
    context = world.context(**options)
    submitted = submit_document(context, document)
    return [submitted, *world.finish(context, document)]


def _model(world: World, document: Document) -> str:
    return str(json.loads(world.result(document))["model"])


def test_the_old_result_stays_until_the_new_one_replaces_it(world: World) -> None:
    document = world.put(pdf(1))
    _recognise(world, document, "ocr-250904")
    _open_again(world, document)
    assert _model(world, document) == "ocr-250904"
    assert _recognise(world, document, "ocr-260930")[-1].kind == "done"
    assert _model(world, document) == "ocr-260930"
    assert world.billed_pages() == [1, 1]


def test_files_beside_a_result_are_renewed_with_it(world: World) -> None:
    document = world.put(pdf(1))
    _recognise(world, document, "ocr-250904", text=True, pdf=True)
    for key in BESIDE:
        described = world.s3.head_object(Bucket=world.bucket, Key=key)
        world.s3.put_object(Bucket=world.bucket, Key=key, Body=b"old", Metadata=described["Metadata"])
    _open_again(world, document)
    _recognise(world, document, "ocr-260930")
    for key in BESIDE:
        assert world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read() != b"old"


def test_a_copy_of_a_result_is_renewed_as_well(world: World) -> None:
    first, second = world.put(pdf(1), "in/1.pdf"), world.put(pdf(1), "in/2.pdf")
    for document in (first, second):
        _recognise(world, document, "ocr-250904", reuse_identical=True)
    for document in (first, second):
        _open_again(world, document)
        _recognise(world, document, "ocr-260930", reuse_identical=True)
    assert (_model(world, first), _model(world, second)) == ("ocr-260930", "ocr-260930")
    assert world.billed_pages() == [1, 1]


def test_a_worker_that_was_suspended_meanwhile_does_not_bring_the_old_result_back(world: World) -> None:
    document = world.put(pdf(1))
    world.api.set(model_snapshot="ocr-250904")
    slow = world.context()
    submit_document(slow, document)
    identity = world.recognised(slow, document)
    held = slow.ledger.read(identity)
    assert held is not None
    world.finish(world.context(), document)
    _open_again(world, document)
    _recognise(world, document, "ocr-260930")
    assert collect_job(slow, held).kind == "skipped"
    assert _model(world, document) == "ocr-260930"


def test_a_pdf_beside_a_deleted_result_is_renewed_with_it(world: World) -> None:
    document = world.put(pdf(1))
    _recognise(world, document, "ocr-250904", pdf=True)
    described = world.s3.head_object(Bucket=world.bucket, Key=BESIDE[0])
    world.s3.put_object(Bucket=world.bucket, Key=BESIDE[0], Body=b"old", Metadata=described["Metadata"])
    _open_again(world, document)
    world.s3.delete_object(Bucket=world.bucket, Key="out/a.pdf.ocr.json")
    _recognise(world, document, "ocr-260930", pdf=True)
    assert world.s3.get_object(Bucket=world.bucket, Key=BESIDE[0])["Body"].read() != b"old"
