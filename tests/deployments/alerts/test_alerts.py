"""Alerts on a real Prefect server: the command makes them, and each one is seen to arrive, once."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from pydantic import ValidationError

from deployments.alerts.__main__ import main
from deployments.alerts.automations import Thresholds, automations
from deployments.local.stack import LocalStack
from tests.deployments.alerts import runs as these
from tests.deployments.alerts.conftest import SHORT, Command, kill
from tests.deployments.alerts.inbox import Inbox
from tests.waiting import until

ALERTS = 11  # with the completion callback


def _run(client: SyncPrefectClient, destination: str) -> FlowRun | None:
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"collect {destination}"]))
    return next(iter(client.read_flow_runs(flow_run_filter=named)), None)


def _events(client: SyncPrefectClient, name: str, resource: str) -> int:
    body = {"filter": {"event": {"name": [name]}, "resource": {"id": [resource]}}}
    return int(client.request("POST", "/events/filter", json=body).json()["total"])


def _automations(client: SyncPrefectClient) -> dict[str, Automation]:
    return {automation.name: automation for automation in client.read_automations()}


def test_the_command_makes_the_alerts_and_a_second_time_changes_nothing(
    alerts: str, command: Command, block: str, client: SyncPrefectClient
) -> None:
    assert len(alerts.splitlines()) == ALERTS
    assert all(line.endswith(": created") for line in alerts.splitlines()), alerts
    before = _automations(client)
    assert len(before) == ALERTS

    again = command("--block", f"custom-webhook/{block}", "--callback", "webhook/archive", *SHORT)
    assert again.returncode == 0, again.stderr
    assert [line.rpartition(": ")[2] for line in again.stdout.splitlines()] == ["unchanged"] * ALERTS
    assert _automations(client) == before


def test_what_differs_is_updated_and_what_somebody_paused_stays_paused(
    alerts: str, block: str, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alerts
    before = _automations(client)
    other = Thresholds(tag="another", work_pool=("another",), silent_seconds=999, idle_seconds=10)
    paused = before["bulk-ocr: run silent"].id
    client.pause_automation(paused)
    try:
        assert main(block=block, thresholds=other, dry_run=True) == 0
        said = dict(line.split(": ", 2)[1:] for line in capsys.readouterr().out.splitlines())
        assert said["run silent"] == "would be updated, and paused"
        assert said["run failed"] == said["no worker"] == "would be updated"
        assert said["documents failed"] == said["nothing ended"] == "unchanged"
        unchanged = _automations(client)
        assert {name: alert.trigger for name, alert in unchanged.items()} == {
            name: alert.trigger for name, alert in before.items()
        }

        assert main(block=block, thresholds=other) == 0
        updated = _automations(client)
        assert {name: alert.id for name, alert in updated.items()} == {name: alert.id for name, alert in before.items()}
        assert not updated["bulk-ocr: run silent"].enabled
        assert updated["bulk-ocr: run silent"].trigger != before["bulk-ocr: run silent"].trigger
    finally:
        client.resume_automation(paused)
        assert main(block=block, thresholds=Thresholds(silent_seconds=10, idle_seconds=10, worker_seconds=10)) == 0
    after = _automations(client)
    assert {name: alert.trigger for name, alert in after.items()} == {
        name: alert.trigger for name, alert in before.items()
    }


def test_without_a_block_nothing_is_made_and_the_command_says_which_there_are(
    block: str, server: LocalStack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 2
    assert f"custom-webhook/{block}" in capsys.readouterr().err
    assert main(block="nobody") == 2
    assert "no notification block named 'nobody'" in capsys.readouterr().err
    assert main(block=block, callback="nobody") == 2
    assert "no block 'Webhook' named 'nobody'" in capsys.readouterr().err
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(block=block) == 2
    assert "The Prefect server at http://127.0.0.1:9/api" in capsys.readouterr().err
    assert server.processes


def test_a_misspelt_work_pool_is_refused_and_one_that_does_not_exist_yet_is_mentioned(
    alerts: str, block: str, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alerts, "and with them, the work pool 'bulk-ocr'"
    before = _automations(client)
    assert main(block=block, thresholds=Thresholds(work_pool=("bulk-ocr", "bulk-orc"))) == 2
    refused = capsys.readouterr()
    assert "There is no work pool named 'bulk-orc'. Did you mean bulk-ocr?" in refused.err
    assert refused.out == ""
    assert main(block=block, thresholds=Thresholds(work_pool=("bulk-ocr", "machines")), dry_run=True) == 0
    assert capsys.readouterr().err.splitlines() == [
        "There is no work pool named 'machines' yet: create it, so that its workers are watched."
    ]
    for patterns in (("bulk-ocr*",), ("bulk-oc*", "!bulk-ocr-test")):  # as Prefect takes them
        assert main(block=block, thresholds=Thresholds(work_pool=patterns), dry_run=True) == 0
        assert capsys.readouterr().err == ""
    assert _automations(client) == before


@pytest.mark.parametrize("secret", ["https://hooks.slack.com/services/T0/B0/s3cr3t", "up_S3cr3t"])
def test_a_secret_in_the_place_of_a_block_is_not_repeated(
    secret: str, block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, callback in ((secret, None), (block, secret)):
        assert main(block=name, callback=callback) == 2
        refused = capsys.readouterr().err
        assert secret not in refused
        assert "takes the name of a block, or TYPE/NAME: lower-case letters, digits and dashes" in refused


def test_two_automations_of_one_name_are_not_guessed_between(
    alerts: str, block: str, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alerts
    double = _automations(client)["bulk-ocr: no worker"]
    added = client.create_automation(AutomationCore.model_validate(double.model_dump(exclude={"id"})))
    try:
        assert main(block=block, thresholds=Thresholds(silent_seconds=20)) == 2
        assert "2 automations named 'bulk-ocr: no worker'" in capsys.readouterr().err
    finally:
        client.delete_automation(added)


@pytest.mark.parametrize(
    "wrong", [{"silent_seconds": 9}, {"idle_seconds": 0}, {"quiet_seconds": -1}, {"tag": "*"}, {"work_pool": ()}]
)
def test_thresholds_have_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Thresholds(**wrong)


def test_each_alert_arrives_once(
    worker: subprocess.Popen[bytes],
    request: pytest.FixtureRequest,
    client: SyncPrefectClient,
    inbox: Inbox,
    callbacks: Inbox,
) -> None:
    # A worker dies, and a run whose process is killed: nobody is left to tell of it. One after the other, since
    # SQLite has one writer, and what its server cannot write it drops.
    assert not inbox.about("no worker"), "there is one"
    kill(worker)
    runs = request.getfixturevalue("runs")
    hanging = until(lambda: _run(client, these.HANGING))
    until(lambda: _events(client, "prefect.flow-run.heartbeat", f"prefect.flow-run.{hanging.id}"))
    kill(runs)

    bodies = {
        subject: inbox.wait_for(f"bulk-ocr: {subject}")["body"]
        for subject in (
            f"documents failed: {these.FAILED}",
            f"account refused: {these.REFUSED}",
            f"results expiring: {these.EXPIRING}",
            f"documents failed: {these.LATER}",
            f"collect {these.BROKEN}: Failed",
            "no worker for bulk-ocr",
            f"nothing ended: {these.IDLE}",
            f"nothing ended: {these.EXPIRING}",
            f"collect {these.HANGING}: Crashed",
        )
    }
    assert bodies[f"documents failed: {these.FAILED}"].startswith("2 documents failed. 0 documents: 0 done, 2 failed")
    assert "no credit" in bodies[f"account refused: {these.REFUSED}"]
    assert "3 jobs" in bodies[f"results expiring: {these.EXPIRING}"]
    assert "set UPSTAGE_API_KEY" in bodies[f"collect {these.BROKEN}: Failed"]
    assert "no worker for 10 s" in bodies["no worker for bulk-ocr"]
    assert "4 jobs are open" in bodies[f"nothing ended: {these.IDLE}"]
    assert "No heartbeat for 10 s" in bodies[f"collect {these.HANGING}: Crashed"]
    assert f"flow-run/{hanging.id}" in bodies[f"collect {these.HANGING}: Crashed"], "a link to the run"

    called = callbacks.first()
    assert (called["backfill"], called["destination"], called["state"]) == ("scans", these.FINISHED, "finished")
    assert (called["done"], called["total"], called["failures"]) == (2, 3, {'a "quoted" code': 1})

    # What was said twice came before the last of these: a second notification would be here.
    assert Counter(inbox.subjects()) == Counter(f"bulk-ocr: {subject}" for subject in bodies)
    assert client.read_flow_run(hanging.id).state_name == "Crashed"
    ended = [_run(client, destination) for destination in (these.FAILED, these.REFUSED, these.BROKEN)]
    assert [run and run.state_name for run in ended] == ["Some failed", "Account refused", "Failed"], "as they ended"


def test_the_page_names_every_alert_every_setting_and_their_bounds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8")
    for automation in automations(Thresholds(), UUID(int=0)):
        assert f"\n| {automation.name.removeprefix('bulk-ocr: ')} | " in page
    for name, field in Thresholds.model_fields.items():
        row = f"| `--{name.replace('_', '-')}` | {field.default[0] if name == 'work_pool' else field.default} |"
        if limits := {type(bound).__name__: bound for bound in field.metadata if type(bound).__name__ in ("Ge", "Le")}:
            row += f" {limits['Ge'].ge} to {limits['Le'].le} |"
        assert row in page
    known = get_current_settings().to_environment_variables(exclude_unset=False)
    for setting in set(re.findall(r"`(PREFECT_\w+)`", page)):
        assert setting in known, setting
