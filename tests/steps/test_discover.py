"""Discover: every document once, nothing of our own, and no more in memory than a page of the listing."""

from pathlib import Path

import pytest

from tasks.discover import Found, discover
from tasks.faults import SetupFault
from tasks.models import job_id
from tasks.session import Session
from tasks.store.known import KnownJobs
from tasks.store.ledger import State
from tasks.submit import submit_document
from tests.documents import encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3


def found(session: Session, folder: Path) -> list[Found]:
    """All that is discovered, against a fresh look at the ledger."""
    with KnownJobs(folder) as known:
        known.load(session.ledger)
        return list(discover(session, known))


def keys(session: Session, folder: Path) -> list[str]:
    """The keys of the documents discovered."""
    return [each.document.key for each in found(session, folder)]


def test_documents_are_new_open_done_or_failed(world: World, tmp_path: Path) -> None:
    session = world.session()
    documents = {name: world.put(pdf(1, name), f"in/{name}.pdf") for name in ("done", "new", "open")}
    documents["failed"] = world.put(encrypted_pdf(), "in/failed.pdf")
    for name in ("done", "open", "failed"):
        submit_document(session, documents[name])
    world.finish(session, documents["done"])
    states: dict[str, State | None] = {each.document.key: each.state for each in found(session, tmp_path)}
    assert states == {"in/done.pdf": "done", "in/failed.pdf": "failed", "in/new.pdf": None, "in/open.pdf": "open"}


def test_a_document_is_found_exactly_as_it_is_claimed(world: World, tmp_path: Path) -> None:
    document = world.put(pdf(1), "in/a b+c%20ü.pdf")
    [each] = found(world.session(), tmp_path)
    assert (each.document.key, each.document.etag) == (document.key, document.etag)
    assert each.job_id == job_id(document, "ocr")
    assert submit_document(world.session(), each.document).kind == "open"


def test_a_changed_document_is_new_and_another_model_makes_another_job(world: World, tmp_path: Path) -> None:
    session = world.session()
    submit_document(session, world.put(pdf(1)))
    world.put(pdf(2))
    assert [each.state for each in found(session, tmp_path)] == [None]
    world.put(pdf(1))
    assert [each.state for each in found(session, tmp_path)] == ["open"]
    assert [each.state for each in found(world.session(model="ocr-250904"), tmp_path)] == [None]


def test_folder_markers_are_no_documents(world: World, tmp_path: Path) -> None:
    for key in ("in/", "in/sub/", "in/sub/a.pdf"):
        world.put(b"", key)
    assert keys(world.session(), tmp_path) == ["in/sub/a.pdf"]


def test_a_neighbour_with_a_longer_name_is_not_in_the_source(world: World, tmp_path: Path) -> None:
    for key in ("in/a.pdf", "in-old/a.pdf", "in.pdf", "inside"):
        world.put(b"x", key)
    assert keys(world.session(), tmp_path) == ["in/a.pdf"]


OURS = ["{}a.pdf.ocr.json", "{}_jobs/done/0.json", "{}_jobs/failed/0.json", "{}_jobs/open/0.json"]


@pytest.mark.parametrize(
    ("source", "destination", "documents"),
    [
        ("in", "in", ["in/a.pdf", "in/out/b.pdf", "in/jobs/c.pdf"]),
        ("in", "in/out", ["in/a.pdf", "in/out-old/b.pdf", "in/x.ocr.json"]),
        ("in/deep", "in", ["in/deep/a.pdf"]),
        ("", "", ["a.pdf", "in/_jobs/b.pdf"]),
        ("", "out", ["a.pdf", "in/_jobs/b.pdf", "out.pdf"]),
        ("in", "", ["in/a.pdf", "in/_jobs/b.pdf"]),
        ("in", "out", ["in/a.pdf", "in/_jobs/b.pdf", "in/x.ocr.json"]),
    ],
)
def test_what_we_wrote_is_never_taken_for_a_document(
    world: World, tmp_path: Path, source: str, destination: str, documents: list[str]
) -> None:
    folder = f"{destination}/" if destination else ""
    for key in documents + [name.format(folder) for name in OURS]:
        world.put(b"x", key)
    assert keys(world.session(source=source, destination=destination), tmp_path) == sorted(documents)


def test_in_another_bucket_the_names_mean_nothing(world: World, tmp_path: Path) -> None:
    other = f"{world.bucket}-other"
    world.s3.create_bucket(Bucket=other)
    for key in ("out/_jobs/open/a.pdf", "out/a.ocr.json"):
        world.put(b"x", key)
    session = world.session(source="out")
    session.settings = session.settings.model_copy(update={"destination": f"s3://{other}/out"})
    session.__post_init__()
    assert keys(session, tmp_path) == ["out/_jobs/open/a.pdf", "out/a.ocr.json"]


def test_one_document_can_be_the_source(world: World, tmp_path: Path) -> None:
    document = world.put(pdf(2), "in/sub/a.pdf")
    world.put(pdf(2), "in/sub/a.pdf.bak")
    session = world.session(source="in/sub/a.pdf")
    [each] = found(session, tmp_path)
    assert (each.document.key, each.document.etag) == (document.key, document.etag)
    submit_document(session, each.document)
    world.finish(session, each.document)
    assert world.done(document).job.result == f"s3://{world.bucket}/out/a.pdf.ocr.json"
    assert "out/a.pdf.ocr.json" in world.listing()


def test_an_empty_source_gives_nothing(world: World, tmp_path: Path) -> None:
    assert keys(world.session(source="nothing/here"), tmp_path) == []
    assert keys(world.session(source=""), tmp_path) == []


def test_a_run_without_a_source_says_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="no source"):
        found(world.session(source=None), tmp_path)


def test_the_source_is_listed_as_it_is_needed_not_as_a_whole(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    for number in range(3):
        world.put(b"x", f"in/{number}.pdf")
    with KnownJobs(tmp_path) as known:
        documents = discover(world.session(objects=flaky.objects()), known)
        assert flaky.calls("GET", "list-type=2") == 0
        assert next(documents).document.key == "in/0.pdf"
        world.s3.delete_object(Bucket=world.bucket, Key="in/2.pdf")
        assert [each.document.key for each in documents] == ["in/1.pdf", "in/2.pdf"], "one call gave all three"
    assert flaky.calls("GET", "list-type=2") == 1
