"""The catalogue tells what the ledger tells, whatever was saved, lost, twice or out of date."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tasks.catalogue.catalogue import open_catalogue
from tasks.catalogue.database import COLUMNS
from tasks.catalogue.queries import DocumentFilter, documents
from tests.catalogue.conftest import NOON, OUT, Records


def looked_at(records: Records) -> tuple[dict[str, str], int]:
    """State by document, and how many records had to be read for it."""
    with open_catalogue(records.objects, OUT) as catalogue:
        rows = list(documents(catalogue, DocumentFilter()))
        return {row["path"]: row["state"] for row in rows}, catalogue.read


def test_a_ledger_without_a_catalogue_is_read_once_and_saved(records: Records) -> None:
    for number in range(3):
        records.done(records.open(f"{number}.pdf"), journal=False)
    records.failed(records.open("failed.pdf"))
    records.open("open.pdf")
    expected = {"0.pdf": "done", "1.pdf": "done", "2.pdf": "done", "failed.pdf": "failed"}
    assert looked_at(records) == (expected, 4)
    assert [key.partition("/")[0] for key in records.files()] == ["rows"]
    assert looked_at(records) == (expected, 0)


def test_what_journals_tell_is_not_read_again_and_goes_into_the_rows(records: Records) -> None:
    for number in range(3):
        records.done(records.open(f"{number}.pdf"))
    assert records.files() == [], "many documents, one write"
    records.journal.close()
    assert len(records.files("catalogue/journal/")) == 1
    assert looked_at(records) == ({"0.pdf": "done", "1.pdf": "done", "2.pdf": "done"}, 0)
    assert [key.partition("/")[0] for key in records.files()] == ["rows"]
    records.done(records.open("3.pdf"))
    records.journal.close()
    assert looked_at(records)[1] == 0
    assert len(records.files()) == 1, "small files are put together"


def test_times_have_a_time_zone_in_saved_rows_and_rows_saved_without_one_are_read(
    records: Records, tmp_path: Path
) -> None:
    def saved() -> Path:
        (entry,) = records.objects.list(OUT.bucket, OUT.key("_jobs/catalogue/rows/"))
        records.objects.fetch(OUT.bucket, entry.key, entry.etag, tmp_path / "saved.parquet")
        return tmp_path / "saved.parquet"

    records.done(records.open("old.pdf"))
    records.journal.close()
    assert looked_at(records) == ({"old.pdf": "done"}, 0)
    naive = {name: f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in COLUMNS.items() if "TIMESTAMP" in kind}
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        f"COPY (SELECT * REPLACE ({', '.join(naive.values())}) FROM read_parquet('{saved()}')) "
        f"TO '{tmp_path}/naive.parquet' (FORMAT parquet)"
    )
    (entry,) = records.objects.list(OUT.bucket, OUT.key("_jobs/catalogue/rows/"))
    records.objects.put(OUT.bucket, entry.key, (tmp_path / "naive.parquet").read_bytes(), {}, "application/parquet")

    records.done(records.open("new.pdf"))
    records.journal.close()
    with open_catalogue(records.objects, OUT) as catalogue:
        rows = list(documents(catalogue, DocumentFilter()))
        assert catalogue.read == 0
    assert [(row["path"], row["claimed_at"]) for row in rows] == [("new.pdf", NOON), ("old.pdf", NOON)]
    types = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{saved()}')").fetchall()
    assert {name: kind.count("TIMESTAMP WITH TIME ZONE") for name, kind, *_ in types if name in naive} == dict.fromkeys(
        naive, 1
    )


def test_a_failed_document_that_was_put_back_and_is_done_counts_once(records: Records) -> None:
    failed = records.failed(records.open("a.pdf"))
    assert looked_at(records) == ({"a.pdf": "failed"}, 1)
    assert records.ledger.put_back(failed)
    assert looked_at(records) == ({}, 0), "it is open"
    held = records.ledger.read(failed.job.id)
    assert held is not None
    records.done(held)
    records.journal.close()
    assert looked_at(records) == ({"a.pdf": "done"}, 0)


def test_a_result_that_was_made_anew_shows_the_new_record(records: Records) -> None:
    held = records.open("a.pdf")
    etag = records.done(held, confidence=0.3)
    records.journal.close()
    looked_at(records)
    assert records.ledger.forget_done(held.job.id, etag)
    assert looked_at(records) == ({}, 0)
    records.done(records.open("a.pdf"), confidence=0.8)
    records.journal.close()
    with open_catalogue(records.objects, OUT) as catalogue:
        (row,) = documents(catalogue, DocumentFilter())
        assert row["confidence_mean"] == 0.8


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b'{"id": 7, \n\x00nonsense\n{}\n')[:-3]],
    ids=["empty", "no gzip", "cut short"],
)
def test_damaged_files_are_made_anew(records: Records, damage: bytes) -> None:
    for number in range(2):
        records.done(records.open(f"{number}.pdf"))
    records.journal.close()
    looked_at(records)
    (rows,) = records.files("catalogue/rows/")
    records.objects.put("out", f"ocr/_jobs/catalogue/rows/{rows}", damage, {}, "")
    records.objects.put("out", "ocr/_jobs/catalogue/journal/x.jsonl.gz", damage, {}, "")
    records.objects.put("out", "ocr/_jobs/catalogue/journal/notes.txt", damage, {}, "")
    expected = {"0.pdf": "done", "1.pdf": "done"}
    assert looked_at(records) == (expected, 2)
    assert looked_at(records) == (expected, 0)


def test_records_of_other_versions_are_left_alone_and_counted(records: Records) -> None:
    records.done(records.open("a.pdf"), journal=False)
    records.objects.put("out", "ocr/_jobs/done/abc.json", b'{"format": 99}', {}, "")
    records.objects.put("out", "ocr/_jobs/failed/abd.json", b"nonsense", {}, "")
    records.objects.put("out", "ocr/_jobs/open/abe.json", b"nonsense", {}, "")
    with open_catalogue(records.objects, OUT) as catalogue:
        assert [row["path"] for row in documents(catalogue, DocumentFilter())] == ["a.pdf"]
        assert catalogue.unreadable == 3


def test_many_small_journals_become_one(records: Records) -> None:
    for number in range(60):
        records.done(records.open(f"{number}.pdf"))
        records.journal.close()
    assert len(records.files("catalogue/journal/")) < 50
    found, read = looked_at(records)
    assert (len(found), read) == (60, 0)


def test_two_that_look_at_once_save_the_same(records: Records) -> None:
    for number in range(3):
        records.done(records.open(f"{number}.pdf"), journal=False)
    with open_catalogue(records.objects, OUT), open_catalogue(records.objects, OUT):
        pass
    found, read = looked_at(records)
    assert (len(found), read) == (3, 0)


def test_a_missing_database_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "duckdb.py").write_text("raise ImportError")
    code = "from pathlib import Path; from tasks.catalogue.database import Database; Database(Path())"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert "DuckDB, which is not installed: pip install --constraint constraints.txt '.[catalogue]'" in process.stderr
