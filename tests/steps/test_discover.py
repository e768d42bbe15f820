"""Discover: every document once, nothing of our own, and no more in memory than a page of the listing."""

from pathlib import Path

import pytest

from tasks.context import RunContext
from tasks.faults import Cancelled, SetupFault
from tasks.job.record import job_id
from tasks.steps.discover import Found, Missing, discover
from tasks.steps.submit import submit_document
from tasks.store.ledger import State
from tasks.tally import KnownJobs
from tests.sample_documents import encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule


def found(context: RunContext, folder: Path) -> list[Found]:
    """All that is discovered, against a fresh look at the ledger."""
    with KnownJobs(folder) as known:
        known.load(context.ledger)
        return list(discover(context, known))


def keys(context: RunContext, folder: Path) -> list[str]:
    """The keys of the documents discovered."""
    return [candidate.document.key for candidate in found(context, folder)]


def test_documents_are_new_open_done_or_failed(world: World, tmp_path: Path) -> None:
    context = world.context()
    documents = {name: world.put(pdf(1, name), f"in/{name}.pdf") for name in ("done", "new", "open")}
    documents["failed"] = world.put(encrypted_pdf(), "in/failed.pdf")
    for name in ("done", "open", "failed"):
        submit_document(context, documents[name])
    world.finish(context, documents["done"])
    states: dict[str, State | None] = {
        candidate.document.key: candidate.state for candidate in found(context, tmp_path)
    }
    assert states == {"in/done.pdf": "done", "in/failed.pdf": "failed", "in/new.pdf": None, "in/open.pdf": "open"}


def test_a_document_is_found_exactly_as_it_is_claimed(world: World, tmp_path: Path) -> None:
    document = world.put(pdf(1), "in/a b+c%20ü.pdf")
    [candidate] = found(world.context(), tmp_path)
    assert (candidate.document.key, candidate.document.etag) == (document.key, document.etag)
    assert candidate.job_id == job_id(document, "ocr")
    assert submit_document(world.context(), candidate.document).kind == "open"


def test_a_changed_document_is_new_and_another_model_makes_another_job(world: World, tmp_path: Path) -> None:
    context = world.context()
    submit_document(context, world.put(pdf(1)))
    world.put(pdf(2))
    assert [candidate.state for candidate in found(context, tmp_path)] == [None]
    world.put(pdf(1))
    assert [candidate.state for candidate in found(context, tmp_path)] == ["open"]
    assert [candidate.state for candidate in found(world.context(model="ocr-250904"), tmp_path)] == [None]


def test_folder_markers_are_no_documents(world: World, tmp_path: Path) -> None:
    for key in ("in/", "in/sub/", "in/sub/a.pdf"):
        world.put(b"", key)
    assert keys(world.context(), tmp_path) == ["in/sub/a.pdf"]


def test_a_neighbour_with_a_longer_name_is_not_in_the_source(world: World, tmp_path: Path) -> None:
    for key in ("in/a.pdf", "in-old/a.pdf", "in.pdf", "inside"):
        world.put(b"x", key)
    assert keys(world.context(), tmp_path) == ["in/a.pdf"]


OURS = ["{}a.pdf.ocr.json", "{}_jobs/done/0.json", "{}_jobs/failed/0.json", "{}_jobs/open/0.json"]


@pytest.mark.parametrize(
    ("source", "destination", "documents"),
    [
        ("in", "in", ["in/a.pdf", "in/out/b.pdf", "in/jobs/c.pdf"]),
        ("in", "in/out", ["in/a.pdf", "in/out-old/b.pdf", "in/x.json"]),
        ("in/deep", "in", ["in/deep/a.pdf"]),
        ("", "", ["a.pdf", "in/_jobs/b.pdf"]),
        ("", "out", ["a.pdf", "in/_jobs/b.pdf", "out.pdf"]),
        ("in", "", ["in/a.pdf", "in/_jobs/b.pdf"]),
        ("in", "out", ["in/a.pdf", "in/_jobs/b.pdf", "in/x.json"]),
    ],
)
def test_what_we_wrote_is_never_taken_for_a_document(
    world: World, tmp_path: Path, source: str, destination: str, documents: list[str]
) -> None:
    folder = f"{destination}/" if destination else ""
    for key in documents + [name.format(folder) for name in OURS]:
        world.put(b"x", key)
    assert keys(world.context(source=source, destination=destination), tmp_path) == sorted(documents)


ANOTHERS = [
    "a.pdf.ocr.json", "a.pdf.ocr.txt", "a.pdf.ocr.ocr-250904.clova.json", "sub/b.tif.ocr.ocr-250904.json",
    "_jobs/open/0.json", "_jobs/done/0.json", "_jobs/failed/0.json", "_jobs/pages/0/1-10.json",
    "_jobs/budgets/run.json", "_jobs/check-0123456789abcdef0123456789abcdef",
    "_jobs/catalogue/rows/0123456789abcdef0123456789abcdef.parquet",
    "_jobs/catalogue/journal/0123456789abcdef0123456789abcdef.jsonl.gz",
]  # fmt: skip


@pytest.mark.parametrize("other", ["in/results/", "in/", "in/deep/er/"])
@pytest.mark.parametrize("destination", ["in/out", "in", "out", "in/results/new"])
def test_what_was_written_for_another_destination_is_no_document(
    world: World, tmp_path: Path, other: str, destination: str
) -> None:
    documents = ["in/a.pdf", f"{other}b.pdf", f"{other}_jobs/c.pdf", "in/print_jobs/open/d.json"]
    for key in documents + [f"{other}{name}" for name in ANOTHERS]:
        world.put(b"x", key)
    own = [key for key in documents if not key.startswith(f"{destination}/_jobs/")]
    assert keys(world.context(destination=destination), tmp_path) == sorted(own)


def test_in_another_bucket_the_ledgers_folder_holds_documents_and_outputs_are_none(
    world: World, tmp_path: Path
) -> None:
    other = f"{world.bucket}-other"
    world.s3.create_bucket(Bucket=other)
    for key in ("out/_jobs/open/a.pdf", "out/_jobs/open/0.json", "out/a.ocr.json"):
        world.put(b"x", key)
    context = world.context(source="out")
    context.settings = context.settings.model_copy(update={"destination": f"s3://{other}/out"})
    context.__post_init__()
    assert keys(context, tmp_path) == ["out/_jobs/open/a.pdf"]


def test_markers_are_no_documents_and_empty_documents_are(world: World, tmp_path: Path) -> None:
    for key in ("in/a_$folder$", "in/.keep", "in/b/.gitkeep", "in/_SUCCESS", "in/c", "in/d.pdf", "in/e.unknown"):
        world.put(b"", key)
    for key in ("in/.keep2", "in/f", "in/.keep.pdf"):
        world.put(b"x", key)
    assert keys(world.context(), tmp_path) == ["in/.keep.pdf", "in/.keep2", "in/d.pdf", "in/e.unknown", "in/f"]


def test_the_end_of_the_run_ends_the_listing(world: World, tmp_path: Path) -> None:
    for number in range(3):
        world.put(b"x", f"in/{number}.pdf")
    context = world.context()
    with KnownJobs(tmp_path) as known:
        documents = discover(context, known)
        next(documents)
        context.clock.end()
        with pytest.raises(Cancelled):
            next(documents)


def test_one_document_can_be_the_source(world: World, tmp_path: Path) -> None:
    document = world.put(pdf(2), "in/sub/a.pdf")
    world.put(pdf(2), "in/sub/a.pdf.bak")
    context = world.context(source="in/sub/a.pdf")
    [candidate] = found(context, tmp_path)
    assert (candidate.document.key, candidate.document.etag) == (document.key, document.etag)
    submit_document(context, candidate.document)
    world.finish(context, candidate.document)
    assert world.done(document).job.result == f"s3://{world.bucket}/out/a.pdf.ocr.json"
    assert "out/a.pdf.ocr.json" in world.listing()


def test_one_document_that_may_not_be_looked_at_is_missing_with_the_reason(
    world: World, flaky: FlakyS3, tmp_path: Path
) -> None:
    world.put(pdf(2), "in/a.pdf")
    flaky.fail(Rule("refuse", "in/a.pdf$", times=-1, status=403, code="AccessDenied", message="by an explicit deny"))
    missing = Missing()
    with KnownJobs(tmp_path) as known:
        assert not list(discover(world.context(source="in/a.pdf", objects=flaky.objects()), known, missing))
    [told] = missing.first
    assert told.startswith(f"s3://{world.bucket}/in/a.pdf: ")
    assert "by an explicit deny" in told
    assert missing.count == 1


def test_an_empty_source_gives_nothing(world: World, tmp_path: Path) -> None:
    assert keys(world.context(source="nothing/here"), tmp_path) == []
    assert keys(world.context(source=""), tmp_path) == []


def test_a_run_without_a_source_says_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="no source"):
        found(world.context(source=None), tmp_path)


def test_the_source_is_listed_as_it_is_needed_not_as_a_whole(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    for number in range(3):
        world.put(b"x", f"in/{number}.pdf")
    with KnownJobs(tmp_path) as known:
        documents = discover(world.context(objects=flaky.objects()), known)
        assert flaky.calls("GET", "list-type=2") == 0
        assert next(documents).document.key == "in/0.pdf"
        world.s3.delete_object(Bucket=world.bucket, Key="in/2.pdf")
        assert [document.document.key for document in documents] == ["in/1.pdf", "in/2.pdf"], "one call gave all three"
    assert flaky.calls("GET", "list-type=2") == 1


def test_searchable_pdfs_are_no_documents_and_documents_that_are_called_alike_are(world: World, tmp_path: Path) -> None:
    own_metadata = {"bulk-ocr-job": "1", "pages": "1"}
    for key in ("in/a.pdf.ocr.pdf", "in/scan.ocr.pdf"):
        world.s3.put_object(Bucket=world.bucket, Key=key, Body=pdf(1), Metadata=own_metadata)
    world.put(pdf(1), "in/theirs.ocr.pdf")
    assert keys(world.context(), tmp_path) == ["in/theirs.ocr.pdf"]
