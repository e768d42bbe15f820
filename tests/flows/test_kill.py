"""SIGKILL to a real run, at each step and at random moments; then the same run again.

Every document ends done, results are byte for byte those of an undisturbed run, and the API is billed once a page.
The one exception is counted: a run killed between the POST and its record leaves a job that says so.
"""

import hashlib
import json
import random
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from deployments.local.stack import LocalStack
from tests import sample_documents as documents
from tests.command_server import Process
from tests.flows.conftest import FAST, Command, Place, Start, report_of
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE

OPTIONS = (*FAST, "--lease-seconds", "1", "--workers", "2")
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
    Step("close", {"method": "PUT", "path": "_jobs/open/", "body": b'"closed": ?"'}),
    Step("delete", {"method": "DELETE", "path": "_jobs/open/"}),
]
# Killed when the POST has been answered, or while its record is on the way: what it cost cannot be known.
UNKNOWN = {("post", "after"), ("record", "before")}


@pytest.fixture
def gateways(stack: LocalStack, api: StandInControl) -> Iterator[tuple[FlakyS3, FlakyS3]]:
    """Proxies in front of S3 and of the API, its storage host included."""
    with FlakyS3(stack.s3_url) as s3, FlakyS3(stack.upstage_url) as upstage:
        api.set(storage_base_url=upstage.url)
        yield s3, upstage


class Doomed:
    """A command that is killed at a call it makes."""

    def __init__(self) -> None:
        self._process: Future[Process] = Future()

    def kill(self) -> None:
        """Kill it, and return when it is gone; for the proxy to call."""
        process = self._process.result(PATIENCE)
        process.kill()
        process.wait(PATIENCE)

    def run(self, process: Process) -> int:
        """Let it run until it ends. Gives its exit status."""
        self._process.set_result(process)
        return process.wait(PATIENCE)


def _killing(doomed: Doomed, moment: str, **call: Any) -> Rule:
    """A rule that kills a command before a call of its is forwarded, or once it was and before the answer."""
    return Rule("pass", **call, after=doomed.kill) if moment == "after" else Rule("refuse", **call, before=doomed.kill)


def _variables(gateways: tuple[FlakyS3, FlakyS3]) -> Mapping[str, str]:
    return {"AWS_ENDPOINT_URL_S3": gateways[0].url, "UPSTAGE_BASE_URL": f"{gateways[1].url}/v1"}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_run_killed_at_any_step_loses_nothing_and_pays_once(
    step: Step,
    moment: str,
    start: Start,
    gateways: tuple[FlakyS3, FlakyS3],
    place: Place,
    api: StandInControl,
) -> None:
    body = documents.text_pdf([f"{step.name} {moment}", *TEXTS])
    place.put({"a.pdf": body})
    arguments = ("run", place.source, place.destination, *OPTIONS, "--json")
    first = Doomed()
    gateways[step.at_api].fail(_killing(first, moment, **step.rule))
    assert first.run(start(*arguments, **_variables(gateways))) == -signal.SIGKILL, "the run never came to this step"

    report = report_of(second := start(*arguments, **_variables(gateways)).completed(PATIENCE))
    assert second.returncode == 0, second.stderr
    assert report["documents"] == 1
    assert report["done"] + report["skipped"] == 1
    # Killed in the middle of closing, it leaves a closed record, which a later pass deletes.
    assert all(record["closed"] for record in place.records("open"))
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
    seed: int,
    start: Start,
    command: Command,
    gateways: tuple[FlakyS3, FlakyS3],
    place: Place,
    api: StandInControl,
) -> None:
    """Random moments over many documents at once: at any call to S3 or to the API, however long it takes to come."""
    draw = random.Random(seed)
    given = {
        f"{number:02}.pdf": documents.text_pdf([f"kill {seed} {number}.{page}" for page in range(12)])
        for number in range(10)
    }
    place.put(given)
    api.set(seconds_per_page=0.002)
    arguments = ["run", place.source, place.destination, *FAST, "--lease-seconds", "1"]
    kills = 0
    for _ in range(4):
        at_api = draw.random() < 0.3
        skip = draw.randrange(3, 25) if at_api else draw.randrange(12, 100)  # a run makes some 60 and 200 calls
        doomed = Doomed()
        rule = gateways[at_api].fail(_killing(doomed, draw.choice(["before", "after"]), skip=skip))
        kills += doomed.run(start(*arguments, **_variables(gateways))) == -signal.SIGKILL
        rule.times = 0
    assert kills > 1, "most runs were cut off"
    report = report_of(command(*arguments, "--json"))
    assert report["documents"] == 10
    assert report["done"] + report["skipped"] == 10, report
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
