"""The ground a scenario is played on: real S3, real stand-in, both behind something that can fail."""

import functools
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tasks.context import RunContext
from tasks.job.record import Document
from tasks.store.objects import Objects
from tasks.upstage.limits import Limits
from tests.fakes import FakeClock
from tests.sample_documents import tiff
from tests.stand_in import StandInControl
from tests.steps.conftest import World, pdf, sha
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE
from tests.weather.gate import Gate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Way = Literal["direct", "gate", "proxy"]
THREADS = 4
_LIMITS = Limits(pages=20, megabytes=50, pixels=200_000_000)  # so that the longest documents are two requests


def connect(url: str) -> "S3Client":
    """A client that repeats no call by itself."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=S3_ACCESS_KEY,
        aws_secret_access_key=S3_SECRET_KEY,
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


@functools.cache
def bodies() -> dict[str, bytes]:
    """Twelve documents: of one page, of two batches, of two requests, and TIFFs."""
    made = {f"single-{n}.pdf": pdf(1, f"single {n}") for n in range(1, 5)}
    made |= {f"middling-{n}.pdf": pdf(11, f"middling {n}") for n in range(1, 4)}
    made |= {f"long-{n}.pdf": pdf(21, f"long {n}") for n in range(1, 4)}
    made |= {f"scan-{n}.tif": tiff([f"frame {frame} of scan {n}" for frame in range(n)]) for n in (3, 12)}
    return made


@dataclass(frozen=True)
class Ground:
    """Where things are.

    Attributes:
        s3: a client for arranging and asserting.
        s3_url: the S3 server.
        api: the stand-in's control plane.
        requests: the folder in which the stand-in keeps its requests: the truth about what it took and delivered.
    """

    s3: "S3Client"
    s3_url: str
    api: StandInControl
    requests: Path


class Weather:
    """One scenario's world: its documents, its clock, its bill, and the hand that makes things fail.

    Args:
        ground: where things are.
        way: how the API is reached: `direct`, through a `gate` that can be closed, or through a `proxy` whose
            rules can lose answers.
        closing: ends what is started here.
    """

    def __init__(self, ground: Ground, way: Way, closing: ExitStack) -> None:
        bucket = f"weather-{uuid.uuid4().hex[:12]}"
        ground.s3.create_bucket(Bucket=bucket)
        self.clock = FakeClock(datetime.now(UTC))
        self.api = ground.api
        self.api.reset()
        closing.callback(self.api.reset)
        self.world = World(ground.s3, bucket, self.api, self.clock)
        self._s3_url = ground.s3_url
        self._s3: FlakyS3 | None = None
        self._s3_calls: list[None] = []
        self._closing = closing
        self.front = closing.enter_context(FlakyS3(self.api.url)) if way == "proxy" else None
        self.gate = closing.enter_context(Gate(self.api.url)) if way == "gate" else None
        entrance = self.front or self.gate
        self._base_url = f"{entrance.url}/v1" if entrance else self.api.base_url
        self._requests = ground.requests
        self._before = {path.name for path in ground.requests.glob("*.json")}
        self._finished: set[str] = set()
        self._rule_hits: Counter[int] = Counter()
        self.forgotten: set[str] = set()
        self.refusals = 0
        self.documents = [self.world.put(body, f"in/{name}") for name, body in bodies().items()]

    def context(self, s3_attempts: int, options: dict[str, Any]) -> RunContext:
        """A worker."""
        client = connect(self._s3.url if self._s3 else self._s3_url)
        client.meta.events.register("before-send.s3", self._count_s3)
        objects = Objects(client, self.clock, s3_attempts)
        # A poll is put off by so long at most, as told by the store's clock, which no test can turn forward.
        unbounded = {"longest_poll_seconds": 1e9}
        context = self.world.context(objects=objects, **({"limits": _LIMITS} | unbounded | options))
        context.base_url = self._base_url
        return context

    def sha(self, name: str) -> str:
        """How the stand-in's rules name a document that goes whole."""
        return sha(bodies()[name])

    def fail(self, *rules: dict[str, Any]) -> None:
        """Put these rules in force at the stand-in, instead of those before."""
        self._count_rules()
        self.api.fail(*rules)

    def fail_s3(self, *rules: Rule) -> None:
        """Put these rules in force in front of S3; before the first worker comes."""
        self._s3 = self._s3 or self._closing.enter_context(FlakyS3(self._s3_url))
        for rule in rules:
            self._s3.fail(rule)

    def _count_s3(self, **_: object) -> None:
        self._s3_calls.append(None)  # every attempt; appending is safe between threads

    def open_gate(self) -> None:
        """Let the API be reached."""
        assert self.gate is not None, "this scenario needs the way 'gate'"
        self.gate.open()

    def close_gate(self) -> None:
        """Let connections to the API be refused."""
        assert self.gate is not None, "this scenario needs the way 'gate'"
        self.gate.close()

    def lose(self, *rules: Rule) -> None:
        """Put these rules in force in front of the API."""
        assert self.front is not None, "this scenario needs the way 'proxy'"
        for rule in rules:
            self.front.fail(rule)

    def forget(self, share: int) -> None:
        """Let the API forget every so many-th of the requests it has."""
        gone = sorted(request["id"] for request in self.requests())[::share]
        self.forgotten |= set(gone)
        self.fail({"action": "status", "status": 404, "path": f"/requests/({'|'.join(gone)})$", "times": -1})

    def requests(self) -> list[dict[str, Any]]:
        """The requests of this scenario that the stand-in took, and billed, as it keeps them."""
        return [json.loads((self._requests / name).read_bytes()) for name in self._names()]

    def _names(self) -> list[str]:
        return sorted({path.name for path in self._requests.glob("*.json")} - self._before)

    def settle(self) -> None:
        """Wait until the stand-in has nothing left to work on, so that the number of polls says nothing of speed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            waiting = [name for name in self._names() if name not in self._finished]
            for name in waiting:
                request = json.loads((self._requests / name).read_bytes())
                if request["status"] in ("completed", "failed") or request["hangs"]:
                    self._finished.add(name)
            if self._finished.issuperset(waiting):
                return
            assert time.monotonic() < deadline, "the stand-in does not finish"
            time.sleep(0.005)  # it works in real time

    def _count_rules(self) -> None:
        for rule in self.api._call("GET", "faults"):  # the control has no method of its own for this
            self._rule_hits[rule["status"] if rule["action"] == "status" else 0] += rule["hits"]

    def hits(self) -> int:
        """How often the weather struck: rules, refusals of the API's own, batches and requests that went wrong."""
        self._count_rules()
        self.api.fail()
        statuses = self.api._call("GET", "calls")["statuses"]
        refused = sum(max(0, int(statuses.get(str(code), 0)) - self._rule_hits[code]) for code in (401, 403, 404))
        struck = sum(rule.hits for proxy in (self._s3, self.front) if proxy for rule in proxy.rules)
        struck += sum(self._rule_hits.values()) + refused
        for request in self.requests():
            fates = [batch["fate"] for batch in request["batches"] or ()]
            struck += sum(fate != "plain" for fate in fates) + int(request["hangs"])
            struck += request["status"] == "failed" and "failed" not in fates
        if self.gate:
            struck += len(self.clock.slept)  # nobody is there to count, but every refused attempt is waited after
        return struck

    def calls(self) -> tuple[int, int]:
        """The calls so far: to the API and its storage host, and to S3."""
        return sum(self.api.calls().values()), len(self._s3_calls)


Act = Callable[[Weather], object]


def undelivered(request: dict[str, Any], weather: Weather) -> int:
    """The pages of a request that were billed and could not be had, by the stand-in's own records."""
    if request["id"] in weather.forgotten or request["hangs"] or request["batches"] is None:
        return int(request["pages"])
    bad = [b for b in request["batches"] if b["fate"] in ("failed", "dropped", "short") or b["status"] != "completed"]
    delivered = sum(int(b["end_page"] - b["start_page"] + 1) for b in request["batches"] if b not in bad)
    return int(request["pages"]) - delivered


def by_document(weather: Weather) -> dict[str, Document]:
    """The documents by the stem that the API is told."""
    return {document.key.rpartition("/")[2].rpartition(".")[0]: document for document in weather.documents}
