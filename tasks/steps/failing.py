"""Giving a job up: with the stage, the reason, and which of its pages are missing."""

from collections.abc import Sequence

from tasks.context import RunContext
from tasks.faults import DocumentFault, Passes, Superseded
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import PageRange
from tasks.job.transitions import Stage
from tasks.steps.held_job import HeldJob


def fail(
    context: RunContext, job: HeldJob, stage: Stage, fault: DocumentFault, missing: Sequence[PageRange] = ()
) -> Outcome:
    """Put a job on record as given up. Its requests stay on record, so that what they hold can still be fetched.

    Returns:
        `failed`; `skipped`, when another worker took the job over or finished it, who saw it otherwise; `later`, when
        that cannot be put on record now.
    """
    record, now = job.job, context.clock.now()
    try:
        # Proves that the job is still ours: a worker whose lease was over must not fail what another finished.
        job.write(transitions.collecting(record, context.lease("collecting")))
        failed = transitions.failed(job.job, stage, fault, missing=missing, now=now, flow_run=context.flow_run)
        if not context.ledger.fail(job.written, failed):
            return job.outcome("skipped")
    except Superseded:
        return job.outcome("skipped")
    except Passes as passing:
        return job.outcome("later", f"{fault}; that could not be recorded: {passing}")
    return job.outcome("failed", str(fault))
