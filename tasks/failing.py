"""Giving a job up: with the stage, the reason, and what of it came."""

from collections.abc import Sequence
from typing import Literal

from tasks.faults import DocumentFault
from tasks.models import FailedJob, PageRange
from tasks.session import Session
from tasks.store.ledger import Held, Superseded

Stage = Literal["read", "submit", "recognise", "collect"]


def fail(
    session: Session,
    held: Held,
    stage: Stage,
    fault: DocumentFault,
    missing: Sequence[PageRange] = (),
) -> Literal["failed", "skipped"]:
    """Put a job on record as given up. Its requests stay on record, so that what they hold can still be fetched.

    Returns:
        `failed`; or `skipped`, when another worker took the job over, who may see it otherwise.
    """
    try:
        # Proves that the job is still ours: a worker whose lease was over must not fail what another finished.
        held = session.ledger.update(held, held.job.model_copy(update={"lease": session.lease("collecting")}))
    except Superseded:
        return "skipped"
    failed = FailedJob(
        job=held.job.model_copy(update={"lease": None}),
        stage=stage,
        code=fault.code,
        reason=str(fault),
        retry_helps=fault.retry_helps,
        missing=tuple(missing),
        failed_at=session.clock.now(),
        flow_run=session.flow_run,
    )
    session.ledger.fail(held, failed)
    return "failed"
