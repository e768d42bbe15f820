"""The tools of a run: proven before anything is claimed, ended at once, and bounded in what they hold."""

from datetime import datetime, timedelta

import pytest

from tasks.clock import Clock
from tasks.context import context_from_environment
from tasks.faults import AccountFault, Cancelled, SetupFault, TransientFault
from tasks.options import Options, RunSettings
from tasks.steps.poll import OpenJobs
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tasks.upstage.answers import RequestStatus
from tests.steps.conftest import World, pdf


class WrongClock(Clock):
    """The time of a machine whose clock is wrong by so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._wrong_by = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._wrong_by


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3600, r"clock is 3[56]\d\d s ahead of the store's.*set the clock"),
        (-3600, r"clock is 3[56]\d\d s behind the store's.*set the clock"),
        (120, r"clock is \d+ s ahead of"),
        (-120, r"clock is \d+ s behind"),
    ],
)
def test_a_clock_that_disagrees_with_the_stores_is_refused_before_anything_is_claimed(
    world: World, seconds: float, words: str
) -> None:
    world.put(pdf(1))
    with pytest.raises(SetupFault, match=words):
        world.context(clock=WrongClock(seconds)).prepare()
    assert world.untouched()


@pytest.mark.parametrize("seconds", [-5, 0, 5])
def test_a_clock_that_is_about_right_is_good_enough(world: World, seconds: float) -> None:
    world.put(pdf(1))
    world.context(clock=WrongClock(seconds)).prepare()
    assert world.untouched(), "what was written to prove the store is gone"


@pytest.mark.parametrize("source", ["in", None])
def test_a_key_that_the_account_refuses_is_found_out_before_anything_is_claimed(
    world: World, source: str | None
) -> None:
    with pytest.raises(AccountFault, match="key"):
        world.context(source=source, key="up_another_key", clock=Clock()).prepare()
    assert world.untouched()


def test_an_api_that_cannot_be_reached_is_found_out_before_anything_is_claimed(world: World) -> None:
    world.api.fail({"action": "reset_before", "path": "/requests$", "times": -1})
    with pytest.raises(TransientFault, match="cannot be reached"):
        world.context().prepare()
    assert world.untouched()


def test_a_run_without_a_key_is_ended_like_any_other(world: World) -> None:
    """The ledger is read without a key, and whoever looks at it may press Ctrl-C."""
    document = world.put(pdf(1))
    submit_document(world.context(), document)
    looking = world.context(key="")
    looking.stop_submitting(Cancelled("the run is being ended"))
    assert OpenJobs(looking).survey().open == [looking.job_id(document)]


def test_a_run_that_is_being_ended_sends_nothing_more_and_gives_back_what_it_claimed(world: World) -> None:
    first, second, context = world.put(pdf(1, "1"), "in/1.pdf"), world.put(pdf(1, "2"), "in/2.pdf"), world.context()
    assert submit_document(context, first).kind == "open"
    context.stop_submitting(Cancelled("the run is being ended"))
    outcome = submit_document(context, second)
    assert (outcome.kind, outcome.requests, outcome.message) == ("later", 0, "the run is being ended")
    assert world.listing("out/_jobs/") == [f"out/_jobs/open/{context.job_id(first)}.json"]
    assert len(world.bill()) == 1
    assert submit_document(world.context(), second).kind == "open"


def test_a_context_from_the_environment_goes_to_the_address_and_with_the_key_that_are_set_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTAGE_BASE_URL", world.api.base_url)
    monkeypatch.setenv("UPSTAGE_API_KEY", world.api.key)
    settings = RunSettings(
        source=f"s3://{world.bucket}/in", destination=f"s3://{world.bucket}/out", options=Options(page_budget=7)
    )
    context = context_from_environment(settings, Objects(world.s3), "a flow run")
    document = world.put(pdf(2))
    assert submit_document(context, document).kind == "open"
    assert world.open(document).flow_run == "a flow run"
    assert world.billed_pages() == [2]
    assert submit_document(context, world.put(pdf(6), "in/b.pdf")).budget_used_up
    monkeypatch.delenv("UPSTAGE_API_KEY")
    with pytest.raises(SetupFault, match="set UPSTAGE_API_KEY"):
        context_from_environment(settings, Objects(world.s3)).prepare()


def test_of_many_recent_answers_the_latest_are_kept_and_each_is_taken_once(world: World) -> None:
    """They hold download URLs and live in memory: as many as a pass collects, not as many as there are jobs."""
    answers = world.context().answers
    statuses = [RequestStatus(status="completed", total_pages=number) for number in range(2000)]
    for number, answer in enumerate(statuses):
        answers.keep(f"request {number}", answer)
    taken = [answers.take(f"request {number}") for number in range(2000)]
    kept = [answer.total_pages for answer in taken if answer is not None]
    assert kept == list(range(2000 - len(kept), 2000))
    assert 100 <= len(kept) <= 1000
    assert answers.take("request 1999") is None
