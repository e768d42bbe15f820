"""Plain texts for results that were published without them. Costs no pages."""

import logging
from collections.abc import Iterator

from tasks.context import RunContext
from tasks.faults import EndsDocument
from tasks.steps.beside import bring_text_into_step
from tasks.store.location import LEDGER_FOLDER, result_suffix, text_key

log = logging.getLogger(__name__)


def write_missing_texts(context: RunContext) -> int:
    """Write the text beside every result of this model and schema that has none. Returns how many were written.

    Raises:
        TransientFault, SetupFault: S3 could not be read or written.
    """
    written = 0
    for key in _without_text(context):
        try:
            written += bring_text_into_step(context, key, missing_too=True)
        except EndsDocument as fault:  # one unreadable result must not prevent the other texts
            log.warning("s3://%s/%s: no text was written for it: %s", context.destination.bucket, key, fault)
    return written


def _without_text(context: RunContext) -> Iterator[str]:
    """Yield the results without a text, from the listing alone: the two are neighbours in key order."""
    options, ledger = context.options, LEDGER_FOLDER
    suffix = result_suffix(options.model, options.answer_schema, options.text_layers)
    waiting: list[str] = []
    for entry in context.objects.list(context.destination.bucket, context.destination.prefix):
        yield from (key for key in waiting if text_key(key) < entry.key)
        waiting = [key for key in waiting if text_key(key) > entry.key]
        if entry.key.endswith(suffix) and not entry.key.startswith(context.destination.key(ledger)):
            waiting.append(entry.key)
    yield from waiting
