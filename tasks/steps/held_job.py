"""A job whose lease this worker holds: writes its changes, and adds up their counts."""

import logging
from dataclasses import replace

from tasks.context import RunContext
from tasks.faults import CredentialsRefused, Fault, Superseded
from tasks.job import transitions
from tasks.job.outcome import Kind, Outcome
from tasks.job.transitions import NOTHING, Change, Counts
from tasks.store.ledger import Held

log = logging.getLogger(__name__)


class HeldJob:
    """A leased job during a step.

    Args:
        context: the run's context.
        held: the record, leased to this worker.

    Attributes:
        job: the job, including changes that are not written yet.
        written: the record as last written.
        counts: the counts of this step's changes.
        unrecorded: whether the API may have accepted pages that the record does not mention.
    """

    def __init__(self, context: RunContext, held: Held) -> None:
        self._context = context
        self._rounds_before = held.job.rounds
        self._uncounted_before = held.job.pages is None
        self.written = held
        self.job = held.job
        self.counts: Counts = NOTHING
        self.unrecorded = False

    def stage(self, change: Change) -> None:
        """Apply a change that is written together with the next one, to save a write."""
        self.job = change.job
        self.counts += change.counts

    def write(self, change: Change) -> None:
        """Apply a change and write it.

        Raises:
            Superseded: another worker took the job over; the change is not counted.
            TransientFault, SetupFault: it could not be written.
        """
        self.written = self._context.ledger.update(self.written, change.job)
        self.job = change.job
        self.counts += change.counts

    def take(self, held: Held, counts: Counts) -> None:
        """Adopt a record that the ledger has written with a change of this step."""
        self.written, self.job = held, held.job
        self.counts += counts

    @property
    def sent_something(self) -> bool:
        """Whether anything was fully sent in this step."""
        return self.counts.requests > 0 or self.counts.pages_lost > 0

    def release(self) -> None:
        """Release the job for a later pass. If it has nothing at the API, its claim is removed as well.

        If pages may have been accepted and this could not be recorded, the lease is left to expire: it says "posting",
        so the worker that takes the job over counts the possible duplicate.
        """
        if self.unrecorded:
            return
        job = self.written.job
        try:
            if job.untouched:
                self._context.ledger.close(self.written)
            else:
                counts = self.sent_something or job.rounds == self._rounds_before
                self.written = self._context.ledger.update(
                    self.written, transitions.released(job, round_counts=counts).job
                )
        except Superseded:
            log.info("%s: another worker took it over", job.document.uri)
        except CredentialsRefused:
            raise
        except Fault as fault:  # pages that were sent must be counted nevertheless
            log.warning("%s could not be released (%s); its lease will expire", job.document.uri, fault)

    def plus(self, outcome: Outcome) -> Outcome:
        """Return an outcome with the counts of this step's changes added."""
        return replace(
            outcome,
            pages_sent=outcome.pages_sent + self.counts.pages_sent,
            requests=outcome.requests + self.counts.requests,
            possible_duplicates=outcome.possible_duplicates + self.counts.possible_duplicates,
            counted=outcome.counted or self._counted,
        )

    @property
    def _counted(self) -> bool:
        """Whether the page count became known in this step."""
        return self._uncounted_before and self.job.pages is not None

    def outcome(
        self,
        kind: Kind,
        message: str = "",
        *,
        budget_used_up: bool = False,
        meter: str = "",
        counts_awaited: bool = False,
        not_sending: bool = False,
        moved: bool = False,
    ) -> Outcome:
        """Return the job's outcome of this step."""
        if kind == "open":  # the next step need not read its record
            self._context.records.keep(self.written)
        return Outcome(
            kind,
            self.job.id,
            self.job.document.uri,
            pages_sent=self.counts.pages_sent,
            requests=self.counts.requests,
            possible_duplicates=self.counts.possible_duplicates,
            message=message,
            budget_used_up=budget_used_up,
            meter=meter,
            counts_awaited=counts_awaited,
            counted=self._counted,
            not_sending=not_sending,
            moved=moved,
        )
