"""Plays a scenario to its end, as scheduled passes do, and measures what became of it and what it cost."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tasks.faults import AccountFault, TransientFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, FailedJob, job_id
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tests.waiting import PATIENCE
from tests.weather.ground import THREADS, Act, Ground, Way, Weather, by_document, undelivered

_PASSES = 400

Item = TypeVar("Item")
Value = TypeVar("Value")


def _nothing(_: Weather) -> None:
    return None


@dataclass(frozen=True)
class Scenario:
    """One kind of weather.

    Attributes:
        name: what it is, for the table.
        arrange: what is set before anything happens.
        moments: what happens later: 0, 2, 4, … before the documents of a pass are submitted; 1, 3, 5, … before
            its open jobs are looked at, when the API has finished with what it has.
        mend: what the operator does about a refused account, or before failed documents are put back.
        way: how the API is reached.
        options: options of the run.
        s3_attempts: how often a call is tried; 1 leaves every fault to the steps.
        counted: whether an answer may be lost, and a submission be possibly made twice.
        fails: how many documents end failed at first, and have to be put back.
        api_bound: most calls to the API, relative to calm weather.
        s3_bound: most calls to S3, relative to calm weather.
    """

    name: str
    arrange: Act = _nothing
    moments: Mapping[int, Act] = field(default_factory=dict)
    mend: Act = _nothing
    way: Way = "direct"
    options: Mapping[str, Any] = field(default_factory=dict)
    s3_attempts: int = 1
    counted: bool = False
    fails: int = 0
    api_bound: float = 2
    s3_bound: float = 2


@dataclass(frozen=True)
class Calm:
    """An undisturbed run."""

    results: Mapping[str, bytes]
    api_calls: int
    s3_calls: int


@dataclass(frozen=True)
class Measured:
    """What became of a scenario.

    Attributes:
        hits: how often the weather struck.
        documents: how many there were.
        done: how many ended done, those put back included.
        failed: how many had ended failed before they were put back.
        lost: how many have no result, or another than in calm weather.
        sent_again_pages: pages paid for again since they never came: the API failed, dropped or forgot them.
        billed_twice_pages: pages paid for twice although they came or could have come.
        uncounted: documents with more submissions off the record than are counted in it.
        counted_duplicates: possible duplicates, by the records.
        reported_duplicates: possible duplicates, by the outcomes of the steps.
        beyond_need: pages paid for, after jobs were put back, beyond those that were missing.
        left_over: open or failed records, and kept pages, that nobody needs any more.
        leaked_keys: how often the API key went to the storage host.
        deaths: steps that ended with a fault of the moment, and were taken up by a later pass.
        api_calls: calls to the API and its storage host.
        s3_calls: calls to S3.
        api_ratio: the same, relative to calm weather.
        s3_ratio: the same, relative to calm weather.
    """

    name: str
    hits: int
    documents: int
    done: int
    failed: int
    lost: int
    sent_again_pages: int
    billed_twice_pages: int
    uncounted: tuple[str, ...]
    counted_duplicates: int
    reported_duplicates: int
    beyond_need: int
    left_over: tuple[str, ...]
    leaked_keys: int
    deaths: int
    api_calls: int
    s3_calls: int
    api_ratio: float
    s3_ratio: float


class _Drive:
    def __init__(self, weather: Weather, scenario: Scenario) -> None:
        self.weather = weather
        self.scenario = scenario
        self.outcomes: list[Outcome] = []
        self.deaths = 0
        self._moment = 0
        self._start()

    def _start(self) -> None:
        """Begin a run: what a process knows by heart is gone."""
        self._context = self.weather.context(self.scenario.s3_attempts, dict(self.scenario.options))
        self._jobs = OpenJobs(self._context)

    def to_the_end(self) -> None:
        """Pass after pass until every document is done or failed and nothing is open."""
        deadline = time.monotonic() + PATIENCE
        for _ in range(_PASSES):
            new, open_records = self._stand()
            if not new and not open_records:
                return
            assert time.monotonic() < deadline, f"{self.scenario.name}: {new}, {open_records}, {self.outcomes[-3:]}"
            try:
                self._pass(new)
            except AccountFault:
                self.weather.refusals += 1
                self.scenario.mend(self.weather)
                self._start()
            except TransientFault:
                self.deaths += 1
                self.weather.clock.advance(5)
        raise AssertionError(f"{self.scenario.name}: no end after {_PASSES} passes: {self._stand()}")

    def _stand(self) -> tuple[list[Document], list[str]]:
        """The documents without a job, and the open records: looked up beside the weather."""
        names = [key.partition("_jobs/")[2] for key in self.weather.world.listing("out/_jobs/")]
        known = {name.partition("/")[2].removesuffix(".json") for name in names}
        new = [document for document in self.weather.documents if job_id(document, "ocr") not in known]
        return new, [name for name in names if name.startswith("open/")]

    def _pass(self, new: Iterable[Document]) -> None:
        context = self._context
        self._come()
        with ThreadPoolExecutor(THREADS) as pool:
            sent = self._all(pool, submit_document, new)
            self.outcomes += sent
            self.weather.settle()
            self._come()
            survey = self._jobs.survey()
            polled = self._all(pool, lambda context, job: (job, poll_job(context, job)), survey.due)
            ready = [*survey.ready, *(job for job, finished in polled if finished)]
            self.outcomes += self._all(pool, collect_job, ready)
        if not sent and not survey.due and not survey.ready:
            soon = (survey.next_due - context.clock.now()).total_seconds() if survey.next_due else 60
            self.weather.clock.advance(max(soon, 0) + 0.01)

    def _come(self) -> None:
        self.scenario.moments.get(self._moment, _nothing)(self.weather)
        self._moment += 1

    def _all(self, pool: ThreadPoolExecutor, work: Callable[[Any, Item], Value], items: Iterable[Item]) -> list[Value]:
        """Work on all items, some at a time; a refused account stops what has not begun."""
        stop, refused = threading.Event(), None

        def one(item: Item) -> Value | None:
            return None if stop.is_set() else work(self._context, item)

        results: list[Value] = []
        calls: list[Future[Value | None]] = [pool.submit(one, item) for item in items]
        for call in calls:
            try:
                result = call.result()
            except AccountFault as fault:
                stop.set()
                refused = fault
            except TransientFault:
                self.deaths += 1
            else:
                if result is not None:
                    results.append(result)
        if refused is not None:
            raise refused
        return results


def calm(ground: Ground) -> Calm:
    """The undisturbed run that the others are measured against."""
    with ExitStack() as closing:
        weather = Weather(ground, "direct", closing)
        _Drive(weather, Scenario("calm")).to_the_end()
        api_calls, s3_calls = weather.calls()
        results = {document.key: weather.world.result(document) for document in weather.documents}
        assert sum(request["pages"] for request in weather.requests()) == sum(map(weather_pages(weather), results))
        return Calm(results, api_calls, s3_calls)


def weather_pages(weather: Weather) -> Callable[[str], int]:
    """How many pages the result of a document has, by its key."""
    by_key = {document.key: document for document in weather.documents}
    return lambda key: weather.world.done(by_key[key]).pages


def play(scenario: Scenario, ground: Ground, undisturbed: Calm) -> Measured:
    """Play a scenario to its end, put back what failed, and measure."""
    with ExitStack() as closing:
        weather = Weather(ground, scenario.way, closing)
        scenario.arrange(weather)
        drive = _Drive(weather, scenario)
        drive.to_the_end()
        failed = [weather.world.failed(document) for document in weather.documents if _has_failed(weather, document)]
        beyond_need = 0
        if failed:
            beyond_need = _put_back(drive, failed)
        hits = weather.hits()
        return _measure(drive, undisturbed, hits, len(failed), beyond_need)


def _has_failed(weather: Weather, document: Document) -> bool:
    return weather.world.context().ledger.failed(job_id(document, "ocr")) is not None


def _put_back(drive: _Drive, failed: list[FailedJob]) -> int:
    """Put failed jobs back in fair weather; gives how many pages were then paid for beyond those that were missing."""
    weather = drive.weather
    for record in failed:
        missing = sum(map(len, record.missing))
        assert missing, record
        assert sum(map(len, record.job.kept)) + missing == record.job.pages, "what came is kept"
        assert all(str(pages) in record.reason for pages in record.missing), record.reason
        assert record.retry_helps
    drive.scenario.mend(weather)
    before = int(sum(request["pages"] for request in weather.requests()))
    ledger = weather.world.context().ledger
    for record in failed:
        assert ledger.put_back(record)
    drive._start()
    drive.to_the_end()
    paid = int(sum(request["pages"] for request in weather.requests())) - before
    return paid - sum(len(pages) for record in failed for pages in record.missing)


def _measure(drive: _Drive, undisturbed: Calm, hits: int, failed: int, beyond_need: int) -> Measured:
    weather, world = drive.weather, drive.weather.world
    records = {stem: world.context().ledger.done(job_id(doc, "ocr")) for stem, doc in by_document(weather).items()}
    done = {stem: record for stem, record in records.items() if record is not None}
    on_record = {request.id for record in done.values() for request in record.job.requests}
    taken = weather.requests()
    off_record = dict.fromkeys(records, 0)
    for request in taken:
        off_record[request["file_name"].rpartition(".")[0]] += request["id"] not in on_record
    for stem, record in done.items():  # the API gives a synchronous request no name to tell it by
        off_record[stem] -= sum(request.status == "answered" for request in record.job.requests)
    sent_again = sum(undelivered(request, weather) for request in taken if request["id"] in on_record)
    api_calls, s3_calls = weather.calls()
    counted = {stem: record.job.possible_duplicates for stem, record in done.items()}
    return Measured(
        name=drive.scenario.name,
        hits=hits,
        documents=len(weather.documents),
        done=len(done),
        failed=failed,
        lost=sum(_result(weather, doc) != undisturbed.results[doc.key] for doc in weather.documents),
        sent_again_pages=sent_again,
        billed_twice_pages=sum(request["pages"] for request in taken) - _pages(done) - sent_again,
        uncounted=tuple(stem for stem, times in off_record.items() if times > counted.get(stem, 0)),
        counted_duplicates=sum(counted.values()),
        reported_duplicates=sum(outcome.possible_duplicates for outcome in drive.outcomes),
        beyond_need=beyond_need,
        left_over=tuple(key for key in world.listing("out/_jobs/") if "/_jobs/done/" not in key),
        leaked_keys=weather.api.leaked_keys(),
        deaths=drive.deaths,
        api_calls=api_calls,
        s3_calls=s3_calls,
        api_ratio=api_calls / undisturbed.api_calls,
        s3_ratio=s3_calls / undisturbed.s3_calls,
    )


def _pages(done: Mapping[str, Any]) -> int:
    return sum(record.pages for record in done.values())


def _result(weather: Weather, document: Document) -> bytes | None:
    with contextlib.suppress(weather.world.s3.exceptions.NoSuchKey):
        return weather.world.result(document)
    return None
