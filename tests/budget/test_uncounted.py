"""Documents of unknown page count: a ceiling is exceeded by at most what one of them adds."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.budget.charged import Charged
from tasks.budget.meter import Budget, InMemory, Reservation

CEILING = 30
LONGEST = 10


def charged(store: InMemory) -> Charged:
    """What is on record."""
    stored = store.read_budget("b")
    return Charged() if stored is None else Charged.model_validate_json(stored[0])


def sent(budget: Budget, job: str, estimate: int) -> bool:
    """Send a document of unknown page count, if the ceiling admits it."""
    reservation = budget.reserve(job, estimate, excess=LONGEST - estimate)
    if reservation is None:
        return False
    with reservation:
        reservation.sent(estimate)
    return True


def test_a_document_alone_is_admitted_by_its_estimate() -> None:
    assert sent(Budget(1, "b", InMemory()), "a", 1)


def test_more_are_admitted_only_if_all_but_one_may_be_as_long_as_the_api_accepts() -> None:
    budget = Budget(CEILING, "b", InMemory())
    assert [sent(budget, job, 1) for job in "abcdef"] == [True, True, True, False, False, False]
    assert budget.awaits_counts(1) == 3
    budget.charge(1, counted="a")
    assert [sent(budget, job, 1) for job in "def"] == [True, False, False], "a has two pages, and not ten"


def test_a_counted_document_leaves_room_for_the_uncounted_ones_that_are_under_way() -> None:
    budget = Budget(CEILING, "b", InMemory())
    for job in "ab":
        assert sent(budget, job, 1)
    assert budget.reserve("c", CEILING - 2 - 8) is None, "two pages are sent, and nine more may follow"
    assert budget.awaits_counts(CEILING - 2 - 8) == 2
    assert budget.awaits_counts(CEILING - 1) == 0, "no count can make room for that"
    assert budget.reserve("c", CEILING - 2 - 9) is not None


def test_a_ceiling_in_money_counts_the_excess_at_the_price_of_a_page() -> None:
    budget = Budget(None, "b", InMemory(), cost=50 * CEILING, price=50)
    assert [sent(budget, job, 1) for job in "abcd"] == [True, True, True, False]


def test_a_count_that_agrees_with_the_estimate_makes_room_as_well() -> None:
    budget = Budget(CEILING, "b", InMemory())
    assert [sent(budget, job, 1) for job in "abcd"] == [True, True, True, False]
    budget.charge(0, counted="a")
    assert sent(budget, "d", 1)


def test_what_was_not_sent_is_not_awaited() -> None:
    store = InMemory()
    budget = Budget(CEILING, "b", store)
    for job in "abc":
        reservation = budget.reserve(job, 1, excess=9)
        assert reservation is not None
        reservation.__exit__()
    assert [sent(budget, job, 1) for job in "defg"] == [True, True, True, False]
    budget.close()
    assert charged(store).uncounted_documents == 3


def test_a_synchronous_answer_is_counted_at_once() -> None:
    store = InMemory()
    budget = Budget(CEILING, "b", store)
    for job in "abc":
        reservation = budget.reserve(job, 1, excess=9)
        assert reservation is not None
        with reservation:
            reservation.sent(7)
            reservation.counted()
    budget.close()
    assert (charged(store).total, charged(store).uncounted) == (21, {})


def test_a_count_that_comes_before_the_end_of_the_reservation_is_final() -> None:
    """The job is at the API as soon as its record says so; its sender ends the reservation a little later."""
    store = InMemory()
    sender, collector = Budget(CEILING, "b", store), Budget(CEILING, "b", store)
    reservation = sender.reserve("a", 2, excess=8)
    assert reservation is not None
    collector.charge(5, counted="a")
    with reservation:
        reservation.sent(2)
    sender.close()
    assert (charged(store).total, charged(store).uncounted) == (7, {})


def test_the_counts_that_a_dead_process_awaited_are_told_by_the_ledger() -> None:
    store = InMemory()
    for job in "abc":
        killed = Budget(CEILING, "b", store)
        assert sent(killed, job, 1)
        killed.close()
    budget = Budget(CEILING, "b", store)
    assert budget.reserve("d", 1, excess=9) is None
    assert not budget.clear(lambda _: 1, lambda _: False)
    assert budget.clear(lambda _: 1, lambda job: job == "a")
    assert budget.reserve("d", 1, excess=9) is not None


def test_without_a_ceiling_nothing_is_noted() -> None:
    store = InMemory()
    budget = Budget(None, "b", store, always=True)
    assert sent(budget, "a", 1)
    budget.close()
    assert charged(store) == Charged(sent=1)


@dataclass
class Job:
    """A document, as the ledger and the API know it."""

    name: str
    estimate: int
    pages: int
    uncounted: bool
    sender: int
    reservation: Reservation | None = None
    leased: bool = True
    spent: int = 0
    counted: bool = False


@dataclass
class Processes:
    """Three processes that share a meter, and the ledger that tells what became of each document."""

    store: InMemory = field(default_factory=InMemory)
    jobs: dict[str, Job] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budgets = [Budget(CEILING, "b", self.store) for _ in range(3)]

    def spent(self, name: str) -> int | None:
        """The pages that the job's record counts; None while a worker has it."""
        job = self.jobs[name]
        return None if job.leased else job.spent

    def is_counted(self, name: str) -> bool:
        """Whether the job's record tells its pages, or nothing was sent."""
        job = self.jobs[name]
        return job.counted or not (job.leased or job.spent)

    def reserve(self, process: int, estimate: int, pages: int, *, uncounted: bool) -> None:
        """Claim a document, and reserve its pages."""
        pages = pages if uncounted else estimate
        job = Job(f"{len(self.jobs)}", estimate, pages, uncounted, process, counted=not uncounted)
        budget, excess = self.budgets[process], LONGEST - estimate if uncounted else 0
        job.reservation = budget.reserve(job.name, estimate, excess=excess)
        if job.reservation is None and budget.clear(self.spent, self.is_counted):
            job.reservation = budget.reserve(job.name, estimate, excess=excess)
        if job.reservation is not None:
            self.jobs[job.name] = job

    def send(self, job: Job) -> None:
        """Send a document, and record it: it is at the API."""
        if job.reservation is not None and not job.spent:
            job.reservation.sent(job.estimate)
            job.spent, job.leased = job.estimate, False

    def settle(self, job: Job) -> None:
        """End a reservation, whether anything was sent or not."""
        if job.reservation is not None:
            job.reservation.__exit__()
            job.reservation, job.leased = None, False

    def count(self, job: Job, process: int) -> None:
        """The API has counted a document, and a collector corrects what was reckoned."""
        if job.spent and not job.counted:
            self.budgets[process].taken_over(job.name, job.spent)
            self.budgets[process].charge(job.pages - job.estimate, name=f"count {job.name}", counted=job.name)
            job.counted, job.spent = True, job.pages

    def kill(self, process: int) -> None:
        """End a process, with all that it has not written."""
        for job in self.jobs.values():
            if job.sender == process:
                job.reservation, job.leased = None, False
        self.budgets[process] = Budget(CEILING, "b", self.store)

    def billed(self) -> int:
        """What the API has been sent, or will bill when it has counted."""
        return sum(job.pages for job in self.jobs.values() if job.spent)


STEP = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 2), st.integers(1, 6), st.integers(1, LONGEST), st.booleans()),
    st.tuples(st.sampled_from(["send", "settle", "count"]), st.integers(0, 2), st.integers(0, 20)),
    st.tuples(st.sampled_from(["kill", "flush"]), st.integers(0, 2)),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=40))
def test_no_sequence_of_processes_exceeds_the_ceiling_by_more_than_one_document(steps: list[tuple[Any, ...]]) -> None:
    world, largest = Processes(), 0
    for step, process, *rest in steps:
        match step, rest:
            case "reserve", [estimate, pages, uncounted]:
                world.reserve(process, estimate, pages, uncounted=uncounted)
            case "kill", _:
                world.kill(process)
            case "flush", _:
                world.budgets[process].close()
            case _, [number] if world.jobs:
                job = list(world.jobs.values())[number % len(world.jobs)]
                if step == "send":
                    world.send(job)
                elif step == "settle":
                    world.settle(job)
                else:
                    world.count(job, process)
        largest = max([largest, *(LONGEST - job.estimate for job in world.jobs.values() if job.uncounted)])
        assert world.billed() <= CEILING + largest
        assert charged(world.store).total <= CEILING + largest
    for process in range(3):
        world.budgets[process].close()
    assert charged(world.store).total >= sum(job.spent for job in world.jobs.values())


def test_a_count_that_arrives_while_a_refusal_is_explained_does_not_make_it_one_for_good() -> None:
    budget = Budget(CEILING, "b", InMemory())
    for job in "abc":
        assert sent(budget, job, 1)
    assert budget.reserve("d", 1, excess=9) is None
    for job in "abc":
        budget.charge(1, name=job, counted=job)
    assert budget.awaits_counts(1) == 1, "it is tried again, and fits"
