"""The pod of a flow run, as Prefect's Kubernetes worker makes it of the template, played by podman.

Podman is no cluster: what its `kube play` takes of a pod is tried here (security context, secrets, volumes, memory
limit, grace period). Admission, scheduling, network policies, service accounts and the job around the pod are not.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from tests import sample_documents as documents
from tests.containers.engine import Engine
from tests.containers.pools import PREFECT_INSIDE, Pool, deployed
from tests.containers.site import Site
from tests.deployments.kubernetes_job import TEMPLATE, job_of
from tests.waiting import until

_SECRETS = ("UPSTAGE_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def pool(services: Site, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool without a worker, and the secret that the template refers to."""
    # Podman's form of a Kubernetes secret. Its name is the whole storage's, where nobody else's containers are.
    data = {name: base64.b64encode(services.inside[name].encode()).decode() for name in _SECRETS}
    engine.tried("secret", "rm", "bulk-ocr")
    engine.podman("secret", "create", "bulk-ocr", "-", stdin=json.dumps(data).encode())
    yield deployed(services, tmp_path_factory.mktemp("pods"), "pods", "kubernetes", TEMPLATE)
    engine.tried("secret", "rm", "bulk-ocr")


def test_a_pod_that_is_evicted_is_rescheduled_and_the_next_finishes(pool: Pool, tmp_path: Path) -> None:
    engine, api = pool.services.engine, pool.services.api()
    pool.place.put({f"{number}.pdf": documents.text_pdf([f"pod {number}"]) for number in range(8)})
    before = api.requests()
    run = pool.start()
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 2})
    first = _play(pool, run, tmp_path)
    try:
        until(lambda: pool.place.records("open"), "a claim")
        container = engine.inspect(f"{first}-prefect-job")
        assert container["HostConfig"]["ReadonlyRootfs"] is True
        assert container["Config"]["User"] == "10001:10001"
        assert not container["EffectiveCaps"]
        assert container["HostConfig"]["Memory"] == 2 * 1024**3
        assert pool.services.inside["UPSTAGE_API_KEY"] not in json.dumps(_manifest(pool, run))
        # As a kubelet does it: the pod's network ends after its containers. `podman pod stop` takes it from them first.
        engine.podman("stop", "--time", "120", f"{first}-prefect-job")
    finally:
        api.reset()
        _remove(engine, first)
    assert pool.ground.state(run)["type"] == "SCHEDULED"
    assert pool.posting() == []
    second = _play(pool, run, tmp_path)
    try:
        assert pool.end(run)["type"] == "COMPLETED"
    finally:
        _remove(engine, second)
    assert len(pool.place.records("done")) == 8
    assert api.requests() - before - 8 <= pool.counted()


def _manifest(pool: Pool, run: str) -> dict[str, Any]:
    plain = {name: value for name, value in pool.services.inside.items() if name not in _SECRETS}
    flow_run = FlowRun.model_validate(pool.ground.call("GET", f"flow_runs/{run}"))
    return job_of(flow_run, api_url=PREFECT_INSIDE, env=plain)


def _play(pool: Pool, run: str, folder: Path) -> str:
    """Play the pod of a flow run's job. Gives the pod's name."""
    name = f"{pool.services.network}-pod"
    template = _manifest(pool, run)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": name},
        "spec": template["spec"],
    }
    (folder / "pod.json").write_text(json.dumps(pod))
    pool.services.engine.podman("kube", "play", "--network", pool.services.network, str(folder / "pod.json"))
    return name


def _remove(engine: Engine, pod: str) -> None:
    engine.tried("pod", "rm", "--force", "--time", "5", pod)
    engine.tried("volume", "rm", "--force", "scratch")  # its emptyDir
