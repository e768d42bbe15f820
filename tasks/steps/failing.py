"""Giving up a job: records the stage, the reason, and the missing pages."""

from collections.abc import Sequence

from tasks.context import RunContext
from tasks.faults import DocumentFault, Superseded, TransientFault
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import PageRange
from tasks.job.transitions import Stage
from tasks.steps.held_job import HeldJob


def fail(
    context: RunContext, job: HeldJob, stage: Stage, fault: DocumentFault, missing: Sequence[PageRange] = ()
) -> Outcome:
    """Record that a job was given up. Its requests stay on record, so that their results can still be fetched.

    Returns:
        `failed`; `skipped` if another worker has taken the job over or finished it; `later` if the record cannot be
        written now.
    """
    record, now = job.job, context.clock.now()
    try:
        # Proves that we still hold the job: a worker whose lease has expired must not fail a job finished by another.
        job.write(transitions.collecting(record, context.lease("collecting")))
        failed = transitions.failed(job.job, stage, fault, missing=missing, now=now, flow_run=context.flow_run)
        if not context.ledger.fail(job.written, failed):
            return job.outcome("skipped")
    except Superseded:
        return job.outcome("skipped")
    except TransientFault as passing:
        return job.outcome("later", f"{fault}; that could not be recorded: {passing}")
    return job.outcome("failed", str(fault))
