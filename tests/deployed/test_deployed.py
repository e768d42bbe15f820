"""Deployed as docs/deploy.md says: results appear by themselves, and nothing is done twice."""

import hashlib
import json
from typing import Any

from deployments.local.stack import S3_SECRET_KEY, UPSTAGE_KEY
from tests import sample_documents as documents
from tests.deployed.ground import FAST_OPTIONS, Ground, places
from tests.flows.conftest import Place
from tests.stand_in import StandInControl
from tests.waiting import until

DOCUMENTS = 3


def _put(place: Place, tag: str) -> list[str]:
    given = {f"{number}.pdf": documents.text_pdf([f"{tag} {number}", "two"]) for number in range(DOCUMENTS)}
    place.put(given)
    return [hashlib.sha256(body).hexdigest() for body in given.values()]


def _standing(ground: Ground) -> dict[str, Any]:
    """What is deployed: all that the server knows but for when it looked at it last."""
    moving = {"updated", "status", "last_polled"}
    standing: dict[str, Any] = {}
    for name, deployment in ground.deployments().items():
        schedules = [
            {key: value for key, value in schedule.items() if key not in moving} for schedule in deployment["schedules"]
        ]
        kept = {key: value for key, value in deployment.items() if key not in moving}
        standing[name] = {**kept, "schedules": schedules}
    return standing


def test_results_appear_on_schedule_and_a_second_deploy_changes_nothing(
    ground: Ground, scheduled: Place, api: StandInControl
) -> None:
    hashes = _put(scheduled, "scheduled")
    names = ("submit-scheduled", "collect-scheduled")
    until(lambda: len(api.billed(*hashes)) == DOCUMENTS, "all documents to be sent")
    ground.pause("submit-scheduled")  # each run of it takes 3 s of a processor from those that are waited for
    until(lambda: len(scheduled.results()) == DOCUMENTS, "results")
    empty = until(lambda: ground.nothing_to_do("collect-scheduled"), "a run that has nothing to do")[0]
    until(lambda: empty not in ground.nothing_to_do("collect-scheduled"), "the next one to take its place")
    assert len(ground.nothing_to_do("collect-scheduled")) <= 1, "they do not drown the others"
    ground.pause("collect-scheduled")
    until(lambda: not any(ground.runs(name, "RUNNING", "PENDING") for name in names), "the end of all runs")
    assert all(ground.runs(name, "COMPLETED") for name in names)
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes), (
        "each was paid for once"
    )

    before = _standing(ground)
    assert len(before) == 6
    again = ground.deploy()
    assert again.returncode == 0, again.stdout + again.stderr
    assert _standing(ground) == before, "ids and schedules are the same, and what was paused stays paused"

    known = [before, ground.call("POST", "flow_runs/filter", {}), ground.call("POST", "work_pools/filter", {})]
    assert UPSTAGE_KEY not in json.dumps(known)
    assert S3_SECRET_KEY not in json.dumps(known)


def test_of_two_collects_at_once_the_second_is_cancelled_and_nothing_is_lost(
    ground: Ground, by_hand: Place, api: StandInControl
) -> None:
    hashes = _put(by_hand, "by hand")
    ground.start("submit-by-hand")
    until(lambda: ground.runs("submit-by-hand", "COMPLETED"), "the end of submitting")
    assert len(by_hand.records("open")) == DOCUMENTS
    # The one that wins is kept at work for a while, so that the two meet.
    api.fail({"method": "GET", "path": "/requests/", "action": "delay", "seconds": 4, "times": DOCUMENTS})
    two = [ground.start("collect-by-hand") for _ in range(2)]
    until(lambda: len(ground.runs("collect-by-hand", "COMPLETED", "CANCELLED")) == 2, "the end of both")
    states = {state["type"]: state["message"] for state in map(ground.state, two)}
    assert set(states) == {"COMPLETED", "CANCELLED"}
    assert states["CANCELLED"] == "Deployment concurrency limit reached."
    assert len(by_hand.results()) == DOCUMENTS
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)


def test_parameters_out_of_bounds_are_refused_when_a_run_is_asked_for(ground: Ground) -> None:
    asked = ground.prefect("deployment", "run", "backfill/backfill-by-hand", "--param", 'options={"workers": 65}')
    assert asked.returncode != 0
    assert "65 is greater than the maximum of 64" in " ".join((asked.stdout + asked.stderr).split())
    assert not ground.runs("backfill-by-hand", "SCHEDULED", "PENDING", "RUNNING")


def test_a_pool_that_does_not_exist_is_told_and_nothing_is_deployed(ground: Ground, by_hand: Place) -> None:
    refused = ground.deploy(places({"nowhere": by_hand}, pool="forgotten"))
    assert refused.returncode != 0
    assert "work pool 'forgotten' which does not exist" in " ".join((refused.stdout + refused.stderr).split())
    assert not [name for name in ground.deployments() if name.endswith("-nowhere")]


def test_a_worker_whose_version_does_not_know_a_setting_fails_the_run_in_words_and_sends_nothing(
    ground: Ground, by_hand: Place
) -> None:
    ground.render(places({"newer": by_hand}))
    rendered = ground.folder / "prefect.yaml"
    # What a newer version would deploy: its parameters' schema knows more than this worker's flow.
    rendered.write_text(
        rendered.read_text().replace("enforce_parameter_schema: true", "enforce_parameter_schema: false")
    )
    deployed = ground.deploy()
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    by_hand.put({"newer.pdf": documents.text_pdf(["for a newer version"])})
    run = ground.start("backfill-newer", options={"setting_of_a_newer_version": 1})
    until(lambda: ground.state(run)["type"] == "FAILED", "the run to fail")
    message = ground.state(run)["message"]
    assert "setting_of_a_newer_version" in message
    assert "there is no such setting" in message
    assert "newer.pdf.ocr.json" not in by_hand.results()
    assert not [record for state in ("open", "done") for record in by_hand.records(state) if "newer" in str(record)]


def test_a_run_that_reaches_its_ceiling_ends_without_a_traceback(ground: Ground, by_hand: Place) -> None:
    by_hand.put({"ceiling/two pages.pdf": documents.text_pdf(["more than the ceiling", "allows"])})
    selection = {"include": ["ceiling/*"]}
    run = ground.start("backfill-by-hand", options={**FAST_OPTIONS, "max_pages": 1}, selection=selection)
    until(lambda: f"Execution of flow run '{run}' aborted by orchestrator." in ground.log(), "the end of its process")
    assert (ground.state(run)["type"], ground.state(run)["name"]) == ("CANCELLED", "Budget reached")
    assert "RunReport" not in ground.log(), "in Prefect's complaint about a state's data"
    assert f"Flow run '{run}' exited" not in ground.log()


def test_a_backfill_that_is_suspended_and_resumed_in_the_ui_and_one_month_of_it_retried_there(
    ground: Ground, months: Place, api: StandInControl
) -> None:
    bodies = {
        f"2023/{month:02}/{number}.pdf": documents.text_pdf([f"month {month} {number} {page}" for page in range(2)])
        for month in (1, 2)
        for number in range(2)
    }
    locked = documents.encrypted_pdf("month 2 locked")
    months.put({**bodies, "2023/02/locked.pdf": locked})
    hashes = [hashlib.sha256(body).hexdigest() for body in bodies.values()]

    for name in ("submit-scheduled", "collect-scheduled"):
        ground.pause(name)  # their processes would only be in the way
    api.set(queue_seconds=3600)  # two jobs are open, which is the window, until the API is quick again
    given = {"source": months.source, "destination": months.destination, "name": "months"}
    options = {**FAST_OPTIONS, "window": 2, "lease_seconds": 1}
    run = ground.start("backfill-by-hand", **given, options=options)
    until(lambda: len(api.billed(*hashes)) == 2, "the window to be full")
    details = {"pause_reschedule": True, "pause_timeout": "2099-01-01T00:00:00Z"}
    ground.set_state(run, {"type": "PAUSED", "name": "Suspended", "state_details": details})
    until(lambda: not ground.alive(run), "the end of its process")
    api.set(queue_seconds=0)
    ground.call("POST", f"flow_runs/{run}/resume")
    until(lambda: ground.state(run)["type"] == "COMPLETED", "the end of the run")
    assert ground.state(run)["name"] == "Some failed"
    assert len(months.results()) == len(bodies)
    assert sorted(each["sha256"] for each in api.billed(*hashes)) == sorted(hashes), "each was paid for once"

    partitions = {found["name"]: found for found in ground.subflows(run)}
    assert {name: found["state"]["name"] for name, found in partitions.items()} == {
        "months 2023-01": "Completed",
        "months 2023-02": "Some failed",
    }
    assert "3 of 3 documents finished, 1 failed" in partitions["months 2023-02"]["state"]["message"]
    opened = documents.text_pdf(["month 2 opened"])
    months.put({"2023/02/locked.pdf": opened})
    month = partitions["months 2023-02"]["id"]
    ground.set_state(month, {"type": "SCHEDULED", "name": "AwaitingRetry"})
    until(lambda: ground.state(month)["name"] == "Completed", "the end of the month")
    assert ground.call("GET", f"flow_runs/{month}")["name"] == "months 2023-02"
    record = months.record("backfills/months")
    assert (record["state"], record["why"]) == ("finished", "5 done")
    paid = sum(each["pages"] for each in api.billed(*hashes, hashlib.sha256(opened).hexdigest()))
    meter = months.record("budgets/backfill-months")
    assert meter["sent"] == paid == 2 * len(bodies) + 1, "the backfill's totals are the bill's"
