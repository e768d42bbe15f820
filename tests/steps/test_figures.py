"""The figures of a backfill, read again and again: what has changed is looked at, and the sums are the ledger's."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tasks.backfills.figures import Figures
from tasks.backfills.metrics import metrics_of
from tasks.backfills.page import report_page
from tasks.backfills.record import Backfill, new_backfill
from tasks.catalogue.catalogue import open_catalogue
from tasks.catalogue.queries import usage
from tasks.context import RunContext
from tasks.job.record import Document, DoneJob, Job, job_id
from tasks.options import RunSettings
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tasks.upstage.limits import Limits
from tests.fakes import FakeClock
from tests.sample_documents import docx, encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

MONTHS = ("2023-01", "2023-02")


LISTING_SECONDS = 600


def slow_source(flaky: FlakyS3, clock: FakeClock) -> None:
    """Let a listing of the source take ten minutes: the next one is due three hours later."""
    slow = Rule("pass", "list-type=.*prefix=in/", "GET", times=-1, before=lambda: clock.advance(LISTING_SECONDS))
    flaky.fail(slow)


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
    clock = FakeClock()
    slow_source(flaky, clock)
    follower = reader_of(backfill, clock, Objects(World.client(flaky.url)))
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
    figures = follower.read(everything=True)
    assert figures is not None
    assert (figures.done, figures.pages_of) == (2, 2), "found by the next listing at the latest"


def test_what_a_process_published_itself_is_not_read_again(world: World, flaky: FlakyS3) -> None:
    document, worker = world.put(pdf(3, "own"), "in/2023-01/a.pdf"), world.context()
    backfill = backfill_of(worker)
    clock = FakeClock()
    slow_source(flaky, clock)
    whole = RunContext(settings_of(backfill), Objects(World.client(flaky.url)), clock=clock)
    reader = FiguresReader(whole, backfill.name, worker.published)
    reader.read()
    submit_document(worker, document)
    reader.read()
    world.finish(worker, document)
    flaky.seen.clear()
    for everything in (False, True):
        figures_now = reader.read(everything=everything)
        assert figures_now is not None
        assert (figures_now.done, figures_now.pages, figures_now.pages_of) == (1, 3, 1)
    record = f"_jobs/done/{job_id(document, 'ocr')}"
    assert flaky.calls("GET", record) == flaky.calls("HEAD", record) == 0


def test_the_pause_between_readings_does_not_depend_on_how_long_the_source_is(world: World, flaky: FlakyS3) -> None:
    """After a listing of ten minutes, nobody should wait for figures for more than an hour."""
    world.put(pdf(1), "in/2023-01/a.pdf")
    backfill, clock = backfill_of(world.context()), FakeClock()
    slow_source(flaky, clock)
    reader = reader_of(backfill, clock, Objects(World.client(flaky.url)))
    flaky.fail(Rule("pass", "prefix=out/_jobs/open/", "GET", times=2, before=lambda: clock.advance(3)))
    reader.read()
    assert reader.pause == 0, "the next reading is short"
    flaky.fail(Rule("pass", "prefix=out/_jobs/open/", "GET", before=lambda: clock.advance(3)))
    reader.read()
    assert reader.pause == pytest.approx(30), "the reading took three seconds: a tenth of the time"


def test_records_are_read_for_a_moment_at_a_time_and_all_in_the_end(world: World, flaky: FlakyS3) -> None:
    documents = [world.put(pdf(1, f"{number}"), f"in/2023-01/{number}.pdf") for number in range(5)]
    worker, clock = world.context(), FakeClock()
    backfill = backfill_of(worker)
    slow_source(flaky, clock)
    reader = reader_of(backfill, clock, flaky.objects())
    jobs = [
        Job(id=worker.job_id(each), document=each, model="ocr", result="s3://b/r", claimed_at=clock.now())
        for each in documents
    ]
    claimed = [held for job in jobs if (held := worker.ledger.claim(job)) is not None]
    reader.read()
    for held in claimed:
        worker.ledger.finish(held, DoneJob(job=held.job, pages=1, finished_at=clock.now()))
    flaky.fail(Rule("pass", "_jobs/done/[0-9a-f]+.json", "GET", times=-1, before=lambda: clock.advance(1)))
    read = []
    for _ in documents:
        figures_now = reader.read()
        assert figures_now is not None
        assert figures_now.done == 5
        read.append(figures_now.pages_of)
    assert 0 < read[0] < 5
    assert read[-1] == 5


FORGOTTEN = {"method": "GET", "path": "/requests/", "action": "status", "status": 404, "times": -1}


def lost_answer(world: World) -> tuple[Document, dict[str, Any]]:
    """The answer to the first submission is lost."""
    world.api.fail({"method": "POST", "path": "/async$", "action": "reset_after"})
    return world.put(pdf(3), "in/2023-01/a.pdf"), {}


def incomplete_answer(world: World) -> tuple[Document, dict[str, Any]]:
    """A synchronous answer of as many pages as it may have: the API may not have told of the others."""
    document = world.put(docx([f"page {number} of a test" for number in range(1, 6)]), "in/2023-01/a.docx")
    return document, {"mode": "sync", "limits": Limits(sync_pages=5)}


def forgotten_request(world: World) -> tuple[Document, dict[str, Any]]:
    """The API forgets a request."""
    return world.put(pdf(2), "in/2023-01/a.pdf"), {}


@pytest.mark.parametrize(
    ("happened", "billed", "lost"),
    [(lost_answer, [3, 3], 3), (incomplete_answer, [5, 5], 0), (forgotten_request, [2, 2], 0)],
)
def test_what_may_be_paid_twice_is_the_same_number_wherever_it_is_shown(
    world: World, happened: Callable[[World], tuple[Document, dict[str, Any]]], billed: list[int], lost: int
) -> None:
    document, options = happened(world)
    worker = world.context(**options)
    backfill = backfill_of(worker)
    worker.settings = RunSettings.model_validate({**dict(worker.settings), "backfill": backfill.name})
    outcomes = [submit_document(worker, document)]
    if happened is forgotten_request:
        world.recognised(worker, document)
        gone = world.open(document).requests[0].id
        world.api.fail(FORGOTTEN | {"path": f"/requests/{gone}"})
        poll_job(worker, worker.job_id(document))  # one such answer is no loss yet; a quarter of an hour of them is
        world.clock.advance(1000)
    outcomes += world.finish(worker, document)
    worker.close()
    assert world.billed_pages() == billed

    reader = RunContext(settings_of(backfill), worker.objects, clock=world.clock)
    found = FiguresReader(reader, backfill.name).read()
    assert found is not None
    assert sum(outcome.possible_duplicates for outcome in outcomes) == 1
    assert (found.possible_duplicates, found.pages_lost) == (1, lost)
    assert found.pages_charged == sum(billed)
    assert "<dt>submissions possibly paid twice</dt><dd>1</dd>" in report_page(found)
    samples = {metric.name: metric.samples.get(()) for metric in metrics_of(found)}
    assert (samples["possible_duplicates"], samples["pages_lost"]) == (1, lost)
    with open_catalogue(worker.objects, worker.destination) as catalogue:
        (spent,) = usage(catalogue, None, otherwise=0)
    assert (spent.possible_duplicates, spent.pages + spent.possible_pages) == (1, sum(billed))


def test_failed_records_are_read_once_from_a_store_that_lists_fractions_of_seconds(
    world: World, flaky: FlakyS3
) -> None:
    """Some stores list times in milliseconds; the header of an object has whole seconds everywhere."""
    document, worker = world.put(encrypted_pdf("locked"), "in/2023-01/locked.pdf"), world.context()
    backfill = backfill_of(worker)
    submit_document(worker, document)

    def with_fractions(body: bytes) -> bytes:
        return re.sub(rb"(<LastModified>[^<.]+)(\.\d+)?Z<", rb"\1.250Z<", body)

    flaky.fail(Rule("pass", "list-type=", "GET", times=-1, rewrite=with_fractions))
    reader = reader_of(backfill, FakeClock(), Objects(World.client(flaky.url)))
    for _ in range(2):
        found = reader.read(everything=True)
        assert found is not None
        assert found.failures == {"encrypted": 1}
    assert flaky.calls("GET", "_jobs/failed/[0-9a-f]+") == 1
