"""A place deployed to a work pool whose flow runs are containers on the network of the services."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.site import PREFECT_PORT, Site
from tests.deployed.ground import FAST_OPTIONS, Ground, places
from tests.flows.conftest import Place
from tests.waiting import until

PREFECT_INSIDE = f"http://prefect:{PREFECT_PORT}/api"
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_LEASE_SECONDS = 15


@dataclass(frozen=True)
class Pool:
    """A work pool and a place of the same name, deployed to it."""

    services: Site
    ground: Ground
    place: Place
    name: str

    def start(self, **job_variables: Any) -> str:
        """Start a backfill. Returns the flow run's id."""
        deployment = self.ground.deployments()[f"backfill-{self.name}"]["id"]
        body = {"parameters": {}, "job_variables": job_variables}
        return str(self.ground.call("POST", f"deployments/{deployment}/create_flow_run", body)["id"])

    def end(self, run: str) -> dict[str, Any]:
        """Wait for a run's end. Returns its state."""
        until(lambda: self.ground.state(run)["type"] in _ENDED, f"the end of run {run}")
        return self.ground.state(run)

    def posting(self) -> list[dict[str, Any]]:
        """Records of jobs whose pages are between a request and its record."""
        return [record for record in self.place.records("open") if (record["lease"] or {}).get("doing") == "posting"]

    def counted(self) -> int:
        """Submissions that the ledger says may have been paid for twice."""
        return sum(record["job"]["possible_duplicates"] for record in self.place.records("done"))


def deployed(
    services: Site,
    folder: Path,
    name: str,
    kind: str,
    template: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> Pool:
    """Make a bucket, a work pool of a kind and its deployments, whose schedules are paused.

    Args:
        services: what runs work with.
        folder: an empty folder, for files of the pool and its worker.
        name: of bucket, pool and place.
        kind: Prefect's type of the pool.
        template: its base job template; Prefect's own when left out.
        environment: more variables for the worker.
        job_variables: those of the deployments.
    """
    s3 = services.s3()
    s3.create_bucket(Bucket=name)
    place = Place(name, s3)
    home = {"PREFECT_API_URL": f"{services.prefect_url}/api", "PREFECT_HOME": str(folder / "prefect")}
    ground = Ground({**services.engine.environment, **home, **(environment or {})}, services.prefect_url, folder)
    arguments = ["work-pool", "create", name, "--type", kind]
    if template is not None:
        (folder / "template.json").write_text(json.dumps(template))
        arguments += ["--base-job-template", str(folder / "template.json")]
    made = ground.prefect(*arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    listing = places({name: place}, {name: {"options": {**FAST_OPTIONS, "lease_seconds": _LEASE_SECONDS}}}, pool=name)
    if job_variables:
        listing["defaults"]["job_variables"] = dict(job_variables)
    done = ground.deploy(listing)
    assert done.returncode == 0, done.stdout + done.stderr
    for flow in ("submit", "collect"):
        ground.pause(f"{flow}-{name}")
    return Pool(services, ground, place, name)
