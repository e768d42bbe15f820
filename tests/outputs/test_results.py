"""Results are found by any of their names, in S3 and on this machine; nothing else is taken for one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.faults import DocumentChanged, SetupFault
from tasks.outputs.results import document_name, find_results, inside, is_result_name, read_ahead
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location, result_key, result_suffix
from tests.outputs.result_samples import write_result

KEYS = (
    "out/a/b.pdf.ocr.json", "out/a/b.pdf.ocr.clova.json", "out/a/b.pdf.ocr.ocr-250904.google.json",
    "out/a/b.pdf.ocr.txt", "out/a/b.pdf.ocr.pdf", "out/a/b.pdf.backup.ocr.json", "out/c.ocr.pdf.ocr.json",
    "out/_jobs/done/x.ocr.json", "out/notes.json", "outside/d.pdf.ocr.json",
)  # fmt: skip


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[FolderObjects]:
    """A store on this machine with results and other things."""
    store = FolderObjects(tmp_path / "store")
    for key in KEYS:
        store.put("bucket", key, b'{"pages": [{"text": "a"}]}', {}, "application/json")
    yield store
    store.close()


def found(where: str, objects: FolderObjects) -> list[tuple[str, str]]:
    files = find_results(where, lambda: objects).files()
    return [(result.address.removeprefix("s3://bucket/"), result.document) for result in files]


def test_a_destination_has_the_results_of_all_models_and_schemas_and_nothing_else(objects: FolderObjects) -> None:
    for where in ("s3://bucket/out", "s3://bucket/out/", "S3://bucket/out"):
        assert found(where, objects) == [
            ("out/a/b.pdf.backup.ocr.json", "a/b.pdf.backup"),
            ("out/a/b.pdf.ocr.clova.json", "a/b.pdf"),
            ("out/a/b.pdf.ocr.json", "a/b.pdf"),
            ("out/a/b.pdf.ocr.ocr-250904.google.json", "a/b.pdf"),
            ("out/c.ocr.pdf.ocr.json", "c.ocr.pdf"),
        ]
        assert find_results(where, lambda: objects).whole_place


def test_a_document_has_its_results_and_a_result_is_itself(objects: FolderObjects) -> None:
    assert [key for key, _ in found("s3://bucket/out/a/b.pdf", objects)] == [
        "out/a/b.pdf.ocr.clova.json",
        "out/a/b.pdf.ocr.json",
        "out/a/b.pdf.ocr.ocr-250904.google.json",
    ]
    assert found("s3://bucket/out/c.ocr.pdf", objects) == [("out/c.ocr.pdf.ocr.json", "c.ocr.pdf")]
    assert found("s3://bucket/out/a/b.pdf.ocr.json", objects) == [("out/a/b.pdf.ocr.json", "b.pdf")]
    assert not find_results("s3://bucket/out/a/b.pdf", lambda: objects).whole_place
    with pytest.raises(SetupFault, match="there is no result"):
        find_results("s3://bucket/out/a/missing.pdf.ocr.json", lambda: objects)


def test_a_result_that_changed_since_it_was_listed_is_told_and_the_others_are_given(objects: FolderObjects) -> None:
    given_results = find_results("s3://bucket/out/a", lambda: objects)
    seen: list[tuple[str, type]] = []
    for result, file in read_ahead(given_results, threads=1):
        if not seen:
            objects.put("bucket", KEYS[2], b"another version", {}, "application/json")
        if isinstance(file, Path):
            assert file.read_bytes().startswith(b"{")
        seen.append((result.document, type(file)))
        kept = file
    assert [kind is DocumentChanged for _, kind in seen] == [False, False, False, True]
    assert isinstance(kept, DocumentChanged)


def test_files_of_results_live_as_long_as_they_are_looked_at(objects: FolderObjects) -> None:
    files: list[Path] = []
    for _, file in read_ahead(find_results("s3://bucket/out", lambda: objects), threads=2):
        assert isinstance(file, Path)
        assert file.is_file()
        assert not any(earlier.exists() for earlier in files)
        files.append(file)
    assert len(files) == 5
    assert not any(file.exists() for file in files)


def test_a_folder_and_what_lies_beside_a_document(tmp_path: Path) -> None:
    place = tmp_path / "place"
    odd = os.fsdecode(b"caf\xe9.pdf.ocr.json")  # no UTF-8
    for name in ("a.pdf.ocr.json", "sub/b.pdf.ocr.json", ".hidden/c.pdf.ocr.json", "_jobs/d.pdf.ocr.json", odd):
        write_result(place / name, [["x"]])
    (place / "notes.json").write_text("{}")
    (place / "a.pdf").write_bytes(b"%PDF-")
    results = find_results(str(place))
    assert [result.document for result in results.files()] == ["a.pdf", odd.removesuffix(".ocr.json"), "sub/b.pdf"]
    assert [result.document for result in find_results(str(place / "a.pdf")).files()] == ["a.pdf"]
    assert [result.document for result in find_results(str(place / "notes.json")).files()] == ["notes"]
    with pytest.raises(SetupFault, match="no store was given"):
        find_results("s3://bucket/out")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@given(NAMES, st.sampled_from(["ocr", "ocr-250904", "ocr-2.2.1"]), st.sampled_from([None, "clova", "google"]))
def test_the_name_of_a_result_tells_its_document(name: str, model: str, schema: str | None) -> None:
    key = result_key(Location("in", ""), Location("out", ""), name, model, schema)
    assert is_result_name(key)
    assert document_name(key) == name
    assert key == name + result_suffix(model, schema)


@pytest.mark.parametrize("key", ["out//etc/a.pdf", "out/../etc/a.pdf", "out/./etc/../../etc//a.pdf"])
def test_the_name_of_a_document_does_not_lead_out_of_a_folder(objects: FolderObjects, key: str) -> None:
    objects.put("other", f"{key}.ocr.json", b"{}", {}, "application/json")
    (result,) = find_results("s3://other/out", lambda: objects).files()
    target = inside(Path("/folder"), result.document)
    assert target.is_relative_to("/folder")
    assert ".." not in target.parts
    assert target.name == "a.pdf"
