"""The table has every word once, with all that the result tells of it; what is written is whole or not there."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.faults import SetupFault
from tasks.outputs.results import find_results, read_ahead
from tasks.outputs.words_table import write_words
from tests.outputs.result_samples import HEIGHT, SHAPES, WIDTH, write_result

PAGES = [["Annual Report 2024", "of Harbour"], [], ["서울 시청에서"]]


def rows(file: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(file).to_pylist())


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_word_is_a_row(shape: str, tmp_path: Path) -> None:
    result = write_result(tmp_path / "in" / "a.pdf.ocr.json", PAGES, shape)
    table = tmp_path / "words.parquet"
    written = write_words(read_ahead(find_results(str(tmp_path / "in"))), table)
    assert (written.results, written.words, written.files, written.skipped) == (1, 7, 1, {})
    found = rows(table)
    assert [(row["page"], row["word"], row["line"], row["text"]) for row in found] == [
        (1, 1, 1, "Annual"), (1, 2, 1, "Report"), (1, 3, 1, "2024"), (1, 4, 2, "of"), (1, 5, 2, "Harbour"),
        (3, 1, 1, "서울"), (3, 2, 1, "시청에서"),
    ]  # fmt: skip
    report = found[1]
    assert {row["document"] for row in found} == {"a.pdf"}
    assert {row["result"] for row in found} == {str(result)}
    assert report["confidence"] == pytest.approx(0.55)
    assert [report[side] for side in ("left", "top", "right", "bottom")] == pytest.approx(
        [240 / WIDTH, 100 / HEIGHT, 360 / WIDTH, 130 / HEIGHT]
    )
    pixels = [report[f"{side}_px"] for side in ("left", "top", "right", "bottom")]
    size = [report["page_width_px"], report["page_height_px"]]
    # Results of the newer shape have nothing but ratios.
    assert (pixels, size) == ([None] * 4, [None] * 2) if shape == "newer" else ([240, 100, 360, 130], [WIDTH, HEIGHT])


def test_beyond_a_size_it_is_a_folder_of_files_that_readers_take_as_one(tmp_path: Path) -> None:
    for number in range(3):
        write_result(tmp_path / "in" / f"{number}.pdf.ocr.json", PAGES)
    table = tmp_path / "words.parquet"
    written = write_words(read_ahead(find_results(str(tmp_path / "in"))), table, rows_a_file=5)
    assert (written.words, written.files) == (21, 5)
    assert names(table) == [f"part-{n:05}.parquet" for n in range(5)]
    assert [len(rows(table / f"part-{n:05}.parquet")) for n in range(5)] == [5, 5, 5, 5, 1]
    assert len(rows(table)) == 21
    again = write_words(read_ahead(find_results(str(tmp_path / "in" / "1.pdf.ocr.json"))), table)
    assert (again.files, len(rows(table))) == (1, 7), "what was there is replaced"
    assert table.is_file()


def test_no_word_at_all_is_a_table_without_rows(tmp_path: Path) -> None:
    write_result(tmp_path / "in" / "blank.pdf.ocr.json", [[], []])
    written = write_words(read_ahead(find_results(str(tmp_path / "in"))), tmp_path / "words.parquet")
    assert (written.results, written.words) == (1, 0)
    assert pq.read_schema(tmp_path / "words.parquet").names[:3] == ["document", "result", "page"]
    assert rows(tmp_path / "words.parquet") == []


def test_a_broken_result_leaves_no_row_behind(tmp_path: Path) -> None:
    whole = json.dumps(json.loads(write_result(tmp_path / "in" / "a.ocr.json", PAGES).read_text()))
    (tmp_path / "in" / "cut.ocr.json").write_text(whole[:-20])
    written = write_words(read_ahead(find_results(str(tmp_path / "in"))), tmp_path / "words.parquet")
    assert list(written.skipped) == [str(tmp_path / "in" / "cut.ocr.json")]
    assert {row["document"] for row in rows(tmp_path / "words.parquet")} == {"a"}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    write_result(tmp_path / "in" / "a.pdf.ocr.json", PAGES)
    with pytest.raises(SetupFault, match="unrelated files"):
        write_words(read_ahead(find_results(str(tmp_path / "in"))), tmp_path / "in")
    assert names(tmp_path / "in") == ["a.pdf.ocr.json"]
    assert names(tmp_path) == ["in"]


def test_a_missing_pyarrow_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupFault, match=r"pip install --constraint constraints\.txt '\.\[outputs\]'"):
        write_words([], tmp_path / "words.parquet")
    assert names(tmp_path) == []
