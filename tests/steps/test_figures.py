"""The figures of a backfill, read again and again: what has changed is looked at, and the sums are the ledger's."""

from typing import Any

from tasks.backfills.figures import Figures
from tasks.backfills.record import Backfill, new_backfill
from tasks.context import RunContext
from tasks.job.record import job_id
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tests.fakes import FakeClock
from tests.sample_documents import encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3

MONTHS = ("2023-01", "2023-02")


class SlowListings(FakeClock):
    """A clock by which whatever is read of source and ledger as a whole takes ten minutes."""

    def monotonic(self) -> float:
        self.advance(600)
        return super().monotonic()


def backfill_of(context: RunContext) -> Backfill:
    """The backfill of all documents, on record."""
    return context.backfills.make(new_backfill(context.settings, "scans", context.clock.now()))


def reader_of(backfill: Backfill, clock: FakeClock, objects: Objects) -> FiguresReader:
    """What reads its figures."""
    return FiguresReader(RunContext(settings_of(backfill), objects, clock=clock), backfill.name)


def counts(found: Figures) -> dict[str, Any]:
    """What must not depend on how it was read."""
    return {
        **found.model_dump(include={"documents", "done", "failed", "open", "new", "pages", "pages_of", "failures"}),
        "partitions": [each.model_dump() for each in found.partitions],
    }


def test_what_is_read_between_two_listings_is_what_a_listing_would_find(world: World, flaky: FlakyS3) -> None:
    documents = [
        world.put(pdf(2, f"{month} {number}"), f"in/{month}/{number}.pdf") for month in MONTHS for number in "ab"
    ]
    locked = world.put(encrypted_pdf("locked"), "in/2023-02/locked.pdf")
    worker = world.context(rounds=1)
    backfill = backfill_of(worker)
    follower = reader_of(backfill, SlowListings(), Objects(World.client(flaky.url)))
    follower.read()
    listings = "list-type=.*prefix=(in|out/_jobs/done)/"
    assert flaky.calls("GET", listings) == 2

    def agrees() -> dict[str, Any]:
        flaky.seen.clear()
        followed = follower.read()
        assert flaky.calls("GET", listings) == 0, "neither source nor what is done is listed again"
        listed = reader_of(backfill, FakeClock(), Objects(world.s3)).read()
        assert followed is not None
        assert listed is not None
        assert counts(followed) == counts(listed)
        return counts(followed)

    submit_document(worker, documents[0])
    assert (agrees()["open"], agrees()["new"]) == (1, 4)
    world.finish(worker, documents[0])
    assert (agrees()["done"], agrees()["pages"], agrees()["pages_of"]) == (1, 2, 1)
    submit_document(worker, locked)
    assert (agrees()["failed"], agrees()["failures"]) == (1, {"encrypted": 1})
    assert worker.ledger.put_back(world.failed(locked))
    assert agrees()["failed"] == 0

    submit_document(worker, documents[2])
    world.finish(worker, documents[2])  # claimed and published between two looks
    seen = follower.read(everything=True)
    assert seen is not None
    assert (seen.done, seen.pages_of) == (2, 2), "found by the next listing at the latest"


def test_what_a_process_published_itself_is_not_read_again(world: World, flaky: FlakyS3) -> None:
    document, worker = world.put(pdf(3, "own"), "in/2023-01/a.pdf"), world.context()
    backfill = backfill_of(worker)
    whole = RunContext(settings_of(backfill), Objects(World.client(flaky.url)), clock=SlowListings())
    reader = FiguresReader(whole, backfill.name, worker.published)
    reader.read()
    submit_document(worker, document)
    world.finish(worker, document)
    flaky.seen.clear()
    for everything in (False, True):
        found = reader.read(everything=everything)
        assert found is not None
        assert (found.done, found.pages, found.pages_of) == (1, 3, 1)
    assert flaky.calls("GET", f"_jobs/done/{job_id(document, 'ocr')}") == 0
