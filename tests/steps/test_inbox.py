"""Documents that a queue tells of: exactly those are submitted, and a message goes when nothing is left to do for it.

The notifications are the S3 server's own, in a real queue; what S3 may also do (tell twice, late, of what is gone) is
sent beside them.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.context import RunContext
from tasks.faults import AccountFault, TransientFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, Job, job_id
from tasks.steps.inbox import Inbox
from tasks.steps.submit import submit_document
from tasks.store.queue import Queue
from tasks.tally import KnownJobs
from tests.queues import Notified, notified
from tests.sample_documents import encrypted_pdf
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

Submit = Callable[[RunContext, Document], Outcome]


@pytest.fixture
def queue(world: World, s3_url: str, request: pytest.FixtureRequest) -> Notified:
    if request.config.getoption("s3") != "ministack":
        pytest.skip("Ceph's gateway sends no notifications to SQS")
    made = notified(world.s3, s3_url, world.bucket, visibility=1)
    made.until(made.visible, 1)  # S3's test message
    return made


def listen(
    context: RunContext, queue: Notified, folder: Path, submit: Submit = submit_document
) -> tuple[Inbox, KnownJobs]:
    """Take what is there once, as the flow does."""
    inbox = Inbox(context, Queue(queue.sqs, queue.url))
    with KnownJobs(folder) as known:
        known.load_open(context.ledger)
        batch = inbox.take(100, 0)
        if batch is not None:
            for document in inbox.new_documents(batch, known):
                batch.record_outcome(submit(context, document))
            inbox.settle(batch)
    return inbox, known


def test_exactly_the_documents_that_are_told_of_are_submitted(
    world: World, queue: Notified, flaky: FlakyS3, tmp_path: Path
) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="elsewhere/a.pdf", Body=pdf(1))
    keys = ("in/a b+c%2B.pdf", "in/ü/📄\n.pdf", "in/../x//y.pdf")
    announced = [world.put(pdf(1, f"{number}"), key) for number, key in enumerate(keys)]
    locked = world.put(encrypted_pdf(), "in/locked.pdf")
    queue.until(queue.visible, 5)
    inbox, _ = listen(world.context(objects=flaky.objects()), queue, tmp_path)
    assert (inbox.settled, inbox.left, queue.waiting()) == (5, 0, 0)
    for document in announced:
        assert world.open(document).requests
    assert world.failed(locked).code == "encrypted"
    assert world.billed_pages() == [1, 1, 1]
    assert flaky.calls("GET", r"prefix=out/_jobs/open/") == 1
    assert flaky.calls("GET", r"list-type=2") == 1, "neither the source is listed nor what is done or failed"


def test_what_is_told_twice_late_or_of_what_is_gone_is_looked_at_as_it_is_now(
    world: World, queue: Notified, tmp_path: Path
) -> None:
    context = world.context()
    world.put(pdf(1, "old"))
    now = world.put(pdf(2, "new"))
    done = world.put(pdf(1, "done"), "in/done.pdf")
    world.put(pdf(1), "in/gone.pdf")
    world.s3.delete_object(Bucket=world.bucket, Key="in/gone.pdf")
    submit_document(context, done)
    world.finish(context, done)
    queue.tell(world.bucket, "in/a.pdf", "in/a.pdf", "in/never.pdf")
    queue.tell(world.bucket, "in/folder/")
    queue.until(queue.visible, 8)
    listen(world.context(), queue, tmp_path)
    assert queue.waiting() == 0
    assert world.open(now).pages == 2
    assert world.billed_pages() == [1, 2], "the old version was not sent, and what is done was not sent again"


def test_an_old_version_that_is_put_back_is_recognised_again(world: World, queue: Notified, tmp_path: Path) -> None:
    context = world.context()
    for name in ("first", "second"):
        document = world.put(pdf(1, name))
        submit_document(context, document)
        world.finish(context, document)
    first = world.put(pdf(1, "first"))
    done = context.ledger.entry("done", job_id(first, "ocr"))
    assert done is not None

    def later() -> int:
        """A look at one object tells whole seconds only."""
        return int(world.put(pdf(1, "first")).last_modified.replace(microsecond=0) > done.last_modified)

    queue.until(later, 1)
    listen(world.context(), queue, tmp_path)
    assert world.open(first).requests


def test_what_the_selection_does_not_take_is_dealt_with(world: World, queue: Notified, tmp_path: Path) -> None:
    for key in ("in/a.pdf", "in/draft-b.pdf", "in/c.txt"):
        world.put(pdf(1, key), key)
    queue.until(queue.visible, 4)
    context = world.context()
    selection = context.settings.selection.model_copy(update={"exclude": ("draft*",), "include": ("*.pdf",)})
    context.settings = context.settings.model_copy(update={"selection": selection})
    listen(context, queue, tmp_path)
    assert queue.waiting() == 0
    assert len(world.listing("out/_jobs/open/")) == 1


def test_rubbish_and_other_places_are_left_with_words_to_act_on_and_keep_nobody(
    world: World, queue: Notified, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = world.put(pdf(1))
    queue.send("hello \u202e")
    queue.tell("another-bucket", "in/a.pdf")
    queue.tell(world.bucket, "in/a.pdf", "elsewhere/b.pdf")
    queue.until(queue.visible, 5)
    with caplog.at_level(logging.WARNING):
        inbox, _ = listen(world.context(), queue, tmp_path)
    assert world.open(document).requests
    assert (inbox.settled, inbox.left) == (2, 3)
    assert "it is not JSON: 'hello \\u202e'" in caplog.text
    assert "let only S3 send to this queue" in caplog.text
    assert "it announces 'in/a.pdf' in bucket 'another-bucket', outside of" in caplog.text
    assert "Each place needs a queue of its own" in caplog.text
    queue.until(queue.visible, 3)
    assert inbox.take(100, 0) is not None


@pytest.mark.parametrize("fault", ["refused", "moment", "budget", "s3"])
def test_what_could_not_be_sent_comes_again_and_is_sent_once(
    fault: str, world: World, queue: Notified, flaky: FlakyS3, tmp_path: Path
) -> None:
    document = world.put(pdf(2))
    queue.until(queue.visible, 2)
    context = world.context(
        page_budget=1 if fault == "budget" else None, key="up_wrong" if fault == "refused" else None
    )
    if fault == "moment":
        world.api.fail({"method": "POST", "action": "status", "status": 503, "times": -1})
    if fault == "s3":
        context.objects = flaky.objects()
        flaky.fail(Rule("refuse", r"/in/a\.pdf", "HEAD", times=-1))
    expected = {"refused": AccountFault, "s3": TransientFault}.get(fault)
    if expected is not None:
        with pytest.raises(expected):
            listen(context, queue, tmp_path)
    else:
        listen(context, queue, tmp_path)
    assert world.bill() == []
    world.api.fail()
    queue.until(queue.visible, 1 if expected is None else 2)
    listen(world.context(), queue, tmp_path)
    assert world.billed_pages() == [2]
    assert world.open(document).requests
    assert queue.waiting() == 0


def test_a_claim_that_may_be_given_back_keeps_the_message(world: World, queue: Notified, tmp_path: Path) -> None:
    """Another worker has claimed the document, and then finds its budget used up: nobody else would know of it."""
    document = world.put(pdf(2))
    queue.until(queue.visible, 2)
    other = world.context(page_budget=1)
    held = other.ledger.claim(
        Job(
            id=other.job_id(document), document=document, model="ocr", result="s3://x/y",
            claimed_at=other.clock.now(), lease=other.lease("reading"),
        )
    )  # fmt: skip
    assert held is not None
    inbox, _ = listen(world.context(), queue, tmp_path)
    assert (inbox.settled, inbox.left) == (1, 1)
    assert other.ledger.close(held)
    queue.until(queue.visible, 1)
    listen(world.context(), queue, tmp_path)
    assert world.billed_pages() == [2]
    assert queue.waiting() == 0


def test_a_document_that_may_not_be_looked_at_keeps_its_message_and_no_other(
    world: World, queue: Notified, flaky: FlakyS3, tmp_path: Path
) -> None:
    world.put(pdf(1), "in/secret.pdf")
    document = world.put(pdf(1))
    queue.until(queue.visible, 3)
    context = world.context(objects=flaky.objects())
    flaky.fail(Rule("refuse", r"/in/secret\.pdf", times=-1, status=403, code="AccessDenied"))
    inbox, _ = listen(context, queue, tmp_path)
    assert (inbox.settled, inbox.left) == (2, 1)
    assert world.open(document).requests


def test_looks_at_single_jobs_tell_what_a_listing_would(world: World, tmp_path: Path) -> None:
    context = world.context()
    documents = {name: world.put(pdf(1, name), f"in/{name}.pdf") for name in ("done", "new", "open")}
    documents["failed"] = world.put(encrypted_pdf(), "in/failed.pdf")
    for name in ("done", "open", "failed"):
        submit_document(context, documents[name])
    world.finish(context, documents["done"])
    with KnownJobs(tmp_path) as known:
        assert known.load_open(context.ledger) == 1
        states = {name: known.look(context.job_id(document)) for name, document in documents.items()}
        assert states == {"done": "done", "new": None, "open": "open", "failed": "failed"}
        for document in documents.values():
            known.count(context.job_id(document), states[document.key[3:-4]])
        # A long run: what was open is done, what was new is open, and the run learns of both.
        world.finish(context, documents["open"])
        submit_document(context, documents["new"])
        assert known.load_open(context.ledger) == 1
        assert known.look(context.job_id(documents["open"])) == "done"
        assert known.look(context.job_id(documents["new"])) == "open"
        census = known.census()
        assert (census.done_before, census.failed_before, census.open) == (2, 1, 1)
