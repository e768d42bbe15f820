"""What the runs are measured on: the local stack, a bucket of documents, and the processor time of every process."""

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psutil

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, UPSTAGE_KEY, LocalStack, ServiceName
from tasks.job.record import DoneJob
from tests import prefect_api, sample_documents
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_WORDS = ("invoice", "amount", "total", "delivery", "street", "contract", "number", "signed", "account", "balance")
_SETTLE_SECONDS = 4.0  # longer than the server waits for a batch to fill
_LOOK_SECONDS = 0.5
_QUIET: Mapping[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_RATE = "--requests-per-second"
_UNLIMITED = (_RATE, "10000", "--pages-per-minute", "10000000")


@dataclass(frozen=True)
class Measured:
    """One run of one entrant.

    Attributes:
        documents: how many results there are.
        seconds: from the start of the process to its end.
        client: processor seconds of the entrant and its children.
        services: processor seconds of each service meanwhile.
        peak: the most memory of the entrant, in MB.
        after: seconds from the last result to the end of the process.
    """

    documents: int
    seconds: float
    client: float
    services: Mapping[str, float]
    peak: float
    after: float

    def cpu(self, process: str) -> float:
        """Processor milliseconds a document: of `client`, or of a service."""
        seconds = self.client if process == "client" else self.services.get(process, 0.0)
        return 1000 * seconds / max(1, self.documents)

    @property
    def rate(self) -> float:
        """Documents a second."""
        return self.documents / self.seconds


@dataclass(frozen=True)
class Killed:
    """What became of documents after SIGKILL at a third of the way, and a second run.

    Attributes:
        entrant: what was killed.
        documents: how many there were.
        lost: documents without a result.
        paid_twice: pages that were billed more often than once.
    """

    entrant: str
    documents: int
    lost: int
    paid_twice: int


class Ground:
    """A running stack, and buckets of documents on it.

    Args:
        folder: for everything that is kept.
        prefect: whether a Prefect server runs as well; the runs start one of their own otherwise.
    """

    def __init__(self, folder: Path, *, prefect: bool = True) -> None:
        services: tuple[ServiceName, ...] = ("s3", "upstage", "prefect") if prefect else ("s3", "upstage")
        self.stack = LocalStack(folder, recogniser="text", services=services)
        self.stack.start()
        self.control = StandInControl(self.stack.upstage_url, UPSTAGE_KEY)
        self.s3: S3Client = boto3.client(
            "s3",
            endpoint_url=self.stack.s3_url,
            region_name=REGION,
            aws_access_key_id=S3_ACCESS_KEY,
            aws_secret_access_key=S3_SECRET_KEY,
        )

    def close(self) -> None:
        """Stop the stack."""
        self.stack.stop()

    def bucket(self, documents: int, pages: int, words: int = 200) -> str:
        """A new bucket with documents, no two of the same bytes."""
        name = f"bench-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        chance = random.Random(7)
        body = sample_documents.text_pdf(
            [
                "\n".join(" ".join(chance.choices(_WORDS, k=10)) for _ in range(max(1, words // 10)))
                for _ in range(pages)
            ]
        )
        for number in range(documents):
            # A comment after the end: other bytes, the same document.
            self.s3.put_object(Bucket=name, Key=f"in/{number:06}.pdf", Body=body + f"\n%{name}-{number}\n".encode())
        return name

    def yardstick(self, bucket: str, workers: int) -> Measured:
        """Measure the plain script."""
        command = [sys.executable, "-m", "tests.bench.runs.yardstick", bucket, str(workers)]
        return self._measure(command, bucket, "plain/")

    def entrant(
        self,
        bucket: str,
        workers: int,
        *options: str,
        s3_url: str | None = None,
        statuses: Sequence[int] = (0,),
    ) -> Measured:
        """Measure `bulk-ocr run`, without rate limits unless options say otherwise."""
        return self._measure(
            run_command(bucket, workers, *options),
            bucket,
            "out/",
            {"AWS_ENDPOINT_URL_S3": s3_url} if s3_url else {},
            statuses,
        )

    def peer(self, name: str, bucket: str, workers: int) -> Measured:
        """Measure a peer of `tests.bench.runs.peers`."""
        return self._measure(_peer(name, bucket, workers), bucket, "plain/")

    def fleet(self, bucket: str, workers: int, processes: int) -> Measured:
        """Measure several processes that run `bulk-ocr run` at once, each over its shard of the documents."""
        environment = self.stack.process_environment()
        before, began = self._services(), time.monotonic()
        commands = [run_command(bucket, workers, *options) for options in shard_options(processes)]
        started = [subprocess.Popen(command, env=environment, **_QUIET) for command in commands]
        used = [os.wait4(process.pid, 0)[2] for process in started]
        seconds, after, ended = time.monotonic() - began, self._services(), time.time()
        written = self._written(bucket, "out/")
        return Measured(
            documents=len(written),
            seconds=seconds,
            client=sum(usage.ru_utime + usage.ru_stime for usage in used),
            services={name: after[name] - before[name] for name in before},
            peak=max(usage.ru_maxrss for usage in used) / 1024,
            after=ended - max(written, default=ended),
        )

    def killed(self, entrant: str, documents: int, pages: int, workers: int) -> Killed:
        """Kill an entrant with SIGKILL when a third of the results are there, run it again, and count.

        Args:
            entrant: `bulk-ocr run`, or the name of a peer.
            documents: how many.
            pages: of each.
            workers: of the entrant.
        """
        bucket = self.bucket(documents, pages)
        ours = entrant == "bulk-ocr run"
        command = run_command(bucket, workers) if ours else _peer(entrant, bucket, workers)
        prefix = "out/" if ours else "plain/"
        billed = len(self.control.billed())
        environment = self.stack.process_environment()
        process = subprocess.Popen(command, env=environment, **_QUIET)
        while process.poll() is None and self.results(bucket, prefix) < documents / 3:
            time.sleep(_LOOK_SECONDS)  # between bounded looks; S3 tells nobody
        process.kill()
        process.wait()
        subprocess.run(command, env=environment, **_QUIET, check=False)
        sent = sum(each["pages"] for each in self.control.billed(since=billed))
        return Killed(entrant, documents, documents - self.results(bucket, prefix), sent - documents * pages)

    def done(self, bucket: str) -> list[DoneJob]:
        """The records of the documents that are done."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="out/_jobs/done/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        bodies = (self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys)
        return [DoneJob.model_validate_json(body) for body in bodies]

    def start_up(self, bucket: str) -> dict[str, tuple[float, float]]:
        """Seconds, and processor seconds, of commands that have nothing to do."""
        source, destination = f"s3://{bucket}/in", f"s3://{bucket}/out"
        found: dict[str, tuple[float, float]] = {}
        for name, arguments in {
            "--help": ["--help"],
            "status": ["status", destination],
            "plan": ["plan", source, destination],
            "collect, with nothing to do": ["collect", destination],
        }.items():
            began = time.monotonic()
            command = [sys.executable, "-m", "flows.cli", *arguments]
            process = subprocess.Popen(command, env=self.stack.process_environment(), **_QUIET)
            usage = os.wait4(process.pid, 0)[2]
            found[name] = time.monotonic() - began, usage.ru_utime + usage.ru_stime
        return found

    def calls(self, bucket: str, workers: int, *, empty: bool = False) -> dict[str, int]:
        """The calls to S3 of a run, by method; counted by a proxy, which takes time of its own.

        Args:
            bucket: the documents.
            workers: of the run.
            empty: whether there are no documents, and the run says so.
        """
        with FlakyS3(self.stack.s3_url) as proxy:
            options = ("--allow-empty",) if empty else ()
            self.entrant(bucket, workers, *options, s3_url=proxy.url, statuses=(0, 1) if empty else (0,))
            found: dict[str, int] = {}
            for method, path in proxy.seen:
                kind = "LIST" if method == "GET" and "list-type=" in path else method
                found[kind] = found.get(kind, 0) + 1
            return found

    def results(self, bucket: str, prefix: str) -> int:
        """How many results there are."""
        return len(self._written(bucket, prefix))

    def _written(self, bucket: str, prefix: str) -> list[float]:
        """When each result was written, as S3 says."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            item["LastModified"].timestamp()
            for page in pages
            for item in page.get("Contents", [])
            if not item["Key"].startswith("out/_jobs/")
        ]

    def task_runs(self) -> int:
        """How many task runs Prefect's server has on record."""
        return int(prefect_api.call(self.stack.prefect_url, "POST", "task_runs/count", {}))

    def settled_task_runs(self) -> int:
        """The same, once the server has recorded what it was sent: it does so in batches."""
        count = self.task_runs()
        while True:
            time.sleep(_SETTLE_SECONDS)  # between bounded looks; the server tells nobody
            before, count = count, self.task_runs()
            if count == before:
                return count

    def _measure(
        self,
        command: Sequence[str],
        bucket: str,
        prefix: str,
        variables: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (0,),
    ) -> Measured:
        environment = self.stack.process_environment() | dict(variables or {})
        before, began = self._services(), time.monotonic()
        log = self.stack.data / "logs" / f"run-{bucket}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
            _, status, usage = os.wait4(process.pid, 0)
        seconds, ended = time.monotonic() - began, time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in statuses:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: see {log}")
        after = self._services()
        services = {name: after[name] - before[name] for name in before}
        written = self._written(bucket, prefix)
        return Measured(
            documents=len(written),
            seconds=seconds,
            client=usage.ru_utime + usage.ru_stime,
            services=services,
            peak=usage.ru_maxrss / 1024,
            after=ended - max(written, default=ended),
        )

    def _services(self) -> dict[str, float]:
        return {name: _processor_seconds(pid) for name, pid in self.stack.processes.items()}


def shard_options(processes: int) -> list[tuple[str, ...]]:
    """Return the options that divide the documents among processes."""
    if processes == 1:
        return [()]
    return [("--shards", str(processes), "--shard", str(shard)) for shard in range(1, processes + 1)]


def run_command(bucket: str, workers: int, *options: str) -> list[str]:
    """Return the command that runs the product, without rate limits unless options say otherwise."""
    return [
        *(sys.executable, "-m", "flows.cli", "run", f"s3://{bucket}/in", f"s3://{bucket}/out"),
        *("--workers", str(workers), *(() if _RATE in options else _UNLIMITED), *options),
    ]


def _peer(name: str, bucket: str, workers: int) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.runs.peers.{name}", bucket, str(workers)]


def _processor_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    times: list[Any] = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))
