"""The life of a job under several workers that crash between any two calls, with clocks that disagree.

A worker is a generator: it yields before each call to the store or the API, so that a test can interleave workers,
crash one for good, or let time pass anywhere. The workers decide by `next_step`, and change records by `transitions`
only.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasks.faults import DocumentFault, FailureCode, Superseded
from tasks.job import transitions
from tasks.job.next_step import Bounds, next_step
from tasks.job.record import Document, FailedJob, Job, Lease, PageRange, Request

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAGES = PageRange(first=1, last=3)
BOUNDS = Bounds(lease=timedelta(seconds=60), longest_poll=timedelta(seconds=600))
SKEWS = {"ahead": 20.0, "behind": -20.0, "right": 0.0}
ROUNDS = 3
Steps = Generator[None, None, None]


@dataclass
class Store:
    """One open record with conditional writes; done and failed records beside it."""

    job: Job | None = None
    version: int = 0
    written: datetime = NOON
    done: bool = False
    failed: FailedJob | None = None
    history: list[Job] = field(default_factory=list)

    def write(self, job: Job | None, version: int | None, now: datetime) -> int:
        """Create the record (`version` is None), or write over exactly the version that was read."""
        if (self.job is not None) if version is None else (self.job is None or version != self.version):
            raise Superseded
        self.job, self.version, self.written = job, self.version + 1, now
        if job is not None:
            self.history.append(job)
        return self.version


class Life(RuleBasedStateMachine):
    """Three workers over one document of three pages."""

    @initialize()
    def start(self) -> None:
        self.now = NOON
        self.store = Store()
        self.accepted: list[str] = []  # every submission that the API took, and bills
        self.names = iter(f"r{number}" for number in range(10_000))
        self.workers: dict[str, Steps] = {}
        self.answers = True

    # What a worker does

    def clock(self, worker: str) -> datetime:
        return self.now + timedelta(seconds=SKEWS[worker])

    def lease(self, worker: str, doing: Any, pages: PageRange | None = None) -> Lease:
        return transitions.lease(worker, self.clock(worker), 60, doing, pages, run=worker)

    def put(self, job: Job | None, version: int | None) -> int:
        return self.store.write(job, version, self.now)

    def work(self, worker: str) -> Steps:
        """One pass of a worker: claim the document, or do what the open job needs."""
        try:
            yield from self.submit(worker) if self.store.job is None else self.take_up(worker)
        except Superseded:
            return

    def submit(self, worker: str) -> Steps:
        document = Document(bucket="b", key="a.pdf", etag="e", size=1, last_modified=NOON)
        job = transitions.claimed(
            "j", document, model="ocr", answer_schema=None, result="s3://b/r",
            now=self.clock(worker), lease=self.lease(worker, "reading"), flow_run=worker,
        )  # fmt: skip
        yield
        version = self.put(job, None)
        yield
        if self.store.done or self.store.failed:
            yield from self.close(job, version)
            return
        yield from self.post(worker, job, version)

    def post(self, worker: str, job: Job, version: int) -> Steps:
        job = transitions.read(job, content="c", pages=3, estimate=3).job
        yield
        job = transitions.posting(job, self.lease(worker, "posting", PAGES)).job
        version = self.put(job, version)
        yield
        name = next(self.names)
        self.accepted.append(name)
        answered = self.answers
        yield
        if not answered:
            job = transitions.answer_lost(job, 3).job
            version = self.put(job, version)
            yield
            self.put(transitions.released(job, round_counts=True).job, version)
            return
        request = Request(id=name, pages=PAGES, submitted_at=self.clock(worker), run=worker)
        while self.store.job is not None and self.store.job.closed is None:
            current, version = self.store.job, self.store.version
            yield
            try:
                sent = transitions.sent(
                    current, request, 3, owner=worker, keep=None, flow_run=worker, posted=job.lease
                )  # fmt: skip
                self.put(sent.job, version)
                return
            except Superseded:
                continue

    def take_up(self, worker: str) -> Steps:
        job, version, written = self.store.job, self.store.version, self.store.written
        assert job is not None
        yield
        step = next_step(job, self.clock(worker), worker, BOUNDS, Nobody(), written)
        if step.need == "sweep":
            if self.store.version == version:
                self.store.job = None
            return
        if step.need == "wait":
            return
        if self.store.done or (self.store.failed is not None and self.store.failed.job.retries >= job.retries):
            yield from self.close(job, version)
            return
        if step.need == "take over":
            job = transitions.taken_over(job, self.lease(worker, "collecting")).job
            version = self.put(job, version)
            yield
        done = [transitions.finished(request) if request.status == "open" else request for request in job.requests]
        job = transitions.asked(job, done, 3).job
        if any(request.status == "finished" for request in job.requests):
            yield
            self.store.done = True
            yield
            yield from self.close(job, version)
            self.store.failed = None
        elif job.rounds >= ROUNDS:
            yield
            fault = DocumentFault(FailureCode.MISSING_PAGES, "no answer came")
            job = transitions.collecting(job, self.lease(worker, "collecting")).job
            version = self.put(job, version)
            yield
            self.store.failed = transitions.failed(
                job, "recognise", fault, missing=(), now=self.clock(worker), flow_run=worker
            )
            yield
            yield from self.close(job, version)
            if self.store.done:
                self.store.failed = None
        else:
            yield
            job = transitions.resending(job, self.lease(worker, "reading")).job
            version = self.put(job, version)
            yield from self.post(worker, job, version)

    def close(self, job: Job, version: int) -> Steps:
        yield
        version = self.put(transitions.closed(job, "closer", "n"), version)
        yield
        if self.store.version == version:
            self.store.job = None

    # What happens

    @rule(worker=st.sampled_from(sorted(SKEWS)), calls=st.integers(1, 8))
    def go_on(self, worker: str, calls: int) -> None:
        """A worker makes some calls, and begins a new pass when the last is over."""
        for _ in range(calls):
            steps = self.workers.setdefault(worker, self.work(worker))
            if next(steps, "over") == "over":
                del self.workers[worker]

    @rule(worker=st.sampled_from(sorted(SKEWS)))
    def crash(self, worker: str) -> None:
        self.workers.pop(worker, None)

    @rule(seconds=st.sampled_from([1, 30, 61, 700]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(answers=st.booleans())
    def weather(self, answers: bool) -> None:
        self.answers = answers

    @invariant()
    def no_count_ever_falls(self) -> None:
        # What was lost may be found: then it is among what was sent.
        counts = [
            (job.possible_duplicates, job.pages_sent, job.pages_sent + job.pages_lost) for job in self.life()
        ]  # fmt: skip
        for before, after in pairwise(counts):
            assert all(one <= other for one, other in zip(before, after, strict=True))

    @invariant()
    def what_is_on_record_is_never_forgotten(self) -> None:
        requests = [{request.id for request in job.requests} for job in self.life()]
        for before, after in pairwise(requests):
            assert before <= after

    def life(self) -> Iterator[Job]:
        """The job's records since it was last claimed anew, which only an untouched one is."""
        start = 0
        for number, job in enumerate(self.store.history):
            if job.untouched:
                start = number
        return iter(self.store.history[start:])

    def teardown(self) -> None:
        """Everybody dies; one worker starts again, and the API answers from now on."""
        if not hasattr(self, "store"):
            return
        self.workers.clear()
        self.answers = True
        for _ in range(40):
            self.now += timedelta(seconds=700)
            for _ in self.work("right"):
                pass
            if self.store.job is None and (self.store.done or self.store.failed):
                break
        assert self.store.job is None
        assert self.store.done != (self.store.failed is not None)
        last = max(self.store.history, key=lambda job: (job.possible_duplicates, len(job.requests)))
        assert len(self.accepted) - 1 <= last.possible_duplicates, "what was paid twice is counted"
        assert len(last.requests) + last.possible_duplicates >= len(self.accepted)


class Nobody:
    """No worker is known to live or to be dead: leases end when they say."""

    def alive(self, _owner: str) -> bool | None:
        return None


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
