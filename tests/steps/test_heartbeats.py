"""Leases fit a death: a living worker renews them, and a dead one's jobs are free within a lease, told truthfully."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.faults import SetupFault
from tasks.job import transitions
from tasks.job.next_step import LONGEST_LEASE
from tasks.job.record import Lease
from tasks.steps.poll import OpenJobs
from tests.fakes import FakeClock
from tests.steps.conftest import World, pdf


def leased(world: World, lease: Lease, name: str = "a") -> None:
    """A job that a worker holds, as it would be after SIGKILL."""
    context = world.context()
    document = world.put(pdf(1, name), f"in/{name}.pdf")
    job = transitions.claimed(
        context.job_id(document), document, model="ocr", answer_schema=None, result="s3://b/r",
        now=world.clock.now(), lease=lease, flow_run=None,
    )  # fmt: skip
    assert context.ledger.claim(job) is not None


def lease(world: World, owner: str, since: datetime | None = None) -> Lease:
    """A lease of a minute."""
    return transitions.lease(owner, since or world.clock.now(), 60, "reading")


def test_a_survey_says_who_holds_what_and_until_when(world: World) -> None:
    for number in range(3):
        leased(world, lease(world, "dead"), f"{number}")
    alive = world.context()
    alive.heartbeats.beat()
    leased(world, lease(world, alive.owner), "held")
    survey = OpenJobs(world.context()).survey()
    assert (survey.held, survey.stopped, survey.due, survey.ready) == (4, 3, [], [])
    until = f"{world.clock.now() + timedelta(seconds=60):%H:%M:%S} UTC"
    assert survey.waiting_for() == (
        f"3 documents held by a run that stopped, until {until}; 1 document held by another run"
    )


def test_jobs_of_a_dead_worker_are_free_after_a_lease_and_those_of_a_living_one_are_not(world: World) -> None:
    leased(world, lease(world, "dead"), "dead")
    alive = world.context(lease_seconds=300)
    alive.heartbeats.beat()
    leased(world, lease(world, alive.owner), "held")
    looking = OpenJobs(world.context())
    looking.survey()
    world.clock.advance(61)
    survey = looking.survey()
    assert [held.job.document.key for held in survey.ready] == ["in/dead.pdf"]
    assert (survey.held, survey.stopped) == (1, 0)


def test_a_clock_that_was_days_ahead_lets_nobody_wait_for_days(world: World) -> None:
    leased(world, lease(world, "ahead", world.clock.now() + timedelta(hours=72)))
    looking = OpenJobs(world.context())
    survey = looking.survey()
    assert survey.next_due is not None
    assert survey.next_due - world.clock.now() <= timedelta(seconds=62)
    world.clock.advance(62)
    assert len(looking.survey().ready) == 1


def test_a_lease_that_a_living_worker_forgot_ends(world: World) -> None:
    clock = FakeClock(datetime.now(UTC) + LONGEST_LEASE)
    forgetful = world.context(lease_seconds=7200)
    forgetful.heartbeats.beat()
    leased(world, transitions.lease(forgetful.owner, world.clock.now(), 60, "posting"))
    assert len(OpenJobs(world.context(clock=clock)).survey().ready) == 1


def test_a_clock_that_goes_wrong_during_a_run_stops_the_next_pass(world: World) -> None:
    context = world.context()
    context.check_clock()
    world.clock.advance(3600)
    with pytest.raises(SetupFault, match="ahead of the store's"):
        context.check_clock()


def test_heartbeats_of_processes_that_died_long_ago_are_swept(world: World) -> None:
    for _ in range(2):
        world.context().heartbeats.beat()
    assert len(world.listing("out/_jobs/workers/")) == 2
    later = world.context(clock=FakeClock(datetime.now(UTC) + timedelta(days=2)))
    later.heartbeats.forget_dead()
    assert world.listing("out/_jobs/workers/") == []
