"""Flow runs as containers of their own: a Docker work pool, as Prefect's worker starts them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import sample_documents as documents
from tests.containers.engine import Engine
from tests.containers.images import OWN, ROOT
from tests.containers.pools import PREFECT_INSIDE, Pool, deployed
from tests.containers.site import Site
from tests.waiting import until

TEMPLATE = ROOT / "deployments" / "docker" / "base-job-template.json"


@pytest.fixture(scope="module")
def pool(services: Site, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool made of the template, whose containers are on the network of the services."""
    folder = tmp_path_factory.mktemp("pool")
    template = json.loads(TEMPLATE.read_text())
    variables = template["variables"]["properties"]
    variables["networks"]["default"] = [services.network]
    scratch = f"{services.network}-scratch"
    variables["scratch_volume"]["default"] = f"{scratch}:/tmp"
    # Blocks would bring the secrets; here they are the stand-ins'.
    variables["env"]["default"] = {**services.inside, "PREFECT_API_URL": PREFECT_INSIDE}
    with engine.docker_api(folder) as socket:
        found = deployed(services, folder, "docker", "docker", template, {"DOCKER_HOST": f"unix://{socket}"})
        with found.ground.worker("docker"):
            yield found
        left = engine.podman("ps", "--all", "--quiet", "--filter", "label=io.prefect.work-pool-name=docker").split()
        engine.tried("rm", "--force", "--time", "5", *left)
        engine.tried("volume", "rm", "--force", scratch)


def test_a_flow_run_is_a_container_bounded_as_the_template_says(pool: Pool) -> None:
    pool.place.put({f"a{number}.pdf": documents.text_pdf([f"pool {number}"]) for number in range(3)})
    run = pool.start()
    assert pool.end(run)["type"] == "COMPLETED", pool.ground.log()
    assert len(pool.place.records("done")) == 3
    container = pool.services.engine.inspect(_container(pool, run))
    assert container["Config"]["User"] == "10001:10001"
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    assert container["HostConfig"]["Memory"] == 2 * 1024**3
    assert not container["EffectiveCaps"]
    assert container["HostConfig"]["Init"] is True


def test_a_run_cancelled_in_the_ui_ends_in_order_and_the_next_does_the_rest(pool: Pool) -> None:
    api = pool.services.api()
    done, before = len(pool.place.records("done")), api.requests()
    pool.place.put({f"b{number}.pdf": documents.text_pdf([f"cancel {number}"]) for number in range(12)})
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 2})
    try:
        run = pool.start()
        until(lambda: pool.place.records("open"), "a claim")
        # What the UI's button sends.
        pool.ground.call("POST", f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        assert pool.end(run)["type"] == "CANCELLED"
        container = _container(pool, run)
        until(lambda: not pool.services.engine.running(container), "the container's end")
    finally:
        api.reset()
    assert pool.posting() == []
    assert pool.end(pool.start())["type"] == "COMPLETED"
    assert len(pool.place.records("done")) == done + 12
    assert pool.place.records("open") == []
    assert api.requests() - before - 12 <= pool.counted()


def test_a_run_without_enough_memory_is_a_crash_that_names_the_exit_code(pool: Pool) -> None:
    run = pool.start(mem_limit="48m")
    state = pool.end(run)
    assert state["type"] == "CRASHED"
    assert "137" in state["message"]
    assert pool.services.engine.inspect(_container(pool, run))["State"]["ExitCode"] == 137


def test_an_image_that_is_missing_is_named(pool: Pool) -> None:
    image = f"{OWN['worker'].split(':')[0]}:9.9.9"
    state = pool.end(pool.start(image=image))
    assert state["type"] == "CRASHED"
    assert image in state["message"]


def test_a_worker_without_an_engine_says_so(services: Site, tmp_path: Path) -> None:
    template = json.loads(TEMPLATE.read_text())
    pool = deployed(services, tmp_path, "no-engine", "docker", template, {"DOCKER_HOST": "unix:///nowhere.sock"})
    with pool.ground.worker("no-engine"):
        state = pool.end(pool.start())
        assert state["type"] == "CRASHED"
        assert "Could not connect to Docker" in state["message"] + pool.ground.log()


def _container(pool: Pool, run: str) -> str:
    of_run = f"label=io.prefect.flow-run-id={run}"
    return pool.services.engine.podman("ps", "--all", "--quiet", "--filter", of_run)
