"""Page counting for `plan` and `--dry-run`: reads only parts of a document if that is enough."""

from dataclasses import replace
from pathlib import Path

from tasks.context import RunContext
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document, inspect_partly
from tasks.documents.files.split import check_size
from tasks.documents.files.text_pages import count_text_pages
from tasks.faults import CredentialsRefused, Fault
from tasks.job.record import Document
from tasks.options import Options
from tasks.store.ranged import RangedFile, opened

_LARGE = 4_000_000  # bytes, from which on a few ranged reads are cheaper than the whole document


def _look_partly(context: RunContext, document: Document) -> Inspected | Fault | None:
    """Count the pages of a large document with ranged reads; None if the whole document is needed."""
    options, objects = context.options, context.objects
    if document.size < _LARGE or options.skip_text:
        return None

    def read(start: int, length: int) -> bytes:
        return objects.read_part(document.bucket, document.key, document.etag, start, length)

    ranged = RangedFile(read, document.size)
    try:
        inspected = inspect_partly(opened(ranged), _limits(options))
        if inspected is None or ranged.given_up:
            return None
        check_size(inspected, document.size, options.limits.bytes)
    except CredentialsRefused:
        raise
    except Fault as fault:
        return fault
    return inspected


def _limits(options: Options) -> InspectionLimits:
    return InspectionLimits(options.limits.pixels, options.limits.dpi, options.refuse_restricted)


def look_into(context: RunContext, document: Document) -> Inspected | Fault:
    """Count the pages of a document in S3, reading as little of it as possible.

    Args:
        context: the context of the planned run.
        document: the document.

    Returns:
        The inspected document, or the fault because of which it would fail or cannot be read now.

    Raises:
        CredentialsRefused: the store rejects the credentials.
    """
    partly = _look_partly(context, document)
    if partly is not None:
        return partly
    limits = context.options.limits
    with context.scratch() as folder:
        file = folder / "document"
        try:
            context.objects.fetch(document.bucket, document.key, document.etag, file)
            inspected = inspect_document(
                file,
                document.key,
                _limits(context.options),
            )
            check_size(inspected, document.size, limits.bytes)
            inspected = with_text_pages(file, inspected, context.options)
        except CredentialsRefused:
            raise
        except Fault as fault:
            return fault
    return inspected


def with_text_pages(file: Path, inspected: Inspected, options: Options) -> Inspected:
    """Add the number of pages with a text layer; if these are skipped, they do not count as pages to send."""
    text_pages = count_text_pages(file, inspected, trust_ocr_layers=options.trust_ocr_layers)
    if not text_pages or inspected.pages is None:
        return inspected
    left = inspected.pages - text_pages if options.skip_text else inspected.pages
    return replace(inspected, text_pages=text_pages, pages=left, estimate=left)
