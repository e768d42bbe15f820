"""A budget of pages: reserved before sending, shared by all who serve a run, and found again by who goes on."""

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from tasks.budget.charged import Charged
from tasks.budget.meter import Budget, InMemory, Reservation
from tasks.faults import SetupFault
from tests.waiting import PATIENCE, until


def reserve(budget: Budget, job: str, pages: int, spent: int = 0) -> Reservation:
    """A reservation that there is room for."""
    reservation = budget.reserve(job, pages, spent)
    assert reservation is not None
    return reservation


def charged(store: InMemory) -> Charged:
    """What is on record."""
    stored = store.read_budget("b")
    return Charged() if stored is None else Charged.model_validate_json(stored[0])


def test_without_a_ceiling_nothing_is_written() -> None:
    store = InMemory()
    with reserve(Budget(None, "b", store), "j", 10**9) as reservation:
        assert reservation.extend(10**9)
        reservation.sent(1)
    assert store.read_budget("b") is None


def test_what_was_not_sent_is_free_again() -> None:
    budget = Budget(10, "b", InMemory())
    with reserve(budget, "a", 10) as reservation:
        assert budget.reserve("b", 1) is None
        reservation.sent(4)
        reservation.lost(2)
    assert budget.reserve("b", 5) is None
    assert budget.reserve("b", 4) is not None


def test_a_run_that_is_started_again_goes_on_with_what_is_left() -> None:
    store = InMemory()
    first = Budget(60, "b", store)
    for job in ("a", "b", "c"):
        with reserve(first, job, 14) as reservation:
            reservation.sent(14)
    first.close()
    resumed = Budget(60, "b", store)
    assert resumed.reserve("d", 19) is None
    assert resumed.reserve("d", 18) is not None


def test_what_a_killed_process_had_reserved_counts_until_its_job_is_taken_up() -> None:
    store = InMemory()
    reserve(Budget(10, "b", store), "a", 8)
    resumed = Budget(10, "b", store)
    assert resumed.reserve("other", 3) is None
    assert resumed.reserve("a", 8) is not None, "nothing had been sent: the reservation was void"


def test_what_a_killed_process_had_reserved_for_a_job_that_sent_something_is_spent() -> None:
    store = InMemory()
    reserve(Budget(10, "b", store), "a", 8)
    resumed = Budget(10, "b", store)
    assert resumed.reserve("a", 6, 5) is None, "five pages of the eight are on record as sent"
    assert resumed.reserve("a", 5, 5) is not None
    assert charged(store).total == 10


def test_sending_again_needs_room() -> None:
    budget = Budget(10, "b", InMemory())
    with reserve(budget, "a", 4) as reservation:
        reservation.lost(4)
        assert reservation.extend(4)
        assert not reservation.extend(4)


def test_corrections_may_exceed_the_ceiling_and_then_nothing_more_is_sent() -> None:
    budget = Budget(10, "b", InMemory())
    budget.charge(23)
    assert budget.reserve("a", 1) is None
    budget.charge(-14)
    assert budget.reserve("a", 1) is not None


class LosesAnswers(InMemory):
    """Carries out each write and says that it did not; before it is asked again, another process writes."""

    losing = False

    def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
        written = super().write_budget(name, body, etag)
        if self.losing:
            self.losing = False
            Budget(0, name, self).charge(1)
            return False
        return written


def test_a_charge_whose_answer_was_lost_is_applied_once_whoever_writes_in_between() -> None:
    store = LosesAnswers()
    budget = Budget(100, "b", store)
    with reserve(budget, "a", 10) as reservation:
        reservation.sent(10)
    store.losing = True
    budget.charge(7)
    assert charged(store).sent == 18, "10 of the reservation, 7 charged once, 1 by the other process"
    store.losing = True
    budget.charge(-7)
    assert charged(store).sent == 12
    for number in range(200):
        budget.charge(1 if number % 2 else -1)
    assert len(charged(store).charges) == 64, "bounded, however many charges there are"


def test_reservations_and_their_ends_whose_answers_were_lost_count_once() -> None:
    store = LosesAnswers()
    budget = Budget(100, "b", store)
    store.losing = True
    with reserve(budget, "a", 10) as reservation:
        reservation.sent(6)
        reservation.lost(2)
    store.losing = True
    budget.close()
    assert (charged(store).sent, charged(store).lost, charged(store).reserved) == (6 + 2, 2, {})


def test_many_meters_of_one_store_never_exceed_the_ceiling() -> None:
    store, lock = InMemory(), threading.Lock()

    class Locked(InMemory):
        def read_budget(self, name: str) -> tuple[bytes, str] | None:
            with lock:
                return store.read_budget(name)

        def write_budget(self, name: str, body: bytes, etag: str | None) -> bool:
            with lock:
                return store.write_budget(name, body, etag)

    sent = []

    def work(process: int) -> None:
        budget = Budget(100, "b", Locked())
        for number in range(20):
            reservation = budget.reserve(f"{process}-{number}", 3)
            if reservation is not None:
                with reservation:
                    reservation.sent(3)
                    sent.append(3)
        budget.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sum(sent) == 99
    assert charged(store) == Charged(sent=99)


class BecomesUnreadable(InMemory):
    """Unreadable from its second reading on; the first one takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.go_on = threading.Event(), threading.Event()

    def read_budget(self, name: str) -> tuple[bytes, str] | None:
        if self.read.is_set():
            return b"unreadable", "1"
        self.read.set()
        assert self.go_on.wait(PATIENCE)
        return super().read_budget(name)


def test_threads_whose_write_fails_together_get_a_fault_each() -> None:
    store = BecomesUnreadable()
    budget = Budget(100, "b", store)

    def work(job: str) -> BaseException | None:
        try:
            budget.reserve(job, 1)
        except SetupFault as fault:
            return fault
        return None

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(work, "first")
        assert store.read.wait(PATIENCE)
        others = [pool.submit(work, job) for job in ("second", "third")]
        until(lambda: len(budget._queue) == 2, "two more reservations behind the first one")
        store.go_on.set()
    assert first.result() is None
    one, other = (call.result() for call in others)
    assert one is not None
    assert str(one) == str(other)
    assert one is not other, "each thread attaches the cost of its own document"


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30))
def test_the_record_never_counts_less_than_was_spent(work: list[tuple[int, int, int, bool]]) -> None:
    store, spent = InMemory(), 0
    budget = Budget(50, "b", store)
    for number, (pages, sent, lost, killed) in enumerate(work):
        reservation = budget.reserve(f"j{number}", pages)
        if reservation is None:
            continue
        sent, lost = min(sent, pages), min(lost, pages - min(sent, pages))
        spent += sent + lost
        if killed:
            budget = Budget(50, "b", store)
            continue
        with reservation:
            reservation.sent(sent)
            reservation.lost(lost)
        assert spent <= 50
    budget.close()
    assert spent <= charged(store).total <= 50


def test_a_late_end_of_a_reservation_leaves_that_of_another_process_alone() -> None:
    """A suspended process wakes up after another has taken its job over, and charged what it had come to."""
    store = InMemory()
    suspended, other = Budget(40, "b", store), Budget(40, "b", store)
    late = reserve(suspended, "a", 10)
    current = reserve(other, "a", 10, 10)
    assert charged(store).sent == 10, "by the job's record"
    with late:
        late.sent(10)
    suspended.close()
    assert charged(store).sent == 10, "not charged twice"
    assert [reserved.pages for reserved in charged(store).reserved.values()] == [10], "the other may still send"
    with current:
        current.sent(10)
    other.close()
    assert charged(store) == Charged(sent=20)


def test_what_a_dead_worker_came_to_is_told_by_the_record_of_its_job() -> None:
    store = InMemory()
    reserve(Budget(30, "b", store), "a", 20)
    resumed = Budget(30, "b", store)
    resumed.taken_over("a", 20)  # one answer lost, another under way when it died
    assert resumed.reserve("b", 11) is None
    assert resumed.reserve("b", 10) is not None


def test_a_late_look_at_a_job_leaves_the_reservation_alone_that_was_made_since() -> None:
    """What a collector has seen of a job is written later: by then another process may be sending its pages."""
    store = InMemory()
    collector, sender = Budget(20, "b", store), Budget(20, "b", store)
    with reserve(sender, "a", 4) as first:
        first.sent(4)
    collector.taken_over("a", 4)
    with reserve(sender, "a", 4, 4) as again:
        collector.close()
        assert charged(store).total == 8, "the pages that are being sent count"
        again.sent(4)
    sender.close()
    assert charged(store) == Charged(sent=8)


def test_a_suspended_process_that_wakes_up_before_it_sends_takes_nothing_from_whoever_has_its_job() -> None:
    """It reserves by what it knows of the job, ends the other's reservation, and finds out at its next write."""
    store = InMemory()
    suspended, other = Budget(20, "b", store, price=2), Budget(20, "b", store, price=2)
    with reserve(other, "a", 5) as current:
        with reserve(suspended, "a", 5):
            pass
        suspended.close()
        current.sent(3)
        current.lost(2)
    other.close()
    assert charged(store) == Charged(sent=5, cost=10)


def test_a_reservation_that_was_ended_in_part_is_charged_in_full_and_no_more() -> None:
    store = InMemory()
    sender, other = Budget(30, "b", store), Budget(30, "b", store)
    with reserve(sender, "a", 10) as reservation:
        reservation.sent(6)
        other.taken_over("a", 6)
        other.close()
        assert charged(store).total == 6
        reservation.sent(4)
    sender.close()
    assert charged(store) == Charged(sent=10)
    with reserve(sender, "b", 10) as finished:
        finished.sent(10)
        other.taken_over("b", 10)
        other.close()
    sender.close()
    assert charged(store) == Charged(sent=20)


def test_the_memory_of_reservations_that_others_ended_is_bounded() -> None:
    store = InMemory()
    budget = Budget(None, "b", store, always=True)
    for number in range(100):
        reserve(Budget(None, "b", store, always=True), f"{number}", 2)
        reserve(budget, f"{number}", 2)
    assert len(charged(store).ended) == 64


def test_meters_of_earlier_versions_are_read_and_written_anew() -> None:
    store = InMemory()
    store.write_budget("b", b'{"format":4,"sent":4,"lost":0,"cost":0,"reserved":{},"charges":[],"ended":{}}', None)
    with reserve(Budget(10, "b", store), "a", 6) as reservation:
        reservation.sent(6)
    assert (charged(store).format, charged(store).total) == (5, 10)
