"""SIGKILL to a real run, at each step and at random moments; then the same run again.

Every document ends done, results are byte for byte those of an undisturbed run, and the API is billed once a page.
The one exception is counted: a run killed between the POST and its record leaves a job that says so.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from deployments.local.stack import LocalStack
from tests import documents
from tests.flows import forked
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule

OPTIONS: dict[str, Any] = {
    "requests_per_second": 500,
    "pages_per_minute": 1_000_000,
    "poll_seconds": 0.05,
    "lease_seconds": 1,
    "workers": 2,
}
TEXTS = [f"kill {page}" for page in range(1, 13)]


@dataclass
class Step:
    """A step of a job, as the network shows it."""

    name: str
    rule: dict[str, Any]
    at_api: bool = False


STEPS = [
    Step("claim", {"method": "PUT", "path": "_jobs/open/", "body": b'"doing": ?"reading"'}),
    Step("read", {"method": "GET", "path": "/in/"}),
    Step("posting", {"method": "PUT", "path": "_jobs/open/", "body": b'"doing": ?"posting"'}),
    Step("post", {"method": "POST", "path": "/async"}, at_api=True),
    Step("record", {"method": "PUT", "path": "_jobs/open/", "body": b'"requests": ?\\[\\s*\\{'}),
    Step("poll", {"method": "GET", "path": "/requests/"}, at_api=True),
    Step("collecting", {"method": "PUT", "path": "_jobs/open/", "body": b'"doing": ?"collecting"'}),
    Step("download", {"method": "GET", "path": "/storage/", "skip": 1}, at_api=True),
    Step("publish", {"method": "PUT", "path": r"/out/.*\.ocr\.json"}),
    Step("done", {"method": "PUT", "path": "_jobs/done/"}),
    Step("close", {"method": "PUT", "path": "_jobs/open/", "body": b'"doing": ?"closed"'}),
    Step("delete", {"method": "DELETE", "path": "_jobs/open/"}),
]
# Killed when the POST has been answered, or while its record is on the way: what it cost cannot be known.
UNKNOWN = {("post", "after"), ("record", "before")}


@pytest.fixture(scope="module")
def forkserver(environment: dict[str, str]) -> ForkServerContext:
    return forked.context(environment)


@pytest.fixture
def gateways(stack: LocalStack, api: StandInControl) -> Iterator[tuple[FlakyS3, FlakyS3]]:
    """Proxies in front of S3 and of the API, its storage host included."""
    with FlakyS3(stack.s3_url) as s3, FlakyS3(stack.upstage_url) as upstage:
        api.set(storage_base_url=upstage.url)
        yield s3, upstage


def _variables(gateways: tuple[FlakyS3, FlakyS3]) -> Mapping[str, str]:
    return {"AWS_ENDPOINT_URL_S3": gateways[0].url, "UPSTAGE_BASE_URL": f"{gateways[1].url}/v1"}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_run_killed_at_any_step_loses_nothing_and_pays_once(
    step: Step,
    moment: str,
    forkserver: ForkServerContext,
    gateways: tuple[FlakyS3, FlakyS3],
    place: Place,
    api: StandInControl,
    tmp_path: Path,
) -> None:
    body = documents.text_pdf([f"{step.name} {moment}", *TEXTS])
    place.put({"a.pdf": body})
    arguments = (_variables(gateways), place.source, place.destination, OPTIONS)
    killed = threading.Event()

    def kill() -> None:
        if process.pid is not None and not killed.is_set():
            killed.set()
            os.kill(process.pid, signal.SIGKILL)
            wait([process.sentinel], 30)  # not `join`: only one thread may ask for the exit status

    rule = Rule("pass", **step.rule, after=kill) if moment == "after" else Rule("refuse", **step.rule, before=kill)
    gateways[step.at_api].fail(rule)
    process = forked.start_backfill(forkserver, *arguments, tmp_path / "first.json")
    process.join(60)
    assert killed.is_set(), "the run never came to this step"
    assert process.exitcode == -signal.SIGKILL

    second = forked.start_backfill(forkserver, *arguments, tmp_path / "second.json")
    second.join(60)
    assert second.exitcode == 0
    report = json.loads((tmp_path / "second.json").read_text())
    assert report["documents"] == 1
    assert report["done"] + report["skipped"] == 1
    # Killed in the middle of closing, it leaves a closed record, which a later pass deletes.
    assert [each["lease"]["doing"] for each in place.records("open")] in ([], ["closed"])
    (record,) = place.records("done")
    result = json.loads(place.results()["a.pdf.ocr.json"])
    assert [page["text"] for page in result["pages"]] == [f"{step.name} {moment}", *TEXTS]

    billed = len(api.billed(hashlib.sha256(body).hexdigest()))
    counted = record["job"]["possible_duplicates"]
    if (step.name, moment) in UNKNOWN:
        assert (billed, counted, report["possible_duplicates"]) == (2, 1, 1), "paid twice, and said so"
    elif (step.name, moment) in {("posting", "after"), ("post", "before")}:
        assert (billed, counted) == (1, 1), "not paid twice, but nobody can know"
    else:
        assert (billed, counted) == (1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    seed: int, environment: dict[str, str], command: Command, place: Place, api: StandInControl
) -> None:
    """Random moments over many documents at once, with the command itself."""
    draw = random.Random(seed)
    given = {
        f"{number:02}.pdf": documents.text_pdf([f"kill {seed} {number}.{page}" for page in range(12)])
        for number in range(10)
    }
    place.put(given)
    api.set(seconds_per_page=0.002)
    arguments = ["run", place.source, place.destination, *FAST, "--lease-seconds", "1"]
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Work begins some three seconds after the start; from then on, any moment.
        try:
            process.wait(draw.uniform(2.5, 4.5))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait(30)
    report = report_of(command(*arguments, "--json"))
    assert report["documents"] == 10
    assert report["done"] + report["skipped"] == 10
    assert report["failed"] == report["open"] == 0
    records = place.records("done")
    assert len(records) == 10
    counted = sum(record["job"]["possible_duplicates"] for record in records)
    billed = len(api.billed(*(hashlib.sha256(body).hexdigest() for body in given.values())))
    assert 10 <= billed <= 10 + counted, "every submission beyond one a document is counted"
    calm = command("run", place.source, f"s3://{place.bucket}/calm", *FAST, "--json")
    assert report_of(calm)["done"] == 10
    for key, result in place.results().items():
        assert place.s3.get_object(Bucket=place.bucket, Key=f"calm/{key}")["Body"].read() == result
