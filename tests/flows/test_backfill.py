"""A named backfill from its plan to its end: at every stage its totals are the ledger's and the bill's."""

import hashlib
from typing import Any

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, History, Place, Start, report_of
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

OPTIONS = (*FAST, "--lease-seconds", "1", "--workers", "2", "--json")


def scans(tag: str) -> dict[str, bytes]:
    """Two documents of two pages for each of six months, and one that cannot be read."""
    found = {
        f"2023/{month:02}/{number}.pdf": documents.text_pdf([f"{tag} {month} {number} {page}" for page in range(2)])
        for month in range(1, 7)
        for number in range(2)
    }
    return {**found, "2023/06/locked.pdf": documents.encrypted_pdf(tag)}


class Bill:
    """What the stand-in has billed for some documents."""

    def __init__(self, api: StandInControl, bodies: dict[str, bytes]) -> None:
        self._api = api
        self._hashes = [hashlib.sha256(body).hexdigest() for body in bodies.values()]

    def pages(self) -> int:
        """All pages."""
        return sum(submission["pages"] for submission in self._api.billed(*self._hashes))


def figures(command: Command, place: Place, name: str = "scans", *, killed: bool = False) -> dict[str, Any]:
    """What `watch` says, whose sums agree with one another; what a killed run had reserved may be spent."""
    found = report_of(command("watch", name, "--at", place.destination, "--once", "--json"))
    states = ("done", "failed", "open", "aside", "new")
    assert found["documents"] == sum(found[state] for state in states)
    for state in (*states, "documents", "pages"):
        assert sum(partition[state] for partition in found["partitions"]) == found[state], state
    spent = sum(partition["spent"] for partition in found["partitions"])
    charged = found["pages_sent"] + found["pages_lost"]
    assert charged <= spent <= charged + (found["pages_reserved"] if killed else 0)
    return found


def test_a_backfill_is_planned_bounded_paused_killed_resumed_and_one_month_of_it_redone(
    command: Command, start: Start, place: Place, api: StandInControl, history: History
) -> None:
    bodies = scans(place.bucket)
    place.put(bodies)
    bill, at = Bill(api, bodies), ("--at", place.destination)
    run = ("backfill", "start", "scans", *at, *OPTIONS)

    plan = report_of(
        command(
            "plan", place.source, place.destination, "--save", "scans", "--max-pages", "7", "--price", "0.01", "--json"
        )
    )
    assert (plan["documents"], plan["pages"], plan["failing"], plan["saved_as"]) == (13, 24, 1, "scans")
    assert plan["ceilings"] == ["the ceiling of 7 pages"]
    assert [(partition["partition"], partition["pages"]) for partition in plan["partitions"]] == [
        (f"2023-{month:02}", 4) for month in range(1, 7)
    ]

    reached = command(*run)
    assert reached.returncode == 4, reached.stderr
    found = figures(command, place)
    assert (found["done"], found["pages_sent"], found["state"]) == (3, 6, "running")
    assert bill.pages() == 6
    assert (found["planned"], found["planned_pages"], found["cost"], found["max_pages"]) == (13, 24, 0.06, 7)
    listed = report_of(command("backfill", "list", *at, "--json"))["backfills"]
    assert (found["waiting_for"], [line["waiting_for"] for line in listed]) == ("budget", ["budget"])
    assert "budget reached" in command("watch", "scans", *at, "--once").stdout
    for verb in ("resume", "show"):
        words = " ".join(command("backfill", verb, "scans", *at).stdout.split())
        assert "6 of 7 pages are spent, which leaves no room for the next document" in words
        assert "bulk-ocr backfill set scans --max-pages" in words
    ended = history.flow_runs(f"backfill {place.source}")[-1]
    assert (ended["state"]["type"], ended["state"]["name"]) == ("CANCELLED", "Budget reached")

    told = command("backfill", "set", "scans", "--max-pages", "5", *at)
    assert "6 pages are spent already, so nothing more is sent" in told.stdout
    assert command("backfill", "set", "scans", "--unset", "max-pages", *at).returncode == 0
    assert command("backfill", "pause", "scans", "--why", "month's end", *at).returncode == 0
    held = command("run", place.source, place.destination, "--name", "scans", *OPTIONS)
    assert (held.returncode, report_of(held)["pages_sent"], bill.pages()) == (1, 0, 6)
    assert "paused (month's end)" in report_of(held)["held"]
    assert history.flow_runs(f"backfill {place.source}")[-1]["state"]["name"] == "Backfill paused"

    resumed = command("backfill", "resume", "scans", *at)
    assert "no run is working on it" in resumed.stdout
    killed = start(*run)
    until(lambda: bill.pages() >= 10, "some pages are sent")
    killed.kill()
    killed.wait(PATIENCE)
    found = figures(command, place, killed=True)
    assert found["pages_sent"] + found["pages_lost"] <= bill.pages()
    assert bill.pages() <= found["pages_sent"] + found["pages_lost"] + found["pages_reserved"]

    last = report_of(command(*run))
    found = figures(command, place)
    assert (found["done"], found["failed"], found["state"]) == (12, 1, "finished")
    assert found["failures"] == {"encrypted": 1}
    possibly_twice = sum(record["job"]["possible_duplicates"] for record in place.records("done"))
    assert found["pages_sent"] + found["pages_lost"] - 2 * possibly_twice <= bill.pages()
    assert bill.pages() <= found["pages_sent"] + found["pages_lost"]
    assert last["figures"]["pages_sent"] == found["pages_sent"]

    before, results = found["pages_sent"], place.results()
    asked = command("redo", place.destination, "--partition", "2023-03", "--price", "0.01")
    assert asked.returncode == 2
    assert "2 documents with 4 pages will be paid for again: $0.0400" in asked.stderr
    assert command("redo", place.destination, "--partition", "2023-03", "--yes").returncode == 0
    assert place.results() == results, "the old results stay until the new ones are there"
    command(*run, "--partition", "2023-03")
    found = figures(command, place)
    assert (found["done"], found["pages_sent"], found["state"]) == (12, before + 4, "finished")
    assert place.results().keys() == results.keys()


@pytest.mark.usefixtures("api")
def test_a_backfill_of_which_too_many_documents_fail_is_paused_while_its_run_works(
    command: Command, start: Start, place: Place, api: StandInControl
) -> None:
    """The run waits for the last document; the figures it reads meanwhile show the failures."""
    broken = {f"{number}.pdf": f"%PDF-1.4 {number} and no more".encode() for number in range(3)}
    place.put({**broken, "good.pdf": documents.text_pdf([place.bucket])})
    at = ("--at", place.destination)
    command("plan", place.source, place.destination, "--save", "scans")
    never = command("backfill", "set", "scans", *at, "--stop-after-failures", "100%")
    assert (never.returncode, "more than 100% of the documents can never fail" in never.stderr) == (2, True)
    command("backfill", "set", "scans", *at, "--stop-after-failures", "2")
    api.set(queue_seconds=600)
    run = start("backfill", "start", "scans", *at, *OPTIONS)
    try:
        until(lambda: place.record("backfills/scans")["state"] == "paused", "a pause")
    finally:
        run.kill()
        run.communicate(PATIENCE)
        api.set(queue_seconds=0)
    why = place.record("backfills/scans")["why"]
    assert why.startswith("3 documents failed, and it stops after 2: before it is resumed")
    assert "bulk-ocr retry" in why


def test_names_that_lead_nowhere_are_answered_with_the_nearest(command: Command, place: Place) -> None:
    place.put({"2023-01-a.pdf": documents.text_pdf([f"{place.bucket} nearest"])})
    ran = report_of(command("run", place.source, place.destination, "--name", "letters", *OPTIONS))
    assert (ran["backfill"], ran["figures"]["state"], ran["figures"]["partitions"][0]["name"]) == (
        "letters",
        "finished",
        "2023-01",
    )
    at = ("--at", place.destination)
    for arguments, said in [
        (("watch", "lettres", *at, "--once"), "Did you mean letters?"),
        (("backfill", "pause", "letter", *at), "Did you mean letters?"),
        (("backfill", "start", "letters", *at, "--partition", "2023-10", *OPTIONS), "Did you mean 2023-01?"),
        (("redo", place.destination, "--partition", "2023-02", "--yes"), "Did you mean 2023-01?"),
        (("run", place.source, place.destination, "--name", "leters", *OPTIONS), "Did you mean letters?"),
        (("run", place.source + "/x", place.destination, "--name", "letters", *OPTIONS), "its source is"),
        (("watch", "letters"), "BULK_OCR_DESTINATION"),
    ]:
        told = command(*arguments)
        assert (told.returncode, said in told.stderr) == (2, True), told.stderr
    place.put({"2023-01-b.pdf": documents.text_pdf([f"{place.bucket} nearest, later"])})
    sent = report_of(command("submit", place.source, place.destination, "--name", "letters", *OPTIONS))
    assert (sent["backfill"], sent["pages_sent"], sent["figures"]["pages_sent"]) == ("letters", 1, 2)
    assert report_of(command("run", place.source, place.destination, "--name", "letters", *OPTIONS))["done"] == 1
    listed = report_of(command("backfill", "list", *at, "--json"))
    assert [(backfill["name"], backfill["state"], backfill["pages_sent"]) for backfill in listed["backfills"]] == [
        ("letters", "finished", 2)
    ]
