"""Merges batches into one result in the form of a single synchronous answer, with one batch in memory at a time."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks.documents.results.batch import Form, form_of, page_count, shape_of
from tasks.documents.results.google_writers import DocumentWriter, ResponsesWriter
from tasks.documents.results.words import plain_text
from tasks.documents.results.writers import ClovaWriter, OwnWriter, ResultWriter
from tasks.faults import DocumentFault, FailureCode
from tasks.job.coverage import Share
from tasks.job.record import Measured

_WRITERS: dict[Form | None, type[ResultWriter]] = {
    writer.form: writer for writer in (OwnWriter, ClovaWriter, ResponsesWriter, DocumentWriter)
}


@dataclass(frozen=True)
class Merged:
    """The merged result."""

    pages: int
    measured: Measured

    @property
    def words(self) -> int:
        """The number of words."""
        return self.measured.words


def merge(
    shares: Sequence[Share], load: Callable[[Share], dict[str, Any]], to: Path, text_to: Path | None = None
) -> Merged:
    """Write the result of a document from the shares that cover it.

    Pages are numbered by their position in the document, regardless of the numbers in the batches. Other fields are
    kept unchanged; top-level fields come from the first batch, with page counts of the whole document.

    Args:
        shares: in page order, without holes; see `tasks.job.coverage`.
        load: returns the batch of a share, as checked by `read_batch`.
        to: the file to write.
        text_to: the file to write the plain text to, with a form feed between pages; see `PlainText`.

    Raises:
        DocumentFault: the batches cannot be merged into one result.
    """
    if not shares:
        raise _contradiction("there are no pages to publish")
    with ExitStack() as stack:
        out = stack.enter_context(to.open("w", encoding="utf-8"))
        plain = None if text_to is None else stack.enter_context(plain_text(text_to))

        def spool() -> IO[str]:
            return stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))

        alone = len(shares) == 1 and shares[0].pages == shares[0].piece.pages
        writer: ResultWriter | None = None
        shape = ""
        for share in shares:
            covered = writer.pages if writer else 0
            if share.pages.first != covered + 1:
                raise _contradiction(f"page {covered + 1} is not covered: nothing was published")
            answer = load(share)
            shape = _agreed(shape, shape_of(answer), share)
            if page_count(answer) != len(share.piece.pages):
                raise _contradiction(
                    f"{page_count(answer)} pages arrived for pages {share.piece.pages}: nothing was published"
                )
            writer = writer or _WRITERS[form_of(answer)](out, spool, plain, alone)
            writer.add(answer, share)
            del answer  # before the next one is read, so that only one batch is in memory
        assert writer is not None
        writer.end()
        return Merged(writer.pages, writer.measured)


def _agreed(before: str, shape: str, share: Share) -> str:
    """Return the common shape of the result so far and another batch."""
    if before in ("", shape) or (before == "unknown" and shape in ("newer", "older")):
        return shape
    if shape == "unknown" and before in ("newer", "older"):  # nothing but blank pages
        return before
    raise _contradiction(
        f"pages {share.pages} arrived in the {_NAMES[shape]} answer shape, earlier pages in the {_NAMES[before]} "
        "one: they cannot be merged, and nothing was published"
    )


_NAMES = {
    "newer": "API's newer",
    "older": "API's older",
    "unknown": "API's own",
    Form.CLOVA: "clova",
    Form.RESPONSES: "google (responses)",
    Form.DOCUMENT: "google (one annotation)",
}


def _contradiction(reason: str) -> DocumentFault:
    return DocumentFault(FailureCode.WRONG_ANSWER, reason, retry_helps=True)
