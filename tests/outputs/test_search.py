"""An index finds what results hold, is brought up to date with what came, changed and went, and survives a kill."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.faults import SetupFault
from tasks.outputs.results import find_results
from tasks.outputs.search import search
from tasks.outputs.search_index import IndexChanges, SearchIndex
from tests.outputs.result_samples import SHAPES, write_result

REPORT = ["Annual Report 2024", "Harbour Street Stationery", "revenue grew"]
KOREAN = ["서울 시청에서 검색을 하다", "매출 보고서"]
CHINESE = ["中国人民银行", "年度报告"]
JAPANESE = ["東京タワーの高さ", "お問い合わせ"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "results"
    write_result(place / "a" / "report.pdf.ocr.json", [REPORT, ["Second page", "annual figures"]])
    write_result(place / "korean.pdf.ocr.json", [KOREAN], "older")
    write_result(place / "b" / "chinese.png.ocr.clova.json", [CHINESE], "clova")
    write_result(place / "b" / "japanese.tif.ocr.google.json", [[], JAPANESE], "google responses")
    return place


def indexed(folder: Path, file: Path) -> IndexChanges:
    with SearchIndex(file, create=True) as index:
        return index.update(find_results(str(folder)))


def found(file: Path, query: str) -> list[tuple[str, int]]:
    with SearchIndex(file) as index:
        return [(hit.document, hit.page) for hit in search(index, query).hits]


def test_queries_in_four_languages(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    changes = indexed(folder, file)
    assert (changes.added, changes.pages, changes.skipped) == (4, 6, {})
    report, korean, chinese = ("a/report.pdf", 1), ("korean.pdf", 1), ("b/chinese.png", 1)
    second, japanese = ("a/report.pdf", 2), ("b/japanese.tif", 2)
    queries: dict[str, list[tuple[str, int]]] = {
        "report": [report], '"annual report"': [report], "annu*": [report, second], "harbour grew": [report],
        "annual -report": [second], "검색": [korean], "시청": [korean], "보고서": [korean], "매출": [korean],
        '"서울 시청"': [korean], '"시청 서울"': [], "人民": [chinese], "报告": [chinese], "银行": [chinese],
        "人行": [], "タワー": [japanese], "東京": [japanese], "問い合わせ": [japanese], "nothing": [],
    }  # fmt: skip
    for query, wanted in queries.items():
        assert sorted(found(file, query)) == wanted, query


def test_the_hits_are_marked_in_the_snippet(folder: Path, tmp_path: Path) -> None:
    indexed(folder, tmp_path / "results.db")
    with SearchIndex(tmp_path / "results.db") as index:
        (hit,) = search(index, '"annual report" grew').hits
        (korean,) = search(index, "검색").hits
    assert hit.marked() == "«Annual Report» 2024 Harbour Street Stationery revenue «grew»"
    assert korean.marked("<", ">") == "서울 시청에서 <검색>을 하다 매출 보고서"
    assert hit.result == str(folder / "a" / "report.pdf.ocr.json")


def test_only_what_is_new_since_is_read_and_what_is_gone_is_forgotten(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    indexed(folder, file)
    changes = indexed(folder, file)
    assert (changes.added, changes.changed, changes.unchanged, changes.pages) == (0, 0, 4, 0)
    write_result(folder / "korean.pdf.ocr.json", [["이제 다른 내용"], ["둘째 쪽"]])
    write_result(folder / "new.pdf.ocr.json", [["brand new"]])
    (folder / "a" / "report.pdf.ocr.json").unlink()
    changes = indexed(folder, file)
    assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (1, 1, 1, 2)
    assert found(file, "검색") == found(file, "annual") == []
    assert found(file, "둘째") == [("korean.pdf", 2)]
    assert found(file, "brand") == [("new.pdf", 1)]
    with sqlite3.connect(file) as database:  # FTS5's own check: fails where what was deleted is not what was inserted
        database.execute("INSERT INTO page_terms (page_terms) VALUES ('integrity-check')")


def test_several_places_share_an_index(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    indexed(folder / "a", file)
    indexed(folder / "b", file)
    with SearchIndex(file) as index:
        assert list(index.places()) == [str(folder / "a"), str(folder / "b")]
        assert index.counts() == (3, 5)
    assert sorted(found(file, "annual")) == [("report.pdf", 1), ("report.pdf", 2)]


def test_a_broken_result_is_left_out_with_its_reason_and_the_others_are_not(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.pdf.ocr.json").write_text('{"pages": [{"text": "half of it"}, {"te')
    (folder / "other.pdf.ocr.json").write_text(json.dumps({"some": "other JSON"}))
    changes = indexed(folder, tmp_path / "results.db")
    assert (changes.added, changes.skipped_count) == (4, 2)
    assert "truncated or garbled" in changes.skipped[str(folder / "broken.pdf.ocr.json")]
    assert found(tmp_path / "results.db", "half") == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_answer_shape_is_searched(shape: str, tmp_path: Path) -> None:
    write_result(tmp_path / "in" / "a.pdf.ocr.json", [REPORT, [], KOREAN], shape)
    indexed(tmp_path / "in", tmp_path / "results.db")
    assert found(tmp_path / "results.db", "stationery") == [("a.pdf", 1)]
    assert found(tmp_path / "results.db", "검색") == [("a.pdf", 3)]


def test_an_index_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    place, file = tmp_path / "in", tmp_path / "results.db"
    for number in range(200):
        write_result(place / f"{number:03}.pdf.ocr.json", [[f"document number{number}"]])
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom tasks.outputs.results import find_results\n"
        "from tasks.outputs.search_index import SearchIndex\n"
        "index = SearchIndex(Path(sys.argv[2]), create=True)\n"
        "kill = lambda now: now.added == 50 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "index.update(find_results(sys.argv[1]), kill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(place), str(file)], check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    with SearchIndex(file) as index:
        assert index.places() == {str(place): None}, "it is told that it is not complete"
    changes = indexed(place, file)
    assert (changes.added, changes.unchanged) == (150, 50)
    assert found(file, "number7") == [("007.pdf", 1)]


def test_two_that_index_at_once_make_one_index(tmp_path: Path) -> None:
    place, file = tmp_path / "in", tmp_path / "results.db"
    for number in range(40):
        write_result(place / f"{number:03}.pdf.ocr.json", [[f"document number{number}"]])
    threads = [threading.Thread(target=indexed, args=(place, file)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with SearchIndex(file) as index:
        assert index.counts() == (40, 40)
        assert search(index, "document").pages == 40


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    other, text, old = tmp_path / "other.db", tmp_path / "text.db", tmp_path / "old.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE theirs (x)")
    text.write_text("no database at all, but a text that is long enough to be one" * 20)
    indexed(tmp_path, old)
    with sqlite3.connect(old) as database:
        database.execute("PRAGMA user_version = 99")
    for file, why in ((other, "not an index of results"), (text, "not a database"), (old, "another version")):
        before = file.read_bytes()
        for create in (True, False):
            with pytest.raises(SetupFault, match=why), SearchIndex(file, create=create):
                pass
        assert file.read_bytes() == before
    with pytest.raises(SetupFault, match="bulk-ocr index"), SearchIndex(tmp_path / "nowhere.db"):
        pass
    assert not os.path.lexists(tmp_path / "nowhere.db")
    with pytest.raises(SetupFault, match="there is no folder"), SearchIndex(tmp_path / "no" / "x.db", create=True):
        pass
