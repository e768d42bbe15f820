"""A backfill of one place on several workers, as a team with several machines runs it, and what came of it."""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from deployments.local.stack import LocalStack
from tests import sample_documents as documents
from tests.deployed.ground import FAST_OPTIONS, POOL, Ground, places
from tests.flows.conftest import FAST, Place
from tests.machines.servers import Servers
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PAGES = 4
_UPLOAD_SECONDS = 0.5  # what a submission takes: the network between a worker and the API is what workers share out
_THREADS = 2
_LEASE_SECONDS = 15


@dataclass(frozen=True)
class Measured:
    """What a backfill did.

    Attributes:
        seconds: from the start of the runs until all of them had ended, a killed worker's documents included.
        lost: documents without a result of all their pages.
        billed_twice: documents that the API was paid for more than once.
        counted: submissions that the ledger says may have been paid for twice.
        left: documents that were not done when the runs had ended whose worker was alive.
    """

    seconds: float
    lost: int
    billed_twice: int
    counted: int
    left: int


def machines(servers: Servers, stack: LocalStack, folder: Path, count: int) -> list[Ground]:
    """Machines with a home of their own each, in turn at one API server and the other, and a work pool for them."""
    grounds = []
    for number in range(count):
        home = folder / f"machine-{number + 1}"
        home.mkdir(parents=True)
        url = servers.apis[number % len(servers.apis)]
        more = {"PREFECT_API_URL": f"{url}/api", "PREFECT_HOME": str(home / "prefect")}
        grounds.append(Ground(stack.process_environment() | more, url, home))
    made = grounds[0].prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    assert made.returncode == 0, made.stdout + made.stderr
    return grounds


def play(grounds: list[Ground], s3: "S3Client", api: StandInControl, count: int, *, kill: bool = False) -> Measured:
    """Run one backfill, a shard on each machine; with `kill`, the first worker dies when a third is at the API."""
    place = _place(s3, count)
    name = f"backfill-{uuid.uuid4().hex[:8]}"
    settings: dict[str, Any] = {
        "shards": len(grounds),
        "options": {**FAST_OPTIONS, "workers": _THREADS, "lease_seconds": _LEASE_SECONDS},
    }
    deployed = grounds[0].deploy(places({name: place}, {name: settings}))
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    api.fail(
        {"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": _UPLOAD_SECONDS}
    )
    with contextlib.ExitStack() as running:
        # One run each: whichever worker asks first would take several.
        workers = [running.enter_context(ground.worker(POOL, "--limit", "1")) for ground in grounds]
        until(lambda: _ready(grounds[0], len(grounds)), "the workers")
        began = time.monotonic()
        shards = [f"-{number}-of-{len(grounds)}" for number in range(1, len(grounds) + 1)] if len(grounds) > 1 else [""]
        runs = [grounds[0].start(f"backfill-{name}{shard}") for shard in shards]
        if kill:
            until(lambda: len(place.keys("out/_jobs/")) > count / 3, "a third of the documents")
            runs.remove(_kill(workers[0]))
        for run in runs:
            _await_end(grounds[-1], run)
        left = count - len(place.records("done"))
        if kill:
            _go_on(grounds[-1], place)
        seconds = time.monotonic() - began
    api.reset()
    return _measured(place, api, count, seconds, left)


def collect_nothing(ground: Ground, s3: "S3Client", times: int) -> None:
    """Run `collect` as its schedule does where no job is open."""
    place = _place(s3, 0)
    deployed = ground.deploy(places({"idle": place}))
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    with ground.worker(POOL, "--limit", "1"):
        for _ in range(times):
            _await_end(ground, ground.start("collect-idle"))


def _await_end(ground: Ground, run: str) -> None:
    until(lambda: ground.state(run)["type"] not in ("SCHEDULED", "PENDING", "RUNNING"), f"run {run}")
    assert ground.state(run)["type"] == "COMPLETED", ground.state(run)


def _place(s3: "S3Client", count: int) -> Place:
    bucket = f"machines-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    place = Place(bucket, s3)
    place.put({f"{number:04}.pdf": _document(bucket, number) for number in range(count)})
    return place


def _document(bucket: str, number: int) -> bytes:
    return documents.text_pdf([f"{bucket} {number} page {page}" for page in range(1, PAGES + 1)])


def _ready(ground: Ground, count: int) -> bool:
    found = ground.call("POST", f"work_pools/{POOL}/workers/filter", {})
    return len([worker for worker in found if worker["status"] == "ONLINE"]) >= count


def _kill(worker: "subprocess.Popen[bytes]") -> str:
    """End a worker and its flow run as a machine that loses its power does. Gives the id of the flow run."""
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    (flow_run,) = {process.environ().get("PREFECT__FLOW_RUN_ID") for process in family} - {None}
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=PATIENCE)
    return str(flow_run)


def _go_on(ground: Ground, place: Place) -> None:
    """What an operator does: the same again, from a machine that is alive, over all that is left."""
    command = [sys.executable, "-m", "flows.cli", "run", place.source, place.destination, "--json", *FAST]
    ran = subprocess.run(
        command,
        env=ground.environment,
        cwd=ground.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _measured(place: Place, api: StandInControl, count: int, seconds: float, left: int) -> Measured:
    results = place.results()
    whole = 0
    for number in range(count):
        pages = json.loads(results.get(f"{number:04}.pdf.ocr.json", b'{"pages": []}'))["pages"]
        expected = [f"{place.bucket} {number} page {page}" for page in range(1, PAGES + 1)]
        whole += [" ".join(page["text"].split()) for page in pages] == expected
    hashes = [hashlib.sha256(_document(place.bucket, number)).hexdigest() for number in range(count)]
    times_billed = Counter(submission["sha256"] for submission in api.billed(*hashes))
    return Measured(
        seconds=seconds,
        lost=count - whole,
        billed_twice=sum(times > 1 for times in times_billed.values()),
        counted=sum(record["job"]["possible_duplicates"] for record in place.records("done")),
        left=left,
    )
