"""Concurrent submitting, polling and collecting: three lanes with bounded queues, and one loop that decides.

The loop runs in the flow's own thread: it lists, surveys the open jobs, and counts. What the steps report about a job
need not be read from the ledger. A survey of all open jobs, which also finds those of other runs, is made twice a
minute and whenever nothing else is left to do.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Literal

from flows.run.awaiting_counts import AwaitingCounts
from flows.run.backfill_loop import BackfillLoop, Documents
from flows.run.dispatch import STAGES, Dispatcher, Ended, Stage
from flows.run.meant import Meant
from flows.run.steering import Steering
from tasks.context import RunContext
from tasks.faults import Cancelled, RecordUnreadable, TransientFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.steps.discover import several
from tasks.steps.poll import OpenJobs, Survey
from tasks.store.ledger import Held, State
from tasks.tally import Tally

log = logging.getLogger(__name__)

_LOOK_SECONDS = 30.0
_SHORTEST_PAUSE = 0.05
_LONGEST_WAIT = 1.0  # between two checks whether the run is being ended
_LOOKS_AT_ONCE = 16
_LISTING_SECONDS = 0.5  # how long the other lanes wait for a listing without new documents
_POLL_SECONDS_A_PASS = 60
_CLOCKS_APART = timedelta(seconds=60)  # more than this machine's clock and the store's may differ by

_DOING: dict[Stage, str] = {"submit": "submitting", "poll": "polling", "collect": "collecting"}

_NONE: tuple[Stage, ...] = ()
_SUBMIT: tuple[Stage, ...] = ("submit",)

Count = Callable[..., None]


class Pumps:
    """Moves documents through the lanes.

    Args:
        context: the run's context.
        tally: the run's counts.
        dispatcher: starts task runs.
        open_jobs: surveys the open jobs.
        meant: decides which jobs belong to the run's selection.
        steering: the backfill that the run serves.
        take: counts the result of a task run.
        show: shows the current activity to the watcher.
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
        self._busy: set[str] = set()  # jobs that wait in a lane, or that a step is working on
        self._open: set[str] = set()  # jobs that are known to be open and that the run waits for
        self._due: deque[Held] = deque()
        self._ready: deque[Held] = deque()
        self._awaited = AwaitingCounts(context.job_id)
        self._survey = Survey()
        self._began = context.clock.now()
        self._fresh = False  # whether nothing has ended since the last survey
        self._look_at = 0.0
        self._looked_at = -_LOOK_SECONDS

    # One pass

    def submit(self, documents: Iterator[Document], most: int, on_outcome: Callable[[Outcome], None]) -> int:
        """Submit up to `most` documents, and wait for them. Returns how many were taken.

        Raises:
            Fault: the listing failed, or the run ends. No submission is in progress any more.
        """
        taken, exhausted = 0, False
        try:
            while not (exhausted and self._dispatcher.idle):
                room = self._dispatcher.room("submit")
                until = self._context.clock.monotonic() + _LISTING_SECONDS
                while not exhausted and room and self._context.clock.monotonic() < until:
                    document = next(documents, None) if taken < most and self._takes_more else None
                    exhausted = document is None
                    if document is not None and self._add_document(document):
                        taken, room = taken + 1, room - 1
                self.turn(_SUBMIT if exhausted else _NONE, on_outcome, wait=exhausted or not room)
        except TransientFault:
            # Submissions in progress have to end first, or the next survey would treat them as abandoned.
            for ended in self._dispatcher.drain():
                self._count(ended, on_outcome)
            raise
        return taken

    def collect(self) -> Survey:
        """Poll the jobs that are due, and collect those that are finished. Returns the survey made before."""
        self.look()
        # As many as the rate limit allows in about a minute: the next pass continues.
        most = max(self._context.options.workers, int(_POLL_SECONDS_A_PASS * self._dispatcher.requests_per_second))
        self._due = deque(list(self._due)[:most])
        while self._due or self._ready or not self._dispatcher.idle:
            self.fill()
            self.turn(_NONE if self._due else STAGES)
        return self._survey

    @property
    def _takes_more(self) -> bool:
        """Whether a single pass goes on: a record that cannot be read for a moment is no reason to end it."""
        return self._tally.sending and self._steering.held is None

    # A backfill

    def run(self, documents: Documents, open_jobs: int, limit: int | None = None) -> None:
        """Submit, poll and collect until every document is done or failed; see `BackfillLoop`."""
        self._tally.awaits_counts = True
        BackfillLoop(self, self._context, self._tally, self._steering, documents, open_jobs, limit).run()

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress, and nothing is known to be due."""
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
        """The number of documents that wait to be sent or are being sent."""
        return self._dispatcher.items("submit") + len(self._awaited)

    @property
    def awaiting_counts(self) -> bool:
        """Whether documents wait until the API has counted others."""
        return len(self._awaited) > 0

    @property
    def open_jobs(self) -> int:
        """The number of open jobs that the run waits for."""
        return len(self._open)

    @property
    def looked_anew(self) -> bool:
        """Whether nothing has ended since the last survey of all open jobs."""
        return self._fresh

    @property
    def look_at(self) -> float:
        """When the next survey of all open jobs is due."""
        return self._look_at

    def look_by(self, moment: float) -> None:
        """Schedule the next survey of all open jobs."""
        self._look_at = moment

    def take_due(self) -> None:
        """Take in the jobs that are due by now, if their records are in memory."""
        self._sort(self._open_jobs.due())

    def settle_vanished(self) -> bool:
        """Determine the state of jobs that were open and that the last survey did not find.

        Another run has finished them, or has released its claim without sending: such a document is new, and is listed
        again.

        Returns:
            Whether all their states are known. A job whose record is closed is unknown until the record is deleted.
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

    def take_redone(self) -> int:
        """Note documents of this run that were marked to be done again since it began: they are new.

        Returns:
            How many there are.
        """
        known, number = self._tally.known, 0
        marked = set(self._context.ledger.opened_since(self._began - _CLOCKS_APART))
        ended = [
            job_id for job_id in marked if known.belongs_to_run(job_id) and known.state(job_id) in ("done", "failed")
        ]
        for job_id, state in several(self._state, ended, _LOOKS_AT_ONCE):
            if state is None:
                known.reopen(job_id)
                number += 1
        return number

    def _state(self, job_id: str) -> State | Literal["closed"] | None:
        """Return a job's state in the ledger."""
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

    def take_listed(self, listing: Iterator[Document | None], room: int) -> tuple[int, bool, bool]:
        """Take documents from the listing, up to `room` and the lane's own limit, for a moment at most.

        Returns:
            How many were added, whether there may be more, and whether there is room for them.
        """
        room, added = min(room, self._dispatcher.room("submit")), 0
        until = self._context.clock.monotonic() + _LISTING_SECONDS
        while added < room and self._context.clock.monotonic() < until:
            try:
                document = next(listing)
            except StopIteration:
                return added, False, True
            if document is not None:
                added += self._add_document(document)
        return added, True, added < room

    def _add_document(self, document: Document) -> bool:
        """Queue a document for submission, unless it is queued already: a listing that is restarted yields it again."""
        job_id = self._context.job_id(document)
        if job_id in self._busy:
            return False
        self._busy.add(job_id)
        self._dispatcher.add("submit", [document])
        return True

    def drop_documents(self) -> int:
        """Drop the documents that wait to be submitted. Returns how many there were."""
        return len(self._dequeue()) + len(self._awaited.clear())

    def _dequeue(self) -> list[Document]:
        documents = [document for document in self._dispatcher.drop("submit") if isinstance(document, Document)]
        self._busy.difference_update(self._context.job_id(document) for document in documents)
        return documents

    def send_awaiting(self) -> None:
        """Try documents that wait until the API has counted others, if there is a sign that one may fit."""
        if self._awaited and not self._dispatcher.items("submit"):
            for document in self._awaited.take(self._context.clock.monotonic(), alone=not self._open):
                self._add_document(document)

    def give_up_counts(self) -> None:
        """Give up what waits for counts that this run cannot bring about: the ceiling is reached."""
        awaited = self._awaited
        if awaited.refused is None or self._dispatcher.items("submit"):
            return  # what is being sent may be counted
        alone = self._fresh and not self._open
        if not (awaited.all_stuck(self._open) or (alone and awaited.hopeless)):
            return
        for job_id in self._open:
            self._tally.known.leave(job_id)
        self._open.clear()
        self._tally.note_ceiling(awaited.refused)

    def look(self) -> None:
        """Survey all open jobs."""
        self._context.check_clock()
        tally, clock, options = self._tally, self._context.clock, self._context.options
        survey = self._open_jobs.survey(self._busy.__contains__)
        tally.note_survey(survey.unreadable, survey.expiring)
        open_ids: set[str] = set()
        for job_id in self._meant.jobs(survey.open):
            # Jobs whose documents are no longer listed are included: they are paid for.
            tally.known.count(job_id, "open")
            if not tally.known.is_left(job_id):
                open_ids.add(job_id)
        self._open = open_ids | (self._open & self._busy)
        self._survey, self._fresh, self._looked_at = survey, True, clock.monotonic()
        wait = _LOOK_SECONDS
        if survey.look_at is not None:
            wait = min(wait, max(_SHORTEST_PAUSE, (survey.look_at - clock.now()).total_seconds()))
        self._dispatcher.expect(len(survey.due) + len(survey.ready))
        self._look_at = self._looked_at + max(wait, min(options.poll_seconds, _LOOK_SECONDS) if not open_ids else 0)
        self._sort(survey)

    def look_soon(self, *, anew: bool = False) -> None:
        """Schedule a survey of all open jobs soon; with `anew`, the result of the last one no longer counts."""
        self._fresh = self._fresh and not anew
        pause = max(_SHORTEST_PAUSE, min(self._context.options.poll_seconds, _LOOK_SECONDS))
        self._look_at = min(self._look_at, self._looked_at + pause)

    def _sort(self, survey: Survey) -> None:
        """Queue the jobs that need work."""
        for jobs, queue in ((survey.due, self._due), (survey.ready, self._ready)):
            for held in jobs:
                if held.job.id not in self._busy and not self._tally.known.is_left(held.job.id):
                    self._busy.add(held.job.id)
                    queue.append(held)

    def fill(self) -> None:
        """Move jobs into the lanes while there is room."""
        lanes: tuple[tuple[Stage, deque[Held]], ...] = (("collect", self._ready), ("poll", self._due))
        for stage, queue in lanes:
            # Poll no more than can be collected soon: download URLs are valid for minutes only.
            if stage == "poll" and self._ready:
                return
            room = self._dispatcher.room(stage)
            self._dispatcher.add(stage, [queue.popleft() for _ in range(min(room, len(queue)))])

    def turn(
        self,
        at_once: Collection[Stage],
        on_outcome: Callable[[Outcome], None] = lambda _: None,
        *,
        wait: bool = True,
    ) -> None:
        """Start task runs, wait for one to end, and count the results.

        Args:
            at_once: the stages for which no more items will arrive.
            on_outcome: called with the outcome of each document.
            wait: whether there is nothing else to do meanwhile.
        """
        clock = self._context.clock
        seconds = min(self._dispatcher.start(at_once), self._seconds_to_wait() if wait else 0.0)
        self._show(self._doing())
        ended = self._dispatcher.next(seconds)
        while ended is not None:
            self._count(ended, on_outcome)
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

    def _count(self, ended: Ended, on_outcome: Callable[[Outcome], None]) -> None:
        """Count the result of a task run, and queue its jobs' next steps."""
        result, sent = ended.result, ended.stage == "submit"
        self._take(result, collected=not sent)
        self._fresh = False
        ids = {self._context.job_id(item) if isinstance(item, Document) else item.job.id for item in ended.items}
        self._busy -= ids
        put_back = sent and self._tally.awaits_counts and any(each.counts_awaited for each in result.outcomes)
        if put_back:
            tried = [item for item in ended.items if isinstance(item, Document)]
            self._awaited.put_back(tried, result.outcomes, self._dequeue())
        for outcome in result.outcomes:
            on_outcome(outcome)
            self._awaited.note(outcome, sent=sent)
            if sent and outcome.kind == "open":
                self._open.add(outcome.job_id)
            elif outcome.kind not in ("open", "later") or self._tally.is_at_ceiling(outcome):
                self._open.discard(outcome.job_id)
            elif not sent and outcome.not_sending and self._steering.state == "cancelled":
                # Otherwise the run would wait forever for its missing pages. A later run sends them.
                self._tally.known.leave(outcome.job_id)
                self._open.discard(outcome.job_id)
        self._open.difference_update(result.left)
        for held in result.ready:
            self._open_jobs.finished(held)
        self._sort(Survey(ready=result.ready))
        for held in result.still_open:
            self._sort(self._open_jobs.note(held))
        known_ids = {held.job.id for held in (*result.ready, *result.still_open)}
        known_ids |= {outcome.job_id for outcome in result.outcomes if outcome.kind in ("done", "failed")}
        if not (put_back or ids <= known_ids):
            self.look_soon()
