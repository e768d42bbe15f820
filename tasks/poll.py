"""Step 3: ask the API how the open jobs stand. Between two polls a job costs nothing."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.faults import MomentFault
from tasks.models import Job, Request
from tasks.session import Session
from tasks.store.ledger import Held, RecordUnreadable, Superseded
from tasks.upstage.answers import RequestStatus
from tasks.upstage.client import RequestUnknown
from tasks.upstage.limits import RESULT_DAYS

log = logging.getLogger(__name__)

_UNKNOWN_SECONDS = 900
_CLOSED_SECONDS = 900
_WARNING_DAYS = 5


@dataclass
class Survey:
    """What a look at the open jobs found, the oldest first: the API keeps results for 30 days only.

    Attributes:
        open: the jobs that are open, in all.
        due: jobs to poll now.
        ready: jobs that need no poll: pages are to be sent, all requests are finished, or a lease is over.
        expiring: jobs with a request so old that the API will soon forget its result.
        next_due: when the next of the others wants to be looked at again.
        unreadable: records that were left alone.
    """

    open: list[str] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    expiring: int = 0
    next_due: datetime | None = None
    unreadable: int = 0

    def wait_until(self, moment: datetime) -> None:
        """Note when a job wants to be looked at again."""
        self.next_due = moment if self.next_due is None else min(self.next_due, moment)


class OpenJobs:
    """Looks at the open jobs again and again, and reads only the records that have changed or are due."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[str, tuple[str, datetime]] = {}
        self._since: dict[str, datetime] = {}

    def survey(self) -> Survey:
        """List the open jobs of the run's shard and tell which are due."""
        session, found = self._session, Survey()
        now = session.clock.now()
        waiting, self._waiting = self._waiting, {}
        for entry in session.ledger.entries("open"):
            if not session.is_ours(entry.id):
                continue
            seen = waiting.get(entry.id)
            if seen is not None and seen[0] == entry.etag and seen[1] > now:
                found.open.append(entry.id)
                self._wait(found, entry.id, entry.etag, seen[1])
                continue
            held = self._read(entry.id, found)
            if held is not None:
                self._sort(found, held, now, entry.last_modified)
        found.due.sort(key=self._oldest)
        found.ready.sort(key=self._oldest)
        self._since.clear()
        return found

    def _oldest(self, job_id: str) -> datetime:
        return self._since[job_id]

    def _read(self, job_id: str, found: Survey) -> Held | None:
        try:
            return self._session.ledger.read(job_id)
        except MomentFault as fault:  # one record that cannot be read now does not keep the others from being seen
            log.warning("%s; looked at again later", fault)
            found.open.append(job_id)
            return None
        except RecordUnreadable as unreadable:
            found.unreadable += 1
            log.warning("%s", unreadable)
            return None

    def _sort(self, found: Survey, held: Held, now: datetime, written: datetime) -> None:
        job = held.job
        if job.lease is not None and job.lease.doing == "closed":
            # Whoever closed it deletes it at once; this one was stopped in between, long ago.
            if self._session.age(written) > _CLOSED_SECONDS:
                self._session.ledger.sweep(job.id)
            return
        found.open.append(job.id)
        self._since[job.id] = min((request.submitted_at for request in job.requests), default=job.claimed_at)
        found.expiring += expires_soon(job, now)
        if self._session.held_by_another(job) and job.lease is not None:
            self._wait(found, job.id, held.etag, job.lease.until)
        elif job.poll_after is not None and job.poll_after > now:
            self._wait(found, job.id, held.etag, job.poll_after)
        elif job.open_requests and job.lease is None:
            found.due.append(job.id)
        else:
            found.ready.append(job.id)

    def _wait(self, found: Survey, job_id: str, etag: str, moment: datetime) -> None:
        self._waiting[job_id] = (etag, moment)
        found.wait_until(moment)


@dataclass(frozen=True)
class Asked:
    """What the API said about the requests of a job.

    Attributes:
        job: the job with what is new about its requests.
        answers: by request id, for those that the API knows.
    """

    job: Job
    answers: dict[str, RequestStatus]

    @property
    def ready(self) -> bool:
        """Whether no request is open any more."""
        return not self.job.open_requests


def ask(session: Session, job: Job, *, finished_too: bool) -> Asked:
    """Ask for the requests of a job.

    Args:
        session: the tools.
        job: the job.
        finished_too: also ask for those known to be finished, for fresh download URLs.

    Raises:
        AccountFault: the key is refused.
        MomentFault: the API could not be asked.
    """
    requests: list[Request] = []
    answers: dict[str, RequestStatus] = {}
    for request in job.requests:
        if request.status not in ("open", "finished") or (request.status == "finished" and not finished_too):
            requests.append(request)
            continue
        try:
            answer = session.answers.take(request.id) or session.client.status(request.id)
        except RequestUnknown:
            requests.append(_unknown(session, request))
            continue
        answers[request.id] = answer
        requests.append(_judged(session, request, answer))
    completed = sum(answer.completed_pages or 0 for answer in answers.values())
    return Asked(
        job.model_copy(update={"requests": tuple(requests), "pages_completed": max(job.pages_completed, completed)}),
        answers,
    )


def _judged(session: Session, request: Request, answer: RequestStatus) -> Request:
    hours = session.age(request.submitted_at) / 3600
    if answer.finished and (answer.settled or hours > session.options.give_up_hours):
        news = {"status": "finished", "note": answer.failure_message, "unknown_since": None}
        return request.model_copy(update=news)
    if hours > session.options.give_up_hours:
        note = f"still '{answer.status}' after {hours:.0f} hours"
        log.warning("request %s is %s: taken for lost", request.id, note)
        return request.model_copy(update={"status": "lost", "note": note})
    return request.model_copy(update={"unknown_since": None})


def _unknown(session: Session, request: Request) -> Request:
    # A fresh request may not have reached every part of the API yet, and one answer may be an accident.
    since = request.unknown_since or session.clock.now()
    if session.age(since) < _UNKNOWN_SECONDS:
        # Open again if it was finished: without an answer its pages would count as missing, and be paid again.
        return request.model_copy(update={"status": "open", "unknown_since": since})
    log.warning("the API does not know request %s any more: taken for lost", request.id)
    return request.model_copy(update={"status": "lost", "note": "the API does not know it any more"})


def expires_soon(job: Job, now: datetime) -> bool:
    """Whether a result of the job may be forgotten by the API within days."""
    age = timedelta(days=RESULT_DAYS - _WARNING_DAYS)
    return any(request.status in ("open", "finished") and now - request.submitted_at > age for request in job.requests)


def poll_job(session: Session, job_id: str) -> bool:
    """Ask for the open requests of a job; put on record what is new, unless it can be collected at once.

    Returns:
        Whether the job is ready to be collected.

    Raises:
        AccountFault: the key is refused.
    """
    try:
        held = session.ledger.read(job_id)
    except MomentFault as fault:
        log.warning("%s; asked again later", fault)
        return False
    if held is None or session.held_by_another(held.job):
        return False
    if held.job.lease is not None:  # somebody died over it: collecting takes it over, and counts what that may cost
        return True
    try:
        asked = ask(session, held.job, finished_too=False)
    except MomentFault as fault:
        log.warning("%s: %s; asked again later", held.job.document.uri, fault)
        postpone(session, held, held.job)
        return False
    if asked.ready:
        for request_id, answer in asked.answers.items():
            session.answers.keep(request_id, answer)
        return True
    postpone(session, held, asked.job)
    return False


def postpone(session: Session, held: Held, job: Job) -> None:
    """Put on record what is known of a job, and when to ask for it again: the later, the older it is."""
    options = session.options
    since = [request.submitted_at for request in job.open_requests]
    ages = [session.age(moment) for moment in since or [job.unreadable_since or session.clock.now()]]
    wait = min(max(0.3 * min(ages), options.poll_seconds), options.longest_poll_seconds)
    try:
        session.ledger.update(
            held,
            without_lease(job).model_copy(update={"poll_after": session.clock.now() + timedelta(seconds=wait)}),
        )
    except Superseded:
        log.info("%s: another worker has written the record meanwhile", job.document.uri)


def without_lease(job: Job) -> Job:
    """The job as it stands when a lease is over: what its holder was posting may have been accepted."""
    posting = job.lease is not None and job.lease.doing == "posting"
    return job.model_copy(update={"lease": None, "possible_duplicates": job.possible_duplicates + posting})
