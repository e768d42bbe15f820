"""Stop a worker at every call to S3, before it and after it, and start again: nothing lost, nothing uncounted.

`tests/flows/test_kill.py` does the same to real processes, with SIGKILL.
"""

import pytest

from tasks.job.record import job_id
from tasks.steps.collect import collect_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import TEN_PAGES, World, pdf, sha
from tests.steps.kills import AT_ONCE, Doomed, Killed, passes

BODY = pdf(25)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 12))
def test_a_submitter_killed_at_any_call_loses_nothing(world: World, s3_url: str, number: int, moment: str) -> None:
    """Claim, two looks, the document, a look at the result's place, and for each of three parts two writes."""
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    doomed = Doomed(world, s3_url, number, moment, limits=TEN_PAGES)
    with pytest.raises(Killed):
        submit_document(doomed.context, document)
    passes(world, world.context(limits=TEN_PAGES), document)
    record = world.done(document)
    assert world.result(document) == expected
    paid_twice = sum(world.billed_pages()) - 25
    # The receipt of one part can be lost with the process; its pages are then paid again, and it says so.
    assert paid_twice in (0, 5, 10)
    assert record.job.possible_duplicates <= 1
    assert record.job.possible_duplicates == 1 or paid_twice == 0
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{record.job.id}.json"]


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
        submit_document(doomed.context, document)
    passes(world, world.context(**AT_ONCE), document)
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
    assert submit_document(alive.context, world.put(pdf(14))).kind == "open"
    assert alive.calls == 11


def test_the_kills_of_a_submitter_reach_its_last_call(world: World, s3_url: str) -> None:
    alive = Doomed(world, s3_url, 12, "before", limits=TEN_PAGES)
    assert submit_document(alive.context, world.put(BODY)).kind == "open"
    assert alive.calls == 11


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_collector_killed_at_any_call_loses_nothing(world: World, s3_url: str, number: int, moment: str) -> None:
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    submit_document(world.context(), document)
    identity = world.recognised(world.context(), document)
    doomed = Doomed(world, s3_url, number, moment)
    with pytest.raises(Killed):
        collect_job(doomed.context, identity)
    passes(world, world.context(), document)
    assert world.done(document).job.possible_duplicates == 0
    assert world.result(document) == expected
    assert world.billed_pages() == [25]
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{identity}.json"]


def test_the_kills_of_a_collector_reach_its_last_call(world: World, s3_url: str) -> None:
    document = world.put(BODY)
    submit_document(world.context(), document)
    alive = Doomed(world, s3_url, 8, "before")
    assert collect_job(alive.context, world.recognised(world.context(), document)).kind == "done"
    assert alive.calls == 7


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_collector_killed_while_it_sends_missing_pages_loses_nothing(
    world: World, s3_url: str, number: int, moment: str
) -> None:
    expected = world.undisturbed(world.put(BODY))
    world.api.set(fail_batches=[{"sha256": sha(BODY), "batch": 1}])
    document = world.put(BODY)
    submit_document(world.context(), document)
    identity = world.recognised(world.context(), document)
    doomed = Doomed(world, s3_url, number, moment)
    with pytest.raises(Killed):
        collect_job(doomed.context, identity)
    passes(world, world.context(), document)
    record = world.done(document)
    assert world.result(document) == expected
    paid_twice = sum(world.billed_pages()) - 35
    assert paid_twice in (0, 10)
    assert record.job.possible_duplicates == 1 or paid_twice == 0
    assert record.job.id == job_id(document, "ocr")
