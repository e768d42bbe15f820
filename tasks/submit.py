"""Step 2: claim a new document and send it."""

from tasks.failing import fail
from tasks.faults import DocumentFault, MomentFault
from tasks.models import Document, Job
from tasks.outcomes import Outcome
from tasks.sending import send_pages
from tasks.session import Session


def submit_document(session: Session, document: Document) -> Outcome:
    """Claim a document and submit its pages, unless somebody else has, or it is done or failed already.

    Raises:
        AccountFault: the account is refused; the claim is given back.
    """
    identity = session.job_id(document)
    try:
        result = session.result_key(document)
        unusable = None
    except DocumentFault as fault:
        result, unusable = "", fault
    job = Job(
        id=identity,
        document=document,
        model=session.options.model,
        answer_schema=session.options.answer_schema,
        result=f"s3://{session.destination.bucket}/{result}",
        claimed_at=session.clock.now(),
        lease=session.lease("reading"),
        flow_run=session.flow_run,
    )
    try:
        held = session.ledger.claim(job)
    except MomentFault as fault:  # a claim that was made all the same holds until its lease is over
        return Outcome("later", identity, document.uri, message=str(fault))
    if held is None:
        return Outcome("skipped", identity, document.uri)
    if unusable is not None:
        return Outcome(fail(session, held, "read", unusable), identity, document.uri, message=str(unusable))
    return send_pages(session, held)
