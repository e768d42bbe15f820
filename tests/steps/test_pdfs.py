"""Searchable PDFs beside results: written with them, of the same version of the document, and never paid for."""

from typing import Any

import pypdfium2

from tasks.steps.beside import bring_pdf_into_step
from tasks.steps.submit import submit_document
from tests.sample_documents import docx, png, text_pdf
from tests.steps.conftest import World


def recognised(world: World, body: bytes, key: str = "in/a.pdf", **options: Any) -> None:
    document, context = world.put(body, key), world.context(**options)
    submit_document(context, document)
    assert world.finish(context, document)[-1].kind == "done"


def read(world: World, key: str) -> list[str]:
    body = world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read()
    with pypdfium2.PdfDocument(body) as pdf:
        return [" ".join(page.get_textpage().get_text_range().split()) for page in pdf]


def pdfs(world: World) -> list[str]:
    return [key for key in world.listing("out/") if key.endswith(".pdf")]


def test_a_pdf_is_written_beside_each_result_and_nothing_more_is_paid(world: World) -> None:
    recognised(world, png("a picture"), "in/scan", pdf=True)
    recognised(world, text_pdf(["one", "two"]))
    assert pdfs(world) == ["out/scan.ocr.pdf"]
    assert read(world, "out/scan.ocr.pdf") != [""]
    assert world.billed_pages() == [1, 2]
    described = world.s3.head_object(Bucket=world.bucket, Key="out/scan.ocr.pdf")
    result = world.s3.head_object(Bucket=world.bucket, Key="out/scan.ocr.json")
    assert described["Metadata"] == result["Metadata"]
    assert described["ContentType"] == "application/pdf"


def test_results_of_earlier_runs_get_theirs(world: World) -> None:
    recognised(world, png("a picture"), "in/b.png")
    context = world.context(source=None)
    assert bring_pdf_into_step(context, "out/b.png.ocr.json", missing_too=True)
    assert not bring_pdf_into_step(context, "out/b.png.ocr.json", missing_too=True)
    assert pdfs(world) == ["out/b.png.ocr.pdf"]
    assert world.billed_pages() == [1]


def test_the_pdf_of_an_older_version_does_not_stay(world: World) -> None:
    recognised(world, png("the old picture"), "in/a.png", pdf=True)
    before = read(world, "out/a.png.ocr.pdf")
    recognised(world, png("another one"), "in/a.png")
    assert read(world, "out/a.png.ocr.pdf") != before


def test_a_document_that_is_gone_leaves_pages_of_text(world: World) -> None:
    document, context = world.put(text_pdf(["one", "two"])), world.context(pdf=True)
    submit_document(context, document)
    world.s3.delete_object(Bucket=world.bucket, Key=document.key)
    assert world.finish(context, document)[-1].kind == "done"
    first, second = read(world, "out/a.pdf.ocr.pdf")
    assert first.startswith("Text only: ")
    assert first.endswith("one")
    assert second.endswith("two")


def test_office_documents_have_pages_of_text(world: World) -> None:
    recognised(world, docx(["Dear reader"]), "in/letter.docx", pdf=True)
    assert read(world, "out/letter.docx.ocr.pdf")[0].endswith("Dear reader")


def test_what_others_have_put_in_its_place_stays(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="out/a.pdf.ocr.pdf", Body=b"theirs")
    document, context = world.put(text_pdf(["one"])), world.context(pdf=True)
    assert submit_document(context, document).kind == "failed"
    assert world.bill() == []
    assert world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.pdf")["Body"].read() == b"theirs"
