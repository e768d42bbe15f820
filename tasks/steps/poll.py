"""Step 3: poll the API for the status of open jobs. Between two polls, a job costs nothing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush

from tasks.context import RunContext
from tasks.faults import Cancelled, Fault, RecordUnreadable, RequestUnknown, Superseded, TransientFault
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
_EARLY = 0.8  # of the time that recent jobs took: when a job is first polled
_ANOTHERS = "the API gave its id to another document as well"
_RECORDS_HELD = 10_000  # about 3 KB each


@dataclass
class Survey:
    """A survey of the open jobs, the oldest first: the API keeps results for 30 days only.

    Attributes:
        open: all open jobs of the run's selection.
        due: jobs to poll now.
        ready: jobs that need no poll: pages have to be sent, all requests are finished, or a lease has expired.
        expiring: jobs with a request so old that the API will soon delete its result.
        next_due: when the next of the other jobs is due.
        look_at: the same for jobs whose records are not in memory: a listing shows whether they have changed.
        unreadable: records that were left alone.
        held: jobs that another worker holds.
        stopped: those of them whose worker has no heartbeat.
        stopped_until: when the last of those becomes free.
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
        """Note when a job is due again."""
        self.next_due = moment if self.next_due is None else min(self.next_due, moment)

    def waiting_for(self) -> str:
        """Describe what the jobs that are not due are waiting for."""
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
    """A job that has to wait: its record need not be read again before it changes or is due."""

    etag: str
    until: datetime
    holder_alive: bool | None = None  # None where it waits for the API
    meant: bool = True
    held: Held | None = None  # the record itself, as far as there is room: then it need not be read when it is due


class OpenJobs:
    """Surveys the open jobs repeatedly, and reads only records that have changed or are due.

    Args:
        context: the run's context.
        meant: whether a document belongs to the run's selection; other jobs are left out.
    """

    def __init__(self, context: RunContext, meant: Callable[[Document], bool] = lambda _: True) -> None:
        self._context = context
        self._meant = meant
        self._waiting: dict[str, _Waiting] = {}
        self._held = 0  # how many of these have their records
        self._typical = 0.0  # seconds
        self._queue: list[tuple[datetime, str]] = []  # of those, by when they are due; some are out of date

    def survey(self, busy: Callable[[str], bool] = lambda _: False) -> Survey:
        """List the open jobs of the run's shard and determine which are due.

        Args:
            busy: whether a job waits for a step of this run. It is left out, like jobs that a step is working on: this
                process holds their leases, which would look abandoned.
        """
        context, survey = self._context, Survey()
        now = context.clock.now()
        waiting, self._waiting, self._held, self._queue = self._waiting, {}, 0, []
        for entry, held in several(self._read, self._worth_a_look(survey, waiting, busy, now), _READS_AT_ONCE):
            if isinstance(held, Held):
                self._sort(survey, held, now, entry)
            elif isinstance(
                held, TransientFault
            ):  # one that cannot be read now does not keep the others from being seen
                log.warning("%s; read again later", held)
                survey.open.append(entry.id)
            elif held is not None:
                survey.unreadable += 1
                log.warning("%s", held)
        survey.due.sort(key=_since)
        survey.ready.sort(key=_since)
        return survey

    def _worth_a_look(
        self, survey: Survey, waiting: dict[str, _Waiting], busy: Callable[[str], bool], now: datetime
    ) -> Iterator[RecordEntry]:
        """Yield the records that have to be read; for the others, add what is known to the survey."""
        for entry in self._context.ledger.entries("open"):
            if not self._context.is_ours(entry.id) or busy(entry.id) or entry.id in self._context.jobs_at_work:
                continue
            waiting_job = waiting.get(entry.id)
            if waiting_job is None or waiting_job.etag != entry.etag:
                yield entry
            elif waiting_job.until > now:
                if waiting_job.meant:
                    survey.open.append(entry.id)
                self._wait(survey, entry.id, waiting_job)
            elif waiting_job.held is not None:
                self._sort(survey, waiting_job.held, now, entry)
            else:
                yield entry

    def _read(self, entry: RecordEntry) -> Held | Fault | None:
        try:
            return self._context.ledger.read(entry.id)
        except (TransientFault, RecordUnreadable) as fault:
            return fault

    def note(self, held: Held) -> Survey:
        """Note a record that a step of this run has just written. Returns a survey of this job alone."""
        survey = Survey()
        self._sort(survey, held, self._context.clock.now(), None)
        return survey

    def finished(self, held: Held) -> None:
        """Learn from a finished job how long jobs take, so that others are not polled much earlier."""
        seconds = self._context.age(_since(held))
        # The time until the poll exceeds the time that the job took, so shorter times have more weight.
        self._typical += (seconds - self._typical) * (0.5 if seconds < self._typical else 0.1)

    def due(self) -> Survey:
        """Return the jobs that are due and whose records are in memory, each only once."""
        survey, now = Survey(), self._context.clock.now()
        while (until := self.next_due) is not None and until <= now:
            _, job_id = heappop(self._queue)
            held = self._forget(job_id)
            if held is not None:
                (survey.due if held.job.open_requests else survey.ready).append(held)
        return survey

    @property
    def next_due(self) -> datetime | None:
        """When the first job with a record in memory is due; None if there is none."""
        while self._queue:
            until, job_id = self._queue[0]
            waiting_job = self._waiting.get(job_id)
            if waiting_job is not None and waiting_job.held is not None and waiting_job.until == until:
                return until
            heappop(self._queue)
        return None

    def _forget(self, job_id: str) -> Held | None:
        waiting_job = self._waiting.pop(job_id, None)
        if waiting_job is None or waiting_job.held is None:
            return None
        self._held -= 1
        return waiting_job.held

    def _sort(self, survey: Survey, held: Held, now: datetime, entry: RecordEntry | None) -> None:
        job = held.job
        # The listed time is of no use if the version that was read is a different one.
        written = entry.last_modified if entry is not None and entry.etag == held.etag else None
        step = self._context.next_step(job, written)
        if step.need == "poll" and entry is None and job.poll_after is None:  # just sent, so it cannot be finished yet
            seconds = max(self._context.options.poll_seconds, min(_EARLY * self._typical, _LATEST_FIRST_POLL))
            first_poll = _since(held) + timedelta(seconds=seconds)
            step = NextStep("wait", first_poll) if first_poll > now else step
        if step.need == "sweep":
            self._context.ledger.sweep(held)
        if job.closed is not None:
            return
        meant = self._meant(job.document)
        if meant:
            survey.open.append(job.id)
        survey.expiring += expires_soon(job, now)
        if step.need == "wait" and step.until is not None:
            alive = step.holder_alive if step.holder else None
            self._wait(survey, job.id, _Waiting(held.etag, step.until, alive, meant, held))
        elif step.need == "poll":
            survey.due.append(held)
        else:
            survey.ready.append(held)

    def _wait(self, survey: Survey, job_id: str, waiting: _Waiting) -> None:
        self._forget(job_id)
        if waiting.held is not None and (self._held >= _RECORDS_HELD or waiting.holder_alive is not None):
            waiting = replace(waiting, held=None)  # another worker holds it and will change it
        self._waiting[job_id] = waiting
        if waiting.held is not None:
            self._held += 1
            heappush(self._queue, (waiting.until, job_id))
        else:
            survey.look_at = waiting.until if survey.look_at is None else min(survey.look_at, waiting.until)
        survey.wait_until(waiting.until)
        if waiting.holder_alive is not None:
            survey.hold(waiting.until, alive=waiting.holder_alive)


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count} documents"


def _since(held: Held) -> datetime:
    return min((request.submitted_at for request in held.job.requests), default=held.job.claimed_at)


@dataclass(frozen=True)
class Asked:
    """The API's answers about the requests of a job.

    Attributes:
        change: the change of the job that follows from the answers.
        answers: the answers by request id, for requests that the API knows.
    """

    change: Change
    answers: dict[str, RequestStatus]

    @property
    def job(self) -> Job:
        """The changed job."""
        return self.change.job

    @property
    def ready(self) -> bool:
        """Whether no request is open."""
        return not self.job.open_requests


def ask(context: RunContext, job: Job, *, finished_too: bool) -> Asked:
    """Request the status of a job's requests.

    Args:
        context: the run's context.
        job: the job.
        finished_too: also request those known to be finished, for fresh download URLs, and check in the ledger that
            they belong to this job: of several jobs that were given the same id, only one owns it.

    Raises:
        AccountFault: the key is refused.
        TransientFault: the API is unavailable at the moment.
    """
    requests: list[Request] = []
    answers: dict[str, RequestStatus] = {}
    for request in job.requests:
        if request.status not in ("open", "finished") or (request.status == "finished" and not finished_too):
            requests.append(request)
            continue
        if (why := _claim_request(context, job, request, requests)) is not None:
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


def _claim_request(context: RunContext, job: Job, request: Request, before: Sequence[Request]) -> str | None:
    """Claim a request's id for the job, within this process.

    Returns:
        Why the request's answer cannot be used; None where it can.
    """
    if not context.request_owners.claim(request.id, job.id):
        return _ANOTHERS
    duplicates = [earlier for earlier in before if earlier.id == request.id and earlier.pages != request.pages]
    return "the API gave its id to other pages of the document as well" if duplicates else None


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
    """Return when the API finished a request, from the duration that it reports: its clock may differ from ours."""
    if answer.completed_at is None or answer.requested_at is None:
        return answer.completed_at
    took = answer.completed_at - answer.requested_at
    try:
        return request.submitted_at + max(took, timedelta())
    except OverflowError:
        return None


def _unknown(context: RunContext, request: Request) -> Request:
    # A new request may not be known to every server of the API yet, and a single answer may be an error.
    since = request.unknown_since or context.clock.now()
    if context.age(since) < _UNKNOWN_SECONDS:
        return transitions.unknown(request, since)
    log.warning("the API no longer knows request %s: considered lost", request.id)
    return transitions.lost(request, "the API no longer knows it")


def expires_soon(job: Job, now: datetime) -> bool:
    """Whether the API may delete a result of the job within days."""
    age = timedelta(days=RESULT_DAYS - _WARNING_DAYS)
    return any(request.status in ("open", "finished") and now - request.submitted_at > age for request in job.requests)


def poll_job(context: RunContext, job: str | Held, *, handed_on: bool = False) -> bool:
    """Poll the open requests of a job, and record the changes unless it can be collected at once.

    Args:
        context: the run's context.
        job: its id, or its record as just read.
        handed_on: whether the caller continues with the job itself. A poll that is due within seconds is then not
            recorded: a run that takes over polls at once.

    Returns:
        Whether the job is ready to be collected.

    Raises:
        AccountFault: the key is refused.
    """
    try:
        held = context.ledger.read(job) if isinstance(job, str) else job
    except TransientFault as fault:
        log.warning("%s; polling again later", fault)
        return False
    if held is None or context.held_by_another(held.job):
        return False
    if held.job.lease is not None:  # its worker died: the collect step takes it over, and counts possible costs
        return True
    polled = HeldJob(context, held)
    try:
        answered = ask(context, held.job, finished_too=False)
    except (TransientFault, Cancelled) as fault:
        log.warning("%s: %s; polling again later", held.job.document.uri, fault)
        postpone(context, polled)
        return False
    if answered.ready:
        for request_id, answer in answered.answers.items():
            context.answers.keep(request_id, answer)
        return True
    polled.stage(answered.change)
    if (
        handed_on
        and answered.job.requests == held.job.requests
        and _wait_seconds(context, answered.job) < _NOT_WORTH_A_WRITE
    ):
        until = context.clock.now() + timedelta(seconds=_wait_seconds(context, answered.job))
        context.records.keep(Held(transitions.postponed(answered.job, until).job, held.etag))
        return False
    postpone(context, polled)
    return False


def postpone(context: RunContext, job: HeldJob, unreadable_since: datetime | None = None) -> None:
    """Record what is known about a job, and when to poll it again: the older it is, the later."""
    record = job.job
    until = context.clock.now() + timedelta(seconds=_wait_seconds(context, record, unreadable_since))
    try:
        job.write(transitions.postponed(record, until, unreadable_since))
        context.records.keep(job.written)
    except Superseded:
        log.info("%s: another worker has written the record meanwhile", record.document.uri)


def _wait_seconds(context: RunContext, job: Job, unreadable_since: datetime | None = None) -> float:
    """Return the seconds until the next poll: the older the job, the longer."""
    options = context.options
    since = [request.submitted_at for request in job.open_requests]
    begun = since or [unreadable_since or job.unreadable_since or context.clock.now()]
    return min(max(0.3 * min(map(context.age, begun)), options.poll_seconds), options.longest_poll_seconds)
