"""Step 2: claim a new document and send it."""

from dataclasses import replace

from tasks.failing import fail
from tasks.faults import CredentialsRefused, DocumentFault, Fault, MomentFault
from tasks.models import Document, Job
from tasks.outcomes import Outcome
from tasks.sending import send_pages
from tasks.session import Session


def submit_document(session: Session, document: Document) -> Outcome:
    """Claim a document and submit its pages, unless somebody else has, or it is done or failed already.

    One that has changed since it was listed (an inventory can be days old) is submitted as it is now.

    Raises:
        AccountFault: the account is refused; the claim is given back.
        CredentialsRefused: S3 refuses us altogether; the claim holds until its lease is over.
    """
    outcome = _submit(session, document)
    if not outcome.moved:
        return outcome
    try:
        now = session.objects.head(document.bucket, document.key)
    except CredentialsRefused:
        raise
    except Fault as fault:  # listed again, it will be seen
        return replace(outcome, message=str(fault), moved=False)
    if now is None or now.etag == document.etag:
        return outcome
    selection, relative = session.settings.selection, session.source.relative(document.key)
    if not selection.takes(relative, now.size, now.last_modified):
        return replace(outcome, message="it changed, and is not among the documents that are meant any more")
    changed = document.model_copy(update={"etag": now.etag, "size": now.size, "last_modified": now.last_modified})
    if not session.is_ours(session.job_id(changed)):
        return replace(outcome, message="it changed, and is now in the shard of another run, which finds it")
    return replace(_submit(session, changed), moved=True, listed_as=outcome.job_id)


def _submit(session: Session, document: Document) -> Outcome:
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
