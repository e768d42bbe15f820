"""`bulk-ocr status` counts every document once, also those that move on while it counts."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli.output import Page
from flows.cli.status import status_of
from tasks.clock import Clock
from tasks.faults import FailureCode
from tasks.job import transitions
from tasks.job.record import Document, DoneJob, FailedJob, Job, job_id
from tasks.store.aside import AsideNote, AsideNotes
from tasks.store.heartbeats import Heartbeats
from tasks.store.ledger import Held, Ledger
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location
from tasks.store.object_store import Entry, Stored

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
OUT = Location.parse("s3://out/ocr")
DOCUMENTS = 5

Move = Literal["finish", "fail", "put_back"]


class Moving(FolderObjects):
    """A store in which somebody else works whenever it is looked at; listings come an entry at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.meanwhile: Callable[[], None] = lambda: None

    def get(self, bucket: str, key: str) -> Stored | None:
        self.meanwhile()
        return super().get(bucket, key)

    def list(self, bucket: str, prefix: str, **divided: Any) -> Iterator[Entry]:
        last = ""
        while True:
            self.meanwhile()
            entry = next((entry for entry in super().list(bucket, prefix, **divided) if entry.key > last), None)
            if entry is None:
                return
            last = entry.key
            yield entry


class World:
    """Documents, each with a job in some state, and what becomes of them while somebody counts.

    Args:
        folder: where the store lies.
        states: how they stand in the beginning.
    """

    def __init__(self, folder: Path, states: Sequence[str]) -> None:
        self.objects = Moving(folder)
        self.ledger = Ledger(FolderObjects(folder), OUT, "somebody")
        self._steps: list[tuple[int, Move]] = []
        self._under_way = False
        for number, state in enumerate(states):
            self.ledger.claim(self.job(number))
            if state != "open":
                self._act(number, "finish" if state == "done" else "fail")

    def job(self, number: int) -> Job:
        document = Document(bucket="in", key=f"{number}.pdf", etag="0" * 32, size=1, last_modified=NOON)
        return Job(id=job_id(document, "ocr"), document=document, model="ocr", result="s3://out/x", claimed_at=NOON)

    def work(self, steps: Sequence[tuple[int, Move] | None]) -> None:
        """From now on, do one of these steps at each look at the store; at None, nothing is done."""
        pending = list(steps)

        def meanwhile() -> None:
            if pending and (step := pending.pop(0)) is not None:
                self._act(*step)

        self.objects.meanwhile = meanwhile

    def _act(self, number: int, move: Move) -> None:
        """Do it, where the job is in a state for it."""
        identity = self.job(number).id
        held, failed = self.ledger.read(identity), self.ledger.failed(identity)
        if move == "put_back" and failed is not None:
            self.ledger.put_back(failed)
        elif held is not None and move == "finish":
            self.ledger.finish(held, DoneJob(job=held.job, pages=1, finished_at=NOON))
        elif held is not None and move == "fail":
            self.ledger.fail(held, _failed(held))


def _failed(held: Held) -> FailedJob:
    return FailedJob(
        job=held.job, stage="collect", code=FailureCode.MISSING_PAGES, reason="", retry_helps=True, failed_at=NOON
    )


@settings(max_examples=60)
@given(
    states=st.lists(st.sampled_from(["open", "done", "failed"]), min_size=DOCUMENTS, max_size=DOCUMENTS),
    steps=st.lists(
        st.none() | st.tuples(st.integers(0, DOCUMENTS - 1), st.sampled_from(["finish", "fail", "put_back"])),
        max_size=40,
    ),
)
def test_no_document_is_lost_or_counted_twice_while_others_work(
    tmp_path_factory: pytest.TempPathFactory, states: list[str], steps: list[tuple[int, Move] | None]
) -> None:
    world = World(tmp_path_factory.mktemp("store"), states)
    world.work(steps)
    while_moving = status_of(world.objects, OUT, NOON)
    assert while_moving.documents == DOCUMENTS
    assert while_moving.done + while_moving.failed + while_moving.open == DOCUMENTS
    world.work([])
    after = status_of(world.objects, OUT, NOON)
    assert (after.documents, after.moved) == (DOCUMENTS, 0)
    assert after.done >= while_moving.done >= states.count("done")


def test_what_moved_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path, ["open", "open", "done"])
    # The jobs have been listed, and open ones are about to be listed once more.
    world.work([None] * 7 + [(0, "finish"), (1, "finish")])
    status = status_of(world.objects, OUT, NOON)
    assert status.documents == 3
    assert status.moved == 2
    status.show(Page())
    assert "(2 changed state during the count)" in capsys.readouterr().out


def test_a_lease_that_a_heartbeat_extends_is_not_shown_as_over(tmp_path: Path) -> None:
    world, now = World(tmp_path, []), datetime.now(UTC)
    for number, owner in enumerate(("living", "dead")):
        lease = transitions.lease(owner, now - timedelta(minutes=5), 60, "reading")
        world.ledger.claim(transitions.collecting(world.job(number), lease).job)
    Heartbeats(FolderObjects(tmp_path), "out", world.ledger.folder, "living", 60, Clock()).beat()
    status = status_of(world.objects, OUT, now)
    assert status.workers == 1
    assert "1 reading stopped; the next pass takes it over" in status.waiting_for
    assert sorted(job.state for job in status.oldest) == ["reading", "reading stopped; the next pass takes it over"]


def test_a_job_that_was_put_back_by_somebody_who_was_stopped_is_open(tmp_path: Path) -> None:
    world = World(tmp_path, ["failed"])
    failed = world.ledger.failed(world.job(0).id)
    assert failed is not None
    world.ledger.claim(world.job(1))
    store = FolderObjects(tmp_path)
    put_back = transitions.put_back(failed, "somebody")
    assert store.create("out", f"ocr/_jobs/open/{put_back.id}.json", put_back.model_dump_json().encode())
    status = status_of(world.objects, OUT, NOON)
    assert (status.documents, status.open, status.failed) == (2, 2, 0)


def test_what_was_set_aside_is_named_with_its_reason_unless_it_is_done_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, ["done", "open", "open"])
    notes = AsideNotes(FolderObjects(tmp_path), OUT)
    for number in (0, 1, 7):
        note = AsideNote(
            document=f"s3://in/{number}.pdf",
            reason="it is in an archive: restore it",
            noted_at=NOON - timedelta(days=number),
            model="ocr",
        )
        notes.write(world.job(number).id, note)
    status = status_of(world.objects, OUT, NOON)
    assert (status.documents, status.done, status.open, status.aside) == (4, 1, 1, 2)
    assert sorted(note.document for note in status.set_aside) == ["s3://in/1.pdf", "s3://in/7.pdf"]
    assert status.exit_status == 1
    status.show(Page())
    shown = capsys.readouterr().out
    assert "1 done, 0 failed, 1 open, 2 set aside at s3://out/ocr" in shown
    assert "set aside: s3://in/7.pdf: it is in an archive: restore it" in shown
