"""A listing of a backfill that is divided among many readings: what has changed meanwhile is not taken back."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.backfills.record import Backfill, new_backfill
from tasks.context import RunContext
from tasks.faults import Fault
from tasks.steps.census import Census
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tests.fakes import FakeClock
from tests.sample_documents import encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()


class TickingClock(FakeClock):
    """A clock by which a second passes between two looks at it: a reading lists a few documents."""

    def monotonic(self) -> float:
        self.advance(1)
        return super().monotonic()


def reader_of(world: World, backfill: Backfill, clock: FakeClock, objects: Objects | None = None) -> FiguresReader:
    """A process that reads the figures."""
    context = RunContext(settings_of(backfill), objects or Objects(world.s3), clock=clock)
    return FiguresReader(context, backfill.name)


def counts(reader: FiguresReader) -> tuple[int, ...]:
    """Documents in all, and by state."""
    found = reader.read()
    assert found is not None
    return found.documents, found.new, found.open, found.done, found.failed, found.pages


def test_figures_stay_right_while_a_listing_is_under_way(world: World) -> None:
    documents = [world.put(pdf(2, f"{number}"), f"in/{number:02}.pdf") for number in range(38)]
    locked = [world.put(encrypted_pdf(f"locked {number}"), f"in/locked-{number}.pdf") for number in range(2)]
    worker, clock = world.context(rounds=1), TickingClock()
    backfill = worker.backfills.make(new_backfill(worker.settings, "scans", worker.clock.now()))
    submit_document(worker, locked[0])
    reader = reader_of(world, backfill, clock)
    assert counts(reader) == (40, 39, 0, 0, 1, 0)
    listed_at = reader.read_of(backfill).listed_at

    def in_a_new_listing() -> bool:
        return reader.read_of(backfill).listed_at != listed_at

    clock.advance(600)  # the next listing is due; a reading continues it by a few documents
    assert counts(reader) == (40, 39, 0, 0, 1, 0)
    submit_document(worker, documents[0])
    assert counts(reader) == (40, 38, 1, 0, 1, 0), "the listing says that it is new"
    world.finish(worker, documents[0])
    assert counts(reader) == (40, 38, 0, 1, 1, 2), "the listing says that it is new"
    assert worker.ledger.put_back(world.failed(locked[0]))
    assert counts(reader) == (40, 38, 1, 1, 0, 2), "the listing says that it has failed"
    submit_document(worker, locked[1])
    assert counts(reader) == (40, 37, 1, 1, 1, 2)
    assert not in_a_new_listing(), "the readings above were part of one listing"
    for _ in range(100):
        if in_a_new_listing():
            break
        assert counts(reader) == (40, 37, 1, 1, 1, 2)
    assert in_a_new_listing()
    assert counts(reader) == (40, 37, 1, 1, 1, 2)
    found = reader.read_of(backfill)
    assert [failed.document for failed in found.failed_documents] == [locked[1].uri]
    reader.close()


def test_a_divided_listing_finds_documents_that_were_added_and_removed(world: World) -> None:
    for number in range(5):
        world.put(pdf(1, f"{number}"), f"in/{number}.pdf")
    worker, clock = world.context(), TickingClock()
    backfill = worker.backfills.make(new_backfill(worker.settings, "scans", worker.clock.now()))
    reader = reader_of(world, backfill, clock)
    assert counts(reader)[0] == 5
    world.s3.delete_object(Bucket=world.bucket, Key="in/0.pdf")
    for number in range(5, 25):
        world.put(pdf(1, f"{number}"), f"in/{number}.pdf")
    clock.advance(600)
    totals = [counts(reader)[0] for _ in range(30)]
    assert 5 <= totals[0] < 20, "not all in one reading, and what is not found yet is not gone"
    assert totals[-1] == 24
    reader.close()


def test_a_listing_that_fails_is_made_again(world: World, flaky: FlakyS3) -> None:
    for number in range(5):
        world.put(pdf(1, f"{number}"), f"in/{number}.pdf")
    worker, clock = world.context(), TickingClock()
    backfill = worker.backfills.make(new_backfill(worker.settings, "scans", worker.clock.now()))
    reader = reader_of(world, backfill, clock, flaky.objects())
    assert counts(reader)[0] == 5
    world.put(pdf(1, "5"), "in/5.pdf")
    clock.advance(600)
    flaky.fail(Rule("refuse", "list-type=.*prefix=in/", "GET", status=400, code="InvalidRequest"))
    with pytest.raises(Fault, match="as the test says"):
        _ = [counts(reader) for _ in range(30)]
    assert [counts(reader)[0] for _ in range(30)][-1] == 6
    reader.close()


@pytest.fixture
def census(tmp_path: Path) -> Iterator[Census]:
    """An empty census."""
    opened = Census(tmp_path)
    yield opened
    opened.close()


def test_a_change_since_the_listing_began_is_newer_than_the_listing(census: Census) -> None:
    census.begin()
    census.put("job", "2021-01", "new", known=False, written=0)
    census.end()
    census.begin()
    census.change(["job", "another backfill's"], "failed", NOON, known=True)
    census.put("job", "2021-02", "new", known=False, written=0)
    census.end()
    assert (census.counted(), census.unknown("failed", 1)) == ({("2021-02", "failed"): 1}, [])
    census.begin()
    census.put("job", "2021-02", "open", known=False, written=0)
    census.end()
    assert census.counted() == {("2021-02", "open"): 1}, "the next listing began after the change"


def test_the_newest_records_are_read_first(census: Census) -> None:
    """The rates of the last minutes and the remaining time are computed from them."""
    census.begin()
    for job_id, written in (("old", 1.0), ("new", 3.0), ("known", 4.0), ("middle", 2.0)):
        census.put(job_id, "", "done", known=job_id == "known", written=written)
    census.change(["old"], "done", 9.0)
    assert census.unknown("done", 2) == [("old", ""), ("new", "")]


def test_failures_are_seen_while_the_source_cannot_be_listed(world: World, flaky: FlakyS3) -> None:
    locked = world.put(encrypted_pdf("locked"), "in/locked.pdf")
    worker, clock = world.context(), TickingClock()
    backfill = worker.backfills.make(new_backfill(worker.settings, "scans", worker.clock.now()))
    reader = reader_of(world, backfill, clock, flaky.objects())
    assert counts(reader) == (1, 1, 0, 0, 0, 0)
    clock.advance(600)
    refused = flaky.fail(Rule("refuse", "list-type=.*prefix=in/", "GET", times=-1))
    submit_document(worker, locked)
    for _ in range(30):
        assert counts(reader) == (1, 0, 0, 0, 1, 0)
    assert 0 < refused.hits < 10, "the source is not listed again at once"
    flaky.rules.clear()
    world.put(pdf(1), "in/new.pdf")
    clock.advance(600)
    assert [counts(reader)[0] for _ in range(30)][-1] == 2
    reader.close()
