"""What the commands of a backfill advise."""

from datetime import UTC, datetime

import pytest

from flows.cli.backfill import budget_advice
from tasks.backfills.record import Backfill, Ceilings, Reached

NOW = datetime(2026, 7, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ceilings", "reached", "advice"),
    [
        (Ceilings(max_pages=6), None, "6 of 6 pages are spent"),
        (Ceilings(max_pages=7), None, "set scans --max-pages …'"),
        (Ceilings(max_pages=1000, max_cost=0.06), None, "set scans --max-cost …'"),
        (Ceilings(max_pages=6, max_cost=1), None, "set scans --max-pages …'"),
        (Ceilings(max_pages=6, max_cost=0.06), None, "set scans --max-pages … --max-cost …'"),
        (Ceilings(), "day-2026-07-02", "the ceiling of the day leaves no room"),
        (Ceilings(max_pages=1000), "month-2026-07", "the ceiling of the month leaves no room"),
        # Its own is full, whatever ended the last run.
        (Ceilings(max_pages=6), "day-2026-07-01", "set scans --max-pages …'"),
    ],
)
def test_the_ceiling_that_leaves_no_room_is_named(ceilings: Ceilings, reached: str | None, advice: str) -> None:
    record = Backfill(
        name="scans",
        source="s3://scans/in",
        destination="s3://scans/out",
        made_by="a test",
        made_at=NOW,
        changed_at=NOW,
        state="running",
        ceilings=ceilings,
        reached=None if reached is None else Reached(meter=reached, ceilings=Ceilings()),
    )
    assert advice in budget_advice(record, 6, 0.06)
