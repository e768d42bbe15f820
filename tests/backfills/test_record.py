"""The record of a backfill: its name, its states, and what it can be served with."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.backfills.record import Ceilings, Server, difference, new_backfill, own_name, taken_over
from tasks.faults import SetupFault
from tasks.options import Options, RunSettings
from tasks.selection import Selection

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def settings(source: str = "s3://bucket/scans", **changes: object) -> RunSettings:
    """Those of a run."""
    return RunSettings.model_validate({"source": source, "destination": "s3://bucket/ocr", **changes})


def test_a_name_of_its_own_is_that_of_the_work() -> None:
    name = own_name(settings())
    assert name.startswith("scans-")
    assert own_name(settings("s3://bucket/scans/")) == name
    assert own_name(settings(selection=Selection(partition=("2021-03",)))) == name, "a part of it"
    assert own_name(settings(options=Options(workers=3))) == name
    assert own_name(settings(options=Options(model="ocr-250904"))) != name
    assert own_name(settings(selection=Selection(include=("*.pdf",)))) != name
    assert own_name(settings("s3://bucket")).startswith("bucket-")


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "x" * 101])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(SetupFault, match="cannot name a backfill"):
        new_backfill(settings(), name, NOW)


def test_a_run_serves_what_means_the_same_documents() -> None:
    backfill = new_backfill(settings(selection=Selection(include=("*.pdf",))), "a", NOW)
    assert difference(backfill, settings()) is None, "nothing was asked for in particular"
    assert difference(backfill, settings(selection=Selection(include=("*.pdf",), partition=("2021",)))) is None
    assert "its source is" in str(difference(backfill, settings("s3://bucket/other")))
    assert "its model is ocr" in str(difference(backfill, settings(options=Options(model="ocr-250904"))))
    assert "its selection is" in str(difference(backfill, settings(selection=Selection(include=("*.tif",)))))


def test_a_run_that_is_given_a_name_alone_takes_over_what_was_planned() -> None:
    planned = settings(
        selection=Selection(include=("*.pdf",), by="year"), options=Options(model="ocr-250904", price_per_page=0.01)
    )
    backfill = new_backfill(planned, "a", NOW)
    own_settings = settings(selection=Selection(partition=("2021",)), options=Options(workers=3), backfill="a")
    taken = taken_over(backfill, own_settings)
    assert taken.selection == Selection(include=("*.pdf",), by="year", partition=("2021",))
    assert (taken.options.model, taken.options.price, taken.options.workers) == ("ocr-250904", 0.01, 3)
    assert difference(backfill, taken) is None
    assert taken_over(backfill, taken) == taken
    particular = settings(selection=Selection(include=("*.tif",)), options=Options(model="ocr", price_per_page=0.02))
    assert taken_over(backfill, particular).selection == particular.selection
    assert "its model is" in str(difference(backfill, taken_over(backfill, particular)))


def test_states_say_why_and_what_to_do() -> None:
    backfill = new_backfill(settings(), "a", NOW)
    assert backfill.sends
    paused = backfill.moved("paused", "lunch", NOW)
    assert not paused.sends
    assert paused.why_not() == (
        "backfill a is paused (lunch): nothing is sent until 'bulk-ocr backfill resume a --at s3://bucket/ocr'"
    )
    assert paused.moved("paused", "lunch", NOW) is paused


def test_the_last_runs_that_served_it_are_kept_each_once() -> None:
    backfill = new_backfill(settings(), "a", NOW)
    for number in [*range(30), 29]:
        backfill = backfill.joined(Server(run="r", owner=f"o{number}", who="somebody", since=NOW), NOW)
    assert [server.owner for server in backfill.served_by] == [f"o{number}" for number in range(10, 30)]


@pytest.mark.parametrize(("limit", "finished", "allowed"), [("2%", 1000, 20), ("0.5%", 1000, 5), ("7", 1000, 7)])
def test_failures_are_borne_up_to_a_number_or_a_share(limit: str, finished: int, allowed: float) -> None:
    assert Ceilings(stop_after_failures=limit).failures_allowed(finished) == allowed


@pytest.mark.parametrize("limit", ["two", "-1", "2 %", ""])
def test_what_is_no_share(limit: str) -> None:
    with pytest.raises(ValueError, match="stop_after_failures"):
        Ceilings(stop_after_failures=limit)


def test_a_backfill_whose_ceiling_is_reached_waits_for_its_budget_until_that_changes() -> None:
    ceilings, raised = Ceilings(max_pages=7), Ceilings(max_pages=8)
    backfill = new_backfill(settings(), "a", NOW).changed(NOW, state="running", ceilings=ceilings)
    server = Server(run="r", owner="o", who="w", since=NOW)
    assert backfill.waiting_for(NOW, 6, 0) is None, "a page may be left for a document"
    assert backfill.waiting_for(NOW, 7, 0) == "budget"
    reached = backfill.at_ceiling("backfill-a", NOW)
    assert reached.waiting_for(NOW, 6, 0) == "budget", "the next document has two pages"
    assert reached.changed(NOW, state="paused").waiting_for(NOW, 6, 0) is None
    assert reached.changed(NOW, ceilings=raised).waiting_for(NOW, 6, 0) is None
    assert reached.joined(server, NOW).waiting_for(NOW, 6, 0) is None, "it is at work"
    assert reached.at_ceiling(None, NOW).waiting_for(NOW, 6, 0) is None, "the last run ended otherwise"
    in_dollars = backfill.changed(NOW, ceilings=Ceilings(max_cost=0.06))
    assert [in_dollars.waiting_for(NOW, 6, cost) for cost in (0.05, 0.06)] == [None, "budget"]


@pytest.mark.parametrize(
    ("meter", "today", "next_day"),
    [("day-2026-07-01", "budget", None), ("month-2026-07", "budget", "budget"), ("run-x", None, None)],
)
def test_the_ceiling_of_a_day_ends_with_it_and_that_of_a_run_with_the_run(
    meter: str, today: str | None, next_day: str | None
) -> None:
    backfill = new_backfill(settings(), "a", NOW).changed(NOW, state="running").at_ceiling(meter, NOW)
    assert backfill.waiting_for(NOW, 6, 0) == today
    assert backfill.waiting_for(NOW + timedelta(days=1), 6, 0) == next_day
