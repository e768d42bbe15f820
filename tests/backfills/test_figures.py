"""The figures of a backfill: sums, rates, and how the source differs from the plan."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from flows.cli.backfill_figures import picture
from tasks.backfills.charts import bars, histogram, sparkline
from tasks.backfills.done import DoneDocuments, DoneFigures, DoneSummary
from tasks.backfills.duration import duration, interval
from tasks.backfills.earlier import EarlierRecords, EarlierSummary
from tasks.backfills.failed import FailedDocuments, FailedFigures, FailedSummary
from tasks.backfills.figures import (
    Counted,
    Figures,
    OpenFigures,
    figures,
)
from tasks.backfills.page import report_page
from tasks.backfills.record import Ceilings, PartitionPlan, Planned, new_backfill
from tasks.budget.charged import Charged, Reserved
from tasks.options import Options, RunSettings

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
HOSTILE = "<script>\x1b[31m|"


def done_document(partition: str, seconds: float, finished_at: datetime) -> DoneFigures:
    """A finished document of four pages."""
    return DoneFigures(partition, f"s3://bucket/{partition}/{HOSTILE}", 4, 4, 1, seconds, finished_at)


def some(months: int = 2, minutes: int = 2) -> Figures:
    """A backfill in which two documents of each month are done, one failed, one is open and one new."""
    settings = RunSettings(source="s3://bucket/scans", destination="s3://bucket/ocr")
    names = [f"{2021 + number // 12}-{number % 12 + 1:02}" for number in range(months)]
    planned = Planned(
        at=NOW,
        documents=5 * months,
        pages=20 * months,
        partitions=tuple(PartitionPlan(name=name, documents=5, pages=20) for name in names),
    )
    backfill = new_backfill(settings, "scans", NOW).changed(
        NOW, planned=planned, ceilings=Ceilings(max_pages=100), state="running", price_per_page=0.01
    )
    states: Counter[tuple[str, str]] = Counter()
    done, failed, earlier, opened = DoneDocuments(), FailedDocuments(), EarlierRecords(), []
    for name in names:
        states += Counter({(name, "done"): 2, (name, "failed"): 1, (name, "open"): 1, (name, "new"): 1})
        for number in range(2):
            ended = NOW - timedelta(minutes=number * minutes)
            done.put(f"{name} {number}", done_document(name, 10.0 + number, ended))
        failed.put(name, 0, FailedFigures(name, "encrypted", f"a password {HOSTILE}", 0, 0))
        opened.append(OpenFigures(name, True, None, 4, 2))
    spent = Charged(sent=12 * months, cost=12 * months * 10_000, reserved={"r": Reserved(job="j", pages=3, before=0)})
    earlier.put("key", names[0], 2, 3)
    summaries = done.summary(), opened, failed.summary(), earlier.summary()
    return figures(backfill, NOW, Counted(states), *summaries, spent, [])


def test_sums_rates_and_time_left() -> None:
    summary = some()
    assert (summary.documents, summary.done, summary.failed, summary.open, summary.new) == (10, 4, 2, 2, 2)
    assert (summary.finished, summary.total, summary.pages, summary.pages_sent, summary.pages_reserved) == (
        6,
        10,
        16,
        24,
        3,
    )
    assert summary.cost == pytest.approx(0.24)
    assert summary.possible_duplicates == 4 * 1 + 2 * 2 + 3
    assert summary.pages_per_minute == pytest.approx(16 / 2)
    assert summary.seconds_left == pytest.approx((40 - 16) / 8 * 60)
    assert (summary.seconds_p50, summary.seconds_p90) == (10.0, 11.0)
    assert [(partition.name, partition.finished, partition.spent) for partition in summary.partitions] == [
        ("2021-01", 3, 14), ("2021-02", 3, 12),
    ]  # fmt: skip
    assert summary.per_minute == [(NOW - timedelta(minutes=2), 8), (NOW - timedelta(minutes=1), 0), (NOW, 8)]
    assert summary.budget_share == pytest.approx(27 / 100)


def test_what_is_computed_from_some_of_many_records_is_of_all_documents() -> None:
    """At first, ten of a hundred finished documents have been read, and ten of fifty open jobs."""
    settings = RunSettings(source="s3://bucket/scans", destination="s3://bucket/ocr")
    planned = Planned(at=NOW, documents=200, pages=800, partitions=(PartitionPlan(name="", documents=200, pages=800),))
    backfill = new_backfill(settings, "scans", NOW).changed(NOW, planned=planned, state="running")
    done = DoneDocuments()
    for number in range(10):
        done.put(str(number), done_document("", 10.0, NOW - timedelta(minutes=number)))
    opened = [OpenFigures("", number % 2 == 0, None, 0, 0) for number in range(10)]
    states = Counter({("", "done"): 100, ("", "open"): 50, ("", "new"): 50})
    summary = figures(
        backfill, NOW, Counted(states), done.summary(), opened, FailedSummary(), EarlierSummary(), Charged(), []
    )
    assert summary.at_api == 25
    assert summary.documents_per_minute == pytest.approx(10 / 9)
    assert summary.seconds_left == pytest.approx((800 - 400) / (40 / 9) * 60)


def test_a_source_that_has_changed_since_the_plan_is_told() -> None:
    assert some().changed is None
    planned = some()
    planned.partitions[0].planned = 7
    settings = RunSettings(source="s3://bucket/scans", destination="s3://bucket/ocr")
    backfill = new_backfill(settings, "scans", NOW).changed(
        NOW, planned=Planned(at=NOW, documents=2, partitions=(PartitionPlan(name="2021-01", documents=2),))
    )
    states = Counter({("2021-01", "new"): 1, ("2021-02", "new"): 3})
    summary = figures(
        backfill, NOW, Counted(states), DoneSummary(), [], FailedSummary(), EarlierSummary(), Charged(), []
    )
    assert summary.changed == ("the source has changed since it was planned: +2 documents (2021-01 -1, 2021-02 +3)")
    assert summary.total == 4


@pytest.mark.parametrize("width", [80, 200])
def test_the_picture_keeps_to_the_width_and_escapes_what_strangers_wrote(width: int) -> None:
    console = Console(width=width, record=True, file=None, color_system=None, force_terminal=False)
    summary = some(48)
    summary.why = HOSTILE
    with console.capture() as captured:
        console.print(picture(summary, width, 24))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24
    assert "144 of 240 documents" in captured.get()
    assert "\x1b" not in captured.get()


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_strangers_wrote() -> None:
    page = report_page(some(48))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "http" not in page
    assert page.count("<svg") == 2


def test_pages_without_an_answer_and_submissions_paid_for_twice_are_shown_apart() -> None:
    found = some()
    found.pages_lost, found.possible_duplicates = 5, 3
    page = report_page(found)
    assert "<dt>pages charged</dt><dd>29 of 100</dd>" in page, "what the ceiling counts"
    assert "<dt>of these, without an answer</dt><dd>5</dd>" in page
    assert "<dt>submissions possibly paid twice</dt><dd>3</dd>" in page
    assert "24 pages sent and 5 without an answer of 100" in found.sentence()
    assert "3 submissions may be paid for twice" in found.sentence()
    console = Console(width=100, file=None, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(picture(found, 100))
    assert "29 of 100, 5 without an answer" in captured.get()
    assert "3 submissions may be paid for twice" in captured.get()


def test_charts() -> None:
    assert sparkline([0, 1, 2, 4]) == "▁▂▄█"
    assert len(sparkline(range(1000))) == 60
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert [count for _, _, count in histogram([1, 1, 2, 11], 10)] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert histogram([]) == []
    assert "<title>a &amp; b: 3 pages</title>" in bars("pages", [3], ["a & b"], "pages")


def test_the_slowest_limit_decides_how_long_it_takes() -> None:
    fast = {"requests_per_second": 100, "pages_per_minute": 100_000}
    options = Options(requests_per_second=2, pages_per_minute=1200)
    assert duration(200, 500, options, 0.01) == (300.0, "--requests-per-second 2")
    assert duration(10, 60_000, options, 0.01) == (3000.0, "--pages-per-minute 1200")
    assert duration(200, 500, Options(), 0.01) == (300.0, "--requests-per-second auto, estimated at 2")
    assert duration(10, 500, Options(max_pages_per_day=100, **fast), 0.01) == (4 * 86_400, "--max-pages-per-day 100")
    assert duration(10, 500, Options(max_cost_per_day=1, **fast), 0.01)[1] == "--max-cost-per-day 1"


def test_an_interval_narrows_with_the_sample_and_closes_when_all_were_read() -> None:
    few, more = interval([1, 9] * 5, 1000), interval([1, 9] * 50, 1000)
    assert few[0] < more[0] < 5000 < more[1] < few[1]
    assert interval([3, 4, 5], 3) == (12, 12)
    assert interval([3], 100) == (0, 0)
