"""The job of a flow run, made of the work pool's template by Prefect's own Kubernetes worker code."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "kubernetes"
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "base-job-template.json").read_text())


def job_of(
    flow_run: FlowRun | None = None, *, api_url: str = "http://127.0.0.1:9/api", **variables: object
) -> dict[str, Any]:
    """The manifest of a flow run's job.

    Args:
        flow_run: the flow run; one that no server knows when left out.
        api_url: Prefect's server, as the pod will call it. It is not asked here: nothing in the template refers to
            what a server keeps. Without an address, Prefect would start one.
        **variables: job variables.
    """
    with temporary_settings({PREFECT_API_URL: api_url}):
        configuration = asyncio.run(KubernetesWorkerJobConfiguration.from_template_and_values(TEMPLATE, variables))
        configuration.prepare_for_flow_run(flow_run or FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="busy-bee"))
    manifest: dict[str, Any] = configuration.job_manifest
    return manifest
