"""Step 3: ask the API how the open jobs stand. Between two polls a job costs nothing."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.context import RunContext
from tasks.faults import Cancelled, Passes, RecordUnreadable, RequestUnknown, Superseded
from tasks.job import transitions
from tasks.job.record import Document, Job, Request
from tasks.job.transitions import Change
from tasks.steps.held_job import HeldJob
from tasks.store.ledger import Held, RecordEntry
from tasks.upstage.answers import RequestStatus
from tasks.upstage.limits import RESULT_DAYS

log = logging.getLogger(__name__)

_UNKNOWN_SECONDS = 900
_WARNING_DAYS = 5


@dataclass
class Survey:
    """What a look at the open jobs found, the oldest first: the API keeps results for 30 days only.

    Attributes:
        open: the jobs that are open and meant by the run, in all.
        due: jobs to poll now.
        ready: jobs that need no poll: pages are to be sent, all requests are finished, or a lease is over.
        expiring: jobs with a request so old that the API will soon forget its result.
        next_due: when the next of the others wants to be looked at again.
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

    def survey(self) -> Survey:
        """List the open jobs of the run's shard and tell which are due."""
        context, found = self._context, Survey()
        now = context.clock.now()
        waiting, self._waiting = self._waiting, {}
        for entry in context.ledger.entries("open"):
            if not context.is_ours(entry.id):
                continue
            known = waiting.get(entry.id)
            if known is not None and known.etag == entry.etag and known.until > now:
                if known.meant:
                    found.open.append(entry.id)
                self._wait(found, entry.id, known)
                continue
            held = self._read(entry.id, found)
            if held is not None:
                self._sort(found, held, now, entry)
        found.due.sort(key=_since)
        found.ready.sort(key=_since)
        return found

    def _read(self, job_id: str, found: Survey) -> Held | None:
        try:
            return self._context.ledger.read(job_id)
        except Passes as fault:  # one record that cannot be read now does not keep the others from being seen
            log.warning("%s; looked at again later", fault)
            found.open.append(job_id)
            return None
        except RecordUnreadable as unreadable:
            found.unreadable += 1
            log.warning("%s", unreadable)
            return None

    def _sort(self, found: Survey, held: Held, now: datetime, entry: RecordEntry) -> None:
        job = held.job
        # The time of a version that is not the one we read says nothing.
        step = self._context.next_step(job, entry.last_modified if entry.etag == held.etag else None)
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
            self._wait(found, job.id, _Waiting(held.etag, step.until, alive, meant))
        elif step.need == "poll":
            found.due.append(held)
        else:
            found.ready.append(held)

    def _wait(self, found: Survey, job_id: str, waiting: _Waiting) -> None:
        self._waiting[job_id] = waiting
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
        finished_too: also ask for those known to be finished, for fresh download URLs.

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
        if not context.request_owners.claim(request.id, job.id):
            log.error("%s: request %s is another document's: taken for lost", job.document.uri, request.id)
            requests.append(transitions.lost(request, "the API gave its id to another document as well"))
            continue
        try:
            answer = context.answers.take(request.id) or context.client.status(request.id)
        except RequestUnknown:
            requests.append(_unknown(context, request))
            continue
        answers[request.id] = answer
        requests.append(_judged(context, request, answer))
    completed = sum(answer.completed_pages or 0 for answer in answers.values())
    return Asked(transitions.asked(job, requests, completed), answers)


def _judged(context: RunContext, request: Request, answer: RequestStatus) -> Request:
    hours = context.age(request.submitted_at) / 3600
    if answer.finished and (answer.settled or hours > context.options.give_up_hours):
        return transitions.finished(request, answer.failure_message)
    if hours > context.options.give_up_hours:
        note = f"still '{answer.status}' after {hours:.0f} hours"
        log.warning("request %s is %s: taken for lost", request.id, note)
        return transitions.lost(request, note)
    return transitions.running(request)


def _unknown(context: RunContext, request: Request) -> Request:
    # A fresh request may not have reached every part of the API yet, and one answer may be an accident.
    since = request.unknown_since or context.clock.now()
    if context.age(since) < _UNKNOWN_SECONDS:
        return transitions.unknown(request, since)
    log.warning("the API does not know request %s any more: taken for lost", request.id)
    return transitions.lost(request, "the API does not know it any more")


def expires_soon(job: Job, now: datetime) -> bool:
    """Whether a result of the job may be forgotten by the API within days."""
    age = timedelta(days=RESULT_DAYS - _WARNING_DAYS)
    return any(request.status in ("open", "finished") and now - request.submitted_at > age for request in job.requests)


def poll_job(context: RunContext, job: str | Held) -> bool:
    """Ask for the open requests of a job; put on record what is new, unless it can be collected at once.

    Args:
        context: the tools.
        job: its id, or its record as it was just read.

    Returns:
        Whether the job is ready to be collected.

    Raises:
        AccountFault: the key is refused.
    """
    try:
        held = context.ledger.read(job) if isinstance(job, str) else job
    except Passes as fault:
        log.warning("%s; asked again later", fault)
        return False
    if held is None or context.held_by_another(held.job):
        return False
    if held.job.lease is not None:  # somebody died over it: collecting takes it over, and counts what that may cost
        return True
    polled = HeldJob(context, held)
    try:
        asked = ask(context, held.job, finished_too=False)
    except (Passes, Cancelled) as fault:
        log.warning("%s: %s; asked again later", held.job.document.uri, fault)
        postpone(context, polled)
        return False
    if asked.ready:
        for request_id, answer in asked.answers.items():
            context.answers.keep(request_id, answer)
        return True
    polled.stage(asked.change)
    postpone(context, polled)
    return False


def postpone(context: RunContext, job: HeldJob, unreadable_since: datetime | None = None) -> None:
    """Put on record what is known of a job, and when to ask for it again: the later, the older it is."""
    options, record = context.options, job.job
    since = [request.submitted_at for request in record.open_requests]
    begun = since or [unreadable_since or record.unreadable_since or context.clock.now()]
    wait = min(max(0.3 * min(map(context.age, begun)), options.poll_seconds), options.longest_poll_seconds)
    try:
        job.write(transitions.postponed(record, context.clock.now() + timedelta(seconds=wait), unreadable_since))
    except Superseded:
        log.info("%s: another worker has written the record meanwhile", record.document.uri)
