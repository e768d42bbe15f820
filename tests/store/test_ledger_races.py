"""Random interleavings of two workers on one job, against a model of what the ledger promises."""

import itertools
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks.faults import Superseded
from tasks.job import transitions
from tasks.job.record import DoneJob, FailedJob, Job, Lease
from tasks.job.transitions import Change
from tasks.store.ledger import Held, Ledger
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location
from tests.store.conftest import NOON, job

_workers = st.sampled_from(["ann", "bob"])


class TwoWorkers(RuleBasedStateMachine):
    """Each worker goes by the record it last saw, which may be long out of date.

    The model is one value: the record that is open. Whoever goes by any other record must not get through.
    """

    ledger: Ledger
    numbers = itertools.count()

    @initialize()
    def start(self) -> None:
        self.new = job(f"{next(self.numbers)}.pdf")
        self.stored: Held | None = None
        self.settled = False
        self.seen: dict[str, Held] = {}

    def version(self, worker: str) -> Job:
        """The job as this worker would write it now; no two versions have the same bytes."""
        lease = Lease(owner=worker, since=NOON, until=NOON, doing="collecting")
        return self.new.model_copy(update={"lease": lease, "rounds": next(self.numbers)})

    def current(self, worker: str) -> bool:
        return self.stored is not None and self.seen[worker].etag == self.stored.etag

    def has_seen(self, worker: str) -> bool:
        return worker in self.seen

    @rule(worker=_workers)
    def claim(self, worker: str) -> None:
        held = self.ledger.claim(self.version(worker))
        assert (held is not None) == (self.stored is None and not self.settled)
        if held is not None:
            self.stored = self.seen[worker] = held

    @rule(worker=_workers)
    def read(self, worker: str) -> None:
        held = self.ledger.read(self.new.id)
        assert held == self.stored
        if held is not None:
            self.seen[worker] = held

    @precondition(lambda self: self.seen)
    @rule(worker=_workers)
    def update(self, worker: str) -> None:
        if worker not in self.seen:
            return
        entitled = self.current(worker)
        try:
            held = self.ledger.update(self.seen[worker], self.version(worker))
        except Superseded:
            assert not entitled
        else:
            assert entitled
            self.stored = self.seen[worker] = held

    @precondition(lambda self: self.seen)
    @rule(worker=_workers)
    def amend(self, worker: str) -> None:
        if worker not in self.seen:
            return
        change, change_of_closed = self.version(worker), self.seen[worker].job.closed is not None
        written, _ = self.ledger.amend(self.seen[worker], lambda _: Change(change))
        gone = self.stored is None or self.stored.job.closed is not None
        if gone or change_of_closed:
            assert written is None
        else:
            assert written is not None
            self.stored = self.seen[worker] = written

    @precondition(lambda self: self.seen)
    @rule(worker=_workers, how=st.sampled_from(["close", "finish", "fail"]))
    def end(self, worker: str, how: str) -> None:
        if worker not in self.seen:
            return
        held = self.seen[worker]
        entitled = self.current(worker)
        if how == "close":
            self.ledger.close(held)
        elif how == "finish":
            self.ledger.finish(held, DoneJob(job=held.job, pages=1, finished_at=NOON))
        else:
            failed = FailedJob(job=held.job, stage="read", code="broken", reason="", retry_helps=False, failed_at=NOON)
            self.ledger.fail(held, failed)
        # Whoever gives up a job that was not theirs any more says nothing.
        self.settled = self.settled or how == "finish" or (how == "fail" and entitled)
        if entitled:
            self.stored = None

    @precondition(lambda self: self.seen)
    @rule(worker=_workers)
    def killed_while_closing(self, worker: str) -> None:
        if worker not in self.seen or not self.current(worker):
            return
        closed = transitions.closed(self.seen[worker].job, worker, f"{next(self.numbers)}")
        self.stored = self.ledger.update(self.seen[worker], closed)

    @rule()
    def sweep(self) -> None:
        held = self.ledger.read(self.new.id)
        if held is not None and held.job.closed is not None:
            self.ledger.sweep(held)
            self.stored = None

    @invariant()
    def the_open_record_is_the_last_rightful_owners(self) -> None:
        assert self.ledger.read(self.new.id) == self.stored


def _race(ledger: Ledger, examples: int) -> None:
    machine = type("Workers", (TwoWorkers,), {"ledger": ledger, "numbers": itertools.count()})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=20, deadline=None))


def test_no_interleaving_gives_a_job_two_owners_or_opens_a_settled_one(ledger: Ledger) -> None:
    _race(ledger, examples=5)  # each makes a hundred calls to the server; the folder below is tried at length


def test_nor_does_any_in_a_folder_of_this_machine(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    try:
        _race(Ledger(objects, Location("b", "out/")), examples=100)
    finally:
        objects.close()
