"""Files beside a result: plain text and searchable PDF. They are made from the result and cost no pages."""

import logging
from collections.abc import Callable
from pathlib import Path

from tasks.context import RunContext
from tasks.documents.results.read import write_text
from tasks.faults import DocumentChanged, RecordUnreadable, TransientFault
from tasks.outputs.originals import Source, find_original, source_of_document, source_of_result
from tasks.outputs.searchable_pdf import MEDIA_TYPE, write_searchable_pdf
from tasks.store.location import pdf_key, text_key
from tasks.store.object_store import TEXT, Described

log = logging.getLogger(__name__)

JOB = "bulk-ocr-job"
"""The metadata key that holds the id of the job that wrote an object."""
_ATTEMPTS = 5


def is_result(described: Described) -> bool:
    """Whether an object was published by this program."""
    return JOB in described.metadata


def bring_text_into_step(context: RunContext, key: str, *, missing_too: bool, anew: bool = False) -> bool:
    """Rewrite the text beside a result if it belongs to another version of the document or an earlier result.

    Args:
        context: the run's context.
        key: the result's key.
        missing_too: also write the file if there is none.
        anew: also rewrite the file if nothing tells that it was made from an earlier result of the same job.

    Returns:
        Whether the file was written.

    Raises:
        DocumentFault: the result cannot be read.
    """

    def make(_: Described, result: Path, to: Path) -> None:
        write_text(result, to)

    return _bring_into_step(context, key, text_key(key), TEXT, make, missing_too=missing_too, anew=anew)


def bring_pdf_into_step(context: RunContext, key: str, *, missing_too: bool, anew: bool = False) -> bool:
    """Rewrite the searchable PDF beside a result if it belongs to another version of the document or an earlier result.

    If the document is gone, the PDF shows only its text.

    Args:
        context: the run's context.
        key: the result's key.
        missing_too: also write the file if there is none.
        anew: also rewrite the file if nothing tells that it was made from an earlier result of the same job.

    Returns:
        Whether the file was written.

    Raises:
        DocumentFault: the result or the document cannot be read.
        SetupFault: a library is missing.
    """

    def make(head: Described, result: Path, to: Path) -> None:
        with context.scratch() as folder:
            original = find_original(source_of(context, head), context.objects, folder)
            made = write_searchable_pdf(result, original.file, to, name=original.name, reason=original.reason)
            if made.text_only:
                log.warning(
                    "s3://%s/%s: its PDF contains only text: %s", context.destination.bucket, key, made.text_only
                )

    return _bring_into_step(context, key, pdf_key(key), MEDIA_TYPE, make, missing_too=missing_too, anew=anew)


def source_of(context: RunContext, result: Described) -> Source | None:
    """The document of a result: from its metadata, or from its job if the address was too long for metadata."""
    source = source_of_result(result.metadata)
    if source is None and is_result(result):
        try:
            done = context.ledger.done(result.metadata[JOB])
        except RecordUnreadable:
            return None
        source = None if done is None else source_of_document(done.job.document)
    return source


def _bring_into_step(
    context: RunContext,
    key: str,
    beside: str,
    media_type: str,
    make: Callable[[Described, Path, Path], None],
    *,
    missing_too: bool,
    anew: bool,
) -> bool:
    bucket = context.destination.bucket
    for _ in range(_ATTEMPTS):
        head, output = context.objects.head(bucket, key), context.objects.head(bucket, beside)
        if head is None or not is_result(head) or (output is None and not missing_too):
            return False
        if output is not None and not is_result(output):
            return False
        if output is not None and not anew and output.metadata == head.metadata:
            return False
        with context.scratch() as folder:
            try:
                context.objects.fetch(bucket, key, head.etag, folder / "result")
            except DocumentChanged:  # published again meanwhile
                continue
            make(head, folder / "result", folder / "output")
            over = output.etag if output is not None else None
            if context.objects.put_file(
                bucket, beside, folder / "output", head.metadata, media_type, over=over
            ) and _still(context, bucket, key, head):
                return True
    raise TransientFault(f"other workers keep writing the result at s3://{bucket}/{key} and the files beside it")


def _still(context: RunContext, bucket: str, key: str, head: Described) -> bool:
    now = context.objects.head(bucket, key)
    return now is not None and now.etag == head.etag
