"""The run's selection applied to open jobs: which of them the run is responsible for."""

from collections.abc import Iterable, Iterator

from tasks.context import RunContext
from tasks.job.record import Document
from tasks.selection import EVERYTHING
from tasks.steps.discover import is_in_source
from tasks.store.listings import is_address, object_address
from tasks.tally import KnownJobs


class Meant:
    """Distinguishes the jobs of a run's selection from others that are open at its destination.

    Without a selection, a run is responsible for all open jobs.

    Args:
        context: the run's context.
        known: the documents that the run has seen so far.
    """

    def __init__(self, context: RunContext, known: KnownJobs) -> None:
        self._context = context
        self._known = known
        selection = context.settings.selection
        self._keys = {object_address(key)[1] if is_address(key) else key for key in selection.key}
        self._listed = bool(selection.manifest or selection.inventory)

    def document(self, document: Document) -> bool:
        """Whether a document is selected. With a manifest or an inventory, always True: see `jobs`."""
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
        """Yield the jobs whose documents are in the manifest or inventory; all jobs if there is neither."""
        return (job_id for job_id in job_ids if not self._listed or self._known.belongs_to_run(job_id))
