"""`bulk-ocr plan`: what a run would do and cost, told without doing it; and the selection on the command line."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from rich.console import Console

from flows.backfill import backfill
from flows.cli.output import Page
from flows.cli.plan import (
    FailingDocument,
    FailingGroup,
    FormatSum,
    PlanReport,
    evenly_chosen,
    make_plan,
    requests_at_least,
)
from flows.submit import submit
from tasks.context import context_from_environment
from tasks.documents.files.formats import DOCX, PDF, PNG
from tasks.documents.files.inspect import Inspected
from tasks.job.record import Document, DoneJob, Job
from tasks.number_format import dollars
from tasks.options import Options, RunSettings
from tasks.selection import Selection
from tasks.steps import discover
from tasks.store.objects import Objects, connect
from tasks.tally import KnownJobs
from tasks.upstage.limits import Limits
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.stand_in import StandInControl

# No key, and no Prefect: nothing listens there.
ALONE: dict[str, str | None] = {"UPSTAGE_API_KEY": None, "PREFECT_API_URL": "http://127.0.0.1:9/api"}


def pages(number: int, tag: str) -> bytes:
    """A PDF of so many pages."""
    return documents.text_pdf([f"{tag} {page}" for page in range(number)])


def everything(place: Place) -> dict[str, Any]:
    """All objects of the bucket, with what tells whether they were written again."""
    listing = place.s3.list_objects_v2(Bucket=place.bucket).get("Contents", [])
    return {item["Key"]: (item["ETag"], item["LastModified"]) for item in listing}


@pytest.fixture
def settled(command: Command, place: Place, api: StandInControl) -> Place:
    """A source where some documents are done, one has failed, one is open, and others are new."""
    place.put({"done/1.pdf": pages(2, "d1"), "done/2.pdf": pages(3, "d2"), "failed.pdf": documents.encrypted_pdf()})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    place.put({"open.pdf": pages(1, "open")})
    assert command("submit", place.source, place.destination, "--key", "in/open.pdf", *FAST).returncode == 0
    place.put(
        {
            "new/12 pages.pdf": pages(12, "new"),
            "new/scan.tif": documents.tiff(["one", "two", "three"]),
            "new/photo.jpg": documents.jpeg("photo"),
            "new/locked.pdf": documents.encrypted_pdf("other"),
            "new/cut.pdf": documents.truncated_pdf(),
            "new/note.txt": b"just words",
            "new/large.png": documents.png("large") + b"x" * 300_000,
        }
    )
    assert len(api.billed()) >= 3
    return place


def test_a_plan_tells_what_a_run_would_do_and_does_nothing(
    command: Command, settled: Place, api: StandInControl
) -> None:
    billed, before = api.billed(), everything(settled)
    arguments = ("plan", settled.source, settled.destination, "--limits.pages", "5", "--limits.megabytes", "0.2")
    process = command(*arguments, "--json", "--price", "0.01", **ALONE)
    assert process.returncode == 0, process.stderr
    plan = report_of(process)
    assert (plan["documents"], plan["new"], plan["done"], plan["open"], plan["failed_before"]) == (11, 7, 2, 1, 1)
    assert (plan["pages"], plan["pages_estimated"], plan["extrapolated"]) == (12 + 3 + 1, 0, False)
    assert plan["requests"] == 3 + 1 + 1, "12 pages are three requests of at most 5"
    assert plan["price"] == 0.16
    assert plan["formats"] == [
        {"format": "JPEG", "documents": 1, "pages": 1, "pages_estimated": 0},
        {"format": "PDF", "documents": 1, "pages": 12, "pages_estimated": 0},
        {"format": "TIFF", "documents": 1, "pages": 3, "pages_estimated": 0},
    ]
    assert plan["failing"] == 4
    failures = {group["code"]: group["documents"] for group in plan["failures"]}
    assert set(failures) == {"encrypted", "broken", "unsupported-format", "too-large"}
    assert failures["too-large"][0]["document"] == f"{settled.source}/new/large.png"
    assert "0.3 MB" in failures["too-large"][0]["reason"]
    assert plan["read"] == 7
    assert everything(settled) == before
    assert api.billed() == billed

    shown = command(*arguments, **ALONE)
    assert shown.returncode == 0
    assert "11 documents" in shown.stdout
    assert "7 new, 2 done, 1 open, 1 failed before" in shown.stdout
    assert "would fail, encrypted: 1" in shown.stdout
    assert "pages to pay for: 16; requests: at least 5" in shown.stdout
    assert "price: $0.0240 at $0.0015 a page. Nothing was sent" in shown.stdout
    assert "ESTIMATE" not in shown.stdout
    assert everything(settled) == before


def test_the_pages_planned_are_the_pages_sent(command: Command, place: Place, api: StandInControl) -> None:
    place.put({"a.pdf": pages(7, "a"), "b.tif": documents.tiff(["1", "2"]), "c.txt": b"words"})
    selection = ("--only-supported", "--limits.pages", "3")
    planned = report_of(command("plan", place.source, place.destination, *selection, "--json", **ALONE))
    before = len(api.billed())
    process = command("run", place.source, place.destination, *selection, *FAST, "--json")
    sent = report_of(process)
    assert process.returncode == 0, process.stderr
    assert (planned["new"], planned["pages"], planned["requests"]) == (2, 9, 4)
    assert (sent["documents"], sent["pages_sent"], sent["requests"]) == (2, 9, 4)
    assert len(api.billed()) - before == 4


@pytest.mark.usefixtures("api")
def test_named_documents_that_are_missing_fail_the_run_and_the_others_are_done(command: Command, place: Place) -> None:
    place.put({"a.pdf": pages(1, "a"), "b.pdf": pages(1, "b"), "c.pdf": pages(1, "c")})
    place.s3.put_object(Bucket=place.bucket, Key="keys.csv", Body=b"key\nin/a.pdf\nin/gone.pdf\nin/b.pdf\n")
    arguments = (place.source, place.destination, "--manifest", f"s3://{place.bucket}/keys.csv")
    planned = report_of(command("plan", *arguments, "--json", **ALONE))
    assert (planned["new"], planned["missing"]) == (2, 1)
    process = command("run", *arguments, *FAST)
    assert process.returncode == 1
    assert f"missing: {place.source}/gone.pdf: it does not exist" in process.stdout
    assert "1 that was named is missing" in process.stdout
    assert set(place.results()) == {"a.pdf.ocr.json", "b.pdf.ocr.json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--key", "a", "--manifest", "b"], "key and manifest each say which documents are meant"),
        (["--include", "{1..100000}"], "--include: the braces of '{1..100000}' stand for more than 500 patterns"),
        (["--modified-after", "yesterday"], "--modified-after: Input should be a valid datetime"),
        (["--max-bytes", "-1"], "--max-bytes: Input should be greater than or equal to 0"),
        (["--inventory", "manifest.json"], "--inventory: 'manifest.json' is not an object's address"),
        (["--manifest", "nowhere.csv"], "the manifest nowhere.csv cannot be read here: No such file"),
        (["--sample", "0"], "--sample"),
        (["--price", "-1"], "--price"),
    ],
)
def test_what_is_wrong_with_a_selection_is_said_in_one_line(
    command: Command, place: Place, arguments: list[str], words: str
) -> None:
    process = command("plan", place.source, place.destination, *arguments, **ALONE)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("bulk-ocr: ")
    assert process.stderr.count("\n") == 1
    assert words in process.stderr


def test_a_destination_that_is_not_there_is_said(command: Command, place: Place) -> None:
    process = command("plan", place.source, "s3://no-such-bucket-here/out", **ALONE)
    assert process.returncode == 2
    assert "there is no bucket 'no-such-bucket-here'" in process.stderr


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """This process in the environment of the stack."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def settings_of(place: Place, selection: Selection | None = None, **options: Any) -> RunSettings:
    """What a run here would be given."""
    return RunSettings(
        source=place.source,
        destination=place.destination,
        selection=selection or Selection(),
        options=Options(**options),
    )


@pytest.mark.usefixtures("here")
def test_a_sample_is_extrapolated_and_says_so(place: Place) -> None:
    place.put({f"{number:02}.pdf": pages(1 + number % 3, f"s{number}") for number in range(30)})
    place.put({"large.png": documents.png("large") + b"x" * 2_000_000, "locked.pdf": documents.encrypted_pdf()})
    settings = settings_of(place, limits=Limits(megabytes=1))
    whole = make_plan(settings, 0.001)
    assert (whole.new, whole.read, whole.pages, whole.failing, whole.extrapolated) == (32, 32, 60, 2, False)
    part = make_plan(settings, 0.001, sample=10)
    assert (part.new, part.read, part.extrapolated) == (32, 10, True)
    assert part.pages == round(sum(form.pages for form in part.formats) * 32 / 10)
    assert 25 <= part.pages <= 96
    assert part.price == pytest.approx(part.pages * 0.001)
    assert make_plan(settings, 0.001, sample=10) == part, "the same documents are chosen every time"
    assert make_plan(settings, 0.001, sample=32) == whole


def test_every_document_is_as_likely_to_be_in_the_sample() -> None:
    samples = [evenly_chosen(range(20), 5, random.Random(seed)) for seed in range(2000)]
    assert all(len(set(sample)) == 5 and sample == sorted(sample) for sample in samples)
    often = [sum(number in sample for sample in samples) for number in range(20)]
    assert all(400 < times < 600 for times in often), often
    assert evenly_chosen(range(3), 5, random.Random(0)) == [0, 1, 2]


@pytest.mark.usefixtures("here")
def test_a_plan_takes_no_result_back_where_an_old_version_was_put_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put({"a.pdf": pages(1, "a")})
    settings = settings_of(place)
    session = context_from_environment(settings, Objects(connect()))
    entry = session.objects.head(place.bucket, "in/a.pdf")
    assert entry is not None
    document = Document(bucket=place.bucket, key=entry.key, etag=entry.etag, size=1, last_modified=entry.last_modified)
    job = Job(id=session.job_id(document), document=document, model="ocr", result="", claimed_at=entry.last_modified)
    held = session.ledger.claim(job)
    assert held is not None
    session.ledger.finish(held, DoneJob(job=job, pages=1, finished_at=entry.last_modified))
    before = everything(place)
    assert make_plan(settings, 1).done == 1
    # S3 counts in whole seconds, so that a test would have to wait.
    monkeypatch.setattr(discover, "_restored", lambda *_: True)
    monkeypatch.setattr(KnownJobs, "done_before", lambda *_: True)
    assert make_plan(settings, 1).new == 1
    assert everything(place) == before


@pytest.mark.usefixtures("here")
def test_pages_that_only_the_api_can_count_stand_apart(place: Place) -> None:
    place.put({"a.docx": documents.docx(["one", "two"]), "b.pdf": pages(4, "b")})
    plan = make_plan(settings_of(place), 0.5)
    assert plan.pages == 4
    assert plan.pages_estimated >= 1
    assert plan.requests == 2
    assert plan.price == (4 + plan.pages_estimated) * 0.5
    assert [(form.format, bool(form.pages_estimated)) for form in plan.formats] == [("DOCX", True), ("PDF", False)]


@pytest.mark.usefixtures("here")
def test_pages_that_hold_their_text_are_told_and_saved_when_they_are_skipped(place: Place) -> None:
    place.put({"letter.pdf": pages(4, "letter"), "photo.png": documents.png("photo")})
    plan = make_plan(settings_of(place), 0.01)
    assert (plan.pages, plan.text_pages, plan.text_price, plan.price) == (5, 4, 0.04, 0.05)
    skipping = make_plan(settings_of(place, skip_text=True), 0.01)
    assert (skipping.pages, skipping.text_pages, skipping.price) == (1, 4, 0.01)


@pytest.mark.usefixtures("here")
def test_a_selection_applies_to_a_plan(place: Place) -> None:
    place.put(
        {"2024/a.pdf": pages(1, "x"), "2025/a.pdf": pages(2, "y"), "2024/b.txt": b"x", "2024/_.pdf": pages(4, "z")}
    )
    selection = Selection(include=("2024/**",), exclude=("_*",), only_supported=True)
    plan = make_plan(settings_of(place, selection), 1)
    assert (plan.documents, plan.pages, plan.failing) == (1, 1, 0)


@pytest.mark.usefixtures("here")
def test_an_empty_source_costs_nothing(place: Place) -> None:
    plan = make_plan(settings_of(place), 1, sample=5)
    assert (plan.documents, plan.pages, plan.price, plan.extrapolated) == (0, 0, 0, False)


@pytest.mark.usefixtures("here")
def test_a_document_that_cannot_have_a_result_fails_unread(place: Place) -> None:
    place.put({"x" * 1015: pages(1, "x"), "_jobs/a.pdf": pages(1, "y")})
    plan = make_plan(settings_of(place), 1)
    assert {group.code for group in plan.failures} == {"key-too-long", "key-reserved"}
    assert plan.read == 0


@pytest.mark.usefixtures("here")
def test_a_document_that_changes_meanwhile_is_not_in_the_sums(place: Place) -> None:
    place.put({"a.pdf": pages(1, "a"), "b.pdf": pages(1, "b")})

    def replace(message: str) -> None:
        if message == "listed 1 document":
            place.put({"a.pdf": pages(5, "changed")})

    plan = make_plan(settings_of(place), 1, tell=replace)
    assert (plan.new, plan.read, plan.not_read, plan.pages) == (2, 1, 1, 1)
    assert plan.not_read_because is not None
    assert "changed" in plan.not_read_because


def test_every_request_has_its_own_limit_of_pages_and_bytes() -> None:
    options = Options(limits=Limits(pages=1000, sync_pages=100, megabytes=50))
    long = Inspected(PDF, 1001, 1001)
    assert requests_at_least(long, 1000, options) == 2
    assert requests_at_least(long, 120_000_000, options) == 3
    assert requests_at_least(long, 1000, options.model_copy(update={"mode": "sync"})) == 11
    assert requests_at_least(Inspected(PNG, 1, 1), 1000, options) == 1
    assert requests_at_least(Inspected(DOCX, None, 5000), 1000, options) == 1
    assert requests_at_least(Inspected(PDF, 0, 0, text_pages=3), 1000, options) == 0


def test_a_plan_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    plan = PlanReport(
        source="s3://b/in", destination="s3://b/out", documents=1250, new=1200, done=50, missing=12,
        missing_keys=[f"s3://b/in/[{number}].pdf" for number in range(12)], read=100, extrapolated=True, pages=36_000,
        pages_estimated=1200, requests=1300, price_per_page=0.0015, price=55.8, failing=12, not_read=1,
        not_read_because="s3://b/in/x: no permission", formats=[FormatSum(format="PDF", documents=90, pages=3000),
        FormatSum(format="DOCX", documents=9, pages_estimated=100)],
        failures=[FailingGroup(code="locked", count=12, documents=[FailingDocument(document="[red]", reason="why")])],
    )  # fmt: skip
    plan.show(Page(Console(width=200, soft_wrap=True)))
    shown = capsys.readouterr().out
    for words in (
        "1,250 documents at s3://b/in: 1,200 new, 50 done, 0 open, 0 failed before",
        "12 named documents do not exist, are not in the source, or are unreadable:",
        "  s3://b/in/[0].pdf", "  … and 2 more", "about 100", "would fail, locked: 12", "  [red]: why",
        "  … and 11 more", "1 document could not be read", "ESTIMATE from 100 documents chosen at random",
        "pages to pay for: about 37,200; requests: at least 1,300", "price: $55.80 at $0.0015 a page. Nothing was sent",
    ):  # fmt: skip
        assert words in shown, words
    assert json.loads(plan.model_dump_json())["price"] == 55.8
    assert [dollars(amount) for amount in (0, 0.0015, 12.345, 1_500_000)] == [
        "$0.00",
        "$0.0015",
        "$12.35",
        "$1,500,000.00",
    ]


@pytest.mark.parametrize(("flow", "more"), [(submit, ["name"]), (backfill, ["name", "order", "limit", "retry_failed"])])
def test_the_form_in_the_ui_explains_the_selection(flow: Any, more: list[str]) -> None:
    schema = parameter_schema(flow.fn)
    assert list(schema.properties) == ["source", "destination", "options", "selection", "credentials", *more]
    assert all(field["description"] for field in schema.definitions["Credentials"]["properties"].values())
    assert schema.properties["selection"]["description"].startswith("Which documents to process")
    fields = schema.definitions["Selection"]["properties"]
    assert set(fields) == set(Selection.model_fields)
    assert all(field["description"] for field in fields.values())
    validated = flow.validate_parameters(
        {
            "source": "s3://a",
            "destination": "s3://b",
            "selection": {"include": ["*.pdf"], "modified_after": "2026-07-01"},
        }
    )
    assert validated["selection"] == Selection(include=("*.pdf",), modified_after=datetime(2026, 7, 1, tzinfo=UTC))
