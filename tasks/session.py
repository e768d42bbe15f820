"""What the steps work with in one process: the store, the ledger, the API client, the clock."""

import logging
import os
import socket
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from zlib import crc32

from tasks.clock import Clock
from tasks.faults import Fault, MomentFault, NotOffered, SetupFault
from tasks.models import Document, Job, Lease, PageRange, job_id
from tasks.options import Credentials, Options, RunSettings
from tasks.store.accounts import AwsAccount
from tasks.store.ledger import Ledger
from tasks.store.location import Location, result_key
from tasks.store.object_store import ObjectStore
from tasks.store.objects import Objects, connect
from tasks.upstage.answers import RequestStatus
from tasks.upstage.client import DEFAULT_BASE_URL, UpstageClient
from tasks.upstage.throttle import Throttle

log = logging.getLogger(__name__)

_REFUSALS = 3
_MOST_SKEW = 30.0  # seconds; leases are told in minutes
_ANSWERS_KEPT = 512
_IDLE_SECONDS = 3600.0  # polls of an open job are ten minutes apart at most
_ANSWER_SECONDS = 600  # download URLs live 15 minutes; a third of that is left for the download


@dataclass(frozen=True)
class Access:
    """What a run gets in with. Holds secrets, which are never shown.

    Attributes:
        base_url: the API's address.
        key: the account's key for that address, and for no other.
        origin: where these two came from.
        aws: the account for S3; None for boto3's own chain.
    """

    base_url: str = DEFAULT_BASE_URL
    key: str = field(default="", repr=False)
    origin: str = "the environment"
    aws: AwsAccount | None = None

    def with_aws(self, account: AwsAccount) -> "Access":
        """The same, with another account for S3."""
        return replace(self, aws=account)


def environment_access() -> Access:
    """The API's address and the account's key from the environment, and boto3's own chain."""
    return Access(os.environ.get("UPSTAGE_BASE_URL") or DEFAULT_BASE_URL, os.environ.get("UPSTAGE_API_KEY", ""))


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
    aws: AwsAccount | None = None  # for clients of other services than S3; None for boto3's own chain
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

    def is_ours(self, job_id: str) -> bool:
        """Whether the job is in the shard that this run works on."""
        return crc32(job_id.encode()) % self.options.shards == self.options.shard - 1

    def stop_submitting(self, cause: Fault) -> None:
        """Let nothing be sent from now on; what is being sent ends."""
        if "client" in self.__dict__:  # where there is none, as without a key, nothing is sent
            self.client.stop_submitting(cause)

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
        self.prove_destination()
        client.probe()

    def prove_destination(self) -> None:
        """Prove that the ledger can be written safely: conditional writes, and a clock that agrees with the store's.

        Raises:
            SetupFault, MomentFault: with what to mend.
        """
        before = self.clock.now()
        told = self.objects.prove_conditional_writes(self.destination.bucket, self.ledger.folder)
        # What lies between two looks at our clock is in no way wrong, however long the calls took.
        ahead, behind = (before - told).total_seconds(), (told - self.clock.now()).total_seconds()
        if max(ahead, behind) > _MOST_SKEW:
            raise SetupFault(
                f"this machine's clock is {max(ahead, behind):.0f} s {'ahead of' if ahead > 0 else 'behind'} the "
                "store's, and claims are told by it: set the clock (NTP), or two machines may take over what the other "
                "works on"
            )


def session_from_environment(settings: RunSettings, objects: ObjectStore, flow_run: str | None = None) -> Session:
    """A session with the API's address and the account's key from the environment."""
    access = environment_access()
    return Session(settings, objects, base_url=access.base_url, key=access.key, flow_run=flow_run)


_Run = tuple[RunSettings, str | None]
_sessions: dict[_Run, Session] = {}
_used: dict[_Run, float] = {}  # by a monotonic clock: sessions whose run is in another process
_opening = threading.Lock()


def open_session(
    settings: RunSettings, flow_run: str | None, access: Callable[[Credentials], Access], *, keep: bool = False
) -> Session:
    """The session of a run in this process; made when first asked for.

    Tasks carry only the settings, so that they can run in any process; secrets are got there.

    Args:
        settings: the run's.
        flow_run: its id.
        access: gets the secrets that the settings only name; asked once.
        keep: until `close_session`. Nobody tells a cluster's process that a run elsewhere has ended, so other sessions
            are closed after an hour without work.

    Raises:
        SetupFault, MomentFault: there are none to be had.
    """
    run = (settings, flow_run)
    with _opening:
        now = Clock().monotonic()
        for idle in [each for each, used in _used.items() if now - used > _IDLE_SECONDS]:
            del _sessions[idle], _used[idle]
        found = _sessions.get(run)
        if found is None:
            got = access(settings.credentials)
            objects = Objects(connect(connections=settings.options.workers + 4, account=got.aws))
            found = Session(settings, objects, base_url=got.base_url, key=got.key, aws=got.aws, flow_run=flow_run)
            _sessions[run] = found
            if not keep:
                _used[run] = now
        elif run in _used:
            _used[run] = now
        return found


def close_session(settings: RunSettings, flow_run: str | None = None) -> None:
    """Forget the session of a run that has ended."""
    with _opening:
        for kept in (_sessions, _used):
            kept.pop((settings, flow_run), None)
