"""Step 3: ask the API how the open jobs stand. Between two polls a job costs nothing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush

from tasks.context import RunContext
from tasks.faults import Cancelled, Fault, Passes, RecordUnreadable, RequestUnknown, Superseded
from tasks.job import transitions
from tasks.job.next_step import NextStep
from tasks.job.record import Document, Job, Request
from tasks.job.transitions import Change
from tasks.steps.discover import several
from tasks.steps.held_job import HeldJob
from tasks.store.ledger import Held, RecordEntry
from tasks.upstage.answers import RequestStatus
from tasks.upstage.limits import RESULT_DAYS

log = logging.getLogger(__name__)

_UNKNOWN_SECONDS = 900
_WARNING_DAYS = 5
_READS_AT_ONCE = 16
_NOT_WORTH_A_WRITE = 30.0  # seconds
_LATEST_FIRST_POLL = 60.0
_EARLY = 0.8  # of the time that jobs have taken of late, before one is asked for
_ANOTHERS = "the API gave its id to another document as well"
_RECORDS_HELD = 10_000  # about 3 KB each


@dataclass
class Survey:
    """What a look at the open jobs found, the oldest first: the API keeps results for 30 days only.

    Attributes:
        open: the jobs that are open and meant by the run, in all.
        due: jobs to poll now.
        ready: jobs that need no poll: pages are to be sent, all requests are finished, or a lease is over.
        expiring: jobs with a request so old that the API will soon forget its result.
        next_due: when the next of the others wants to be looked at again.
        look_at: the same, of those whose records are not at hand: a listing shows whether they have changed.
        unreadable: records that were left alone.
        held: jobs that another worker holds, and that nobody else may touch yet.
        stopped: of these, the jobs whose worker does not show that it lives.
        stopped_until: when the last of those is free.
    """

    open: list[str] = field(default_factory=list)
    due: list[Held] = field(default_factory=list)
    ready: list[Held] = field(default_factory=list)
    expiring: int = 0
    next_due: datetime | None = None
    look_at: datetime | None = None
    unreadable: int = 0
    held: int = 0
    stopped: int = 0
    stopped_until: datetime | None = None

    def wait_until(self, moment: datetime) -> None:
        """Note when a job wants to be looked at again."""
        self.next_due = moment if self.next_due is None else min(self.next_due, moment)

    def waiting_for(self) -> str:
        """What the jobs that are not due wait for, in words."""
        words = ["waiting for the API"] if len(self.open) > self.held or not self.held else []
        if self.stopped and self.stopped_until is not None:
            until = f"{self.stopped_until:%H:%M:%S} UTC"
            words.append(f"{_documents(self.stopped)} held by a run that stopped, until {until}")
        if self.held > self.stopped:
            words.append(f"{_documents(self.held - self.stopped)} held by another run")
        return "; ".join(words)

    def hold(self, until: datetime, *, alive: bool) -> None:
        """Note that another worker holds a job."""
        self.held += 1
        if not alive:
            self.stopped += 1
            self.stopped_until = until if self.stopped_until is None else max(self.stopped_until, until)


@dataclass(frozen=True)
class _Waiting:
    """A job that was looked at and has to wait: its record need not be read again before it changes or is due."""

    etag: str
    until: datetime
    holder_alive: bool | None = None  # None where it waits for the API
    meant: bool = True
    held: Held | None = None  # the record itself, as far as there is room: then it need not be read when it is due


class OpenJobs:
    """Looks at the open jobs again and again, and reads only the records that have changed or are due.

    Args:
        context: the tools.
        meant: whether a document is one that the run is about; the others' jobs are not among the open ones.
    """

    def __init__(self, context: RunContext, meant: Callable[[Document], bool] = lambda _: True) -> None:
        self._context = context
        self._meant = meant
        self._waiting: dict[str, _Waiting] = {}
        self._held = 0  # how many of these have their records
        self._typical = 0.0  # seconds
        self._queue: list[tuple[datetime, str]] = []  # of those, by when they are due; some are out of date

    def survey(self, busy: Callable[[str], bool] = lambda _: False) -> Survey:
        """List the open jobs of the run's shard and tell which are due.

        Args:
            busy: whether a job waits for a step of this run: it is left out, as are those that a step works on. Their
                leases are ours, and would be taken for ones that somebody left behind.
        """
        context, found = self._context, Survey()
        now = context.clock.now()
        waiting, self._waiting, self._held, self._queue = self._waiting, {}, 0, []
        for entry, held in several(self._read, self._worth_a_look(found, waiting, busy, now), _READS_AT_ONCE):
            if isinstance(held, Held):
                self._sort(found, held, now, entry)
            elif isinstance(held, Passes):  # one that cannot be read now does not keep the others from being seen
                log.warning("%s; read again later", held)
                found.open.append(entry.id)
            elif held is not None:
                found.unreadable += 1
                log.warning("%s", held)
        found.due.sort(key=_since)
        found.ready.sort(key=_since)
        return found

    def _worth_a_look(
        self, found: Survey, waiting: dict[str, _Waiting], busy: Callable[[str], bool], now: datetime
    ) -> Iterator[RecordEntry]:
        """The records that have to be read. Of the others, what is known already is put into the survey."""
        for entry in self._context.ledger.entries("open"):
            if not self._context.is_ours(entry.id) or busy(entry.id) or entry.id in self._context.jobs_at_work:
                continue
            known = waiting.get(entry.id)
            if known is None or known.etag != entry.etag:
                yield entry
            elif known.until > now:
                if known.meant:
                    found.open.append(entry.id)
                self._wait(found, entry.id, known)
            elif known.held is not None:
                self._sort(found, known.held, now, entry)
            else:
                yield entry

    def _read(self, entry: RecordEntry) -> Held | Fault | None:
        try:
            return self._context.ledger.read(entry.id)
        except (Passes, RecordUnreadable) as fault:
            return fault

    def note(self, held: Held) -> Survey:
        """Take in a record that a step of this run has just written. Tells what the job needs, as a survey of one."""
        found = Survey()
        self._sort(found, held, self._context.clock.now(), None)
        return found

    def finished(self, held: Held) -> None:
        """Learn from a job that was found finished how long jobs take: others are not asked for much earlier."""
        seconds = self._context.age(_since(held))
        # Longer than it took, as it was found out by asking: what is shorter counts for more.
        self._typical += (seconds - self._typical) * (0.5 if seconds < self._typical else 0.1)

    def due(self) -> Survey:
        """The jobs whose records are at hand and that want to be looked at by now; each is told of once."""
        found, now = Survey(), self._context.clock.now()
        while (until := self.next_due) is not None and until <= now:
            _, job_id = heappop(self._queue)
            held = self._forget(job_id)
            if held is not None:
                (found.due if held.job.open_requests else found.ready).append(held)
        return found

    @property
    def next_due(self) -> datetime | None:
        """When the first job whose record is at hand wants to be looked at; None when there is none."""
        while self._queue:
            until, job_id = self._queue[0]
            known = self._waiting.get(job_id)
            if known is not None and known.held is not None and known.until == until:
                return until
            heappop(self._queue)
        return None

    def _forget(self, job_id: str) -> Held | None:
        known = self._waiting.pop(job_id, None)
        if known is None or known.held is None:
            return None
        self._held -= 1
        return known.held

    def _sort(self, found: Survey, held: Held, now: datetime, entry: RecordEntry | None) -> None:
        job = held.job
        # The time of a version that is not the one we read says nothing.
        written = entry.last_modified if entry is not None and entry.etag == held.etag else None
        step = self._context.next_step(job, written)
        if step.need == "poll" and entry is None and job.poll_after is None:  # just sent: it is not finished at once
            seconds = max(self._context.options.poll_seconds, min(_EARLY * self._typical, _LATEST_FIRST_POLL))
            first_poll = _since(held) + timedelta(seconds=seconds)
            step = NextStep("wait", first_poll) if first_poll > now else step
        if step.need == "sweep":
            self._context.ledger.sweep(held)
        if job.closed is not None:
            return
        meant = self._meant(job.document)
        if meant:
            found.open.append(job.id)
        found.expiring += expires_soon(job, now)
        if step.need == "wait" and step.until is not None:
            alive = step.holder_alive if step.holder else None
            self._wait(found, job.id, _Waiting(held.etag, step.until, alive, meant, held))
        elif step.need == "poll":
            found.due.append(held)
        else:
            found.ready.append(held)

    def _wait(self, found: Survey, job_id: str, waiting: _Waiting) -> None:
        self._forget(job_id)
        if waiting.held is not None and (self._held >= _RECORDS_HELD or waiting.holder_alive is not None):
            waiting = replace(waiting, held=None)  # what another worker holds, it changes
        self._waiting[job_id] = waiting
        if waiting.held is not None:
            self._held += 1
            heappush(self._queue, (waiting.until, job_id))
        else:
            found.look_at = waiting.until if found.look_at is None else min(found.look_at, waiting.until)
        found.wait_until(waiting.until)
        if waiting.holder_alive is not None:
            found.hold(waiting.until, alive=waiting.holder_alive)


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count} documents"


def _since(held: Held) -> datetime:
    return min((request.submitted_at for request in held.job.requests), default=held.job.claimed_at)


@dataclass(frozen=True)
class Asked:
    """What the API said about the requests of a job.

    Attributes:
        change: the job with what is new about its requests.
        answers: by request id, for those that the API knows.
    """

    change: Change
    answers: dict[str, RequestStatus]

    @property
    def job(self) -> Job:
        """The job with what is new."""
        return self.change.job

    @property
    def ready(self) -> bool:
        """Whether no request is open any more."""
        return not self.job.open_requests


def ask(context: RunContext, job: Job, *, finished_too: bool) -> Asked:
    """Ask for the requests of a job.

    Args:
        context: the tools.
        job: the job.
        finished_too: also ask for those known to be finished, for fresh download URLs, and see in the ledger that what
            is finished is this job's: of several that were given one id, wherever they run, one has it.

    Raises:
        AccountFault: the key is refused.
        Passes: the API could not be asked.
    """
    requests: list[Request] = []
    answers: dict[str, RequestStatus] = {}
    for request in job.requests:
        if request.status not in ("open", "finished") or (request.status == "finished" and not finished_too):
            requests.append(request)
            continue
        if (why := _not_its_own(context, job, request, requests)) is not None:
            log.error(
                "%s, pages %s: request %s is considered lost: %s", job.document.uri, request.pages, request.id, why
            )
            requests.append(transitions.lost(request, why))
            continue
        try:
            answer = context.answers.take(request.id) or context.client.status(request.id)
        except RequestUnknown:
            requests.append(_unknown(context, request))
            continue
        judged = _judged(context, request, answer)
        if finished_too and judged.status == "finished" and not context.ledger.claim_request(request.id, job.id):
            log.error("%s: request %s is considered lost: %s", job.document.uri, request.id, _ANOTHERS)
            requests.append(transitions.lost(request, _ANOTHERS))
            continue
        answers[request.id] = answer
        requests.append(judged)
    completed = sum(answer.completed_pages or 0 for answer in answers.values())
    return Asked(transitions.asked(job, requests, completed), answers)


def _not_its_own(context: RunContext, job: Job, request: Request, before: Sequence[Request]) -> str | None:
    """Why the answer to a request cannot be used, as far as this process knows; None where it can."""
    if not context.request_owners.claim(request.id, job.id):
        return _ANOTHERS
    same = [other for other in before if other.id == request.id and other.pages != request.pages]
    return "the API gave its id to other pages of the document as well" if same else None


def _judged(context: RunContext, request: Request, answer: RequestStatus) -> Request:
    hours = context.age(request.submitted_at) / 3600
    if answer.finished and (answer.settled or hours > context.options.give_up_hours):
        return transitions.finished(request, answer.failure_message, _completed_at(request, answer))
    if hours > context.options.give_up_hours:
        note = f"still '{answer.status}' after {hours:.0f} hours"
        log.warning("request %s is %s: considered lost", request.id, note)
        return transitions.lost(request, note)
    return transitions.running(request)


def _completed_at(request: Request, answer: RequestStatus) -> datetime | None:
    """When the API had finished a request. Told by how long it took, where it says that: its clock may not be ours."""
    if answer.completed_at is None or answer.requested_at is None:
        return answer.completed_at
    took = answer.completed_at - answer.requested_at
    try:
        return request.submitted_at + max(took, timedelta())
    except OverflowError:
        return None


def _unknown(context: RunContext, request: Request) -> Request:
    # A fresh request may not have reached every part of the API yet, and one answer may be an accident.
    since = request.unknown_since or context.clock.now()
    if context.age(since) < _UNKNOWN_SECONDS:
        return transitions.unknown(request, since)
    log.warning("the API no longer knows request %s: considered lost", request.id)
    return transitions.lost(request, "the API no longer knows it")


def expires_soon(job: Job, now: datetime) -> bool:
    """Whether a result of the job may be forgotten by the API within days."""
    age = timedelta(days=RESULT_DAYS - _WARNING_DAYS)
    return any(request.status in ("open", "finished") and now - request.submitted_at > age for request in job.requests)


def poll_job(context: RunContext, job: str | Held, *, handed_on: bool = False) -> bool:
    """Ask for the open requests of a job; put on record what is new, unless it can be collected at once.

    Args:
        context: the tools.
        job: its id, or its record as it was just read.
        handed_on: whether whoever asked goes on with the job itself. That it is asked for again within seconds is then
            not put on record: a run that takes its place asks at once.

    Returns:
        Whether the job is ready to be collected.

    Raises:
        AccountFault: the key is refused.
    """
    try:
        held = context.ledger.read(job) if isinstance(job, str) else job
    except Passes as fault:
        log.warning("%s; polling again later", fault)
        return False
    if held is None or context.held_by_another(held.job):
        return False
    if held.job.lease is not None:  # somebody died over it: collecting takes it over, and counts what that may cost
        return True
    polled = HeldJob(context, held)
    try:
        asked = ask(context, held.job, finished_too=False)
    except (Passes, Cancelled) as fault:
        log.warning("%s: %s; polling again later", held.job.document.uri, fault)
        postpone(context, polled)
        return False
    if asked.ready:
        for request_id, answer in asked.answers.items():
            context.answers.keep(request_id, answer)
        return True
    polled.stage(asked.change)
    if handed_on and asked.job.requests == held.job.requests and _wait_seconds(context, asked.job) < _NOT_WORTH_A_WRITE:
        until = context.clock.now() + timedelta(seconds=_wait_seconds(context, asked.job))
        context.records.keep(Held(transitions.postponed(asked.job, until).job, held.etag))
        return False
    postpone(context, polled)
    return False


def postpone(context: RunContext, job: HeldJob, unreadable_since: datetime | None = None) -> None:
    """Put on record what is known of a job, and when to ask for it again: the later, the older it is."""
    record = job.job
    until = context.clock.now() + timedelta(seconds=_wait_seconds(context, record, unreadable_since))
    try:
        job.write(transitions.postponed(record, until, unreadable_since))
        context.records.keep(job.written)
    except Superseded:
        log.info("%s: another worker has written the record meanwhile", record.document.uri)


def _wait_seconds(context: RunContext, job: Job, unreadable_since: datetime | None = None) -> float:
    """How long a job is left alone: the longer, the older it is."""
    options = context.options
    since = [request.submitted_at for request in job.open_requests]
    begun = since or [unreadable_since or job.unreadable_since or context.clock.now()]
    return min(max(0.3 * min(map(context.age, begun)), options.poll_seconds), options.longest_poll_seconds)
