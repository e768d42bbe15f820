"""The compose file whole, from the README's commands to results; containers that die, and volumes that stay."""

import contextlib
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, UPSTAGE_KEY
from tests import prefect_api
from tests import sample_documents as documents
from tests.containers.compose import Compose, installation, readme_commands, require_compose
from tests.containers.engine import Engine, EngineMissing
from tests.containers.images import OWN, make_databases
from tests.stand_in import StandInControl
from tests.waiting import until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PREFECT, S3, UPSTAGE = "PREFECT_PORT", "S3_PORT", "UPSTAGE_PORT"
_SAMPLES = 8  # that deployments/docker/seed.py uploads
_DOCUMENTS, _PAGES = 4, 2


class Installation:
    """The running stack as the tests see it: its ports, its buckets, its bill."""

    def __init__(self, compose: Compose, ports: dict[str, int]) -> None:
        self.compose = compose
        self.prefect_url = f"http://127.0.0.1:{ports[PREFECT]}"
        self.upstage_url = f"http://127.0.0.1:{ports[UPSTAGE]}"
        self.s3: S3Client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{ports[S3]}",
            region_name=REGION,
            aws_access_key_id=S3_ACCESS_KEY,
            aws_secret_access_key=S3_SECRET_KEY,
        )

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="bulk-ocr", Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def until_done(self, expected: int) -> None:
        """Wait for so many results. Each has its own time: the stand-in recognises scans in earnest."""
        for count in range(1, expected + 1):
            until(partial(self._has_done, count), f"result {count} of {expected}")

    def _has_done(self, count: int) -> bool:
        return len(self.keys("ocr/_jobs/done/")) >= count

    def record(self, key: str) -> dict[str, Any]:
        """An object that holds JSON."""
        found: dict[str, Any] = json.loads(self.s3.get_object(Bucket="bulk-ocr", Key=key)["Body"].read())
        return found

    def runs(self) -> Counter[str]:
        """States of the flow runs that are no more scheduled."""
        found = prefect_api.call(self.prefect_url, "POST", "flow_runs/filter", {})
        return Counter(run["state"]["type"] for run in found if run["state"]["type"] != "SCHEDULED")

    def bill(self) -> Counter[str]:
        """How often each document was billed."""
        return Counter(row["sha256"] for row in StandInControl(self.upstage_url, UPSTAGE_KEY).billed())


@pytest.fixture(scope="module")
def installed(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The stack of the README, by its commands."""
    try:
        require_compose()
    except EngineMissing as error:
        pytest.skip(str(error))
    ports = _free_ports(PREFECT, S3, UPSTAGE)
    settings = {"COMPOSE_PROJECT_NAME": f"bulk-ocr-{os.getpid()}", **{name: str(port) for name, port in ports.items()}}
    make_databases(images)
    with installation(images, tmp_path_factory.mktemp("compose"), settings) as compose:
        yield Installation(compose, ports)


def test_the_commands_of_the_readme_lead_from_nothing_to_results(installed: Installation) -> None:
    commands = readme_commands()
    assert commands[0] == "cd deployments/docker"
    assert commands[-1].startswith("docker compose down")
    for command in commands[1:-2]:
        installed.compose.shell(command)
    installed.until_done(_SAMPLES)
    assert f"{_SAMPLES} done, 0 failed, 0 open" in installed.compose.shell(commands[-2])
    assert max(installed.bill().values()) == 1
    assert len(installed.bill()) == _SAMPLES


def test_a_worker_killed_and_a_database_restarted_lose_nothing(installed: Installation) -> None:
    compose, engine = installed.compose, installed.compose.engine
    for number in range(_DOCUMENTS):
        body = documents.text_pdf([f"crash {number} page {page}" for page in range(_PAGES)])
        installed.s3.put_object(Bucket="bulk-ocr", Key=f"scans/crash/{number}.pdf", Body=body)
    # The schedules of prefect.yaml are at work: submit sends these within a minute or two.
    until(lambda: installed.keys("ocr/_jobs/open/"), "an open job")
    container = compose.container("worker")
    before = engine.inspect(container)
    # As the kernel does it for want of memory. `podman kill` would count as stopped by hand.
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    until(lambda: engine.inspect(container)["State"]["StartedAt"] != before["State"]["StartedAt"], "another start")
    compose.shell("docker compose restart --timeout 20 postgres")
    installed.until_done(_SAMPLES + _DOCUMENTS)
    # A record of a job is deleted after its result is on record.
    until(lambda: not installed.keys("ocr/_jobs/open/"), "the last claim's end")
    assert installed.keys("ocr/_jobs/failed/") == []
    records = [installed.record(key) for key in installed.keys("ocr/_jobs/done/")]
    counted = sum(record["job"]["possible_duplicates"] for record in records)
    twice = sum(times - 1 for times in installed.bill().values())
    assert twice <= counted
    for number in range(_DOCUMENTS):
        pages = installed.record(f"ocr/crash/{number}.pdf.ocr.json")["pages"]
        assert [page["id"] for page in pages] == list(range(_PAGES))


def test_volumes_survive_down(installed: Installation) -> None:
    done, bill = len(installed.keys("ocr/_jobs/done/")), installed.bill()
    runs = installed.runs()["COMPLETED"]
    assert runs
    installed.compose.shell("docker compose down")
    assert installed.compose.engine.tried("container", "exists", installed.compose.container("prefect")).returncode == 1
    installed.compose.shell("docker compose up --build --detach --wait")
    assert len(installed.keys("ocr/_jobs/done/")) == done
    assert installed.bill() == bill
    assert installed.runs()["COMPLETED"] >= runs


def test_a_port_in_use_is_told_in_one_sentence(engine: Engine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = engine.tried("run", "--rm", f"--publish=127.0.0.1:{port}:8080", OWN["worker"], "true")
    assert refused.returncode != 0
    assert "address already in use" in refused.stderr


def _free_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as probes:
        ports = {}
        for name in names:
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports[name] = probe.getsockname()[1]
        return ports
