"""Alerts on a real Prefect server: the command makes them, and each one is seen to arrive, once."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from deployments.alerts.automations import Thresholds
from tests.alerts import runs as these
from tests.alerts.conftest import SHORT, Command, kill
from tests.alerts.inbox import Inbox

PATIENCE = 40.0
ALERTS = 7

Found = TypeVar("Found")


def _until(look: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)  # between bounded looks: the server has no way to call us
    return found


def _run(client: SyncPrefectClient, destination: str) -> FlowRun | None:
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"collect {destination}"]))
    return next(iter(client.read_flow_runs(flow_run_filter=named)), None)


def _heartbeats(client: SyncPrefectClient, run: FlowRun) -> int:
    body = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}}
    return int(client.request("POST", "/events/filter", json=body).json()["total"])


def _times_triggered(client: SyncPrefectClient, name: str) -> int:
    (automation,) = client.read_automations_by_name(name)
    wanted = {"name": ["prefect.automation.triggered"]}
    body = {"filter": {"event": wanted, "resource": {"id": [f"prefect.automation.{automation.id}"]}}}
    return int(client.request("POST", "/events/filter", json=body).json()["total"])


def test_the_worker_and_the_run_that_die_unseen_are_told_of(
    worker: subprocess.Popen[bytes], runs: subprocess.Popen[bytes], client: SyncPrefectClient, inbox: Inbox
) -> None:
    hanging = _until(lambda: _run(client, these.HANGING))
    _until(lambda: _heartbeats(client, hanging))
    kill(runs)

    def ready() -> bool:
        try:
            return client.read_work_pool("bulk-ocr").status == "READY"
        except ObjectNotFound:  # the worker makes it
            return False

    _until(ready)
    kill(worker)
    assert "no worker any more" in inbox.wait_for("no worker for bulk-ocr", PATIENCE)["body"]
    message = inbox.wait_for(f"collect {these.HANGING}: Crashed", PATIENCE)
    assert "No sign of life for 10 s" in message["body"]
    assert str(hanging.id) in message["body"], "a link to the run"
    assert (client.read_flow_run(hanging.id).state_name) == "Crashed"
