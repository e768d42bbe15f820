"""A real Prefect server, and flows that run against it with the stack's S3 and stand-in."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deployments.local.stack import LocalStack
from tests import documents, prefect_api
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Command = Callable[..., subprocess.CompletedProcess[str]]

FAST = ("--requests-per-second", "500", "--pages-per-minute", "1000000", "--poll-seconds", "0.05")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, _only_loopback: None) -> Iterator[LocalStack]:
    """A Prefect server of the session's own."""
    with LocalStack(tmp_path_factory.mktemp("prefect"), services=("prefect",)) as running:
        yield running


@pytest.fixture(scope="session")
def environment(stack: LocalStack, prefect: LocalStack) -> dict[str, str]:
    """The environment of a process that uses all of it."""
    return prefect.process_environment(stack.process_environment())


@pytest.fixture
def command(environment: dict[str, str]) -> Command:
    """Runs `bulk-ocr …` as a process and waits for it."""

    def run(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        given = {name: value for name, value in {**environment, **variables}.items() if value is not None}
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=given,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


def report_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object that `--json` promises on standard output."""
    assert process.stdout.count("\n") == 1, process.stdout + process.stderr
    return dict(json.loads(process.stdout))


@dataclass
class Place:
    """A source and a destination of the test's own."""

    bucket: str
    s3: "S3Client"

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/in"

    @property
    def destination(self) -> str:
        return f"s3://{self.bucket}/out"

    def put(self, documents: Mapping[str, bytes]) -> None:
        """Put documents into the source."""
        for key, body in documents.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"in/{key}", Body=body)

    def keys(self, prefix: str = "out/") -> set[str]:
        """What lies in the bucket under a prefix, without the prefix."""
        found: set[str] = set()
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            found |= {item["Key"].removeprefix(prefix) for item in page.get("Contents", [])}
        return found

    def results(self) -> dict[str, bytes]:
        """The results, by key."""
        return {
            key: self.s3.get_object(Bucket=self.bucket, Key=f"out/{key}")["Body"].read()
            for key in self.keys()
            if not key.startswith("_jobs/")
        }

    def records(self, state: str) -> list[dict[str, Any]]:
        """The ledger's records in a state."""
        return [
            json.loads(self.s3.get_object(Bucket=self.bucket, Key=f"out/_jobs/{state}/{key}")["Body"].read())
            for key in sorted(self.keys(f"out/_jobs/{state}/"))
        ]


@pytest.fixture
def place(bucket: str, s3: "S3Client") -> Place:
    return Place(bucket, s3)


@dataclass
class History:
    """What the Prefect server has recorded."""

    url: str

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return prefect_api.call(self.url, "POST", path, body)

    def flow_run(self, name: str) -> dict[str, Any]:
        """The one flow run of that name."""
        (found,) = self._post("flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        return dict(found)

    def task_runs(self, flow_run_id: str, *names: str) -> dict[str, dict[str, Any]]:
        """The task runs of a flow run, by name, once all of those names have ended: the server records in batches."""
        deadline = time.monotonic() + 30
        while True:
            found = self._post("task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
            runs = {each["name"]: each for each in found}
            if all(name in runs and runs[name]["state"]["type"] in ("COMPLETED", "FAILED") for name in names):
                return runs
            assert time.monotonic() < deadline, sorted(runs)
            time.sleep(0.1)  # between bounded looks: the server has no way to call us

    def logs(self, flow_run_id: str) -> list[str]:
        """The messages in a flow run's log, its task runs' included."""
        found = self._post("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run_id]}}})
        return [each["message"] for each in found]

    def artifacts(self, flow_run_id: str) -> dict[str, Any]:
        """The artifacts of a flow run, by key."""
        found = self._post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}})
        return {each["key"]: each["data"] for each in found}


@pytest.fixture
def history(prefect: LocalStack) -> History:
    return History(prefect.prefect_url)


class Machine:
    """Somebody's machine: documents, a temporary folder, and the API's address and key; nothing else."""

    def __init__(self, folder: Path, base_url: str, key: str) -> None:
        self.documents, self.temporary = folder / "documents", folder / "temporary"
        for each in (self.documents, self.temporary):
            each.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(self.temporary), "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(Path(__file__).parents[2]), "UPSTAGE_API_KEY": key, "UPSTAGE_BASE_URL": base_url,
        }  # fmt: skip

    def put(self, name: str, body: bytes) -> Path:
        """A document."""
        path = self.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path

    def start(self, *arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
        """Start the command among the documents."""
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "flows.cli", "file", *map(str, arguments), *FAST]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.documents,
            text=True,
            errors="surrogateescape",
            **(streams | more),
        )

    def run(self, *arguments: str | Path, given: str | None = None) -> tuple[int, str, str]:
        """Run the command. Gives exit status, standard output and standard error."""
        more = {} if given is None else {"stdin": subprocess.PIPE}
        with self.start(*arguments, **more) as process:
            out, complaints = process.communicate(given, timeout=60)
        assert "Traceback" not in complaints, complaints
        return process.returncode, out, complaints

    def delivered(self, *arguments: str | Path) -> Path:
        """Run the command over one document, which is done. Gives the result."""
        status, out, complaints = self.run(*arguments)
        result = Path(out.removesuffix("\n"))
        assert (status, result.is_absolute(), result.is_file()) == (0, True, True), complaints
        return result


@pytest.fixture
def gateway(stack: LocalStack, api: StandInControl) -> Iterator[FlakyS3]:
    """A proxy in front of the API and its storage host."""
    with FlakyS3(stack.upstage_url) as proxy:
        api.set(storage_base_url=proxy.url)
        yield proxy


@pytest.fixture
def machine(tmp_path: Path, gateway: FlakyS3, api: StandInControl) -> Machine:
    return Machine(tmp_path, f"{gateway.url}/v1", api.key)


def pdf(title: str, pages: int = 1) -> bytes:
    """A PDF of which no other test has the bytes."""
    return documents.text_pdf([f"{title} {number}" for number in range(1, pages + 1)])


def texts(result: Path) -> list[str]:
    """The text of each page."""
    pages = json.loads(result.read_bytes())["pages"]
    assert [page["id"] for page in pages] == list(range(len(pages)))
    return [page["text"] for page in pages]


def submissions(gateway: FlakyS3) -> int:
    """How often something was sent to be recognised."""
    return sum(method == "POST" for method, _ in gateway.seen)
