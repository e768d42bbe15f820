"""Every format of the contract: accepted, counted, split or refused with a reason, and merged."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pikepdf
import pytest

from tasks.context import RunContext
from tasks.faults import CeilingReached
from tasks.job.record import Document, job_id
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.sample_documents import bmp, docx, heic, hwp, hwpx, jpeg, png, pptx, text_pdf, tiff, xlsx
from tests.steps.conftest import TEN_PAGES, World, sha

LONG = [f"this is page {number}" for number in range(1, 24)]
PICTURES: dict[str, Callable[[str], bytes]] = {"png": png, "jpg": jpeg, "bmp": bmp, "heic": heic}
LAID_OUT: dict[str, Callable[[Sequence[str]], bytes]] = {
    "docx": docx, "pptx": pptx, "xlsx": xlsx, "hwp": hwp, "hwpx": hwpx,
}  # fmt: skip
PAGED: dict[str, Callable[[Sequence[str]], bytes]] = {"pdf": text_pdf, "tif": tiff}


def finished(world: World, context: RunContext, key: str, body: bytes) -> Document:
    """Send a document and bring it to its end."""
    document = world.put(body, key)
    assert submit_document(context, document).kind == "open"
    assert world.finish(context, document)[-1].kind == "done"
    return document


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_one_page(world: World, kind: str, mode: str) -> None:
    document = finished(world, world.context(mode=mode), f"in/a.{kind}", PICTURES[kind]("some words"))
    assert (world.done(document).pages, world.billed_pages()) == (1, [1])


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("kind", LAID_OUT)
def test_the_pages_of_an_office_document_are_counted_by_the_api_and_merged(world: World, kind: str, mode: str) -> None:
    document = finished(world, world.context(mode=mode), f"in/a.{kind}", LAID_OUT[kind](LONG))
    assert world.texts(document) == LONG
    done = world.done(document)
    assert (done.pages, done.job.pages, world.billed_pages()) == (23, 23, [23])
    assert [str(request.pages) for request in done.job.requests] == ["1-23"]


@pytest.mark.parametrize("kind", PAGED)
def test_a_long_document_is_split_and_merged(world: World, kind: str) -> None:
    world.api.set(limits={"async_pages": 10})
    document = finished(world, world.context(limits=TEN_PAGES), f"in/a.{kind}", PAGED[kind](LONG))
    assert world.billed_pages() == [10, 10, 3]
    assert world.done(document).pages == 23
    texts = world.texts(document)
    assert texts == LONG if kind == "pdf" else len(set(texts)) == 23


def test_several_pictures_in_one_heic_are_counted_by_the_api(world: World) -> None:
    document = finished(world, world.context(), "in/a.heic", heic("words", images=3))
    assert (world.done(document).pages, world.done(document).job.estimate) == (3, 3)


def test_what_an_estimate_was_wrong_by_is_put_right_in_report_and_budget(world: World) -> None:
    context, document = world.context(page_budget=30), world.put(docx(LONG), "in/a.docx")
    first = submit_document(context, document)
    assert first.pages_sent == 1
    rest = world.finish(context, document)
    assert first.pages_sent + sum(outcome.pages_sent for outcome in rest) == 23 == sum(world.billed_pages())
    with pytest.raises(CeilingReached):
        context.budget.reserve("another", 8)
    assert context.budget.reserve("another", 7) is not None


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_an_office_document_of_which_pages_are_missing_is_sent_whole_again(world: World, mode: str) -> None:
    body = docx(LONG)
    context, document = world.context(mode=mode), world.put(body, "in/a.docx")
    if mode == "async":
        world.api.set(fail_batches=[{"sha256": sha(body), "batch": 1}])
    else:
        incomplete = {"action": "status", "status": 200, "body": {"pages": []}}
        world.api.fail(incomplete | {"method": "POST", "path": "document-digitization$"})
    submit_document(context, document)
    world.finish(context, document)
    assert world.texts(document) == LONG
    assert world.billed_pages() == ([23, 23] if mode == "async" else [23])
    assert world.done(document).job.rounds == 2


def test_a_name_that_contradicts_the_content_or_is_too_long_is_made_safe_for_the_upload(world: World) -> None:
    finished(world, world.context(), "in/really a picture.pdf", png("x y"))
    finished(world, world.context(), "in/" + "n" * 950 + ".docx", text_pdf(["a"]))
    assert [submission["file_name"] for submission in world.bill()] == ["really_a_picture.png", "n" * 100 + ".pdf"]


def restricted(content: bytes) -> bytes:
    """A PDF that an owner password restricts, and that opens without a password."""
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(content)) as pdf:
        pdf.save(out, encryption=pikepdf.Encryption(owner="owner", user=""))
    return out.getvalue()


@pytest.mark.parametrize("longest", [1000, 10])
def test_how_an_unusual_document_was_sent_is_on_record(
    world: World, caplog: pytest.LogCaptureFixture, longest: int
) -> None:
    context = world.context(limits=Limits(pages=longest))
    document = finished(world, context, "in/a.pdf", b"\n" + restricted(text_pdf(LONG)))
    note = "the 1 bytes before the PDF header are not sent; a copy without its owner password is sent"
    assert world.done(document).job.note == note
    assert f"{document.uri}: {note}" in caplog.messages
    assert world.texts(document) == LONG
    assert sum(world.billed_pages()) == 23
    usual = finished(world, context, "in/b.pdf", text_pdf(["a"]))
    assert world.done(usual).job.note == ""


def test_a_restricted_pdf_fails_where_that_is_asked_for(world: World) -> None:
    document = world.put(restricted(text_pdf(["a"])))
    outcome = submit_document(world.context(refuse_restricted=True), document)
    assert (outcome.kind, world.failed(document).code, world.bill()) == ("failed", "restricted", [])


LIMITS: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.pdf", b"", {}, "the document is empty (0 bytes): upload it again"),
    ("a.docx", docx(["a"]), {"megabytes": 0.001}, "the API accepts 0.001 MB: compress it, or convert it to PDF"),
    ("a.png", png("a"), {"megabytes": 0.001}, "the API accepts 0.001 MB: compress it"),
    ("a.heic", heic("a"), {"pixels": 100}, "page 1 has 240,000 pixels, but the API accepts 100: scale it down"),
    ("a.pdf", text_pdf(["a"]), {"pixels": 100}, "page 1, rendered at 150 DPI, has 2,174,"),
    ("a.doc", docx(["a"])[:90], {}, "unsupported format: the content of 'in/a.doc' is"),
    ("a.xlsx", xlsx(["a"])[:2000], {}, "the XLSX is broken (File is not a zip file): repair or replace it"),
]


@pytest.mark.parametrize(("name", "body", "limits", "words"), LIMITS)
def test_each_limit_is_checked_before_money_is_spent_and_says_what_to_do(
    world: World, name: str, body: bytes, limits: dict[str, Any], words: str
) -> None:
    document = world.put(body, f"in/{name}")
    outcome = submit_document(world.context(limits=Limits(**limits)), document)
    assert outcome.kind == "failed"
    assert words in outcome.message
    assert world.bill() == []
    assert world.failed(document).stage == "read"


@pytest.mark.parametrize("form", ["clova", "responses", "document"])
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_schema_makes_a_result_of_its_own_beside_the_others(world: World, mode: str, form: str) -> None:
    schema = "clova" if form == "clova" else "google"
    if form != "clova":
        world.api.set(google_form=form)
    document = world.put(text_pdf(LONG))
    plain, other = world.context(), world.context(mode=mode, schema=schema, text=True)
    snapshot = world.context(model="ocr-250904", schema=schema)
    for context in (plain, other, snapshot):
        assert submit_document(context, document).kind == "open"
        assert world.finish(context, document)[-1].kind == "done"
        assert submit_document(context, document).kind == "skipped"
    assert world.billed_pages() == [23, 23, 23]
    assert [key for key in world.listing("out/") if "_jobs" not in key] == sorted(
        [
            "out/a.pdf.ocr.json",
            f"out/a.pdf.ocr.{schema}.json",
            f"out/a.pdf.ocr.{schema}.txt",
            f"out/a.pdf.ocr.ocr-250904.{schema}.json",
        ]
    )
    text = world.s3.get_object(Bucket=world.bucket, Key=f"out/a.pdf.ocr.{schema}.txt")["Body"].read().decode()
    assert [page.strip() for page in text.split("\f")] == LONG
    result = json.loads(world.s3.get_object(Bucket=world.bucket, Key=f"out/a.pdf.ocr.{schema}.json")["Body"].read())
    if form == "clova":
        assert [image["convertedImageInfo"]["pageIndex"] for image in result["images"]] == list(range(23))
    elif form == "responses":
        assert [response["context"]["pageNumber"] for response in result["responses"]] == list(range(1, 24))
    else:
        assert len(result["fullTextAnnotation"]["pages"]) == 23
    assert job_id(document, "ocr", "clova") != job_id(document, "ocr")


@pytest.mark.parametrize("face", ["recorded", "documented"])
def test_coordinates_stay_as_they_came(world: World, face: str) -> None:
    world.api.set(face=face)
    document = finished(world, world.context(), "in/a.pdf", text_pdf(LONG))
    word = json.loads(world.result(document))["pages"][22]["words"][0]
    corner = word["boundingBox" if face == "recorded" else "bounding_box"]["vertices"][0]
    if face == "recorded":
        assert isinstance(corner["x"], int)
        assert corner["x"] > 50
    else:
        assert 0 < corner["x"] < 1
