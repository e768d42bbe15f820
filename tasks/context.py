"""The tools of one process for one run: the store, the ledger, the API client, the clock."""

import hashlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from zlib import crc32

from tasks.access.environment import Access, environment_access
from tasks.backfills.published import Published
from tasks.backfills.record import Backfill, Pace
from tasks.backfills.store import Backfills, Followed
from tasks.budget.charged import micros
from tasks.budget.gate import Gate
from tasks.catalogue.journal import Journal
from tasks.clock import Clock
from tasks.faults import EndsRun, Fault, NotOffered, SetupFault, TransientFault
from tasks.job import next_step as steps
from tasks.job import transitions
from tasks.job.next_step import Bounds, Liveness, NextStep
from tasks.job.record import Activity, Document, Job, Lease, PageRange, Request, job_id
from tasks.meters import Meters
from tasks.options import Credentials, Options, RunSettings
from tasks.outputs.searchable_pdf import require_library
from tasks.scratch import scratch_folder
from tasks.store.at_work import JobsAtWork
from tasks.store.aws import AwsAccount, own_account
from tasks.store.heartbeats import Heartbeats
from tasks.store.ledger import Ledger
from tasks.store.location import Location, result_key
from tasks.store.object_store import ObjectStore
from tasks.store.recent import RecentRecords
from tasks.store.settings import in_one_bucket
from tasks.store.sides import account_of, open_store
from tasks.upstage.client import DEFAULT_BASE_URL, UpstageClient
from tasks.upstage.memory import AnswersLost, RecentAnswers, RequestOwners
from tasks.upstage.throttle import Throttle

log = logging.getLogger(__name__)

_REFUSALS = 3
_CONNECTIONS_BESIDE = 36  # of looks at named documents, 32 at once, and of the threads beside the workers
_MOST_SKEW = 30.0  # seconds; half of a lease
_PACE_SECONDS = 5.0
_IDLE_SECONDS = 3600.0  # polls of an open job are ten minutes apart at most


@dataclass
class RunContext:
    """The tools of one process for one run. Safe to share between threads."""

    settings: RunSettings
    objects: ObjectStore
    clock: Clock = field(default_factory=Clock)
    base_url: str = DEFAULT_BASE_URL
    key: str = field(default="", repr=False)
    aws: AwsAccount | None = None  # the source's, for clients of other services than S3; None for boto3's own chain
    flow_run: str | None = None
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    liveness: Liveness | None = None  # tells whether owners of leases live; None for heartbeats in the ledger

    def __post_init__(self) -> None:
        self.destination = Location.parse(self.settings.destination)
        self.ledger = Ledger(self.objects, self.destination, self.owner)
        self.heartbeats = Heartbeats(
            self.objects,
            self.destination.bucket,
            self.ledger.folder,
            self.owner,
            self.options.lease_seconds,
            self.clock,
        )
        # Of documents on this machine there is no catalogue.
        recorded = self.flow_run is not None
        self.journal = Journal(self.objects, self.destination.bucket, self.ledger.folder) if recorded else None
        self.backfills = Backfills(self.ledger)
        self.followed = Followed(self.backfills, self.clock)
        place = self.options.budget
        shared = self.ledger if place is None else Ledger(self.objects, Location.parse(place))
        self._meters = Meters(self.options, self.flow_run, self.ledger, shared, self.followed, self.clock)
        self.budget = Gate(self._meters, self._meters.prove_sends)
        self.answers = RecentAnswers(self.clock)
        self.records = RecentRecords()
        self.published = Published()
        self.jobs_at_work = JobsAtWork()
        self.lost_answers = AnswersLost()
        self.request_owners = RequestOwners()
        self._client: UpstageClient | None = None
        self._throttle: Throttle | None = None
        self._steered = False  # whether the backfill's pace has ever been other than the run's own
        self._stopped: Fault | None = None
        self._async_refused: dict[str, str] = {}
        self._async_accepted: dict[str, int] = {}  # by model: refusals in a row since the last one accepted
        self._places: dict[object, threading.Semaphore] = {}
        self._lock = threading.Lock()
        self._beating = threading.Event()
        self._at_work = 0
        self._clock_checked: float | None = None

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.settings.options

    @property
    def run(self) -> str:
        """Who sends: the flow run, or this process where there is no flow run."""
        return self.flow_run or self.owner

    @cached_property
    def source(self) -> Location:
        """Where the documents lie."""
        if self.settings.source is None:
            raise SetupFault("no source was given; name it as s3://bucket/prefix")
        return Location.parse(self.settings.source)

    @property
    def client(self) -> UpstageClient:
        """The API client; made when first used, so that reading the ledger needs no key."""
        with self._lock:
            if self._client is None:
                throttle = Throttle(self.options.requests_per_second, self.options.pages_per_minute, self.clock)
                self._throttle = throttle
                connections = 2 * self.options.workers + 4  # documents are sent while others are collected
                self._client = UpstageClient(self.base_url, self.key, throttle, self.clock, connections=connections)
                if self._stopped is not None:
                    self._client.stop_submitting(self._stopped)
            return self._client

    def places(self, stage: object) -> threading.Semaphore:
        """What bounds the documents that this process works on at once in a stage: as many as there are workers."""
        with self._lock:
            return self._places.setdefault(stage, threading.Semaphore(self.options.workers))

    def is_ours(self, job_id: str) -> bool:
        """Whether the job is in the shard that this run works on."""
        return crc32(job_id.encode()) % self.options.shards == self.options.shard - 1

    def stop_submitting(self, cause: EndsRun) -> None:
        """Let nothing be sent from now on; what is being sent ends."""
        with self._lock:
            self._stopped = self._stopped or cause
            if self._client is not None:  # where there is none, as without a key, nothing is sent
                self._client.stop_submitting(cause)

    def job_id(self, document: Document) -> str:
        """The job that a document is, with the options of this run."""
        options = self.options
        return job_id(document, options.model, options.answer_schema, options.text_layers)

    def result_key(self, document: Document) -> str:
        """Where the result of a document lies.

        Raises:
            DocumentFault: it can have none there.
        """
        options = self.options
        return result_key(
            self.source, self.destination, document.key, options.model, options.answer_schema, options.text_layers
        )

    def accepted(self, model: str) -> None:
        """Note that the API accepted a job for this model."""
        with self._lock:
            self._async_accepted[model] = 0

    def async_refused(self, model: str | None = None) -> str | None:
        """Return why the account has no async access to the model (or to any, if none is named); None if it has."""
        if model is not None:
            return self._async_refused.get(model)
        return next(iter(self._async_refused.values()), None)

    def refuse_async(self, model: str, refused: NotOffered) -> None:
        """Remember for this run that the account has no async access to the model; logged once.

        Raises:
            TransientFault: it accepted jobs before, so this may be a temporary error.
        """
        with self._lock:
            if model in self._async_accepted:
                self._async_accepted[model] += 1
                if self._async_accepted[model] < _REFUSALS:
                    raise TransientFault(str(refused)) from refused
            first = model not in self._async_refused
            # Without the advice, since the user need not do anything.
            why = self._async_refused.setdefault(model, str(refused).rpartition(": ")[0] or str(refused))
        if first:
            log.warning("this account has no async access, so the run falls back to synchronous requests: %s", why)

    def correct_budget(
        self, request: Request, pages: int, backfill: str | None = None, counted: str | None = None
    ) -> None:
        """Charge what a submission turned out to hold more than was reckoned, or give back what was less; once.

        Args:
            request: the submission.
            pages: how many.
            backfill: the backfill that its job belongs to.
            counted: the id of its job, if this is the last of the job's submissions to be corrected.
        """
        ours, price = request.run == self.run, micros(request.price_per_page)
        name = hashlib.sha256(f"counted {request.id}".encode()).hexdigest()[:16]
        at = request.reserved_at or request.submitted_at
        self.budget.charge(pages, backfill, run=ours, at=at, price=price, name=name, counted=counted)
        if request.run is not None and not ours:
            self._meters.charge_run(request.run, pages, price or 0, name, counted)

    @property
    def backfill(self) -> Backfill | None:
        """The backfill that the run serves, as it was a few seconds ago at most; None when it serves none.

        Raises:
            SetupFault, TransientFault: it cannot be read.
        """
        name = self.settings.backfill
        return None if name is None else self.followed.now(name)

    @property
    def pace(self) -> Pace:
        """How fast to go: what the backfill says, and the run's own options where it says nothing."""
        options, backfill = self.options, self.backfill
        pace = Pace() if backfill is None else backfill.pace
        found = Pace(
            requests_per_second=pace.requests_per_second or options.requests_per_second,
            pages_per_minute=pace.pages_per_minute or options.pages_per_minute,
            workers=pace.workers or options.workers,
            window=pace.window or options.window,
        )
        if self._throttle is not None and (pace.requests_per_second or pace.pages_per_minute or self._steered):
            self._steered = True
            self._throttle.set_rates(
                found.requests_per_second or options.requests_per_second,
                found.pages_per_minute or options.pages_per_minute,
            )
        return found

    @property
    def throttle_wait_seconds(self) -> float:
        """Seconds that the calls of this process have waited for the rate limit, those of all threads together."""
        return 0.0 if self._throttle is None else self._throttle.waited

    def prove_sends(self, backfill: str | None) -> None:
        """Check that documents may be sent for a backfill at present; see `Meters`."""
        self._meters.prove_sends(backfill)

    def lease(self, doing: Activity, pages: PageRange | None = None) -> Lease:
        """Return a lease of this worker that begins now."""
        now, options = self.clock.now(), self.options
        if doing != "posting":
            return transitions.lease(self.owner, now, options.lease_seconds, doing, pages)
        # A worker that takes the job over counts what may have been paid, by which run and at what price.
        return transitions.lease(
            self.owner, now, options.lease_seconds, doing, pages, run=self.run, price_per_page=options.price
        )

    def next_step(self, job: Job, written: datetime | None = None) -> NextStep:
        """Return what a job needs; `written` is when its record was written by the store's clock, if known."""
        return steps.next_step(job, self.clock.now(), self.owner, self._bounds, self._owners, written)

    def held_by_another(self, job: Job, *, looked_at: bool = False) -> bool:
        """Whether another live worker is working on the job, or is about to delete its record.

        Args:
            job: its record.
            looked_at: whether a look that knew when the record was written, by the store's clock, has let it pass: its
                lease is over then, whatever its writer's clock says, unless its owner lives.
        """
        now = self.clock.now()
        written = now - self._bounds.lease if looked_at else None
        return steps.held_by_another(job, now, self.owner, self._bounds, self._owners, written)

    @property
    def _bounds(self) -> Bounds:
        options = self.options
        return Bounds(timedelta(seconds=options.lease_seconds), timedelta(seconds=options.longest_poll_seconds))

    @property
    def _owners(self) -> Liveness:
        return self.liveness or self.heartbeats

    def age(self, since: datetime) -> float:
        """Return the seconds since a time."""
        return (self.clock.now() - since).total_seconds()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Create a temporary folder for one document."""
        with scratch_folder() as folder:
            yield folder

    def prepare(self) -> None:
        """Check the set-up before anything is claimed: bucket, permissions, conditional writes, API key.

        Raises:
            SetupFault, AccountFault, TransientFault: something is wrong; the message tells how to fix it.
        """
        client = self.client
        if self.options.pdf:
            require_library()
        if self.settings.source is not None:
            next(self.objects.list(self.source.bucket, self.source.prefix), None)
        self.prove_destination()
        self.heartbeats.forget_dead()
        client.probe()

    def prove_destination(self) -> None:
        """Check that the ledger can be written safely: conditional writes, and a clock that agrees with the store's.

        Raises:
            SetupFault, TransientFault: something is wrong; the message tells how to fix it.
        """
        before = self.clock.now()
        store_time = self.objects.prove_conditional_writes(self.destination.bucket, self.ledger.folder)
        self._compare_clocks(before, store_time)

    def check_clock(self) -> None:
        """Check that this machine's clock still agrees with the store's, at most as often as a heartbeat is due.

        Raises:
            SetupFault, TransientFault: it does not, or the store is unavailable.
        """
        now, before = self.clock.monotonic(), self.clock.now()
        if self._clock_checked is not None and now - self._clock_checked < self.heartbeats.interval:
            return
        self._clock_checked = now
        described = self.heartbeats.beat()
        if described is not None:
            self._compare_clocks(before, described.last_modified)

    def _compare_clocks(self, before: datetime, store_time: datetime) -> None:
        # Any time between the two readings of our clock is consistent, however long the calls took.
        ahead, behind = (before - store_time).total_seconds(), (store_time - self.clock.now()).total_seconds()
        if max(ahead, behind) > _MOST_SKEW:
            raise SetupFault(
                f"this machine's clock is {max(ahead, behind):.0f} s {'ahead of' if ahead > 0 else 'behind'} the "
                "store's, and leases expire by it: set the clock (NTP), or two machines may take over what the other "
                "works on"
            )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep these tools open while they are used, however long that takes."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1

    @property
    def busy(self) -> bool:
        """Whether somebody works with these tools."""
        return self._at_work > 0

    def start_heartbeat(self) -> None:
        """Renew this process's leases from now on, until `close`. Without it they end when they say."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        interval = self.heartbeats.interval
        looks = interval if self.settings.backfill is None else min(interval, _PACE_SECONDS)
        beaten = self.clock.monotonic()
        while not self._beating.wait(looks):
            try:
                if self.settings.backfill is not None:
                    _ = self.pace  # who waits for a slow rate hears of a faster one
                if self.clock.monotonic() - beaten >= interval - looks / 2:
                    beaten = self.clock.monotonic()
                    self.heartbeats.beat()
            except Exception as error:  # noqa: BLE001  # a beat that is missed is no reason to miss the next
                # Leases that are not renewed end; whoever works on finds out by the next write.
                log.warning("the heartbeat of this process could not be written: %s", error)

    def close(self) -> None:
        """End the heartbeat, and write what the budget and the catalogue's journal have not written yet."""
        self._beating.set()
        if self.journal is not None:
            self.journal.close()
        with suppress(Fault):  # what is not written counts as spent
            self.budget.close()
        with suppress(Fault):  # what is left is swept by a later run
            self.heartbeats.stop()


def context_from_environment(
    settings: RunSettings, objects: ObjectStore, flow_run: str | None = None, liveness: Liveness | None = None
) -> RunContext:
    """A context with the API's address and the account's key from the environment."""
    access = environment_access()
    return RunContext(settings, objects, base_url=access.base_url, key=access.key, flow_run=flow_run, liveness=liveness)


def accounts_of(settings: RunSettings, got: Access) -> tuple[AwsAccount, AwsAccount]:
    """Whose the source is, and whose the destination.

    Raises:
        SetupFault: one of them is not set up as configured, or the settings contradict each other.
    """
    options, credentials = settings.options, settings.credentials
    if credentials.source_aws is not None and options.source.profile is not None:
        raise SetupFault("the source's account is named twice, by a block and by a profile: omit one of them")
    if settings.source is not None:
        same = Location.parse(settings.source).bucket == Location.parse(settings.destination).bucket
        accounts = credentials.source_aws not in (None, credentials.aws)
        if same and (accounts or not in_one_bucket(options.source, options.destination)):
            raise SetupFault(
                "source and destination are in the same bucket, so their settings must be the same: give the "
                "source's settings for the destination as well, or for neither"
            )
    account = got.aws or own_account()
    return account_of(options.source, got.source_aws or account), account_of(options.destination, account)


def store_of(settings: RunSettings, accounts: tuple[AwsAccount, AwsAccount], clock: Clock | None = None) -> ObjectStore:
    """The store of a run, for both sides.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    options, bucket = settings.options, Location.parse(settings.destination).bucket
    connections = 2 * options.workers + _CONNECTIONS_BESIDE
    return open_store(bucket, options.source, options.destination, accounts, connections, clock)


_Run = tuple[RunSettings, str | None]
_contexts: dict[_Run, RunContext] = {}
_used: dict[_Run, float] = {}  # by a monotonic clock: sessions whose run is in another process
_opening = threading.Lock()


def open_context(
    settings: RunSettings,
    flow_run: str | None,
    access: Callable[[Credentials], Access],
    *,
    clock: Clock | None = None,
    keep: bool = False,
) -> RunContext:
    """The tools of a run in this process; made when first asked for.

    Tasks carry only the settings, so that they can run in any process; secrets are got there.

    Args:
        settings: the run's.
        flow_run: its id.
        access: gets the secrets that the settings only name; asked once.
        clock: the time to go by, if they are made; the real one when left out.
        keep: until `close_context`. Nobody tells a cluster's process that a run elsewhere has ended, so other sessions
            are closed after an hour without work.

    Raises:
        SetupFault, TransientFault: there are none to be had.
    """
    run = (settings, flow_run)
    with _opening:
        now = Clock().monotonic()
        for idle in [each for each, used in _used.items() if now - used > _IDLE_SECONDS and not _contexts[each].busy]:
            _contexts.pop(idle).close()
            del _used[idle]
        found = _contexts.get(run)
        if found is None:
            got = access(settings.credentials)
            clock = clock or Clock()  # one for both: what ends the run's waits ends the store's
            accounts = accounts_of(settings, got)
            objects, (aws, _) = store_of(settings, accounts, clock), accounts
            found = RunContext(settings, objects, clock, base_url=got.base_url, key=got.key, aws=aws, flow_run=flow_run)
            found.start_heartbeat()
            _contexts[run] = found
            if not keep:
                _used[run] = now
        elif run in _used:
            _used[run] = now
        return found


def close_context(settings: RunSettings, flow_run: str | None = None) -> None:
    """Forget the tools of a run that has ended."""
    with _opening:
        found = _contexts.pop((settings, flow_run), None)
        _used.pop((settings, flow_run), None)
    if found is not None:
        found.close()
