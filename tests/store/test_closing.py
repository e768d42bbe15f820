"""Closing a job: whoever closes it knows it, and a failure on record gives way to a result."""

from tasks.job.record import DoneJob, FailedJob, Job
from tasks.store.ledger import Ledger
from tests.store.conftest import NOON, job


def failed(of: Job) -> FailedJob:
    """The record of a job given up."""
    return FailedJob(job=of, stage="collect", code="broken", reason="broken", retry_helps=True, failed_at=NOON)


def test_of_all_who_close_a_job_one_is_told_that_it_was_them(ledger: Ledger) -> None:
    held = ledger.claim(job())
    assert held is not None
    overtaken = held
    held = ledger.update(held, held.job.model_copy(update={"flow_run": "another"}))
    assert not ledger.close(overtaken)
    assert ledger.read(held.job.id) == held
    assert ledger.close(held)
    assert not ledger.close(held)
    assert ledger.read(held.job.id) is None


def test_a_result_counts_though_another_worker_gave_the_job_up_meanwhile(ledger: Ledger) -> None:
    slow = ledger.claim(job())
    assert slow is not None
    other = ledger.update(slow, slow.job.model_copy(update={"flow_run": "another"}))
    ledger.fail(other, failed(other.job))
    ledger.finish(slow, DoneJob(job=slow.job, pages=1, finished_at=NOON))
    assert ledger.done(slow.job.id) is not None
    assert ledger.failed(slow.job.id) is None
    assert ledger.read(slow.job.id) is None
