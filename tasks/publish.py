"""Publishing: writing a result where it belongs, and closing its job.

A newer version of a document is a job of its own with the same result key. Whichever job ends last, the result of
the newest version stays: the result is written conditionally, over nothing or over an older one.
"""

import logging
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tasks.faults import MomentFault
from tasks.models import DoneJob, Job
from tasks.outcomes import Outcome
from tasks.session import Session
from tasks.store.ledger import Held
from tasks.store.objects import Described

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_LONGEST_SOURCE = 900  # S3 allows 2 KB of user metadata in all
_JOB = "bulk-ocr-job"
_MODIFIED = "source-modified"


def publish(
    session: Session, held: Held, result: Path, pages: int, words: int, *, copied_from: str | None = None
) -> Outcome:
    """Write the result of a job and close it.

    Raises:
        MomentFault: the result could not be written; the job stays open.
    """
    job = held.job
    bucket, _, key = job.result.removeprefix("s3://").partition("/")
    superseded = not _write(session, job, result, pages, bucket, key)
    done = DoneJob(
        job=job.model_copy(update={"lease": None}),
        pages=pages,
        finished_at=session.clock.now(),
        superseded=superseded,
        copied_from=copied_from,
        flow_run=session.flow_run,
    )
    session.ledger.finish(held, done)
    if superseded:
        log.info("%s: a newer version of it is published already; this one is not", job.document.uri)
    else:
        log.info("%s: published %d pages at %s", job.document.uri, pages, job.result)
    return Outcome("done", job.id, job.document.uri, pages=pages, words=words, result=job.result)


def _write(session: Session, job: Job, result: Path, pages: int, bucket: str, key: str) -> bool:
    """Write the result; False when that of a newer version is there."""
    for _ in range(_ATTEMPTS):
        there = session.objects.head(bucket, key)
        if there is not None and _newer(there, job):
            return False
        if session.objects.put_file(bucket, key, result, _provenance(job, pages), there.etag if there else None):
            return True
        there = session.objects.head(bucket, key)
        if there is not None and there.metadata.get(_JOB) == job.id:
            return True
    raise MomentFault(f"others keep writing the result of {job.document.uri}")


def _newer(there: Described, job: Job) -> bool:
    try:
        modified = datetime.fromisoformat(there.metadata.get(_MODIFIED, ""))
    except ValueError:
        return False  # not written by us: the user's, or from before; results are ours to write
    return there.metadata.get(_JOB) != job.id and modified > job.document.last_modified


def _provenance(job: Job, pages: int) -> dict[str, str]:
    """Where a result came from, as object metadata (ASCII, so the address is percent-encoded)."""
    metadata = {
        _JOB: job.id,
        _MODIFIED: job.document.last_modified.isoformat(),
        "source-etag": job.document.etag,
        "pages": str(pages),
        "requests": str(len(job.requests)),
        # The first few; the ledger's record has them all.
        "request-ids": ",".join(quote(request.id)[:64] for request in job.requests[:8]),
    }
    source = quote(job.document.uri, safe="/:")
    if len(source) <= _LONGEST_SOURCE:
        metadata["source"] = source
    return metadata


def reuse_identical(session: Session, held: Held, content: str, folder: Path) -> Outcome | None:
    """Copy the result of a document with the same bytes, where there is one.

    Returns:
        What became of the job; None when it has to be recognised itself, which it then does for later ones.
    """
    job, ledger = held.job, session.ledger
    owner = ledger.claim_content(content, job.model, job.id)
    if owner == job.id:
        return None
    done = ledger.done(owner)
    if done is not None:
        bucket, _, key = done.job.result.removeprefix("s3://").partition("/")
        there = session.objects.head(bucket, key)
        if there is not None and there.metadata.get(_JOB) == owner:
            copy = folder / "copy.json"
            session.objects.fetch(bucket, key, there.etag, copy)
            return publish(session, held, copy, done.pages, 0, copied_from=owner)
    elif ledger.read(owner) is not None:
        ledger.close(held)
        message = f"its bytes are those of a document that job {owner} recognises now"
        return Outcome("later", job.id, job.document.uri, message=message)
    if ledger.take_content(content, job.model, job.id, owner):
        return None
    ledger.close(held)
    return Outcome("later", job.id, job.document.uri, message="another document with the same bytes was first")
