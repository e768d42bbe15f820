"""Pages that hold their text are not sent: they come from the document, and only the others are paid for."""

import io
import json
from typing import Any

import pikepdf
import pytest

from tasks.job.record import Document
from tasks.steps.submit import submit_document
from tests.documents.files.text_layer_kinds import LINES, kinds
from tests.sample_documents import png
from tests.steps.conftest import World
from tests.steps.kills import Doomed, Killed, passes

KINDS = kinds()
TEXT, SCAN, LAYERED = (KINDS[name].body for name in ("plain text", "scan", "scan with an OCR layer"))


def joined(*bodies: bytes) -> bytes:
    """One PDF of several."""
    with pikepdf.Pdf.new() as pdf:
        opened = [pikepdf.open(io.BytesIO(body)) for body in bodies]
        for other in opened:
            pdf.pages.extend(other.pages)
        out = io.BytesIO()
        pdf.save(out, deterministic_id=True)
        return out.getvalue()


def recognised(world: World, body: bytes, key: str = "in/a.pdf", **options: Any) -> tuple[Document, dict[str, Any]]:
    document, context = world.put(body, key), world.context(skip_text=True, **options)
    submit_document(context, document)
    (done,) = [outcome for outcome in world.finish(context, document) if outcome.kind == "done"]
    key = done.result.removeprefix(f"s3://{world.bucket}/")
    return document, json.loads(world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read())


def sources(result: dict[str, Any]) -> list[str]:
    assert [page["id"] for page in result["pages"]] == list(range(len(result["pages"])))
    return [page["source"] for page in result["pages"]]


@pytest.mark.parametrize("shape", ["newer", "older"])
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_only_pages_without_text_are_paid_for(world: World, shape: str, mode: str) -> None:
    world.api.set(face="documented" if shape == "newer" else "recorded")
    _, result = recognised(world, joined(TEXT, SCAN, SCAN, TEXT, TEXT), mode=mode)
    assert world.billed_pages() == [2]
    assert sources(result) == ["text-layer", "ocr", "ocr", "text-layer", "text-layer"]
    assert [page["text"].split() for page in result["pages"] if page["source"] == "text-layer"] == [
        " ".join(LINES).split()
    ] * 3
    numbers = [word["id"] for page in result["pages"] for word in page["words"]]
    assert numbers == list(range(len(numbers)))
    assert "confidence" not in result["pages"][0]
    assert all("confidence" not in word for word in result["pages"][0]["words"])
    if shape == "newer":
        assert result["usage"]["pages"] == 2
    else:
        assert result["numBilledPages"] == 2
        assert [size["page"] for size in result["metadata"]["pages"]] == [1, 2, 3, 4, 5]
        assert abs(result["pages"][0]["width"] - result["pages"][1]["width"]) <= 2, "A4 is 1240 or 1242 pixels wide"
        assert isinstance(result["confidence"], float)
    described = world.s3.head_object(Bucket=world.bucket, Key="out/a.pdf.ocr.skip-text.json")["Metadata"]
    assert (described["pages"], described["pages-from-text"]) == ("5", "3")


def test_a_document_of_text_alone_is_not_sent_at_all(world: World) -> None:
    document, result = recognised(world, joined(*[TEXT] * 120), text=True)
    assert world.bill() == []
    assert sources(result) == ["text-layer"] * 120
    assert result["usage"] == {"pages": 0}
    context = world.context(skip_text=True)
    done = context.ledger.done(context.job_id(document))
    assert done is not None
    assert done.sources is not None
    assert (done.pages, done.sources.sent, done.sources.text_layer) == (120, 0, 120)
    assert world.listing("out/_jobs/pages/") == []
    text = world.s3.get_object(Bucket=world.bucket, Key="out/a.pdf.ocr.skip-text.txt")["Body"].read().decode()
    assert text.count("\f") == 119


def test_it_is_another_job_and_another_result(world: World) -> None:
    document, _ = recognised(world, joined(TEXT, SCAN))
    plain, trusting = world.context(), world.context(skip_text=True, trust_ocr_layers=True)
    assert len({context.job_id(document) for context in (plain, trusting, world.context(skip_text=True))}) == 3
    submit_document(plain, document)
    assert world.finish(plain, document)[-1].kind == "done"
    assert world.billed_pages() == [1, 2]
    assert {"out/a.pdf.ocr.json", "out/a.pdf.ocr.skip-text.json"} <= set(world.listing("out/"))


def test_ocr_layers_count_when_they_are_trusted(world: World) -> None:
    _, result = recognised(world, joined(LAYERED, SCAN), trust_ocr_layers=True)
    assert world.billed_pages() == [1]
    assert sources(result) == ["text-layer", "ocr"]
    recognised(world, joined(SCAN, LAYERED), "in/b.pdf")
    assert world.billed_pages() == [1, 2]


def test_other_formats_are_recognised_as_ever(world: World) -> None:
    _, result = recognised(world, png("a picture"), "in/a.png")
    assert (sources(result), world.billed_pages()) == (["ocr"], [1])


def test_a_batch_that_fails_costs_its_pages_only(world: World) -> None:
    """The pages of text stay where they are when others have to be sent again."""
    body = joined(TEXT, SCAN, TEXT)
    document, context = world.put(body), world.context(skip_text=True)
    submit_document(context, document)
    held = context.ledger.read(context.job_id(document))
    assert held is not None
    assert [str(pages) for pages in held.job.text_pages] == ["1", "3"]
    assert [str(request.pages) for request in held.job.requests] == ["2"]
    assert world.finish(world.context(), document) == []  # of the plain job there is none
    assert world.finish(context, document)[-1].kind == "done"
    assert world.billed_pages() == [1]


def test_the_page_budget_is_for_pages_that_are_sent(world: World) -> None:
    recognised(world, joined(*[TEXT] * 20, SCAN), page_budget=1)
    assert world.billed_pages() == [1]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 5, 6, 7, 8, 9])
def test_a_worker_killed_at_any_call_loses_nothing(world: World, s3_url: str, number: int, moment: str) -> None:
    """Claim, two looks, the document, a look at the result's place, two parts kept, posting, sent."""
    document = world.put(joined(TEXT, SCAN, TEXT))
    doomed = Doomed(world, s3_url, number, moment, skip_text=True)
    with pytest.raises(Killed):
        submit_document(doomed.context, document)
    context = world.context(skip_text=True)
    passes(world, context, document)
    done = context.ledger.done(context.job_id(document))
    assert done is not None
    assert done.sources is not None
    assert (done.pages, done.sources.text_layer, done.sources.sent) == (3, 2, 1)
    # The receipt of the page can be lost with the process; it is then paid again, and it says so.
    assert world.billed_pages() in ([1], [1, 1])
    assert done.job.possible_duplicates == 1 or world.billed_pages() == [1]
    assert world.listing("out/_jobs/pages/") == []


def test_the_kills_reach_the_last_call(world: World, s3_url: str) -> None:
    alive = Doomed(world, s3_url, 10, "before", skip_text=True)
    assert submit_document(alive.context, world.put(joined(TEXT, SCAN, TEXT))).kind == "open"
    assert alive.calls == 9
