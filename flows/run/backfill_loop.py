"""The loop of a backfill: when to list documents, when to survey the open jobs, and when to end."""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from flows.run.dispatch import Stage
from flows.run.steering import Steering
from tasks.context import RunContext
from tasks.faults import NotSending, TransientFault
from tasks.job.record import Document
from tasks.tally import Tally

if TYPE_CHECKING:
    from flows.run.pumps import Pumps

log = logging.getLogger(__name__)

_TROUBLE_SECONDS = 30.0
_TROUBLES = 20
_LISTINGS = 3

_NONE: tuple[Stage, ...] = ()
_SUBMIT: tuple[Stage, ...] = ("submit",)

Documents = Callable[[], Iterator[Document | None]]


class _Troubles:
    """Consecutive transient faults: work continues after a pause, unless there are too many."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self.until = 0.0

    def record_fault(self, fault: TransientFault, now: float) -> None:
        """Record a fault.

        Raises:
            TransientFault: it was one too many.
        """
        self._in_a_row += 1
        if self._in_a_row == _TROUBLES:
            raise fault
        self.until = now + _TROUBLE_SECONDS
        log.warning("%s; going on in %g s", fault, _TROUBLE_SECONDS)

    def clear(self) -> None:
        """Record a success."""
        self._in_a_row = 0


class BackfillLoop:
    """Submits, polls and collects until every document is done or failed, or nothing more can be done.

    The loop ends when the listing is exhausted and nothing is open, confirmed by a last survey of the ledger. Meanwhile

    - the account may be refused: jobs that are finished at the API are still collected, once (`closing`);
    - the backfill may be paused: waiting documents are dropped, and listed again when it is resumed (`held`);
    - documents may have to wait until the API has counted others, lest they exceed a ceiling;
    - the run may reach its limit of documents (`limited`).

    Args:
        pumps: moves the documents.
        context: the run's context.
        tally: the run's counts.
        steering: the backfill that the run serves.
        documents: lists the new documents; yields None for documents that are not new, so that the loop can go on.
        open_jobs: number of jobs open at the beginning.
        limit: maximum number of documents to send.
    """

    def __init__(
        self,
        pumps: "Pumps",
        context: RunContext,
        tally: Tally,
        steering: Steering,
        documents: Documents,
        open_jobs: int,
        limit: int | None = None,
    ) -> None:
        self._pumps, self._tally, self._steering = pumps, tally, steering
        self._context, self._clock = context, context.clock
        self._documents, self._open_before, self._limit = documents, open_jobs, limit
        self._listing: Iterator[Document | None] | None = documents()
        self._listings = 1
        self._taken = 0
        self._lists_on = False  # whether the listing has more, and there is room for it
        self._held = self._limited = False
        self._listing_troubles, self._looking_troubles, self._record_troubles = _Troubles(), _Troubles(), _Troubles()
        self._looked_at: float | None = None
        self._closing_at: float | None = None

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            Fault: the run ends.
        """
        while True:
            now = self._clock.monotonic()
            self._heed_refusal(now)
            self._pumps.give_up_counts()
            self._heed_pause()
            self._list(now)
            self._heed_limit()
            self._look(now)
            self._pumps.send_awaiting()
            self._pumps.fill()
            next_ = self._next(now)
            if next_ == "over":
                return
            if next_ == "turn":
                complete = self._listing is None or self._pumps.awaiting_counts
                self._pumps.turn(_SUBMIT if complete else _NONE, wait=not self._lists_on)

    def _heed_refusal(self, now: float) -> None:
        if self._tally.refused and self._closing_at is None:
            self._closing_at = now
            self._pumps.look_by(now)

    def _heed_pause(self) -> None:
        if self._held and self._pumps.sending:  # the dropped documents are listed again
            self._listing, self._held = self._documents(), False
        if not self._pumps.sending:
            self._listing, self._held = None, self._tally.sending
            self._taken -= self._pumps.drop_documents()

    def _list(self, now: float) -> None:
        """Take documents from the listing, as many as window and limit allow."""
        self._lists_on = False
        if self._listing is None or self._pumps.awaiting_counts or now < self._listing_troubles.until:
            return
        open_now = self._open_before if self._looked_at is None else self._pumps.open_jobs
        queued = self._pumps.submitting
        try:
            room = self._steering.window - open_now - self._pumps.submitting
            if self._limit is not None:
                room = min(room, self._limit - self._taken)
            added, more, has_room = self._pumps.take_listed(self._listing, room)
        except TransientFault as fault:
            self._listing_troubles.record_fault(fault, now)
            self._listing = self._documents()  # a failed listing cannot be continued
            self._taken += self._pumps.submitting - queued  # what it yielded before it failed is sent
            return
        self._listing_troubles.clear()
        self._taken += added
        self._limited = more and self._taken == self._limit
        if self._limited or not more:
            self._listing = None
        self._lists_on = self._listing is not None and has_room

    def _heed_limit(self) -> None:
        if self._limited and not self._pumps.submitting:
            self._tally.stop_sending(f"{self._limit} documents were taken, which is the limit of this run")

    def _look(self, now: float) -> None:
        """Survey all open jobs when a survey is due, and take in the jobs that are due."""
        if self._closing:
            return
        if now >= max(self._pumps.look_at, self._looking_troubles.until):
            try:
                self._pumps.look()
                self._looked_at = now
                self._looking_troubles.clear()
            except TransientFault as fault:
                self._looking_troubles.record_fault(fault, now)
        self._pumps.take_due()

    @property
    def _closing(self) -> bool:
        """Whether the account was refused and the one survey after that has been made."""
        return self._closing_at is not None and self._looked_at is not None and self._looked_at >= self._closing_at

    def _next(self, now: float) -> Literal["over", "turn", "list anew"]:
        if not self._pumps.idle:
            return "turn"
        if self._closing_at is not None:
            return "over" if self._closing else "turn"
        if self._pumps.open_jobs:
            return "turn"
        if not self._pumps.looked_anew:
            self._pumps.look_soon()
            return "turn"
        if self._pumps.awaiting_counts:
            return "list anew"  # tried once more, alone
        if self._tally.stopped or (self._held and self._paused(now)):
            return "over"
        if self._held:
            return "turn"
        return "turn" if self._listing is not None else self._after_the_last(now)

    def _paused(self, now: float) -> bool:
        """Whether the backfill is paused; if its record cannot be read for a moment, nobody has paused it.

        Raises:
            TransientFault: its record has been unreadable for too long.
        """
        try:
            self._context.prove_sends(self._context.settings.backfill)
        except NotSending:
            return True
        except TransientFault as fault:
            if now >= self._record_troubles.until:
                self._record_troubles.record_fault(fault, now)
        else:
            self._record_troubles.clear()
        return False

    def _after_the_last(self, now: float) -> Literal["over", "turn", "list anew"]:
        """After everything listed has ended: check what is left, and list again if documents were left for later."""
        try:
            settled = self._pumps.settle_vanished()
            redone = self._pumps.take_redone() if settled else 0
        except TransientFault as fault:
            self._looking_troubles.record_fault(fault, now)
            settled, redone = False, 0
        if not settled:
            self._pumps.look_soon(anew=True)
            return "turn"
        if redone:
            log.info("listing the source again: %d documents are to be done again", redone)
            self._listing = self._documents()
            return "list anew"
        left = self._tally.known.unclaimed()
        if not left or self._listings == _LISTINGS:
            return "over"
        # Documents that changed while they were processed, or that a transient fault kept from being sent.
        log.info("listing the source again: %d documents were left for later", left)
        self._listing, self._listings = self._documents(), self._listings + 1
        return "list anew"
