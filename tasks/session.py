"""What the steps work with in one process: the store, the ledger, the API client, the clock."""

import logging
import os
import socket
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from tasks.clock import Clock
from tasks.faults import MomentFault, NotOffered, SetupFault
from tasks.models import Document, Job, Lease, PageRange, job_id
from tasks.options import Options, RunSettings
from tasks.store.ledger import Ledger
from tasks.store.location import Location, result_key
from tasks.store.object_store import ObjectStore
from tasks.store.objects import Objects, connect
from tasks.upstage.answers import RequestStatus
from tasks.upstage.client import DEFAULT_BASE_URL, UpstageClient
from tasks.upstage.throttle import Throttle

log = logging.getLogger(__name__)

_REFUSALS = 3
_ANSWERS_KEPT = 512
_ANSWER_SECONDS = 600  # download URLs live 15 minutes; a third of that is left for the download


class Budget:
    """The pages that may still be sent in this run, shared by all threads."""

    def __init__(self, pages: int | None) -> None:
        self._left = pages
        self._lock = threading.Lock()

    def take(self, pages: int) -> bool:
        """Take that many, or nothing and say no."""
        with self._lock:
            if self._left is None:
                return True
            if pages > self._left:
                return False
            self._left -= pages
            return True

    def give_back(self, pages: int) -> None:
        """Return what was taken and not sent."""
        with self._lock:
            if self._left is not None:
                self._left += pages

    def correct(self, pages: int) -> None:
        """Take what turned out to be more than was reckoned, or give back what was less."""
        with self._lock:
            if self._left is not None:
                self._left -= pages


class RecentAnswers:
    """Status answers of the last poll, so that collecting does not ask the same again.

    They hold download URLs, which are credentials: in memory only, and for less than they live.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, RequestStatus]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, request_id: str, answer: RequestStatus) -> None:
        """Keep the answer of a finished request."""
        with self._lock:
            self._answers[request_id] = (self._clock.monotonic(), answer)
            while len(self._answers) > _ANSWERS_KEPT:
                self._answers.popitem(last=False)

    def take(self, request_id: str) -> RequestStatus | None:
        """Take the answer out, when it is fresh enough to be used."""
        with self._lock:
            kept = self._answers.pop(request_id, None)
        if kept is None or self._clock.monotonic() - kept[0] > _ANSWER_SECONDS:
            return None
        return kept[1]


@dataclass
class Session:
    """The tools of one process for one run. Safe to share between threads."""

    settings: RunSettings
    objects: ObjectStore
    clock: Clock = field(default_factory=Clock)
    base_url: str = DEFAULT_BASE_URL
    key: str = field(default="", repr=False)
    flow_run: str | None = None
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.destination = Location.parse(self.settings.destination)
        self.ledger = Ledger(self.objects, self.destination)
        self.budget = Budget(self.options.page_budget)
        self.answers = RecentAnswers(self.clock)
        self.submitted: set[str] = set()  # requests of this session
        self._async_refused: dict[str, str] = {}
        self._async_accepted: dict[str, int] = {}  # by model: refusals in a row since the last one accepted
        self._counting = threading.Lock()

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.settings.options

    @cached_property
    def source(self) -> Location:
        """Where the documents lie."""
        if self.settings.source is None:
            raise SetupFault("no source was given; name it as s3://bucket/prefix")
        return Location.parse(self.settings.source)

    @cached_property
    def client(self) -> UpstageClient:
        """The API client; made when first used, so that reading the ledger needs no key."""
        throttle = Throttle(self.options.requests_per_second, self.options.pages_per_minute, self.clock)
        return UpstageClient(self.base_url, self.key, throttle, self.clock, connections=self.options.workers + 4)

    def job_id(self, document: Document) -> str:
        """The job that a document is, with the options of this run."""
        return job_id(document, self.options.model, self.options.answer_schema)

    def result_key(self, document: Document) -> str:
        """Where the result of a document lies.

        Raises:
            DocumentFault: it can have none there.
        """
        options = self.options
        return result_key(self.source, self.destination, document.key, options.model, options.answer_schema)

    def accepted(self, model: str, request_id: str) -> None:
        """Note that the API took a job of ours."""
        with self._counting:
            self.submitted.add(request_id)
            self._async_accepted[model] = 0

    def async_refused(self, model: str | None = None) -> str | None:
        """Why the account takes no jobs for the model, or for some model where none is named; None if it does."""
        if model is not None:
            return self._async_refused.get(model)
        return next(iter(self._async_refused.values()), None)

    def refuse_async(self, model: str, refused: NotOffered) -> None:
        """Remember for this run that the account takes no jobs for the model; said once.

        Raises:
            MomentFault: it took some before, and this may be an accident.
        """
        with self._counting:
            if model in self._async_accepted:
                self._async_accepted[model] += 1
                if self._async_accepted[model] < _REFUSALS:
                    raise MomentFault(str(refused)) from refused
            first = model not in self._async_refused
            # Without the advice: there is nothing to be done.
            why = self._async_refused.setdefault(model, str(refused).rpartition(": ")[0] or str(refused))
        if first:
            log.warning("this account takes no OCR jobs, so the run goes on with synchronous requests: %s", why)

    def lease(self, doing: str, pages: PageRange | None = None, *, longer: float = 0) -> Lease:
        """A lease of ours, from now on; `longer` by so many seconds than the usual."""
        until = self.clock.now() + timedelta(seconds=self.options.lease_seconds + longer)
        return Lease.model_validate({"owner": self.owner, "until": until, "doing": doing, "pages": pages})

    def held_by_another(self, job: Job) -> bool:
        """Whether somebody else works on the job and its lease is not over, or is about to delete its record."""
        if job.lease is None or job.lease.owner == self.owner:
            return False
        return job.lease.doing == "closed" or job.lease.until > self.clock.now()

    def age(self, since: datetime) -> float:
        """Seconds since then."""
        return (self.clock.now() - since).total_seconds()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for one document."""
        with tempfile.TemporaryDirectory(prefix="bulk-ocr-") as folder:
            yield Path(folder)

    def prepare(self) -> None:
        """Prove the set-up before anything is claimed: bucket, permission, conditional writes, key.

        Raises:
            SetupFault, AccountFault, MomentFault: with what to mend.
        """
        client = self.client
        if self.settings.source is not None:
            next(self.objects.list(self.source.bucket, self.source.prefix), None)
        self.objects.prove_conditional_writes(self.destination.bucket, self.ledger.folder)
        client.probe()


def session_from_environment(settings: RunSettings, objects: ObjectStore, flow_run: str | None = None) -> Session:
    """A session with the API's address and the account's key from the environment, where secrets come from."""
    return Session(
        settings,
        objects,
        base_url=os.environ.get("UPSTAGE_BASE_URL") or DEFAULT_BASE_URL,
        key=os.environ.get("UPSTAGE_API_KEY", ""),
        flow_run=flow_run,
    )


_sessions: dict[tuple[RunSettings, str | None], Session] = {}
_opening = threading.Lock()


def open_session(settings: RunSettings, flow_run: str | None = None) -> Session:
    """The session of a run in this process; made from the environment when first asked for.

    Tasks carry only the settings, so that they can run in any process; secrets come from its environment.
    """
    with _opening:
        found = _sessions.get((settings, flow_run))
        if found is None:
            objects = Objects(connect(connections=settings.options.workers + 4))
            found = _sessions[settings, flow_run] = session_from_environment(settings, objects, flow_run)
        return found


def close_session(settings: RunSettings, flow_run: str | None = None) -> None:
    """Forget the session of a run that has ended."""
    with _opening:
        _sessions.pop((settings, flow_run), None)
