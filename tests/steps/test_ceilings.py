"""Ceilings in pages and money: of a run, a backfill, a day and a month, over processes, kills and suspensions."""

import multiprocessing
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.backfills.record import Ceilings, Pace, new_backfill
from tasks.budget.charged import Charged
from tasks.context import RunContext
from tasks.faults import Fault, SetupFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.options import Options, RunSettings
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tests.sample_documents import docx
from tests.steps.conftest import TEN_PAGES, World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE, until

CEILING = 60


def meter(world: World, name: str, place: str = "out") -> Charged:
    """What is on record."""
    body = world.s3.get_object(Bucket=world.bucket, Key=f"{place}/_jobs/budgets/{name}.json")["Body"].read()
    return Charged.model_validate_json(body)


def serving(world: World, name: str, **options: Any) -> RunContext:
    """A worker of a run that serves a backfill, which is made where there is none."""
    settings = world.context(**options).settings
    context = world.context(**options)
    context.settings = RunSettings.model_validate({**dict(settings), "backfill": name})
    context.backfills.make(new_backfill(context.settings, name, world.clock.now()))
    return context


@pytest.mark.parametrize("period", ["day", "month"])
def test_runs_share_the_ceiling_of_a_day_and_go_on_with_the_next(world: World, period: str) -> None:
    limit: dict[str, Any] = {f"max_pages_per_{period}": 5}
    documents = [world.put(pdf(2, f"{number}"), f"in/{number}.pdf") for number in range(4)]
    for document in documents[:2]:
        context = world.context(**limit)
        assert submit_document(context, document).kind == "open"
        context.close()
    full = submit_document(world.context(**limit), documents[2])
    assert (full.kind, full.budget_used_up) == ("later", True)
    assert f"page budget of the {period} (1 of 5 pages are left)" in full.message
    world.clock.advance(timedelta(days=32).total_seconds())
    assert submit_document(world.context(**limit), documents[2]).kind == "open"
    assert sum(world.billed_pages()) == 6


def test_a_ceiling_in_money_counts_each_page_at_its_price(world: World) -> None:
    first, second = (world.put(pdf(2, f"{number}"), f"in/{number}.pdf") for number in range(2))
    context = world.context(max_cost=0.05, price_per_page=0.01)
    assert submit_document(context, first).kind == "open"
    dearer = world.context(max_cost_per_day=0.05, price_per_page=0.02)
    assert submit_document(dearer, second).kind == "open"
    full = submit_document(dearer, world.put(pdf(1), "in/more.pdf"))
    assert (full.budget_used_up, "$0.01 of $0.05 is left" in full.message) == (True, True)


def test_destinations_share_a_meter_where_they_are_told_to(world: World) -> None:
    shared: dict[str, Any] = {"max_pages_per_day": 3, "budget": f"s3://{world.bucket}/shared"}
    assert submit_document(world.context(**shared), world.put(pdf(2), "in/a.pdf")).kind == "open"
    other = world.context(destination="elsewhere", **shared)
    assert submit_document(other, world.put(pdf(2, "other"), "in/b.pdf")).budget_used_up
    day = f"day-{world.clock.now():%Y-%m-%d}"
    assert meter(world, day, "shared").total == 2


def test_destinations_that_share_a_meter_hold_the_ceiling_over_one_document(world: World, flaky: FlakyS3) -> None:
    """One document for two destinations: its jobs have one id, and each has a reservation of its own."""
    shared: dict[str, Any] = {"max_pages_per_day": 5, "budget": f"s3://{world.bucket}/shared"}
    document, outcomes = world.put(pdf(2)), list[Outcome]()
    here = world.context(objects=flaky.objects(), **shared)
    other = world.context(destination="elsewhere", **shared)
    flaky.fail(
        Rule(
            "pass",
            "out/_jobs/open/",
            "PUT",
            body=b'"doing": ?"posting"',
            before=lambda: outcomes.append(submit_document(other, document)),
        )
    )
    outcomes.append(submit_document(here, document))
    assert [outcome.kind for outcome in outcomes] == ["open", "open"]
    here.close()
    other.close()
    assert meter(world, f"day-{world.clock.now():%Y-%m-%d}", "shared").sent == sum(world.billed_pages()) == 4
    more = submit_document(world.context(**shared), world.put(pdf(2, "one page too many"), "in/b.pdf"))
    assert (more.kind, more.budget_used_up) == ("later", True)


@pytest.mark.parametrize("refused", [True, False])
def test_what_a_killed_process_had_reserved_for_an_ended_job_comes_back(world: World, refused: bool) -> None:
    """Killed after its job had ended, and before the end of its reservation was written: nobody takes that over."""
    body = pdf(4)
    if refused:
        world.api.fail({"method": "POST", "path": "/async$", "action": "status", "status": 422, "body": {}})
    document, killed = world.put(body), world.context(max_pages_per_month=6)
    assert submit_document(killed, document).kind == ("failed" if refused else "open")
    if not refused:
        world.finish(world.context(), document)
    month = f"month-{world.clock.now():%Y-%m}"
    assert (meter(world, month).total, len(meter(world, month).reserved)) == (4, 1), "it was killed before `close`"
    context = world.context(max_pages_per_month=6)
    for pages, fits in ((7, False), (6, refused), (3, False), (2, not refused)):
        outcome = submit_document(context, world.put(pdf(pages, f"{pages}"), f"in/{pages}.pdf"))
        assert outcome.budget_used_up != fits, f"{pages} pages"
    context.close()
    assert meter(world, month) == Charged(sent=6, cost=6 * 1500)


def test_what_is_being_sent_by_a_living_process_does_not_come_back(world: World, flaky: FlakyS3) -> None:
    document, other = world.put(pdf(4)), world.context(max_pages_per_month=6)
    full: list[Outcome] = []
    flaky.fail(
        Rule(
            "pass",
            "_jobs/open/",
            "PUT",
            body=b'"doing": ?"posting"',
            before=lambda: full.append(submit_document(other, world.put(pdf(3, "other"), "in/b.pdf"))),
        )
    )
    assert submit_document(world.context(objects=flaky.objects(), max_pages_per_month=6), document).kind == "open"
    assert [outcome.budget_used_up for outcome in full] == [True]


def test_whoever_sends_missing_pages_counts_against_the_backfill_they_belong_to(world: World) -> None:
    """A collect that serves no backfill meets the ceiling of the one that the job was claimed for."""
    body = pdf(4)
    world.api.set(fail_requests=[{"sha256": sha(body)}])
    document, context = world.put(body), serving(world, "four")
    context.backfills.change("four", lambda record: record.changed(world.clock.now(), ceilings=Ceilings(max_pages=6)))
    assert submit_document(context, document).kind == "open"
    context.close()
    assert world.open(document).backfill == "four"
    assert meter(world, "backfill-four") == Charged(sent=4, cost=4 * 1500)
    collector = world.context()
    outcome = collect_job(collector, world.recognised(collector, document))
    while outcome.kind == "open" and not poll_job(collector, context.job_id(document)):
        world.clock.advance(1)
    outcome = collect_job(collector, context.job_id(document))
    assert outcome.budget_used_up
    assert "page budget of backfill four (2 of 6 pages are left)" in outcome.message
    assert sum(world.billed_pages()) == 4


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_nothing_is_claimed_or_sent_for_a_backfill_that_is_held(world: World, state: Any) -> None:
    document, context = world.put(pdf(1)), serving(world, "held")
    context.backfills.change("held", lambda record: record.moved(state, "by hand", world.clock.now()))
    outcome = submit_document(context, document)
    assert (outcome.kind, world.bill()) == ("later", [])
    assert f"backfill held is {state} (by hand)" in outcome.message
    assert not world.listing("out/_jobs/open/")
    context.backfills.change("held", lambda record: record.moved("running", "", world.clock.now()))
    world.clock.advance(10)
    assert submit_document(context, document).kind == "open", "within ten seconds"


def test_a_meter_that_cannot_be_read_stops_sending(world: World) -> None:
    world.s3.put_object(
        Bucket=world.bucket, Key=f"out/_jobs/budgets/day-{world.clock.now():%Y-%m-%d}.json", Body=b"{broken"
    )
    with pytest.raises(Fault, match="cannot be read"):
        submit_document(world.context(max_pages_per_day=5), world.put(pdf(1)))
    assert world.bill() == []


def test_a_meter_that_vanishes_while_it_is_used_stops_sending(world: World) -> None:
    """Deleted by a lifecycle rule or by hand: counted from nothing, the ceiling would be spent twice."""
    context, day = world.context(max_pages_per_day=5), f"day-{world.clock.now():%Y-%m-%d}"
    submit_document(context, world.put(pdf(4)))
    world.s3.delete_object(Bucket=world.bucket, Key=f"out/_jobs/budgets/{day}.json")
    with pytest.raises(SetupFault, match=f"budget {day} has vanished"):
        submit_document(context, world.put(pdf(4, "another"), "in/b.pdf"))
    assert world.billed_pages() == [4]
    assert len(world.listing("out/_jobs/open/")) == 1, "the claim of the other is given back"


def test_a_backfill_that_is_deleted_while_it_is_served_stops_sending(world: World) -> None:
    """Its ceilings are in its record."""
    context = serving(world, "gone")
    assert submit_document(context, world.put(pdf(1))).kind == "open"
    world.s3.delete_object(Bucket=world.bucket, Key="out/_jobs/backfills/gone.json")
    world.clock.advance(10)
    with pytest.raises(SetupFault, match="there is no backfill gone: it was deleted"):
        submit_document(context, world.put(pdf(1, "another"), "in/b.pdf"))
    assert world.billed_pages() == [1]


def test_documents_longer_than_a_ceiling_are_set_aside(world: World) -> None:
    context = world.context(max_pages_per_document=3)
    book = submit_document(context, world.put(pdf(4, "a book"), "in/book.pdf"))
    assert (book.kind, world.bill()) == ("aside", [])
    assert "4 pages, more than --max-pages-per-document 3" in book.message
    assert submit_document(context, world.put(pdf(3))).kind == "open"


def _work(settings: RunSettings, s3_url: str, base_url: str, key: str, number: int, keys: list[str]) -> None:
    """A process that takes over what is left behind and submits documents, until it is told to stop."""
    context = RunContext(
        settings, Objects(World.client(s3_url)), base_url=base_url, key=key, flow_run="one run", owner=f"p{number}"
    )
    context.start_heartbeat()
    source = context.source
    for held in OpenJobs(context).survey().ready:
        collect_job(context, held)
    for entry in context.objects.list(source.bucket, source.prefix):
        if entry.key in keys:
            submit_document(
                context,
                Document(
                    bucket=source.bucket,
                    key=entry.key,
                    etag=entry.etag,
                    size=entry.size,
                    last_modified=entry.last_modified,
                ),
            )
    context.close()
    os._exit(0)


def test_eight_processes_with_kills_and_a_suspended_one_never_exceed_a_ceiling(world: World, s3_url: str) -> None:
    keys = [world.put(pdf(3, f"of many {number}"), f"in/{number:02}.pdf").key for number in range(32)]
    settings = RunSettings(
        source=f"s3://{world.bucket}/in",
        destination=f"s3://{world.bucket}/out",
        options=Options(
            requests_per_second=200,
            pages_per_minute=1_000_000,
            lease_seconds=1,
            workers=2,
            max_pages_per_day=CEILING,
            max_pages=CEILING + 1,
        ),
    )
    fork = multiprocessing.get_context("fork")

    def start(number: int) -> Any:
        mine = keys[number % 8 :: 8] if number < 8 else keys
        process = fork.Process(
            target=_work, args=(settings, s3_url, world.api.base_url, world.api.key, number, mine), daemon=True
        )
        process.start()
        return process

    # So slow that none of the processes has sent its four documents when some are sent.
    slow = {"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 0.5}
    world.api.fail(slow)
    began = datetime.now(UTC)
    first = [start(number) for number in range(8)]
    until(lambda: len(world.bill()) >= 4, "some documents are sent")
    os.kill(first[0].pid, signal.SIGSTOP)
    for process in first[1:4]:
        process.kill()
    for process in first[4:]:
        process.join(PATIENCE)
    assert sum(world.billed_pages()) <= CEILING
    threading.Event().wait(1.2)  # the leases of the killed end
    second = [start(number) for number in range(8, 11)]
    os.kill(first[0].pid, signal.SIGCONT)
    for process in [*second, first[0]]:
        process.join(PATIENCE)
    assert datetime.now(UTC).date() == began.date() or pytest.fail("the day ended in the middle of the test")
    billed = sum(world.billed_pages())
    assert billed <= CEILING
    charged = meter(world, f"day-{began:%Y-%m-%d}")
    assert billed <= charged.total <= CEILING
    assert charged.total > CEILING - 3 - 3 * 2 * 3, "what the killed had reserved came back, but for what may be lost"


@pytest.mark.parametrize("rate", [7.0, "auto"])
def test_the_pace_of_a_backfill_is_heeded_within_ten_seconds(world: World, rate: Any) -> None:
    context = serving(world, "paced", requests_per_second=rate, workers=3)
    _ = context.client
    assert (context.pace.requests_per_second, context.pace.workers, context.pace.window) == (rate, 3, 1000)
    context.backfills.change(
        "paced", lambda record: record.changed(world.clock.now(), pace=Pace(requests_per_second=2, window=5))
    )
    world.clock.advance(10)
    assert (context.pace.requests_per_second, context.pace.workers, context.pace.window) == (2, 3, 5)
    context.backfills.change("paced", lambda record: record.changed(world.clock.now(), pace=Pace()))
    world.clock.advance(10)
    assert (context.pace.requests_per_second, context.pace.window) == (rate, 1000)


OFFICE: dict[str, Any] = {"limits": TEN_PAGES, "max_pages_per_day": 27}  # three uncounted documents of up to ten pages


def office(world: World, number: int, place: str = "in") -> Document:
    """A document that claims one page and has five, whose pages only the API can count."""
    return world.put(docx([f"{place} {number} {page}" for page in range(5)]), f"{place}/{number}.docx")


def test_a_document_waits_for_counts_of_a_killed_process_and_fits_when_the_ledger_knows_them(world: World) -> None:
    documents = [office(world, number) for number in range(5)]
    killed, other = world.context(**OFFICE), world.context(**OFFICE)
    assert [submit_document(killed, document).kind for document in documents[:3]] == ["open"] * 3
    waits = submit_document(other, documents[3])
    assert (waits.kind, waits.budget_used_up, waits.counts_awaited) == ("later", True, True)
    assert "waits until the API has counted 3 documents of unknown page count that are under way" in waits.message
    collector = world.context()  # without this ceiling: it does not correct the meter, so the ledger has to tell
    assert world.finish(collector, documents[0])[-1].kind == "done"
    assert submit_document(other, documents[3]).kind == "open"
    assert submit_document(other, documents[4]).counts_awaited
    assert world.finish(other, documents[1])[-1].kind == "done"
    assert submit_document(other, documents[4]).kind == "open"


def test_counts_of_another_destination_are_awaited_until_that_has_them(world: World) -> None:
    shared = OFFICE | {"budget": f"s3://{world.bucket}/shared"}
    documents = [office(world, number) for number in range(4)]
    elsewhere, here = world.context(destination="elsewhere", **shared), world.context(**shared)
    assert [submit_document(elsewhere, document).kind for document in documents[:3]] == ["open"] * 3
    assert submit_document(here, documents[3]).counts_awaited
    assert world.finish(elsewhere, documents[0])[-1].kind == "done"
    elsewhere.close()
    assert submit_document(here, documents[3]).kind == "open"


def test_a_failed_document_of_another_destination_is_awaited_no_longer(world: World) -> None:
    world.api.set(fail_requests=[{"sha256": sha(docx([f"in 0 {page}" for page in range(5)]))}])
    shared = OFFICE | {"budget": f"s3://{world.bucket}/shared"}
    documents = [office(world, number) for number in range(4)]
    elsewhere = world.context(destination="elsewhere", rounds=1, **shared)
    here = world.context(**shared)
    assert [submit_document(elsewhere, document).kind for document in documents[:3]] == ["open"] * 3
    assert submit_document(here, documents[3]).counts_awaited
    assert world.finish(elsewhere, documents[0])[-1].kind == "failed"
    elsewhere.close()
    assert submit_document(here, documents[3]).kind == "open"


def test_reservations_for_claims_that_were_released_untouched_come_back(world: World) -> None:
    """Killed before the POST; the next worker found the document changed, and deleted the claim."""
    killed = world.context(**OFFICE)
    for job in "abc":
        killed.budget.reserve(job, 1, excess=9)
    assert submit_document(world.context(**OFFICE), office(world, 0)).kind == "open"
    (charged,) = (meter(world, f"day-{world.clock.now():%Y-%m-%d}"),)
    assert {uncounted.job for uncounted in charged.uncounted.values()}.isdisjoint("abc")


def test_an_unreadable_record_of_another_job_does_not_hide_that_a_ceiling_is_reached(world: World) -> None:
    killed = world.context(max_pages_per_day=2)
    killed.budget.reserve("0" * 32, 2)
    world.s3.put_object(Bucket=world.bucket, Key=f"out/_jobs/open/{'0' * 32}.json", Body=b"{}")
    refused = submit_document(world.context(max_pages_per_day=2), world.put(pdf(1)))
    assert (refused.kind, refused.budget_used_up) == ("later", True)
