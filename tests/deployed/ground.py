"""A Prefect server to deploy to, and a worker that takes up what is scheduled there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deployments.local.stack import LocalStack
from deployments.render.__main__ import main as render
from tests import prefect_api
from tests.flows.conftest import Place
from tests.prefect_server import empty_database, prefect_server
from tests.waiting import PATIENCE

POOL = "bulk-ocr"
FAST_OPTIONS = {"requests_per_second": 500, "pages_per_minute": 1_000_000, "poll_seconds": 0.05}
_STOP_SECONDS = 30


def places(
    listed: Mapping[str, Place], settings: Mapping[str, Mapping[str, Any]] | None = None, *, pool: str = POOL
) -> dict[str, Any]:
    """A list of places as `places.yaml` has it; settings by the place's name."""
    return {
        "defaults": {"work_pool": pool, "options": FAST_OPTIONS},
        "environments": {"test": {}},
        "places": [
            {"name": name, "source": place.source, "destination": place.destination, **(settings or {}).get(name, {})}
            for name, place in listed.items()
        ],
    }


@dataclass
class Ground:
    """Where a test deploys to. The folder is not the checkout: nothing may depend on where commands are started."""

    environment: Mapping[str, str]
    url: str
    folder: Path

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `prefect …` and wait for it."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            env={**self.environment, "COLUMNS": "200"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def render(self, listing: Mapping[str, Any]) -> Path:
        """Make a `prefect.yaml` of a list of places."""
        listed, rendered = self.folder / "places.yaml", self.folder / "prefect.yaml"
        listed.write_text(json.dumps(listing))  # JSON is YAML
        assert render(environment="test", places=listed, output=rendered) == 0
        return rendered

    def deploy(self, listing: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Render and deploy all; without a listing, what was rendered last."""
        rendered = self.folder / "prefect.yaml" if listing is None else self.render(listing)
        return self.prefect("deploy", "--all", "--prefect-file", str(rendered))

    @contextlib.contextmanager
    def worker(self, pool: str = POOL, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that asks often and takes nothing before its time; stopped with all that it has started."""
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "1"}
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, *flags],
                env={**self.environment, **quick},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self) -> str:
        """What the worker and its runs have printed."""
        return (self.folder / "worker.log").read_text(errors="replace")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The Prefect server's API, as the UI uses it."""
        return prefect_api.call(self.url, method, path, body)

    def deployments(self) -> dict[str, dict[str, Any]]:
        """All deployments, by name."""
        return {deployment["name"]: deployment for deployment in self.call("POST", "deployments/filter", {})}

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment by hand. Returns its id."""
        made = self.call(
            "POST", f"deployments/{self.deployments()[deployment]['id']}/create_flow_run", {"parameters": parameters}
        )
        return str(made["id"])

    def pause(self, deployment: str) -> None:
        """Pause the schedules of a deployment, as the switch in the UI does."""
        found = self.deployments()[deployment]
        for schedule in found["schedules"]:
            self.call("PATCH", f"deployments/{found['id']}/schedules/{schedule['id']}", {"active": False})

    def state(self, flow_run: str) -> dict[str, Any]:
        """How a flow run stands."""
        return dict(self.call("GET", f"flow_runs/{flow_run}")["state"])

    def nothing_to_do(self, deployment: str) -> list[str]:
        """The runs of a deployment that found nothing to do and are still listed."""
        # A run that is deleted while the server reads it has no state.
        found = [run for run in self.runs(deployment, "COMPLETED") if run["state"] is not None]
        return [run["id"] for run in found if run["state"]["name"] == "Nothing to do"]

    def set_state(self, flow_run: str, state: Mapping[str, Any]) -> None:
        """Put a flow run into a state, as the buttons in the UI do."""
        answer = self.call("POST", f"flow_runs/{flow_run}/set_state", {"state": state})
        assert answer["status"] == "ACCEPT", answer

    def subflows(self, flow_run: str) -> list[dict[str, Any]]:
        """The subflow runs of a flow run."""
        return list(self.call("POST", "flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}}))

    def alive(self, flow_run: str) -> bool:
        """Whether a process works on a flow run."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                    return True
        return False

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """The runs of a deployment that are in one of the states."""
        which = {
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "deployments": {"name": {"any_": [deployment]}},
        }
        return list(self.call("POST", "flow_runs/filter", which))


@contextlib.contextmanager
def grounds(stack: LocalStack, folder: Path, database: Path | None = None) -> Iterator[Ground]:
    """A Prefect server of its own, with a work pool, beside a stack of S3 and the stand-in."""
    with prefect_server(folder / "server", database or empty_database(folder)) as server:
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        ground = Ground(server.process_environment(stack.process_environment()), server.prefect_url, elsewhere)
        made = ground.prefect("work-pool", "create", POOL, "--type", "process")
        assert made.returncode == 0, made.stdout + made.stderr
        yield ground
