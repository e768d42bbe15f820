"""A real Prefect server, and flows that run against it with the stack's S3 and stand-in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import jsonschema
import pytest

from deployments.local.stack import LocalStack
from flows.cli.schemas import MODELS, schema_of
from tests import prefect_api
from tests import sample_documents as documents
from tests.command_server import CommandServer, Process
from tests.prefect_server import prefect_server
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Process]

FAST = ("--requests-per-second", "500", "--pages-per-minute", "1000000", "--poll-seconds", "0.05")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[LocalStack]:
    """A Prefect server of the session's own."""
    with prefect_server(tmp_path_factory.mktemp("prefect"), prefect_database) as running:
        yield running


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a single certificate authority."""
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(bundle[bundle.index("-----BEGIN") : bundle.index(end) + len(end)])
    return file


@pytest.fixture(scope="session")
def environment(stack: LocalStack, prefect: LocalStack, one_authority: Path) -> dict[str, str]:
    """The environment of a process that uses all of it.

    A run makes several HTTP clients for the Prefect server. Each would read all certificate authorities, which takes
    26 ms, and uses none: the servers here speak no TLS.
    """
    return prefect.process_environment(stack.process_environment()) | {"SSL_CERT_FILE": str(one_authority)}


@pytest.fixture(scope="session")
def command_server(environment: dict[str, str]) -> Iterator[CommandServer]:
    """The process whose forks the commands are."""
    with CommandServer(environment) as server:
        yield server


@pytest.fixture
def start(command_server: CommandServer, environment: dict[str, str]) -> Start:
    """Starts `bulk-ocr …` as a process; variables are added to the environment, or taken out of it with None."""

    def begin(*arguments: str, **variables: str | None) -> Process:
        given = {name: value for name, value in {**environment, **variables}.items() if value is not None}
        return command_server.start(arguments, given)

    return begin


@pytest.fixture
def command(start: Start) -> Command:
    """Runs `bulk-ocr …` as a process and waits for it."""

    def run(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        return start(*arguments, **variables).completed(PATIENCE)

    return run


def report_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object that `--json` promises on standard output."""
    assert process.stdout.count("\n") == 1, process.stdout + process.stderr
    report = dict(json.loads(process.stdout))
    name = next((name for name in MODELS if process.args[: len(name.split())] == name.split()), None)
    if name is not None:  # the command's name comes first, but for tests of the parser
        _validator(name).validate(report)
    return report


@cache
def _validator(command: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema_of(command))


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

    def record(self, name: str) -> dict[str, Any]:
        """One record of the ledger, by its path without the ending."""
        return dict(json.loads(self.s3.get_object(Bucket=self.bucket, Key=f"out/_jobs/{name}.json")["Body"].read()))

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
        (found,) = self.flow_runs(name)
        return found

    def flow_runs(self, name: str) -> list[dict[str, Any]]:
        """The flow runs of that name, the first one first."""
        by_start = {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_ASC"}
        return [dict(found) for found in self._post("flow_runs/filter", by_start)]

    def task_runs(self, flow_run_id: str, *names: str) -> dict[str, dict[str, Any]]:
        """The task runs of a flow run, by name, once all of those names have ended: the server records in batches."""

        def ended() -> dict[str, dict[str, Any]] | None:
            found = self._post("task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
            runs = {each["name"]: each for each in found}
            over = (name in runs and runs[name]["state"]["type"] in ("COMPLETED", "FAILED") for name in names)
            return runs if all(over) else None

        return until(ended, f"the end of {names}")

    def logs(self, flow_run_id: str) -> list[str]:
        """The messages in a flow run's log, its task runs' included."""
        found = self._post("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run_id]}}})
        return [each["message"] for each in found]

    def artifacts(self, flow_run_id: str) -> dict[str, Any]:
        """The artifacts of a flow run, by key."""
        found = self._post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}})
        return {each["key"]: each["data"] for each in found}

    def report(self, flow_run_id: str) -> str:
        """The report of a flow run."""
        (report,) = [data for key, data in self.artifacts(flow_run_id).items() if key.endswith("-report")]
        return str(report)


@pytest.fixture
def history(prefect: LocalStack) -> History:
    return History(prefect.prefect_url)


_BARE = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(Path(__file__).parents[2])}


class Machine:
    """Somebody's machine: documents, a temporary folder, and the API's address and key; nothing else."""

    def __init__(self, folder: Path, base_url: str, key: str, commands: CommandServer) -> None:
        self._commands = commands
        self.documents, self.temporary = folder / "documents", folder / "temporary"
        for each in (self.documents, self.temporary):
            each.mkdir()
        self.environment = _BARE | {
            "HOME": str(folder), "TMPDIR": str(self.temporary), "UPSTAGE_API_KEY": key, "UPSTAGE_BASE_URL": base_url,
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

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run the command. Gives exit status, standard output and standard error."""
        given = ("file", *map(str, arguments), *FAST)
        process = self._commands.start(given, self.environment, self.documents)
        out, complaints = process.communicate(PATIENCE)
        assert "Traceback" not in complaints, complaints
        return process.wait(), out, complaints

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


@pytest.fixture(scope="session")
def file_commands() -> Iterator[CommandServer]:
    """The process whose forks the commands `file` are."""
    with CommandServer(_BARE, flows=False) as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path, gateway: FlakyS3, api: StandInControl, file_commands: CommandServer) -> Machine:
    return Machine(tmp_path, f"{gateway.url}/v1", api.key, file_commands)


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
