"""Jobs divided by hash over runs beside one another: each in exactly one shard, whoever looks at it."""

from pathlib import Path

import pytest

from tasks.access.environment import Access
from tasks.context import RunContext, close_context, open_context
from tasks.options import Options, RunSettings
from tasks.steps.discover import discover
from tasks.steps.poll import OpenJobs
from tasks.steps.submit import submit_document
from tasks.tally import KnownJobs
from tests.steps.conftest import World, pdf

SHARDS = 3


def _discovered(context: RunContext, folder: Path) -> set[str]:
    with KnownJobs(folder) as known:
        return {candidate.document.key for candidate in discover(context, known)}


@pytest.fixture
def shards(world: World) -> list[RunContext]:
    """A worker for each shard."""
    return [world.context(shards=SHARDS, shard=number) for number in range(1, SHARDS + 1)]


def test_every_document_is_in_exactly_one_shard(world: World, shards: list[RunContext], tmp_path: Path) -> None:
    keys = {world.put(pdf(1), f"in/{number}.pdf").key for number in range(24)}
    discovered = [_discovered(context, tmp_path) for context in shards]
    assert sum(map(len, discovered)) == len(keys)
    assert set.union(*discovered) == keys
    assert all(discovered)  # 24 over 3: a shard with none would be no hash


def test_every_open_job_is_looked_at_by_the_run_of_its_shard_alone(world: World, shards: list[RunContext]) -> None:
    all_of_it = world.context()
    jobs = {submit_document(all_of_it, world.put(pdf(1), f"in/{number}.pdf")).job_id for number in range(12)}
    open_ids = [set(OpenJobs(context).survey().open) for context in shards]
    assert sum(map(len, open_ids)) == len(jobs)
    assert set.union(*open_ids) == jobs
    assert set(OpenJobs(all_of_it).survey().open) == jobs


def test_a_document_that_changes_into_another_shard_is_left_to_that_one(world: World, shards: list[RunContext]) -> None:
    listed = world.put(pdf(1, "the first"))
    number = next(number for number, context in enumerate(shards) if context.is_ours(context.job_id(listed)))
    changed = listed
    for attempt in range(50):  # until it has changed into another shard
        changed = world.put(pdf(1, f"version {attempt}"))
        if not shards[number].is_ours(shards[number].job_id(changed)):
            break
    outcome = submit_document(shards[number], listed)
    assert (outcome.kind, outcome.moved, outcome.requests) == ("later", True, 0)
    assert "another run's shard" in outcome.message
    its_own = next(context for context in shards if context.is_ours(context.job_id(changed)))
    assert submit_document(its_own, changed).kind == "open"
    assert len(world.bill()) == 1


def test_the_window_of_a_shard_counts_its_own_jobs(world: World, shards: list[RunContext], tmp_path: Path) -> None:
    all_of_it = world.context()
    for number in range(12):
        submit_document(all_of_it, world.put(pdf(1), f"in/{number}.pdf"))
    counted = []
    for context in shards:
        with KnownJobs(tmp_path) as known:
            counted.append(known.load(context.ledger, ours=context.is_ours))
    assert sum(counted) == 12
    assert max(counted) < 12


def test_what_is_the_accounts_is_shared_out() -> None:
    whole = Options(requests_per_second=3, pages_per_minute=900, page_budget=100, window=10)
    share = whole.of_one_shard(3)
    assert (share.requests_per_second, share.pages_per_minute, share.page_budget, share.window) == (1, 300, 33, 3)
    assert whole.of_one_shard(1) == whole
    with pytest.raises(ValueError, match="a budget of 2 pages cannot be divided among 3"):
        Options(page_budget=2).of_one_shard(3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"shard": 4, "shards": 3}, "there is no shard 4 of 3"),
        ({"processes": 2}, "threads run in one process"),
        ({"cluster": "tcp://127.0.0.1:1"}, "threads run in one process"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Options.model_validate(given)


def test_a_session_is_closed_when_it_is_idle_unless_its_run_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RunSettings(destination="s3://bucket/out")

    def opened(number: int, *, keep: bool = False) -> RunContext:
        return open_context(settings, f"run {number}", lambda _: Access(key="key"), keep=keep)

    try:
        here, elsewhere = opened(1, keep=True), opened(2)
        assert opened(1) is here
        assert opened(2) is elsewhere
        monkeypatch.setattr("tasks.context._IDLE_SECONDS", -1.0)
        opened(3)  # what was idle is closed when another is opened
        assert opened(1) is here
        assert opened(2) is not elsewhere
        close_context(settings, "run 1")
        assert opened(1) is not here
    finally:
        for number in (1, 2, 3):
            close_context(settings, f"run {number}")
