"""`--dry-run` says what would be done and what it costs. Nothing is sent, written or changed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app as program
from flows.cli.local_files import LocalDocument
from flows.cli.local_plan import plan_files
from flows.cli.repeated import call
from tasks.options import FileOptions
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.outputs.result_samples import write_result


def _seen(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for what belongs to the process itself and goes with it."""
    scratch = folder / f"bulk-ocr-{os.getuid()}"
    files = [file for file in folder.rglob("*") if file.is_file() and scratch not in file.parents]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two results, which is the working folder, and no configuration."""
    monkeypatch.setenv("BULK_OCR_CONFIG", "/dev/null")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path / "in" / "a.pdf.ocr.json", [["Annual Report"]])
    write_result(tmp_path / "in" / "b.png.ocr.json", [["annual figures"]])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "writes"),
    [
        (("index", "in", "found.db"), ["found.db"]),
        (("words", "in", "table.parquet"), ["table.parquet"]),
        (("export", "in", "--to", "hocr", "-o", "pages/"), ["pages/"]),
        (("pdf", "in"), ["in/a.pdf.ocr.pdf", "in/b.png.ocr.pdf"]),
    ],
)
def test_what_is_made_of_results_is_named_and_not_made(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], writes: list[str]
) -> None:
    before = _seen(results)
    assert call(program.app, [*arguments, "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    named = [str(Path(file).relative_to(results)) if Path(file).is_absolute() else file for file in report["writes"]]
    assert (report["dry_run"], report["results"], named) == (True, 2, writes)
    assert _seen(results) == before


def test_several_pdfs_in_a_folder_are_in_that_folder_and_not_the_same(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(results / "in" / "a.pdf.ocr.clova.json", [["Annual Report"]])
    assert call(program.app, ["pdf", "in", "-o", "pdfs/", "--dry-run", "--json"]) == 0
    writes = sorted(json.loads(capsys.readouterr().out)["writes"])
    assert [str(Path(file).relative_to(results / "pdfs")) for file in writes] == [
        "a.pdf.ocr.clova.pdf",
        "a.pdf.ocr.pdf",
        "b.png.ocr.pdf",
    ]


def test_local_documents_are_counted_and_not_sent(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "three.pdf").write_bytes(documents.text_pdf(["one", "two", "three"]))
    (results / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    before = _seen(results)
    assert (
        call(program.app, ["file", "three.pdf", "broken.pdf", "--dry-run", "--json", "--price-per-page", "0.01"]) == 1
    )
    report = json.loads(capsys.readouterr().out)
    assert (report["pages"], report["price"]) == (3, 0.03)
    assert [bool(planned["reason"]) for planned in report["documents"]] == [False, True]
    assert _seen(results) == before


def test_a_local_document_may_have_any_name_and_may_vanish(results: Path) -> None:
    named, gone = (
        LocalDocument(results / name, "shown", results / f"{name}.json") for name in ("\udcff.pdf", "gone.pdf")
    )
    named.path.write_bytes(documents.text_pdf(["one"]))
    plan = plan_files([named, gone], FileOptions(), again=False)
    assert [planned.pages for planned in plan.documents] == [1, None]
    assert plan.documents[1].reason == "it cannot be read (No such file or directory)"
    assert json.loads(plan.model_dump_json())["documents"][0]["output"].endswith(r"\xff.pdf.json")


@pytest.mark.usefixtures("api")
def test_a_run_that_is_only_tried_sends_and_writes_nothing(command: Command, place: Place) -> None:
    place.put({"a.pdf": documents.text_pdf(["tried", "twice"])})

    def tried(*arguments: str) -> dict[str, Any]:
        before = place.keys("")
        process = command(*arguments, "--dry-run", "--json")
        assert place.keys("") == before, arguments
        assert "dry run" in process.stderr or "dry_run" in process.stdout
        return report_of(process)

    for name in ("run", "submit"):
        planned = tried(name, place.source, place.destination, "--price-per-page", "0.01")
        assert (planned["new"], planned["pages"], planned["price"]) == (1, 2, 0.02), name
    assert command("plan", place.source, place.destination, "--save", "letters").returncode == 0
    save = ("--save", "dear", "--price-per-page", "0.5")
    assert command("plan", place.source, place.destination, *save).returncode == 0
    assert tried("run", place.source, place.destination, "--name", "dear")["price"] == 1.0, "as it was planned"
    started = tried("backfill", "start", "letters", "--at", place.destination)
    assert started["pages"] == 2
    assert command("submit", place.source, place.destination, *FAST).returncode == 0
    collected = tried("collect", place.destination)
    assert (collected["open"], "bulk-ocr status" in collected["no_sums"]) == (1, True)
    place.put({"bad.pdf": b"%PDF-1.4 nonsense"})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    assert tried("retry", place.destination)["put_back"] == 1
    assert tried("redo", place.destination, "--key", "a.pdf")["pages"] == 2
    assert report_of(command("status", place.destination, "--json"))["done"] == 1
