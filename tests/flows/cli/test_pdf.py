"""The command `pdf`: searchable PDFs of results, in S3 and on this machine."""

from collections.abc import Callable
from pathlib import Path

import pypdfium2

from tests.flows.conftest import FAST, Command, Machine, Place, pdf, report_of
from tests.outputs.written_pages import ENGLISH, words_by_pdfium, write_result, written_page
from tests.sample_documents import docx, png, text_pdf, tiff

Pdf = Callable[..., tuple[int, str, str]]


def words(body: bytes) -> list[str]:
    with pypdfium2.PdfDocument(body) as read:
        return [" ".join(page.get_textpage().get_text_range().split()) for page in read]


def test_results_in_s3_get_pdfs_beside_them_or_here(command: Command, place: Place, tmp_path: Path) -> None:
    place.put({"a.pdf": text_pdf(["one", "two"]), "b/scan.tif": tiff(["three"]), "c.docx": docx(["four"])})
    assert command("run", place.source, place.destination, *FAST, "--pdf").returncode == 0
    assert {key for key in place.keys("out/") if key.endswith(".pdf")} == {
        "a.pdf.ocr.pdf", "b/scan.tif.ocr.pdf", "c.docx.ocr.pdf",
    }  # fmt: skip
    for key in ("a.pdf.ocr.pdf", "c.docx.ocr.pdf"):
        place.s3.delete_object(Bucket=place.bucket, Key=f"out/{key}")
    beside = command("pdf", place.destination, "--json")
    report = report_of(beside)
    assert (beside.returncode, report["there_already"], report["failed"]) == (0, 1, {})
    assert {made["pdf"] for made in report["written"]} == {
        f"{place.destination}/a.pdf.ocr.pdf", f"{place.destination}/c.docx.ocr.pdf",
    }  # fmt: skip

    folder = tmp_path / "pdfs"
    here = report_of(command("pdf", place.destination, "-o", f"{folder}/", "--json"))
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.pdf")) == [
        "a.pdf.ocr.pdf", "b/scan.tif.ocr.pdf", "c.docx.ocr.pdf",
    ]  # fmt: skip
    assert [bool(made["text_only"]) for made in here["written"]] == [False, False, True]

    single_pdf = tmp_path / "one.pdf"
    document = command("pdf", f"{place.source}/a.pdf", "--results", place.destination, "-o", str(single_pdf))
    assert (document.returncode, document.stdout.strip()) == (0, str(single_pdf))
    result = command("pdf", f"{place.destination}/a.pdf.ocr.json", "-o", str(tmp_path / "two.pdf"))
    assert result.returncode == 0
    assert single_pdf.read_bytes() == (tmp_path / "two.pdf").read_bytes()
    by_name = command("pdf", f"{place.destination}/a.pdf", "-o", str(tmp_path / "three.pdf"))
    assert by_name.stdout.strip() == str(tmp_path / "three.pdf"), "a file, not a folder"
    assert single_pdf.read_bytes() == (tmp_path / "three.pdf").read_bytes()

    place.put({"a.pdf": text_pdf(["changed", "since"])})
    changed = command("pdf", f"{place.destination}/a.pdf.ocr.json", "-o", str(single_pdf))
    assert "only text" in changed.stderr
    assert words(single_pdf.read_bytes())[0].startswith("Text only: ")
    missing = command("pdf", f"{place.source}/a.pdf", "--results", place.destination, "-o", str(single_pdf))
    assert missing.returncode == 2
    assert "has no result at" in missing.stderr


def test_results_on_this_machine_find_their_documents(command: Command, machine: Machine) -> None:
    document = machine.put("scan.pdf", pdf("of a test", 2))
    result = machine.delivered(document)
    home = {"TMPDIR": str(machine.temporary)}
    beside = command("pdf", str(result), **home)
    assert (beside.returncode, beside.stdout.strip()) == (0, str(result.with_name("scan.ocr.pdf")))
    assert beside.stderr == ""
    result.unlink()
    kept = command("pdf", str(document), **home)
    assert kept.stdout.strip() == str(machine.temporary / "scan.ocr.pdf")
    document.unlink()
    assert "there is no file or folder" in command("pdf", str(document), **home).stderr


def test_a_result_without_its_document_is_told_which_or_shows_text(command: Command, tmp_path: Path) -> None:
    page = written_page(1, ENGLISH, lines=2)
    result = write_result([page], tmp_path / "moved.ocr.json")
    alone = command("pdf", str(result))
    assert (alone.returncode, "name it with --document" in alone.stderr) == (0, True)
    elsewhere = tmp_path / "scan.png"
    elsewhere.write_bytes(png("a picture"))
    assert command("pdf", str(result), "--document", str(elsewhere), "-o", f"{tmp_path}/whole.pdf").stderr == ""
    assert words_by_pdfium(tmp_path / "whole.pdf") == [page.text.split()]
    wrong = command("pdf", str(result), "--document", str(result), "-o", f"{tmp_path}/wrong.pdf")
    assert wrong.returncode == 1
    assert "JSON" in wrong.stderr or "format" in wrong.stderr


def test_mistakes_are_told(command: Command, tmp_path: Path) -> None:
    assert "there is no file or folder" in command("pdf", str(tmp_path / "none.json")).stderr
    assert command("pdf", str(tmp_path), "-o", "s3://bucket/a.pdf").returncode == 2
    assert "there is no result" in command("pdf", str(tmp_path)).stderr
