"""Kill a worker at every call to S3, before it and after it, and start again: nothing lost, nothing paid twice."""

import time
from typing import Any

import pytest

from tasks.collect import collect_job
from tasks.models import Document, job_id
from tasks.poll import OpenJobs, poll_job
from tasks.session import Session
from tasks.store.objects import Objects
from tasks.submit import submit_document
from tasks.upstage.limits import Limits
from tests.steps.conftest import PATIENCE, TEN_PAGES, World, pdf, sha

BODY = pdf(25)


class Killed(BaseException):
    """The process is gone: no handler of an exception runs any more work."""


class Doomed:
    """A worker that is killed at its n-th call to S3, before the call is made or after it has its answer."""

    def __init__(self, world: World, url: str, number: int, moment: str, **options: Any) -> None:
        self.calls = 0
        self._number = number
        client = world.client(url)
        client.meta.events.register("before-send.s3" if moment == "before" else "after-call.s3", self._count)
        self.session = world.session(objects=Objects(client), **options)

    def _count(self, **_: Any) -> None:
        self.calls += 1
        # Dead for good: what runs in `except` and `finally` on the way out must not reach the store either.
        if self.calls >= self._number:
            raise Killed


def passes(world: World, session: Session, document: Document) -> None:
    """What the scheduled flows do, until nothing is open: submit, survey, poll, collect."""
    deadline, jobs = time.monotonic() + PATIENCE, OpenJobs(session)
    submit_document(session, document)
    while True:
        assert time.monotonic() < deadline, world.open(document)
        world.clock.advance(session.options.lease_seconds + 1)
        survey = jobs.survey()
        for identity in survey.ready + [each for each in survey.due if poll_job(session, each)]:
            collect_job(session, identity)
        if not list(session.ledger.entries("open")):
            return
        time.sleep(0.005)  # the stand-in works in real time


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 12))
def test_a_submitter_killed_at_any_call_loses_nothing(world: World, s3_url: str, number: int, moment: str) -> None:
    """Claim, two looks, the document, a look at the result's place, and for each of three parts two writes."""
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    doomed = Doomed(world, s3_url, number, moment, limits=TEN_PAGES)
    with pytest.raises(Killed):
        submit_document(doomed.session, document)
    passes(world, world.session(limits=TEN_PAGES), document)
    record = world.done(document)
    assert world.result(document) == expected
    paid_twice = sum(world.billed_pages()) - 25
    # The receipt of one part can be lost with the process; its pages are then paid again, and it says so.
    assert paid_twice in (0, 5, 10)
    assert record.job.possible_duplicates <= 1
    assert record.job.possible_duplicates == 1 or paid_twice == 0
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{record.job.id}.json"]


AT_ONCE: dict[str, Any] = {"mode": "sync", "limits": Limits(sync_pages=10)}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 12))
def test_a_worker_killed_while_it_is_answered_at_once_loses_nothing(
    world: World, s3_url: str, number: int, moment: str
) -> None:
    """As a submitter, but for each of two parts three writes: posting, the pages that came, the record of them."""
    body = pdf(14)
    expected = world.undisturbed(world.put(body))
    document = world.put(body)
    doomed = Doomed(world, s3_url, number, moment, **AT_ONCE)
    with pytest.raises(Killed):
        submit_document(doomed.session, document)
    passes(world, world.session(**AT_ONCE), document)
    record = world.done(document)
    assert world.result(document) == expected
    paid_twice = sum(world.billed_pages()) - 14
    # Only where the pages had come and were not written yet: before the write of the first part's, or the second's.
    answer_was_lost = {(7, "before"): 10, (10, "before"): 4}
    assert paid_twice == answer_was_lost.get((number, moment), 0)
    assert record.job.possible_duplicates == 1 or paid_twice == 0
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{record.job.id}.json"]


def test_the_kills_of_a_worker_answered_at_once_reach_its_last_call(world: World, s3_url: str) -> None:
    alive = Doomed(world, s3_url, 12, "before", **AT_ONCE)
    assert submit_document(alive.session, world.put(pdf(14))).kind == "open"
    assert alive.calls == 11


def test_the_kills_of_a_submitter_reach_its_last_call(world: World, s3_url: str) -> None:
    alive = Doomed(world, s3_url, 12, "before", limits=TEN_PAGES)
    assert submit_document(alive.session, world.put(BODY)).kind == "open"
    assert alive.calls == 11


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 11))
def test_a_collector_killed_at_any_call_loses_nothing(world: World, s3_url: str, number: int, moment: str) -> None:
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    submit_document(world.session(), document)
    identity = world.recognised(world.session(), document)
    doomed = Doomed(world, s3_url, number, moment)
    with pytest.raises(Killed):
        collect_job(doomed.session, identity)
    passes(world, world.session(), document)
    assert world.done(document).job.possible_duplicates == 0
    assert world.result(document) == expected
    assert world.billed_pages() == [25]
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{identity}.json"]


def test_the_kills_of_a_collector_reach_its_last_call(world: World, s3_url: str) -> None:
    document = world.put(BODY)
    submit_document(world.session(), document)
    alive = Doomed(world, s3_url, 11, "before")
    assert collect_job(alive.session, world.recognised(world.session(), document)).kind == "done"
    assert alive.calls == 10


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_collector_killed_while_it_sends_missing_pages_loses_nothing(
    world: World, s3_url: str, number: int, moment: str
) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 1}])
    document = world.put(BODY)
    submit_document(world.session(), document)
    identity = world.recognised(world.session(), document)
    doomed = Doomed(world, s3_url, number, moment)
    with pytest.raises(Killed):
        collect_job(doomed.session, identity)
    passes(world, world.session(), document)
    record = world.done(document)
    assert world.result(document) == expected
    paid_twice = sum(world.billed_pages()) - 35
    assert paid_twice in (0, 10)
    assert record.job.possible_duplicates == 1 or paid_twice == 0
    assert record.job.id == job_id(document, "ocr")
