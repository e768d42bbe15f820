"""Publishing: writing a result where it belongs, and closing its job.

A newer version of a document is a job of its own with the same result key. The newest version's result wins, even if
its job finishes first: a result is written conditionally, to a free key or over an older version's result.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tasks.catalogue.row import row_of_done
from tasks.context import RunContext
from tasks.documents.results.read import write_text
from tasks.faults import (
    CredentialsRefused,
    DocumentChanged,
    DocumentFault,
    EndsDocument,
    FailureCode,
    RecordUnreadable,
    SetupFault,
    Superseded,
    TransientFault,
)
from tasks.job import transitions
from tasks.job.durations import durations
from tasks.job.outcome import Outcome
from tasks.job.record import Job, Measured, PageSources, job_id_of
from tasks.number_format import quantity
from tasks.steps.beside import JOB, bring_pdf_into_step, bring_text_into_step, is_result
from tasks.steps.held_job import HeldJob
from tasks.store.location import pdf_key, text_key
from tasks.store.object_store import JSON, TEXT, Described

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_LONGEST_SOURCE = 900  # S3 allows 2 KB of user metadata in all
_SOURCE_ID = "source-id"
_MODIFIED = "source-modified"


@dataclass(frozen=True)
class Pages:
    """The recognised pages of a document, on disk.

    Attributes:
        result: the JSON file.
        text: the plain text, if requested.
        pages: the number of pages.
        sources: how many pages came from which source.
        since: when collecting began.
        measured: counts of words and blank pages and confidence, if known.
    """

    result: Path
    text: Path | None
    pages: int
    sources: PageSources
    since: datetime
    measured: Measured | None = None


def publish(context: RunContext, held_job: HeldJob, recognised: Pages, *, copied_from: str | None = None) -> Outcome:
    """Write the result of a job, with its plain text if requested, and close the job.

    Raises:
        DocumentFault: something else occupies the result's key.
        SetupFault: writing the result is not allowed; the job stays open.
        Superseded: another worker has finished the job, and the document was done again since.
        TransientFault: the result could not be written; the job stays open.
    """
    job = held_job.job
    bucket, _, key = job.result.removeprefix("s3://").partition("/")
    wrote = _write(context, job, recognised.result, recognised.pages, bucket, key, JSON)
    superseded = wrote == "superseded"
    if recognised.text is not None and not superseded:
        try:
            _write(context, job, recognised.text, recognised.pages, bucket, text_key(key), TEXT)
        except DocumentFault as fault:  # the result is there, and is paid for
            log.warning("%s: its text was not written: %s", job.document.uri, fault)
    renewed = wrote == "renewed"
    if recognised.text is not None or wrote != "written":
        bring_text_into_step(context, key, missing_too=recognised.text is not None, anew=renewed)
    if context.options.pdf or wrote != "written":
        _bring_pdf(context, job, key, anew=renewed)
    now = context.clock.now()
    done = transitions.done(
        job,
        pages=recognised.pages,
        now=now,
        superseded=superseded,
        copied_from=copied_from,
        flow_run=context.flow_run,
        measured=recognised.measured,
        sources=recognised.sources,
        durations=durations(job, recognised.since, now),
    )
    etag = context.ledger.finish(held_job.written, done)
    if etag is None:
        return held_job.outcome("skipped", "another worker published it")
    if context.journal is not None:
        context.journal.add(row_of_done(done, etag, context.destination))
    context.published.add(done)
    if superseded:
        log.info("%s: a newer version is already published; this one is not", job.document.uri)
    else:
        log.info("%s: published %s at %s", job.document.uri, quantity(recognised.pages, "page"), job.result)
    published = held_job.outcome("done")
    words = 0 if recognised.measured is None else recognised.measured.words
    return replace(published, pages=recognised.pages, words=words, result=job.result)


def _bring_pdf(context: RunContext, job: Job, key: str, *, anew: bool) -> None:
    try:
        bring_pdf_into_step(context, key, missing_too=context.options.pdf, anew=anew)
    except (EndsDocument, SetupFault) as fault:  # the result is there, and is paid for
        if isinstance(fault, CredentialsRefused):
            raise
        log.warning("%s: its searchable PDF was not written: %s", job.document.uri, fault)


def result_is_of_another_version(context: RunContext, result_key: str, job_id: str) -> bool:
    """Whether the published result belongs to another job."""
    published = context.objects.head(context.destination.bucket, result_key)
    return published is not None and is_result(published) and published.metadata[JOB] != job_id


def check_place(context: RunContext, job: Job) -> None:
    """Check, before anything is paid for, that the result's key is free or has an older result of the document.

    Raises:
        DocumentFault: something else occupies it.
    """
    bucket, _, key = job.result.removeprefix("s3://").partition("/")
    _look(context, job, bucket, key)
    if context.options.text:
        _look(context, job, bucket, text_key(key))
    if context.options.pdf:
        _look(context, job, bucket, pdf_key(key))


def _look(context: RunContext, job: Job, bucket: str, key: str) -> Described | None:
    existing = context.objects.head(bucket, key)
    if existing is not None and not _is_of_same_variant(existing, job):
        owner = existing.metadata.get("source", "an object that this program did not write")
        raise DocumentFault(
            FailureCode.RESULT_TAKEN,
            f"its result belongs at s3://{bucket}/{key}, but that key is taken by {owner}: "
            "use a separate destination for each source, or move the object there away",
            retry_helps=True,
        )
    return existing


def _write(
    context: RunContext, job: Job, file: Path, pages: int, bucket: str, key: str, media_type: str
) -> Literal["written", "replaced", "renewed", "superseded"]:
    """Write a result to a free key or over an older result of the document, unless a newer version's result is there.

    Returns:
        "renewed" if this job had a result before: an earlier attempt wrote it, or the document is done again.
    """
    for attempt in range(1 + _ATTEMPTS):
        # The first attempt skips the HEAD: if the key is taken, the conditional write fails.
        existing = _look(context, job, bucket, key) if attempt else None
        if existing is not None and _newer(context, existing, job):
            return "superseded"
        own = existing is not None and existing.metadata.get(JOB) == job.id
        if own:
            _prove_current(context, job)
        if existing is not None and _is_already_written(existing, job, pages):
            return "renewed"
        etag = existing.etag if existing else None
        if context.objects.put_file(bucket, key, file, _provenance(job, pages), media_type, over=etag):
            if existing is None:
                return "written"
            return "renewed" if own else "replaced"
    raise TransientFault(f"other workers keep writing the result of {job.document.uri}")


def _is_already_written(existing: Described, job: Job, pages: int) -> bool:
    """Whether an earlier attempt has written the result of this job.

    A document that is done again has the same job id as before, but other requests. Without requests, nothing tells the
    two results apart, so the result is written again.
    """
    return bool(job.requests) and _provenance(job, pages).items() <= existing.metadata.items()


def _prove_current(context: RunContext, job: Job) -> None:
    """Check that the document has not been done again since this job was claimed: that result is newer.

    Raises:
        Superseded: it has.
    """
    if not context.ledger.is_current(job):
        raise Superseded(job.id)


def _newer(context: RunContext, existing: Described, job: Job) -> bool:
    """Whether an existing result belongs to a newer version of the document than this job's."""
    if existing.metadata.get(JOB) == job.id:
        return False
    source = context.objects.head(job.document.bucket, job.document.key)
    if source is not None and source.etag == job.document.etag:
        return False
    # Neither may be the newest. S3 reports modification times in whole seconds; a tie keeps the existing result.
    return datetime.fromisoformat(existing.metadata[_MODIFIED]) >= job.document.last_modified


def _is_of_same_variant(existing: Described, job: Job) -> bool:
    """Whether an object is a result of the same document, model and schema, in any version."""
    if existing.metadata.get(_SOURCE_ID) != _source_id(job):
        return False
    # Keys of variants can collide: model "ocr-1" with schema "google", and a model called "ocr-1.google".
    etag = existing.metadata.get("source-etag", "")
    return existing.metadata.get(JOB) == job_id_of(job.document, etag, job.model, job.answer_schema, job.text_layers)


def _source_id(job: Job) -> str:
    """A short identifier of the result's document: metadata has no room for long keys."""
    return hashlib.sha256(job.document.uri.encode()).hexdigest()[:40]


def _provenance(job: Job, pages: int) -> dict[str, str]:
    """The provenance of a result as object metadata (ASCII, so the address is percent-encoded)."""
    metadata = {
        JOB: job.id,
        _SOURCE_ID: _source_id(job),
        _MODIFIED: job.document.last_modified.isoformat(),
        "source-etag": job.document.etag,
        "pages": str(pages),
        "requests": str(len(job.requests)),
        # The first few; the ledger's record lists all.
        "request-ids": ",".join(quote(request.id)[:64] for request in job.requests[:8]),
    }
    if job.text_layers is not None:
        metadata["pages-from-text"] = str(sum(map(len, job.text_pages)))
    source = quote(job.document.uri, safe="/:")
    if len(source) <= _LONGEST_SOURCE:
        metadata["source"] = source
    return metadata


def _not_billed(measured: Measured | None) -> Measured | None:
    """The measurements of a copied result, without billed pages: those were billed for the original."""
    return None if measured is None else Measured.model_validate({**dict(measured), "billed_pages": 0})


def _variant(job: Job) -> str:
    return "/".join(filter(None, (job.model, job.answer_schema, job.text_layers)))


def reuse_identical(context: RunContext, held_job: HeldJob, content: str, folder: Path) -> Outcome | None:
    """Copy the result of a document with the same bytes, if there is one.

    Returns:
        The outcome of the job; None if the document must be recognised itself, as the original for later copies.
    """
    job, ledger, since = held_job.job, context.ledger, context.clock.now()
    try:
        owner = ledger.claim_content(content, _variant(job), job.id)
    except RecordUnreadable as unreadable:
        log.warning("%s; recognising %s instead of copying", unreadable, job.document.uri)
        return None
    if owner == job.id:
        return None
    done = ledger.done(owner)
    if done is not None:
        bucket, _, key = done.job.result.removeprefix("s3://").partition("/")
        described = context.objects.head(bucket, key)
        if described is not None and described.metadata.get(JOB) == owner:
            copy = folder / "copy.json"
            try:
                context.objects.fetch(bucket, key, described.etag, copy)
            except DocumentChanged as changed:  # the result, not the document: it was replaced or deleted
                ledger.close(held_job.written)
                return held_job.outcome("later", f"the result to copy is no longer there: {changed}")
            text = folder / "copy.txt" if context.options.text else None
            if text is not None:
                write_text(copy, text)
            pages = Pages(copy, text, done.pages, PageSources(reused=done.pages), since, _not_billed(done.measured))
            return publish(context, held_job, pages, copied_from=owner)
    elif ledger.read(owner) is not None:
        ledger.close(held_job.written)
        return held_job.outcome("later", f"job {owner} is recognising a document with the same bytes")
    if ledger.take_content(content, _variant(job), job.id, owner):
        return None
    ledger.close(held_job.written)
    return held_job.outcome("later", "another document with the same bytes came first")
