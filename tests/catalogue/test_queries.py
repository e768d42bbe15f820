"""Which documents are found, and what was spent: every page once, in its day, run, prefix, model and backfill."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.catalogue.catalogue import open_catalogue
from tasks.catalogue.database import COLUMNS, TIME_COLUMNS, Database
from tasks.catalogue.queries import (
    DocumentFilter,
    Grouping,
    Usage,
    documents,
    names_like,
    rows_of_document,
    totals,
    usage,
    write_documents,
)
from tasks.catalogue.row import Row, SpendRow, path_in_source, row_of_open
from tasks.job.record import Document, Job
from tests.catalogue.conftest import NOON, OUT, Records


def test_columns_are_the_fields_of_a_row() -> None:
    assert list(COLUMNS) == list(Row.model_fields)
    names = [part.split()[0].strip('"') for part in COLUMNS["spends"].removeprefix("STRUCT(").split(", ")]
    assert names == list(SpendRow.model_fields)


@pytest.fixture
def some(records: Records) -> Records:
    records.done(records.open("2021/sure.pdf", 3), confidence=0.95, seconds=20)
    records.done(records.open("2021/poor.pdf", 1), confidence=0.4, seconds=500)
    records.done(records.open("2022/blank.pdf", 9, model="ocr-250904"), blank=4, seconds=90)
    records.failed(records.open("failed.pdf"))
    records.open("open.pdf")
    records.journal.close()
    return records


@pytest.mark.parametrize(("wanted", "expected"), [
    ({}, ["2021/poor.pdf", "2021/sure.pdf", "2022/blank.pdf", "failed.pdf"]),
    ({"below_confidence": 0.6}, ["2021/poor.pdf"]),
    ({"blank": True}, ["2022/blank.pdf"]),
    ({"failed": True}, ["failed.pdf"]),
    ({"slowest": 2}, ["2021/poor.pdf", "2022/blank.pdf"]),
    ({"largest": 1}, ["2022/blank.pdf"]),
    ({"largest": 5, "below_confidence": 0.99}, ["2022/blank.pdf", "2021/sure.pdf", "2021/poor.pdf"]),
    ({"blank": True, "failed": True}, []),
])  # fmt: skip
def test_documents_are_found(some: Records, wanted: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    with open_catalogue(some.objects, OUT) as catalogue:
        condition = DocumentFilter(**wanted)
        assert [row["path"] for row in documents(catalogue, condition)] == expected
        assert write_documents(catalogue, condition, tmp_path / "rows.parquet") == len(expected)
        found = totals(catalogue, condition)
        if not {"slowest", "largest"} & set(wanted):
            assert found.documents == len(expected)
        row = catalogue.database.one(f"SELECT count(*) AS n FROM read_parquet('{tmp_path}/rows.parquet')")
        assert row["n"] == len(expected)


def test_times_have_a_time_zone_wherever_they_are_read(some: Records, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    for _ in ("from the journal", "from the saved rows"):
        with open_catalogue(some.objects, OUT) as catalogue:
            rows = list(documents(catalogue, DocumentFilter()))
            (row,) = rows_of_document(catalogue, "s3://in/scans/2021/sure.pdf")
            write_documents(catalogue, DocumentFilter(), file)
            kinds = catalogue.database.rows(f"DESCRIBE SELECT * FROM read_parquet('{file}')")
            exported = {kind["column_name"]: kind["column_type"] for kind in kinds}
            asked = catalogue.database.one(
                f"SELECT epoch(claimed_at) AS claimed FROM read_parquet('{file}') WHERE path = '2021/sure.pdf'"
            )
        assert {name: exported[name] for name in TIME_COLUMNS} == dict.fromkeys(
            ("modified_at", "claimed_at", "ended_at"), "TIMESTAMP WITH TIME ZONE"
        )
        assert {row[name].tzinfo for row in rows for name in TIME_COLUMNS} == {UTC}
        assert (row.modified_at.tzinfo, row.claimed_at.tzinfo, row.spends[0].at.tzinfo) == (UTC, UTC, UTC)
        assert row.ended_at is not None
        assert row.ended_at.tzinfo is UTC
        assert asked["claimed"] == row.claimed_at.timestamp()


@pytest.mark.parametrize(("options", "result"), [
    ({}, "a/b.pdf.ocr.json"),
    ({"model": "ocr-250904", "answer_schema": "clova"}, "a/b.pdf.ocr.ocr-250904.clova.json"),
    ({"text_layers": "skip-text"}, "a/b.pdf.ocr.skip-text.json"),
])  # fmt: skip
def test_the_path_in_the_source_is_told_by_the_result(options: dict[str, Any], result: str) -> None:
    document = Document(bucket="in", key="scans/a/b.pdf", etag="e", size=1, last_modified=NOON)
    job = Job(**{"model": "ocr"} | options, id="j", document=document, result=f"s3://out/ocr/{result}", claimed_at=NOON)
    assert path_in_source(job, OUT) == "a/b.pdf"
    row = row_of_open(job, "e", OUT)
    assert (row.prefix, row.text_layers) == ("a", options.get("text_layers"))


def test_sums_over_all_documents(some: Records) -> None:
    with open_catalogue(some.objects, OUT) as catalogue:
        found = totals(catalogue)
    assert (found.documents, found.done, found.failed, found.pages, found.words, found.blank_pages) == (
        4,
        3,
        1,
        13,
        15,
        4,
    )
    assert found.confidence == pytest.approx((0.95 + 0.4 + 0.9) / 3)
    assert found.unmeasured == 0


def spent(records: Records, by: Grouping | None, **period: datetime) -> dict[str, tuple[int, int, float]]:
    with open_catalogue(records.objects, OUT) as catalogue:
        return {
            group.name: (group.pages, group.possible_pages, group.cost)
            for group in usage(catalogue, by, 0.001, **period)
        }


def test_usage_counts_what_is_done_failed_and_open(some: Records) -> None:
    with open_catalogue(some.objects, OUT) as catalogue:
        (all_of_it,) = usage(catalogue, None, 0.001)
    assert all_of_it == Usage("", documents=5, requests=5, pages=17, cost=0.17, billed_pages=13)
    assert spent(some, "prefix") == {"": (4, 0, 0.04), "2021": (4, 0, 0.04), "2022": (9, 0, 0.09)}
    assert spent(some, "model") == {"ocr": (8, 0, 0.08), "ocr-250904": (9, 0, 0.09)}


def test_usage_of_days_months_runs_and_backfills(records: Records) -> None:
    records.done(records.open("a.pdf", 1, at=NOON, run="run 1", backfill="winter"))
    records.done(records.open("b.pdf", 2, at=NOON + timedelta(hours=11, minutes=59), run="run 2"))
    records.done(records.open("c.pdf", 4, at=NOON + timedelta(hours=12), run="run 2", lost=1))
    assert spent(records, "day") == {"2026-11-30": (3, 0, 0.03), "2026-12-01": (4, 4, 0.04)}
    assert spent(records, "month") == {"2026-11": (3, 0, 0.03), "2026-12": (4, 4, 0.04)}
    assert spent(records, "run") == {"run 1": (1, 0, 0.01), "run 2": (6, 4, 0.06)}
    assert spent(records, "backfill") == {"": (6, 4, 0.06), "winter": (1, 0, 0.01)}
    november = {"since": datetime(2026, 11, 1), "until": datetime(2026, 12, 1)}
    assert spent(records, "day", **november) == {"2026-11-30": (3, 0, 0.03)}


def test_a_document_that_failed_and_was_put_back_is_paid_for_once(records: Records) -> None:
    failed = records.failed(records.open("a.pdf", 3, lost=2))
    assert spent(records, None) == {"": (3, 6, 0.03)}
    assert records.ledger.put_back(failed)
    assert spent(records, None) == {"": (3, 6, 0.03)}, "open"
    held = records.ledger.read(failed.job.id)
    assert held is not None
    records.done(held)
    assert spent(records, None) == {"": (3, 6, 0.03)}, "done"


@pytest.mark.parametrize("known", [True, False])
def test_a_document_that_is_done_again_is_paid_for_again(records: Records, known: bool) -> None:
    held = records.open("a.pdf", 3, lost=1)
    records.done(held, journal=known)
    if known:
        records.journal.close()
        assert spent(records, None) == {"": (3, 3, 0.03)}
    entry, done = records.ledger.entry("done", held.job.id), records.ledger.done(held.job.id)
    assert entry is not None
    assert done is not None
    assert records.ledger.open_again(done, entry)
    assert spent(records, None) == {"": (3, 3, 0.03)}
    records.done(records.open("a.pdf", 3, at=NOON + timedelta(hours=1), request="again", lost=1))
    assert spent(records, None) == {"": (6, 6, 0.06)}
    with open_catalogue(records.objects, OUT) as catalogue:
        assert totals(catalogue).documents == 1
        assert len(rows_of_document(catalogue, "s3://in/scans/a.pdf")) == 2


def test_what_a_result_cost_whose_record_was_removed_stays(records: Records) -> None:
    held = records.open("a.pdf", 3)
    etag = records.done(held)
    assert spent(records, None) == {"": (3, 0, 0.03)}
    records.ledger.forget_done(held.job.id, etag)
    assert spent(records, None) == {"": (3, 0, 0.03)}


def test_records_without_a_price_are_reckoned_at_another_and_told_apart(records: Records) -> None:
    records.done(records.open("a.pdf", 3, price=None))
    with open_catalogue(records.objects, OUT) as catalogue:
        (found,) = usage(catalogue, None, 0.5)
    assert (found.cost, found.unpriced_pages) == (1.5, 3)


def test_the_rows_of_one_document_and_the_names_nearest_to_a_wrong_one(some: Records) -> None:
    some.done(some.open("2021/sure.pdf", 3, model="ocr-250904", at=NOON + timedelta(days=1)))
    with open_catalogue(some.objects, OUT) as catalogue:
        rows = rows_of_document(catalogue, "s3://in/scans/2021/sure.pdf")
        assert [row.model for row in rows] == ["ocr-250904", "ocr"]
        assert rows[0].spends[0].pages == 3
        assert names_like(catalogue, "s3://in/scans/2021/shure.pdf", 1) == ["s3://in/scans/2021/sure.pdf"]
        assert names_like(catalogue, "s3://in/scans/opne.pdf", 1) == ["s3://in/scans/open.pdf"]


def test_nothing_is_loaded_from_the_network(tmp_path: Path) -> None:
    with Database(tmp_path) as database:
        settings = {
            row["name"]: row["value"]
            for row in database.rows("SELECT name, value FROM duckdb_settings() WHERE name LIKE '%_known_extensions'")
        }
    assert set(settings.values()) == {"false"}
    assert len(settings) == 2
