"""Prefect's own faults: the ledger decides, and the next run goes on, whatever became of the server or the worker."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.local.stack import LocalStack
from tests import prefect_api
from tests import sample_documents as documents
from tests.command_server import Process
from tests.flows.conftest import FAST, Command, Place, Start, report_of
from tests.prefect_server import prefect_server
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

DOCUMENTS = 10


def _put(place: Place, tag: str) -> list[str]:
    given = {f"{number:02}.pdf": documents.text_pdf([f"{tag} {number}", "two"]) for number in range(DOCUMENTS)}
    place.put(given)
    return [hashlib.sha256(body).hexdigest() for body in given.values()]


def _until(seen: Callable[[], Any], process: Process | subprocess.Popen[str]) -> Any:
    """Look until something is seen, as long as a process runs."""

    def look() -> Any:
        assert process.poll() is None, process.communicate()
        return seen()

    return until(look)


def _all_done_and_billed_once(command: Command, place: Place, api: StandInControl, hashes: list[str]) -> None:
    api.set(queue_seconds=0, seconds_per_page=0)
    api.fail()
    ended = command("run", place.source, place.destination, *FAST, "--lease-seconds", "1", "--json")
    report = report_of(ended)
    assert ended.returncode == 0, ended.stderr
    assert (report["documents"], report["done"] + report["skipped"]) == (DOCUMENTS, DOCUMENTS)
    assert len(place.results()) == DOCUMENTS
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)


def test_a_server_that_dies_in_the_middle_and_is_never_seen_again_costs_nothing(
    start: Start,
    environment: dict[str, str],
    command: Command,
    place: Place,
    api: StandInControl,
    tmp_path: Path,
    prefect_database: Path,
) -> None:
    hashes = _put(place, "server gone")
    api.set(queue_seconds=5)
    with prefect_server(tmp_path / "doomed", prefect_database) as doomed:
        variables = doomed.process_environment(environment) | {"PREFECT_CLIENT_MAX_RETRIES": "1"}
        process = start("run", place.source, place.destination, *FAST, "--json", **variables)
        _until(lambda: len(api.billed(*hashes)) == DOCUMENTS, process)
        os.kill(doomed.processes["prefect"], signal.SIGKILL)
    api.set(queue_seconds=0)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out)["done"] == DOCUMENTS, "the work goes on without the server"
    assert "Prefect's server was lost on the way" in err
    # The server of the next run has an empty database, as after a wipe.
    _all_done_and_billed_once(command, place, api, hashes)


def _served(environment: dict[str, str], name: str) -> subprocess.Popen[str]:
    """A process that takes up the runs of a deployment, in a process group of its own."""
    serve = f"from flows.backfill import backfill; backfill.serve(name={name!r})"
    return subprocess.Popen(
        [sys.executable, "-c", f"if __name__ == '__main__':\n    {serve}"],
        env={**environment, "PREFECT_RUNNER_POLL_FREQUENCY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


class Server:
    """The Prefect server's API, as the UI uses it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return prefect_api.call(self._url, method, path, body)

    def deployment(self, name: str) -> Any:
        found = self.call("POST", "deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found[0] if found else None

    def state(self, flow_run: str) -> str:
        return str(self.call("GET", f"flow_runs/{flow_run}")["state"]["type"])


def test_a_run_cancelled_in_the_ui_stops_sending_and_leaves_nothing_claimed(
    environment: dict[str, str], prefect: LocalStack, command: Command, place: Place, api: StandInControl
) -> None:
    hashes = _put(place, "cancelled")
    name = f"cancel-{place.bucket}"
    # Every submission takes a while, so that the run is cancelled in the middle of sending.
    api.fail({"method": "POST", "path": "/async", "action": "delay", "seconds": 1.0, "times": -1})
    worker = _served(environment, name)
    try:
        server = Server(prefect.prefect_url)
        deployment = _until(lambda: server.deployment(name), worker)
        options = {"workers": 2, "requests_per_second": 500, "lease_seconds": 60}
        parameters = {"source": place.source, "destination": place.destination, "options": options}
        flow_run = server.call("POST", f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})[
            "id"
        ]
        _until(lambda: len(api.billed(*hashes)) >= 2, worker)
        server.call("POST", f"flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
        _until(lambda: server.state(flow_run) == "CANCELLED", worker)
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(PATIENCE)
    sent = len(api.billed(*hashes))
    assert sent < DOCUMENTS, "it stopped in the middle"
    claimed = place.records("open")
    assert len(claimed) == sent, "what was sent is on record, and nothing else is claimed"
    assert [record["lease"] for record in claimed] == [None] * sent
    _all_done_and_billed_once(command, place, api, hashes)


def test_a_worker_killed_with_its_run_leaves_it_to_the_next(
    environment: dict[str, str], prefect: LocalStack, command: Command, place: Place, api: StandInControl
) -> None:
    hashes = _put(place, "worker killed")
    name = f"killed-{place.bucket}"
    api.set(queue_seconds=60)
    worker = _served(environment, name)
    try:
        server = Server(prefect.prefect_url)
        deployment = _until(lambda: server.deployment(name), worker)
        parameters = {"source": place.source, "destination": place.destination, "options": {"requests_per_second": 500}}
        server.call("POST", f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        _until(lambda: len(api.billed(*hashes)) == DOCUMENTS and len(place.records("open")) == DOCUMENTS, worker)
        _until(lambda: all(record["requests"] and not record["lease"] for record in place.records("open")), worker)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(PATIENCE)
    _all_done_and_billed_once(command, place, api, hashes)
