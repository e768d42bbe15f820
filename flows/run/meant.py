"""Which documents, and so which open jobs, a run is about: its selection, asked of a job instead of a listing."""

from collections.abc import Iterable, Iterator

from tasks.context import RunContext
from tasks.job.record import Document
from tasks.selection import EVERYTHING
from tasks.steps.discover import is_in_source
from tasks.store.listings import is_address, object_address
from tasks.tally import KnownJobs


class Meant:
    """Tells the jobs that a run is about from those that others have left open at its destination.

    Without a selection, a run is about all of them.

    Args:
        context: the tools.
        known: which documents the run has met so far.
    """

    def __init__(self, context: RunContext, known: KnownJobs) -> None:
        self._context = context
        self._known = known
        selection = context.settings.selection
        self._keys = {object_address(key)[1] if is_address(key) else key for key in selection.key}
        self._listed = bool(selection.manifest or selection.inventory)

    def document(self, document: Document) -> bool:
        """Whether the run is about a document, as far as that can be told without a manifest or an inventory."""
        context, selection = self._context, self._context.settings.selection
        if context.settings.source is None or selection == EVERYTHING or self._listed:
            return True
        source = context.source
        if document.bucket != source.bucket or not is_in_source(context, document.key):
            return False
        if self._keys and document.key not in self._keys:
            return False
        return selection.takes(source.relative(document.key), document.size, document.last_modified)

    def jobs(self, job_ids: Iterable[str]) -> Iterator[str]:
        """Those of some jobs whose documents a manifest or an inventory names, where there is one; else all."""
        return (job_id for job_id in job_ids if not self._listed or self._known.met(job_id))
