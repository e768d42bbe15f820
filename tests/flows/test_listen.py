"""The command and flow `listen`: S3's own notifications, a real queue, real processes, and everybody else beside it."""

import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deployments.local.stack import LocalStack
from flows import listen as product
from tasks.backfills.record import new_backfill
from tasks.context import RunContext
from tasks.faults import SetupFault, TransientFault
from tasks.options import Options, RunSettings
from tasks.selection import Selection
from tasks.steps.inbox import Inbox
from tasks.store.objects import Objects
from tasks.store.queue import Queue
from tests import sample_documents as documents
from tests.fakes import FakeClock
from tests.flows.conftest import FAST, Command, Place, Start, report_of
from tests.flows.races import at_once, billed_once
from tests.queues import InOneProcess, Notified, notified
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

DONE_OR_FAILED = r"prefix=out/_jobs/(done|failed)"


@pytest.fixture
def queue(stack: LocalStack, s3: "S3Client", bucket: str) -> Notified:
    made = notified(s3, stack.s3_url, bucket, visibility=3)
    made.until(made.visible, 1)  # S3's test message
    return made


@pytest.fixture
def flaky(stack: LocalStack) -> Iterator[FlakyS3]:
    with FlakyS3(stack.s3_url) as proxy:
        yield proxy


def put(place: Place, tag: str, number: int) -> list[str]:
    """Documents in the source. Gives how the bill names them."""
    given = {f"{index}.pdf": documents.text_pdf([f"{tag} {index}"]) for index in range(number)}
    place.put(given)
    return [hashlib.sha256(body).hexdigest() for body in given.values()]


def test_documents_are_submitted_as_they_are_told_of_and_no_others(
    command: Command, place: Place, queue: Notified, flaky: FlakyS3, api: StandInControl
) -> None:
    hashes = put(place, "told", 2)
    place.s3.put_object(Bucket=place.bucket, Key="elsewhere/a.pdf", Body=documents.text_pdf(["elsewhere"]))
    queue.until(queue.visible, 3)
    listening = ("listen", queue.url, place.source, place.destination, "--seconds", "0", *FAST, "--json")
    process = command(*listening, AWS_ENDPOINT_URL_S3=flaky.url)
    report = report_of(process)
    assert process.returncode == 0, process.stderr
    assert (report["flow"], report["open"], report["requests"]) == ("listen", 2, 2)
    assert (report["messages"], report["messages_left"], queue.waiting()) == (3, 0, 0)
    assert billed_once(api, hashes)
    assert {job["document"]["key"] for job in place.records("open")} == {"in/0.pdf", "in/1.pdf"}

    named = ("submit", place.source, place.destination, "--key", "in/0.pdf", "--key", "in/1.pdf", *FAST, "--json")
    assert report_of(command(*named, AWS_ENDPOINT_URL_S3=flaky.url))["requests"] == 0
    assert flaky.calls("GET", DONE_OR_FAILED) == 0, "a few documents are no reason to list a ledger of a million"


def test_submit_and_two_listeners_at_once_send_each_document_once(
    start: Start, place: Place, queue: Notified, api: StandInControl
) -> None:
    hashes = put(place, "at once", 12)
    queue.until(queue.visible, 13)
    listening = ("listen", queue.url, place.source, place.destination, "--seconds", "0")
    ended = at_once(start, listening, listening, ("submit", place.source, place.destination))
    assert [run.returncode for run in ended] == [0, 0, 0], [run.stderr for run in ended]
    assert billed_once(api, hashes)
    assert sum(report_of(run)["requests"] for run in ended) == 12
    # A document that another was sending at that moment has left its message; the next one finds it sent.
    left = sum(report_of(run)["messages_left"] for run in ended)
    assert queue.waiting() <= left


def test_a_listener_that_is_killed_loses_nothing_and_the_next_one_goes_on(
    start: Start, command: Command, place: Place, queue: Notified, stack: LocalStack, api: StandInControl
) -> None:
    hashes = put(place, "killed", 6)
    queue.until(queue.visible, 7)
    more = ("--seconds", "0", "--workers", "1", "--lease-seconds", "1", *FAST)
    listening = ("listen", queue.url, place.source, place.destination, *more)
    with FlakyS3(stack.upstage_url) as gateway:
        process = start(*listening, UPSTAGE_BASE_URL=f"{gateway.url}/v1")
        gateway.fail(Rule("refuse", "/async", "POST", skip=2, before=process.kill))
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert len(api.billed(*hashes)) == 2
    queue.until(queue.visible, 7)
    report = report_of(command(*listening, "--json"))
    assert (report["messages"], report["messages_left"], queue.waiting()) == (7, 0, 0)
    assert report["requests"] == 3, "the third was claimed by the one that died; collecting takes it over"
    _collect_until_done(command, place, 6)
    assert billed_once(api, hashes)


def _collect_until_done(command: Command, place: Place, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(place.records("done")) < number:
        assert time.monotonic() < deadline
        assert command("collect", place.destination, *FAST).returncode == 0


def test_a_listener_hears_of_what_comes_and_ends_with_ctrl_c(
    start: Start, place: Place, queue: Notified, api: StandInControl
) -> None:
    process = start("listen", queue.url, place.source, place.destination, *FAST)
    try:
        queue.until(queue.waiting, 0)  # S3's test message: it listens
        hashes = put(place, "heard", 2)
        queue.until(lambda: len(place.keys("out/_jobs/open/")), 2)
        queue.until(queue.waiting, 0)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, complaints
    assert "interrupted; what was sent is on record" in complaints
    assert all(job["requests"] for job in place.records("open"))
    assert billed_once(api, hashes)


@pytest.mark.parametrize(
    "which", [{"key": ("a",)}, {"manifest": "list.csv"}, {"inventory": "s3://lists/manifest.json"}]
)
def test_the_queue_says_which_documents_and_nothing_else_does(which: dict[str, Any]) -> None:
    with pytest.raises(SetupFault, match="the queue says which documents"):
        product.listen.fn("s3://abc/in", "s3://abc/out", "https://x/q", selection=Selection(**which))


def in_one_process(
    place: Place, api: StandInControl, folder: Path, objects: Objects, backfill: str | None = None, **options: Any
) -> InOneProcess:
    fast = {"requests_per_second": 500, "pages_per_minute": 1_000_000}
    settings = RunSettings(
        source=place.source,
        destination=place.destination,
        options=Options.model_validate(fast | options),
        backfill=backfill,
    )
    return InOneProcess(RunContext(settings, objects, FakeClock(), api.base_url, api.key), folder)


@pytest.mark.parametrize("seconds", [0, 2])
def test_nothing_is_taken_while_the_window_is_full(
    seconds: float, place: Place, queue: Notified, api: StandInControl, objects: Objects, tmp_path: Path
) -> None:
    put(place, f"window {seconds}", 3)
    queue.until(queue.visible, 4)
    run = in_one_process(place, api, tmp_path, objects, window=2)
    inbox = Inbox(run.context, Queue(queue.sqs, queue.url))
    run.listen(inbox, seconds)
    assert run.tally.stopped == "2 jobs are open, which is the window; collecting makes room"
    assert (inbox.settled, inbox.left) == (3, 0)
    assert len(place.keys("out/_jobs/open/")) == 2
    assert ("waiting for room" in run.shown) == bool(seconds)
    # Another run collects: the count is of what is open now.
    for key in sorted(place.keys("out/_jobs/open/"))[:1]:
        place.s3.delete_object(Bucket=place.bucket, Key=f"out/_jobs/open/{key}")
    (tmp_path / "again").mkdir()
    again = in_one_process(place, api, tmp_path / "again", objects, window=2)
    again.listen(Inbox(again.context, Queue(queue.sqs, queue.url)), seconds)
    assert queue.waiting() == 0


def test_a_budget_that_is_used_up_ends_it_and_the_messages_stay(
    place: Place, queue: Notified, api: StandInControl, objects: Objects, tmp_path: Path
) -> None:
    put(place, "budget", 3)
    queue.until(queue.visible, 4)
    run = in_one_process(place, api, tmp_path, objects, page_budget=2)
    inbox = Inbox(run.context, Queue(queue.sqs, queue.url))
    run.listen(inbox, 60)
    assert "its 1 page exceeds what is left of the page budget" in str(run.tally.stopped)
    assert (inbox.settled, inbox.left, queue.waiting()) == (3, 1, 1)


def test_a_store_that_is_away_for_a_moment_is_waited_for(
    place: Place, queue: Notified, api: StandInControl, flaky: FlakyS3, tmp_path: Path
) -> None:
    hashes = put(place, "moment", 1)
    queue.until(queue.visible, 2)
    run = in_one_process(place, api, tmp_path, flaky.objects())
    inbox = Inbox(run.context, Queue(queue.sqs, queue.url))
    flaky.fail(Rule("refuse", "_jobs/open/", "GET", times=3))
    run.listen(inbox, 92)
    assert billed_once(api, hashes)
    assert queue.waiting() == 0
    flaky.fail(Rule("refuse", "_jobs/open/", "GET", times=-1))
    with pytest.raises(TransientFault):
        run.listen(inbox, 0)


def test_a_backfill_whose_record_cannot_be_read_for_a_moment_is_waited_for_and_a_paused_one_ends_it(
    place: Place, queue: Notified, api: StandInControl, flaky: FlakyS3, tmp_path: Path
) -> None:
    hashes = put(place, "record", 1)
    queue.until(queue.visible, 2)
    run = in_one_process(place, api, tmp_path, flaky.objects(), backfill="live")
    now = run.context.clock.now()
    run.context.backfills.make(new_backfill(run.context.settings, "live", now))
    unread = flaky.fail(Rule("refuse", "_jobs/backfills/", "GET", times=6))
    run.listen(Inbox(run.context, Queue(queue.sqs, queue.url)), 92)
    assert unread.hits == 6
    assert billed_once(api, hashes)
    assert queue.waiting() == 0

    run.context.backfills.change("live", lambda record: record.moved("paused", "month's end", now))
    run.context.followed.forget("live")
    began = run.context.clock.monotonic()
    run.listen(Inbox(run.context, Queue(queue.sqs, queue.url)), 92)
    assert run.context.clock.monotonic() - began < 92
