"""Clean-up of notes on documents that earlier runs set aside, once this run shows that they are obsolete."""

import logging

from tasks.context import RunContext
from tasks.faults import EndsRun, Fault
from tasks.job.outcome import Outcome
from tasks.selection import EVERYTHING
from tasks.store.aside import AsideNotes
from tasks.tally import KnownJobs

log = logging.getLogger(__name__)


class AsideBefore:
    """The documents that had been set aside when the run began.

    Args:
        context: the run's context.

    Attributes:
        all_listed: whether the selected documents have been listed completely.
    """

    def __init__(self, context: RunContext) -> None:
        self.all_listed = False
        self._context = context
        self._notes = AsideNotes(context.objects, context.destination)
        self._ids: set[str] = set()

    def load(self) -> None:
        """List the notes."""
        self._ids = set(self._notes.ids())

    def note(self, outcome: Outcome) -> None:
        """Remove the note of a document that this run has submitted or finished, or whose version is gone."""
        if outcome.kind in ("open", "done", "failed"):
            self._remove(outcome.job_id)
        if outcome.moved:  # that version is gone
            self._remove(outcome.listed_as or outcome.job_id)

    def prune(self, known: KnownJobs) -> None:
        """Remove the notes on documents that are finished and, if this run has listed everything, on missing ones."""
        settings, options = self._context.settings, self._context.options
        met_all = self.all_listed and settings.selection == EVERYTHING and options.shards == 1
        mine = (settings.source, options.model, options.answer_schema)
        for job_id in sorted(self._ids):
            if known.state(job_id) in ("done", "failed"):
                self._remove(job_id)
            if job_id not in self._ids or known.belongs_to_run(job_id) or not met_all:
                continue
            try:
                note = self._notes.read(job_id)
            except EndsRun:
                raise
            except Fault as fault:
                log.warning("a note on a document that was set aside cannot be read: %s", fault)
                return
            if note is not None and (note.source, note.model, note.answer_schema) == mine:
                self._remove(job_id)

    def _remove(self, job_id: str) -> None:
        if job_id not in self._ids:
            return
        self._ids.discard(job_id)
        try:
            self._notes.remove(job_id)
        except EndsRun:
            raise
        except Fault as fault:  # the next run sees it again
            log.warning("a note on a document that was set aside cannot be removed: %s", fault)
