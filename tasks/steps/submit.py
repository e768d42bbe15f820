"""Step 2: claim a new document and send it."""

from dataclasses import replace

from tasks.context import RunContext
from tasks.faults import CredentialsRefused, DocumentFault, Fault, TransientFault
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.steps.failing import fail
from tasks.steps.held_job import HeldJob
from tasks.steps.send import send_pages


def submit_document(context: RunContext, document: Document) -> Outcome:
    """Claim a document and submit its pages, unless another worker has claimed it or it is already done or failed.

    A document that changed since it was listed (an inventory can be days old) is submitted in its current version.

    Raises:
        EndsRun: the account is rejected, the set-up is wrong, or the run is shutting down; the claim is released.
        CredentialsRefused: S3 rejects the credentials; the claim stands until its lease expires.
    """
    outcome = _submit(context, document)
    if not outcome.moved:
        return outcome
    try:
        now = context.objects.head(document.bucket, document.key)
    except CredentialsRefused:
        raise
    except Fault as fault:  # the next listing picks it up
        return replace(outcome, message=str(fault), moved=False)
    if now is None or now.etag == document.etag:
        return outcome
    selection, relative = context.settings.selection, context.source.relative(document.key)
    if not selection.takes(relative, now.size, now.last_modified):
        return replace(outcome, message="it changed and is no longer selected")
    changed = Document(
        bucket=document.bucket, key=document.key, etag=now.etag, size=now.size, last_modified=now.last_modified
    )
    if not context.is_ours(context.job_id(changed)):
        return replace(outcome, message="it changed and now belongs to another run's shard; that run picks it up")
    return replace(_submit(context, changed), moved=True, listed_as=outcome.job_id)


def _submit(context: RunContext, document: Document) -> Outcome:
    identity = context.job_id(document)
    with context.jobs_at_work.begin(identity) as begun:
        return _claimed(context, document, identity) if begun else Outcome("skipped", identity, document.uri)


def _claimed(context: RunContext, document: Document, identity: str) -> Outcome:
    try:
        result = context.result_key(document)
        unusable = None
    except DocumentFault as fault:
        result, unusable = "", fault
    job = transitions.claimed(
        identity,
        document,
        model=context.options.model,
        answer_schema=context.options.answer_schema,
        text_layers=context.options.text_layers,
        result=f"s3://{context.destination.bucket}/{result}",
        now=context.clock.now(),
        lease=context.lease("reading"),
        flow_run=context.flow_run,
        backfill=context.settings.backfill,
    )
    try:
        held = context.ledger.claim(job)
    except TransientFault as fault:  # a claim that was made nevertheless stands until its lease expires
        return Outcome("later", identity, document.uri, message=str(fault))
    if held is None:
        return Outcome("skipped", identity, document.uri)
    if unusable is not None:
        return fail(context, HeldJob(context, held), "read", unusable)
    return send_pages(context, held)
