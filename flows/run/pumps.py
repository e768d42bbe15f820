"""Submitting, polling and collecting at the same time: three lanes with bounded queues, and one loop that decides.

The loop is the flow's own thread: it lists, looks at the open jobs, and counts. What it learns of a job from the steps
themselves, it need not read in the ledger; a look at all open jobs, which also finds those of other runs, is made
twice a minute and whenever nothing else is left to do.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from flows.run.backfill_loop import BackfillLoop, Documents
from flows.run.dispatch import STAGES, Dispatcher, Ended, Stage
from flows.run.meant import Meant
from flows.run.steering import Steering
from tasks.context import RunContext
from tasks.faults import Cancelled, Passes, RecordUnreadable
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.steps.discover import several
from tasks.steps.poll import OpenJobs, Survey
from tasks.store.ledger import Held, State
from tasks.tally import Tally

log = logging.getLogger(__name__)

_LOOK_SECONDS = 30.0
_SHORTEST_PAUSE = 0.05
_LONGEST_WAIT = 1.0  # between two looks whether the run is being ended
_LOOKS_AT_ONCE = 16
_LISTING_SECONDS = 0.5  # the other lanes wait no longer for a listing in which nothing is new
_POLL_SECONDS_A_PASS = 60

_DOING: dict[Stage, str] = {"submit": "submitting", "poll": "polling", "collect": "collecting"}

_NONE: tuple[Stage, ...] = ()
_SUBMIT: tuple[Stage, ...] = ("submit",)

Count = Callable[..., None]


class Pumps:
    """Moves documents through the lanes.

    Args:
        context: the tools.
        tally: what the run has done so far.
        dispatcher: starts task runs.
        open_jobs: looks at the open jobs.
        meant: tells which jobs the run is about.
        steering: the backfill that the run serves.
        take: counts what a task run gave.
        show: tells whoever watches what goes on.
    """

    def __init__(
        self,
        context: RunContext,
        tally: Tally,
        dispatcher: Dispatcher,
        open_jobs: OpenJobs,
        meant: Meant,
        steering: Steering,
        take: Count,
        show: Callable[[str], None],
    ) -> None:
        self._context, self._tally, self._dispatcher = context, tally, dispatcher
        self._open_jobs, self._meant, self._steering = open_jobs, meant, steering
        self._take, self._show = take, show
        self._busy: set[str] = set()  # jobs that wait in a lane, or that a step works on
        self._open: set[str] = set()  # jobs that are open, as far as we know, and that the run waits for
        self._due: deque[Held] = deque()
        self._ready: deque[Held] = deque()
        self._survey = Survey()
        self._fresh = False  # whether nothing has ended since the last look
        self._look_at = 0.0
        self._looked_at = -_LOOK_SECONDS

    # One pass

    def submit(self, documents: Iterator[Document], most: int, heed: Callable[[Outcome], None]) -> int:
        """Submit up to `most` documents, and wait until that is done. Returns how many were taken.

        Raises:
            Fault: the listing failed, or the run ends. What was being sent has ended.
        """
        taken, exhausted = 0, False
        try:
            while not (exhausted and self._dispatcher.idle):
                room = self._dispatcher.room("submit")
                while not exhausted and room:
                    document = next(documents, None) if taken < most and self.sending else None
                    exhausted = document is None
                    if document is not None and self._add_document(document):
                        taken, room = taken + 1, room - 1
                self.turn(_SUBMIT if exhausted else _NONE, heed)
        except Passes:
            # What is being sent has to end first, or whoever looks next would take it for dead.
            for ended in self._dispatcher.drain():
                self._count(ended, heed)
            raise
        return taken

    def collect(self) -> Survey:
        """Poll the jobs that are due, and collect those that are finished. Returns how things stood before."""
        self.look()
        # So many as the rate limit lets through in about a minute: the next pass goes on.
        most = max(self._context.options.workers, int(_POLL_SECONDS_A_PASS * self._dispatcher.requests_per_second))
        self._due = deque(list(self._due)[:most])
        while self._due or self._ready or not self._dispatcher.idle:
            self.fill()
            self.turn(_NONE if self._due else STAGES)
        return self._survey

    # A backfill

    def run(self, documents: Documents, open_jobs: int, limit: int | None = None) -> None:
        """Submit, poll and collect until every document is done or failed; see `BackfillLoop`."""
        BackfillLoop(self, self._context, self._tally, self._steering, documents, open_jobs, limit).run()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nothing is known to be done."""
        return self._dispatcher.idle and not (self._due or self._ready)

    @property
    def sending(self) -> bool:
        """Whether documents may be sent at present.

        Raises:
            SetupFault: the backfill's record cannot be read.
        """
        return self._tally.sending and self._steering.sends

    @property
    def submitting(self) -> int:
        """How many documents wait to be sent, or are being sent."""
        return self._dispatcher.items("submit")

    @property
    def open_jobs(self) -> int:
        """How many jobs are open that the run waits for."""
        return len(self._open)

    @property
    def looked_anew(self) -> bool:
        """Whether nothing has ended since the last look at all open jobs."""
        return self._fresh

    @property
    def look_at(self) -> float:
        """When all open jobs are to be looked at again."""
        return self._look_at

    def look_by(self, moment: float) -> None:
        """Let all open jobs be looked at by then."""
        self._look_at = moment

    def take_due(self) -> None:
        """Take in the jobs that are due by now, as far as their records are at hand."""
        self._sort(self._open_jobs.due())

    def settle_vanished(self) -> bool:
        """Find out what became of jobs that were open, and that the last look has not found.

        Another run has finished them, or has given back what it had claimed and not sent: such a document is as new as
        any other, and is listed again.

        Returns:
            Whether that is known of all. It is not of one whose record is closed, until that is deleted.
        """
        known, settled = self._tally.known, True
        vanished = [job_id for job_id in known.open_jobs() if job_id not in self._open]
        for job_id, state in several(self._state, vanished, _LOOKS_AT_ONCE):
            match state:
                case "done" | "failed":
                    known.settle_elsewhere(job_id, state)
                case "closed":
                    settled = False
                case None:
                    known.give_back(job_id)
        return settled

    def _state(self, job_id: str) -> State | Literal["closed"] | None:
        """How a job stands in the ledger."""
        ledger = self._context.ledger
        ended: tuple[State, ...] = ("done", "failed")
        for state in ended:
            if ledger.entry(state, job_id) is not None:
                return state
        try:
            held = ledger.read(job_id)
        except RecordUnreadable:  # it is left alone
            return "open"
        return None if held is None else "closed" if held.job.closed is not None else "open"

    def take_listed(self, listing: Iterator[Document | None], room: int) -> tuple[int, bool]:
        """Take documents from the listing, as many as there is room for.

        Returns:
            How many, and whether there may be more.
        """
        room, added = min(room, self._dispatcher.room("submit")), 0
        until = self._context.clock.monotonic() + _LISTING_SECONDS
        while added < room and self._context.clock.monotonic() < until:
            try:
                document = next(listing)
            except StopIteration:
                return added, False
            if document is not None:
                added += self._add_document(document)
        return added, True

    def _add_document(self, document: Document) -> bool:
        """Let a document wait to be submitted, unless it does already: a listing that is begun anew has it again."""
        job_id = self._context.job_id(document)
        if job_id in self._busy:
            return False
        self._busy.add(job_id)
        self._dispatcher.add("submit", [document])
        return True

    def drop_documents(self) -> int:
        """Give back the documents that wait to be submitted. Returns how many."""
        documents = [document for document in self._dispatcher.drop("submit") if isinstance(document, Document)]
        self._busy.difference_update(self._context.job_id(document) for document in documents)
        return len(documents)

    def look(self) -> None:
        """Look at all open jobs."""
        self._context.check_clock()
        tally, clock, options = self._tally, self._context.clock, self._context.options
        survey = self._open_jobs.survey(self._busy.__contains__)
        tally.note_survey(survey.unreadable, survey.expiring)
        found: set[str] = set()
        for job_id in self._meant.jobs(survey.open):
            # A job whose document is not listed (any more) is seen to as well: it is paid for.
            tally.known.count(job_id, "open")
            if not tally.known.is_left(job_id):
                found.add(job_id)
        self._open = found | (self._open & self._busy)
        self._survey, self._fresh, self._looked_at = survey, True, clock.monotonic()
        wait = _LOOK_SECONDS
        if survey.look_at is not None:
            wait = min(wait, max(_SHORTEST_PAUSE, (survey.look_at - clock.now()).total_seconds()))
        self._look_at = self._looked_at + max(wait, min(options.poll_seconds, _LOOK_SECONDS) if not found else 0)
        self._sort(survey)

    def look_soon(self, *, anew: bool = False) -> None:
        """Look at all open jobs as soon as that makes sense again; `anew` doubts what the last look has shown."""
        self._fresh = self._fresh and not anew
        pause = max(_SHORTEST_PAUSE, min(self._context.options.poll_seconds, _LOOK_SECONDS))
        self._look_at = min(self._look_at, self._looked_at + pause)

    def _sort(self, survey: Survey) -> None:
        """Take in the jobs for which there is something to do."""
        for jobs, queue in ((survey.due, self._due), (survey.ready, self._ready)):
            for held in jobs:
                if held.job.id not in self._busy and not self._tally.known.is_left(held.job.id):
                    self._busy.add(held.job.id)
                    queue.append(held)

    def fill(self) -> None:
        """Move jobs into the lanes, as far as there is room."""
        lanes: tuple[tuple[Stage, deque[Held]], ...] = (("collect", self._ready), ("poll", self._due))
        for stage, queue in lanes:
            # No more is polled than is collected soon: a poll's download URLs live for minutes.
            if stage == "poll" and self._ready:
                return
            room = self._dispatcher.room(stage)
            self._dispatcher.add(stage, [queue.popleft() for _ in range(min(room, len(queue)))])

    def turn(self, at_once: Collection[Stage], heed: Callable[[Outcome], None] = lambda _: None) -> None:
        """Start what can be started, wait for something to happen, and count what has ended.

        Args:
            at_once: the stages for which nothing else will come.
            heed: gets what became of each document.
        """
        clock = self._context.clock
        seconds = min(self._dispatcher.start(at_once), self._seconds_to_wait())
        self._show(self._doing())
        ended = self._dispatcher.next(seconds)
        while ended is not None:
            self._count(ended, heed)
            ended = self._dispatcher.next(0)
        if clock.ended:
            raise Cancelled("the run is being ended; what was sent is on record")

    def _seconds_to_wait(self) -> float:
        clock = self._context.clock
        seconds = min(_LONGEST_WAIT, self._look_at - clock.monotonic())
        if (due := self._open_jobs.next_due) is not None:
            seconds = min(seconds, (due - clock.now()).total_seconds())
        return max(_SHORTEST_PAUSE, seconds)

    def _doing(self) -> str:
        stages = self._dispatcher.working
        return " and ".join(_DOING[stage] for stage in stages) if stages else self._survey.waiting_for()

    def _count(self, ended: Ended, heed: Callable[[Outcome], None]) -> None:
        """Count what a task run gave, and take in what its jobs need next."""
        result, sent = ended.result, ended.stage == "submit"
        self._take(result, collected=not sent)
        self._fresh = False
        ids = {self._context.job_id(item) if isinstance(item, Document) else item.job.id for item in ended.items}
        self._busy -= ids
        for outcome in result.outcomes:
            heed(outcome)
            if sent and outcome.kind == "open":
                self._open.add(outcome.job_id)
            elif outcome.kind not in ("open", "later") or outcome.budget_used_up:
                self._open.discard(outcome.job_id)
            elif not sent and outcome.not_sending and self._steering.state == "cancelled":
                # Its missing pages would be waited for for ever. A run that is started later sends them.
                self._tally.known.leave(outcome.job_id)
                self._open.discard(outcome.job_id)
        self._open.difference_update(result.left)
        for held in result.ready:
            self._open_jobs.finished(held)
        self._sort(Survey(ready=result.ready))
        for held in result.still_open:
            self._sort(self._open_jobs.note(held))
        told = {held.job.id for held in (*result.ready, *result.still_open)}
        told |= {outcome.job_id for outcome in result.outcomes if outcome.kind in ("done", "failed")}
        if not ids <= told:
            self.look_soon()
