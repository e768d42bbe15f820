"""What goes wrong after a POST is counted and charged, whatever it is; and what was not sent costs nothing."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.faults import CeilingReached, DocumentFault, FailureCode, NotUnderstood, SetupFault
from tasks.job import transitions
from tasks.job.outcome import Outcome
from tasks.job.record import PageRange, job_id
from tasks.steps.collect import collect_job
from tasks.steps.failing import fail
from tasks.steps.held_job import HeldJob
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tests.sample_documents import text_pdf
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule

POST = {"method": "POST", "path": "/document-digitization"}
WORDY = text_pdf([" ".join(f"word{number}" for number in range(400))])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that has no room for longer files, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def spent(fault: BaseException) -> Outcome:
    """What the document that met a fault had cost."""
    outcome = getattr(fault, "outcome", None)
    assert isinstance(outcome, Outcome)
    return outcome


def test_an_answer_that_the_disk_has_no_room_for_is_counted_and_ends_the_run(world: World) -> None:
    document, context = world.put(WORDY), world.context(mode="sync", page_budget=3)
    with files_of_at_most(2 * document.size), pytest.raises(SetupFault, match=r"cannot write to .*bulk-ocr") as ended:
        submit_document(context, document)
    assert len(world.bill()) == 1, "nothing more was paid for"
    assert spent(ended.value).possible_duplicates == 1
    with pytest.raises(CeilingReached):  # the page may be paid for
        context.budget.reserve("another", 3)
    assert context.budget.reserve("another", 2) is not None
    record = world.open(document)
    assert (record.lease, record.possible_duplicates, record.pages_lost) == (None, 1, 1)
    world.finish(world.context(mode="sync"), document)
    assert world.done(document).job.possible_duplicates == 1
    assert world.billed_pages() == [1, 1]


def test_without_room_for_an_answer_nothing_is_sent(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = (
        shutil.which("mount")
        and os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("a disk of half a megabyte can only be mounted by root")
    try:
        monkeypatch.setenv("TMPDIR", str(small))
        monkeypatch.setattr("tempfile.tempdir", None)
        with pytest.raises(SetupFault, match=r"has 0 MB free.*nothing was sent"):
            submit_document(world.context(mode="sync"), world.put(pdf(1)))
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert world.untouched()


class Breaking(Objects):
    """A store whose client breaks in a way that nobody thought of."""

    def __init__(self, client: Any, method: str, path: str, calls: int = 1) -> None:
        super().__init__(client)
        self._method, self._path, self._left = method, path, calls

    def _maybe(self, method: str, key: str) -> None:
        if method == self._method and self._path in key:
            self._left -= 1
            if self._left == 0:
                raise ZeroDivisionError("nobody thought of this")

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        self._maybe("fetch", key)
        super().fetch(bucket, key, etag, to)

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        self._maybe("replace", key)
        return super().replace(bucket, key, body, etag)


def test_a_worker_that_breaks_while_it_reads_gives_its_claim_back(world: World) -> None:
    document = world.put(pdf(2))
    with pytest.raises(ZeroDivisionError):
        submit_document(world.context(objects=Breaking(world.s3, "fetch", "in/")), document)
    assert world.untouched()
    assert submit_document(world.context(), document).kind == "open", "nobody waits for a lease"


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_worker_that_breaks_between_a_post_and_its_record_leaves_word_of_it(world: World, mode: str) -> None:
    document = world.put(pdf(2))
    with pytest.raises(ZeroDivisionError):
        submit_document(world.context(mode=mode, objects=Breaking(world.s3, "replace", "open/", calls=2)), document)
    assert len(world.bill()) == 1
    left = world.open(document).lease
    assert left is not None
    assert (left.doing, left.pages) == ("posting", PageRange(first=1, last=2))
    world.clock.advance(3600)
    context = world.context(mode=mode)
    outcomes = [collect_job(context, job_id(document, "ocr")), *world.finish(context, document)]
    paid_twice = len(world.bill()) - 1
    assert paid_twice == (1 if mode == "async" else 0), "pages that were answered at once lie in the ledger"
    assert sum(outcome.possible_duplicates for outcome in outcomes) == paid_twice
    assert world.done(document).job.possible_duplicates == paid_twice


def test_several_lost_answers_in_a_row_stop_the_run_and_fail_nobody(world: World) -> None:
    context = world.context()
    world.api.fail(POST | {"action": "reset_after", "times": -1})
    documents = [world.put(pdf(2, str(number)), f"in/{number}.pdf") for number in range(4)]
    assert submit_document(context, documents[0]).kind == "later"
    with pytest.raises(NotUnderstood, match="6 consecutive submissions") as ended:
        submit_document(context, documents[1])
    assert spent(ended.value).possible_duplicates == 3
    for document in documents[2:]:
        with pytest.raises(NotUnderstood):
            submit_document(context, document)
    assert len(world.bill()) == 6
    assert world.listing("out/_jobs/failed/") == []
    assert [world.open(document).possible_duplicates for document in documents[:2]] == [3, 3]


def test_an_answer_that_is_understood_lets_the_brake_go(world: World) -> None:
    context = world.context()
    for number in range(4):
        world.api.fail(POST | {"action": "reset_after", "times": 2})
        assert submit_document(context, world.put(pdf(2, str(number)), f"in/{number}.pdf")).kind == "open"
    assert len(world.bill()) == 12


def test_results_whose_keys_meet_do_not_write_over_one_another(world: World) -> None:
    document = world.put(pdf(1))
    google = world.context(model="ocr-1", schema="google")
    submit_document(google, document)
    world.finish(google, document)
    key = "out/a.pdf.ocr.ocr-1.google.json"
    paid = world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read()
    other = world.context(model="ocr-1.google")
    outcome = submit_document(other, document)
    assert outcome.kind == "failed"
    assert "that key is taken by" in outcome.message
    assert world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read() == paid
    assert world.billed_pages() == [1], "found out before anything is paid for"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_slow_record_of_a_failure_gives_way_to_a_result(world: World, flaky: FlakyS3, moment: str) -> None:
    """One worker gives a job up while another, that read the record before, publishes it: done wins."""
    document = world.put(pdf(2))
    submit_document(world.context(), document)
    identity = world.recognised(world.context(), document)
    other = world.context()
    read_before = other.ledger.read(identity)
    assert read_before is not None
    done = transitions.done(
        read_before.job, pages=2, now=world.clock.now(), superseded=False, copied_from=None, flow_run="other"
    )

    def finish() -> None:
        assert other.ledger.finish(read_before, done)

    before, after = (finish, None) if moment == "before" else (None, finish)
    flaky.fail(Rule("pass", "_jobs/failed/", "PUT", before=before, after=after))
    slow = world.context(objects=flaky.objects())
    held = slow.ledger.read(identity)
    assert held is not None
    fault = DocumentFault(FailureCode.MISSING_PAGES, "as the test says")
    assert fail(slow, HeldJob(slow, held), "recognise", fault).kind == "skipped"
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{identity}.json"]


def test_what_was_sent_is_counted_although_nothing_can_be_written_any_more(world: World, flaky: FlakyS3) -> None:
    """Of three parts two are sent, then the ledger is down: for the record, for giving the job back, for all."""
    document = world.put(pdf(25))
    context = world.context(objects=flaky.objects(), limits=TEN_PAGES)
    flaky.fail(Rule("refuse", "_jobs/", "PUT", skip=5, times=-1))
    outcome = submit_document(context, document)
    assert outcome.kind == "later"
    assert outcome.pages_sent == sum(world.billed_pages()) == 20
    assert outcome.requests == 2


def test_a_failure_that_cannot_be_recorded_now_is_left_for_later(world: World, flaky: FlakyS3) -> None:
    document = world.put(b"no document", "in/a.pdf")
    flaky.fail(Rule("refuse", "_jobs/failed/", "PUT", times=-1))
    outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert outcome.kind == "later"
    assert "could not be recorded" in outcome.message
