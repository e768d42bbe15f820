"""What a process has published is kept for its figures: once, in small, and only as much as may be missed."""

import weakref

from tasks.backfills.done import DoneFigures
from tasks.backfills.published import Published
from tasks.job.record import DoneJob
from tests.store.conftest import NOON, job


def record(key: str = "a.pdf") -> DoneJob:
    """The record of a document of one page."""
    return DoneJob(job=job(key), pages=1, finished_at=NOON)


def figures_of(done: DoneJob) -> DoneFigures:
    """What the figures need of a record."""
    return DoneFigures("2021-01", done.job.document.uri, done.pages, 0, 0, 0.0, done.finished_at)


def test_each_document_is_taken_once_in_its_order() -> None:
    published = Published()
    published.add(record("before.pdf"))
    published.follow(figures_of)
    assert published.take() == [], "nobody had asked for the first"
    done = [record("a.pdf"), record("b.pdf")]
    for each in done:
        published.add(each)
    assert published.take() == [(each.job.id, figures_of(each)) for each in done]
    assert published.take() == []


def test_records_are_not_kept() -> None:
    """A run that publishes thousands of documents between two readings would hold all of their records."""
    published, done = Published(), record()
    published.follow(figures_of)
    published.add(done)
    alive = weakref.ref(done)
    del done
    assert alive() is None
    assert len(published.take()) == 1


def test_of_very_many_the_last_are_kept() -> None:
    published, done = Published(), record()
    published.follow(figures_of)
    first = done.model_copy(update={"pages": 2})
    for each in (first, *[done] * 5000):
        published.add(each)
    taken = published.take()
    assert (len(taken), {figures.pages for _, figures in taken}) == (5000, {1})
