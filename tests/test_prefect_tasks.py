"""Which items a task run begins: all of them, unless one shows that nothing more can be done."""

import threading
from collections.abc import Callable

import pytest

from tasks.context import RunContext
from tasks.faults import AccountFault, Cancelled, CredentialsRefused, ObjectRefused, TransientFault
from tasks.job.outcome import Outcome
from tasks.options import Options, RunSettings
from tasks.prefect_tasks import work_through
from tasks.store.local_folder import FolderObjects
from tests.fakes import FakeClock
from tests.waiting import PATIENCE

ITEMS = [str(number) for number in range(20)]


@pytest.fixture
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """The tools of a run of two workers."""
    settings = RunSettings(source="s3://in", destination="s3://out", options=Options(workers=2))
    return RunContext(settings, FolderObjects(tmp_path_factory.mktemp("store")), FakeClock(), key="up_test_key")


class Steps:
    """A step that does something else with some of its items, and notes all that were begun."""

    def __init__(self, special: dict[str, Callable[[], None]]) -> None:
        self._special = special
        self.begun: list[str] = []

    def __call__(self, _context: RunContext, item: str) -> Outcome:
        self.begun.append(item)
        self._special.get(item, lambda: None)()
        return Outcome("done", item, item)


def raising(fault: Exception) -> Callable[[], None]:
    """Raises the fault."""

    def act() -> None:
        raise fault

    return act


def test_everything_is_worked_on_whatever_becomes_of_single_items(context: RunContext) -> None:
    steps = Steps({"3": raising(TransientFault("503")), "5": raising(ObjectRefused("access denied"))})
    result = work_through(context, ITEMS, steps, lambda _: True)
    assert sorted(steps.begun, key=int) == ITEMS
    kinds = {outcome.job_id: (outcome.kind, outcome.set_aside) for outcome in result.outcomes}
    assert (kinds["3"], kinds["5"], kinds["7"]) == (("later", False), ("aside", True), ("done", False))
    assert len(kinds) == len(ITEMS)


def test_a_refused_account_ends_it_and_what_was_under_way_still_counts(context: RunContext) -> None:
    refused = threading.Event()

    def refuse() -> None:
        refused.set()
        raise AccountFault("no credit")

    def wait() -> None:
        assert refused.wait(PATIENCE)

    steps = Steps({"0": wait, "1": refuse})
    result = work_through(context, ITEMS, steps, lambda _: True)
    assert result.refused == "no credit"
    assert "0" in [outcome.job_id for outcome in result.outcomes]
    assert len(steps.begun) <= 3, "none is begun after it but what the other worker had taken"


def test_refused_credentials_end_it_and_nothing_else_is_sent(context: RunContext) -> None:
    steps = Steps({"1": raising(CredentialsRefused("they expired"))})
    _ = context.client
    assert work_through(context, ITEMS, steps, lambda _: True).ended == "they expired"
    assert len(steps.begun) <= 3
    assert context.client.stopped


def test_a_run_that_is_ended_begins_nothing_more(context: RunContext) -> None:
    def end() -> None:
        context.clock.end()
        raise Cancelled("the run is being ended")

    steps = Steps({"1": end})
    result = work_through(context, ITEMS, steps, lambda _: True)
    assert len(steps.begun) <= 3
    assert {outcome.kind for outcome in result.outcomes if outcome.job_id == "1"} == {"later"}
    assert not any(outcome.set_aside for outcome in result.outcomes)


def test_it_goes_on_as_long_as_the_caller_says(context: RunContext) -> None:
    steps = Steps({})
    result = work_through(context, ITEMS, steps, lambda outcome: outcome.job_id != "4")
    assert len(steps.begun) == len(result.outcomes) < len(ITEMS)
