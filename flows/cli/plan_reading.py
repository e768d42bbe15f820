"""How `plan` and `--dry-run` count the pages of a document: by parts of it, where that is enough."""

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

_LARGE = 4_000_000  # bytes, from which on a few calls are cheaper than the whole document


def _look_partly(context: RunContext, document: Document) -> Inspected | Fault | None:
    """Count the pages of a large document by ranged reads; None where it takes the whole of it."""
    options, objects = context.options, context.objects
    if document.size < _LARGE or options.skip_text:
        return None

    def read(start: int, length: int) -> bytes:
        return objects.read_part(document.bucket, document.key, document.etag, start, length)

    ranged = RangedFile(read, document.size)
    try:
        looked = inspect_partly(opened(ranged), _limits(options))
        if looked is None or ranged.given_up:
            return None
        check_size(looked, document.size, options.limits.bytes)
    except CredentialsRefused:
        raise
    except Fault as fault:
        return fault
    return looked


def _limits(options: Options) -> InspectionLimits:
    return InspectionLimits(options.limits.pixels, options.limits.dpi, options.refuse_restricted)


def look_into(context: RunContext, document: Document) -> Inspected | Fault:
    """Count the pages of a document in S3, reading as little of it as that takes.

    Args:
        context: the tools of the run that is planned.
        document: the document.

    Returns:
        What is known of it, or why it would fail or could not be read now.

    Raises:
        CredentialsRefused: the store refuses the credentials altogether.
    """
    partly = _look_partly(context, document)
    if partly is not None:
        return partly
    limits = context.options.limits
    with context.scratch() as folder:
        file = folder / "document"
        try:
            context.objects.fetch(document.bucket, document.key, document.etag, file)
            looked = inspect_document(
                file,
                document.key,
                _limits(context.options),
            )
            check_size(looked, document.size, limits.bytes)
            looked = with_text_pages(file, looked, context.options)
        except CredentialsRefused:
            raise
        except Fault as fault:
            return fault
    return looked


def with_text_pages(file: Path, looked: Inspected, options: Options) -> Inspected:
    """What is known of a document, with the pages that hold their text; where these are skipped, they do not count."""
    text_pages = count_text_pages(file, looked, trust_ocr_layers=options.trust_ocr_layers)
    if not text_pages or looked.pages is None:
        return looked
    left = looked.pages - text_pages if options.skip_text else looked.pages
    return replace(looked, text_pages=text_pages, pages=left, estimate=left)
