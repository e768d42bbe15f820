"""The commands `index`, `search`, `words` and `export`, on results in S3 and on this machine."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.cli.app import main
from tests import sample_documents as documents
from tests.flows.conftest import Command, Machine, Place, report_of
from tests.outputs.result_samples import write_result

FAST = ("--requests-per-second", "500", "--pages-per-minute", "1000000", "--poll-seconds", "0.05")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path / "in" / "a.pdf.ocr.json", [["Annual Report"], ["서울 시청에서"]])
    write_result(tmp_path / "in" / "sub" / "b.png.ocr.json", [["annual figures"]])
    return tmp_path


def test_results_in_s3_are_indexed_searched_and_exported(command: Command, place: Place, tmp_path: Path) -> None:
    place.put({"a/report.pdf": documents.text_pdf(["Annual Report", "second page"]), "b.png": documents.png("kiosk")})
    assert command("run", place.source, place.destination, *FAST).returncode == 0
    index = str(tmp_path / "results.db")
    report = report_of(command("index", place.destination, index, "--json"))
    assert (report["added"], report["pages"], report["skipped_count"]) == (2, 3, 0)
    assert report_of(command("index", place.destination, index, "--json"))["unchanged"] == 2
    found = report_of(command("search", "annual", index, "--json"))
    assert [(hit["document"], hit["page"], hit["snippet"]) for hit in found["hits"]] == [
        ("a/report.pdf", 1, "Annual Report")
    ]
    assert found["hits"][0]["result"] == f"{place.destination}/a/report.pdf.ocr.json"
    straight = report_of(command("search", "second", place.destination, "--json"))
    assert [(hit["document"], hit["page"]) for hit in straight["hits"]] == [("a/report.pdf", 2)]
    exported = command("export", f"{place.destination}/a/report.pdf", "--to", "jsonl")
    assert [json.loads(line)["text"].strip() for line in exported.stdout.splitlines()] == [
        "Annual Report",
        "second page",
    ]
    into = tmp_path / "hocr"
    files = command("export", place.destination, "--to", "hocr", "-o", f"{into}/").stdout.splitlines()
    assert files == [str(into / "a" / "report.pdf.hocr"), str(into / "b.png.hocr")]
    assert command("words", place.destination, str(tmp_path / "words.parquet")).returncode == 0
    assert "Annual" in pq.read_table(tmp_path / "words.parquet").column("text").to_pylist()


def test_results_of_the_command_file_are_searched_too(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.put("scan.pdf", documents.text_pdf(["Harbour Street", "Stationery"]))
    result = machine.delivered("scan.pdf")
    assert run("search", "stationery", str(result)) == 0
    assert "scan, page 2\n    «Stationery»\n" in capsys.readouterr().out


def test_a_search_prints_document_page_and_snippet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", str(folder / "in")) == 0
    assert capsys.readouterr().out == (
        f"{folder / 'in'}: 2 added, 0 changed, 0 removed, 0 unchanged (3 pages read)\n"
        "results.db has 2 results with 3 pages\n"
    )
    assert run("search", '"annual report"') == 0
    assert capsys.readouterr().out == "a.pdf, page 1\n    «Annual Report»\n1 page of 1 document\n"
    assert run("search", "시청") == 0
    assert "서울 «시청»에서" in capsys.readouterr().out
    assert run("search", "nothing like it") == 1
    assert capsys.readouterr().out == "nothing found\n"


def test_mistakes_are_told_with_the_way_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    (folder / "document.pdf").write_bytes(b"%PDF-")
    for arguments, complaint in (
        (("search", "x"), "there is no index results.db: create it with 'bulk-ocr index DESTINATION results.db'"),
        (("index", "nowhere"), "there is no file or folder 'nowhere'"),
        (("index", "document.pdf"), "there is no result beside 'document.pdf'"),
        (("export", "--to", "text"), "no result was given"),
        (("export", "in", "--to", "alto"), "alto takes one document a file, but there are several: name a folder"),
        (("export", "empty", "--to", "text"), "there is no result at empty"),
        (("export", "in", "--to", "text", "--json"), "give an --output"),
        (("index", "empty"), f"there is no result at {folder / 'empty'}: name a result"),
        (("search", "x", "empty"), f"there is no result at {folder / 'empty'}: name a result"),
        (("words", "in", "words.csv"), "the table is a Parquet file: name it words.parquet instead of words.csv"),
    ):
        assert run(*arguments) == 2, arguments
        assert complaint in capsys.readouterr().err
    assert not Path("results.db").exists()


def test_a_misspelt_place_replaces_no_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    assert run("words", "in") == 0
    assert capsys.readouterr().out == "6 words of 2 results in words.parquet\n"
    table = Path("words.parquet").read_bytes()
    assert run("words", "empty") == 2
    assert "there is no result at" in capsys.readouterr().err
    assert Path("words.parquet").read_bytes() == table


def test_an_index_follows_a_place_whose_results_are_gone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", "in/sub") == 0
    (folder / "in" / "sub" / "b.png.ocr.json").unlink()
    assert run("index", "in/sub") == 0
    assert "1 removed" in capsys.readouterr().out


def test_an_export_into_a_folder_stays_in_it_and_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "broken.pdf.ocr.json").write_text("{")
    assert run("export", "in", "--to", "text", "-o", "out/", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == ["out/a.pdf.txt", "out/sub/b.png.txt"]
    assert list(report["skipped"]) == [str(folder / "in" / "broken.pdf.ocr.json")]
    assert (folder / "out" / "a.pdf.txt").read_text() == "Annual Report\f서울 시청에서"
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.pdf.txt", "sub"]
    assert run("export", "in/a.pdf", "in/sub", "--to", "jsonl", "-o", "all.jsonl") == 0
    assert len((folder / "all.jsonl").read_text().splitlines()) == 3


def test_no_exported_file_takes_the_place_of_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("sub", "top"):
        write_result(folder / "in" / place / "b.png.ocr.json", [[f"plain {place}"]])
        write_result(folder / "in" / place / "b.png.ocr.clova.json", [[f"clova {place}"]])
    assert run("export", "in", "in/top", "--to", "text", "-o", "out/") == 0
    files = capsys.readouterr().out.split()
    assert len(set(files)) == len(files) == 7
    assert {"out/sub/b.png.txt", "out/top/b.png.txt"} < set(files)
    texts = [(folder / file).read_text() for file in files]
    assert sorted(texts)[1:] == ["clova sub", "clova top", "clova top", "plain sub", "plain top", "plain top"]
