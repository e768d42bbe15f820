"""Giving up a job: records the stage, the reason, and the missing pages."""

from collections.abc import Sequence
from contextlib import suppress

from tasks.context import RunContext
from tasks.faults import DocumentFault, Superseded, TransientFault
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import Job, PageRange
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
    if failed.job.pages is None:
        _await_no_counts(context, failed.job)
    return job.outcome("failed", str(fault))


def _await_no_counts(context: RunContext, job: Job) -> None:
    """Let ceilings no longer leave room for what the API might count: it counts nothing more of this job."""
    for request in job.requests:
        with suppress(TransientFault):  # found out at a ceiling, from the record
            context.correct_budget(request, 0, job.backfill, counted=job.id)
