"""The Python examples of docs/outputs.md, each by itself as a reader pastes it, and what stands in its way."""

import io
import re
from pathlib import Path

import pytest

from tasks.faults import SetupFault
from tasks.outputs.exports import ExportedFrom, ExportFormat, export_result
from tasks.outputs.results import find_results
from tasks.outputs.viewer.viewer_page import Viewed, write_viewer
from tests.outputs.result_samples import write_result
from tests.sample_documents import text_pdf

PAGE = Path(__file__).parents[2] / "docs" / "outputs.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
IN_S3 = "s3://bucket/ocr/a.pdf.ocr.json"


def test_the_examples_run_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "ocr" / "a.pdf.ocr.json", [["the annual report"]])
    write_result(tmp_path / "scan.pdf.ocr.json", [["a scan"]])
    (tmp_path / "scan.pdf").write_bytes(text_pdf(["a scan"]))
    monkeypatch.chdir(tmp_path)
    for example in EXAMPLES:
        exec(example.replace("s3://bucket/ocr", str(tmp_path / "ocr")), {})
    made = {"results.db", "words.parquet", "0.hocr", "scan.html"}
    assert (len(EXAMPLES), made - {path.name for path in tmp_path.iterdir()}) == (4, set())
    assert capsys.readouterr().out.startswith("a.pdf 1 ")


@pytest.mark.parametrize("to", ["text", "jsonl", "hocr", "alto"])
def test_an_address_in_place_of_a_file_is_told_with_the_way_to_a_file(to: ExportFormat) -> None:
    with pytest.raises(SetupFault, match=f"{IN_S3} is not a file on this machine: .* flows.python"):
        export_result(IN_S3, to, io.StringIO(), ExportedFrom("a.pdf"))


def test_an_address_is_neither_shown_nor_found_without_a_store() -> None:
    with pytest.raises(SetupFault, match="not a file on this machine"):
        write_viewer(IN_S3, io.StringIO(), Viewed("a.pdf"))
    with pytest.raises(SetupFault, match=r"no store was given to read it from: use find_results of flows\.python"):
        find_results(IN_S3)
