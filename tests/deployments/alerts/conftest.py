"""A Prefect server with the alerts on it, made by the command, and an inbox for what they send."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from deployments.local.stack import LocalStack
from tests.deployments.alerts.inbox import Inbox
from tests.prefect_server import prefect_server
from tests.waiting import PATIENCE, until

Command = Callable[..., subprocess.CompletedProcess[str]]

BLOCK = "on-call"
# The shortest that Prefect takes for alerts about what does not come.
SHORT = ("--silent-seconds", "10", "--idle-seconds", "10", "--worker-seconds", "10")

# The server looks for silence, and for workers that are gone, each second instead of each 5 and 15. What writes besides
# is left out or writes seldom: SQLite has one writer, and at a bad moment the server drops an event, or tells twice.
_QUICK = """\
[server.events]
proactive_granularity = "PT1S"
[server.services.foreman]
loop_seconds = 1
[server.services.event_persister]
flush_interval = 2
"""
_NOT_NEEDED = (
    "cancellation_cleanup",
    "cleanup_reconciler",
    "late_runs",
    "pause_expirations",
    "repossessor",
    "scheduler",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[LocalStack]:
    """A Prefect server of the module's own: its automations are nobody else's."""
    settings = _QUICK + "".join(f"[server.services.{name}]\nenabled = false\n" for name in _NOT_NEEDED)
    with (
        prefect_server(tmp_path_factory.mktemp("alerts"), prefect_database, settings) as running,
        temporary_settings({PREFECT_API_URL: _api(running)}),
    ):
        yield running


def _api(server: LocalStack) -> str:
    return f"{server.prefect_url}/api"


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def block(server: LocalStack, inbox: Inbox) -> str:  # noqa: ARG001  # it needs the server's settings
    """The name of a notification block that sends to the inbox."""
    webhook = CustomWebhookNotificationBlock(
        name=BLOCK, url=inbox.url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    webhook.save(BLOCK)
    return BLOCK


@pytest.fixture(scope="module")
def callbacks() -> Iterator[Inbox]:
    """Where the completion callback goes."""
    with Inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def webhook(server: LocalStack, callbacks: Inbox) -> str:  # noqa: ARG001  # it needs the server's settings
    """The name of a block that calls the inbox of callbacks."""
    Webhook(url=SecretStr(callbacks.url)).save("archive")
    return "archive"


@pytest.fixture(scope="module")
def command(server: LocalStack) -> Command:
    """Runs `python -m deployments.alerts …` as a process."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deployments.alerts", *arguments],
            env=server.process_environment() | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def alerts(command: Command, block: str, webhook: str, worker: subprocess.Popen[bytes]) -> str:  # noqa: ARG001  # the worker first
    """The alerts, made by the command while a worker is there; what it printed."""
    made = command("--block", block, "--callback", webhook, *SHORT)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture
def client(server: LocalStack) -> Iterator[SyncPrefectClient]:  # noqa: ARG001  # it needs the server's settings
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def worker(server: LocalStack) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool `bulk-ocr`, in a process group of its own; it is there before anybody watches for it."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="bulk-ocr", type="process"))
        started = _start(
            server,
            ["prefect", "worker", "start", "--pool", "bulk-ocr", "--type", "process", "--name", "the-worker"],
            PREFECT_WORKER_HEARTBEAT_SECONDS="1",
        )
        until(lambda: client.read_work_pool("bulk-ocr").status == "READY", "the worker")
    yield started
    kill(started)


@pytest.fixture(scope="module")
def runs(server: LocalStack, alerts: str) -> Iterator[subprocess.Popen[bytes]]:  # noqa: ARG001  # alerts first
    """A process in which runs end in all ways, and the last one hangs on an S3 server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        started = _start(
            server,
            ["tests.deployments.alerts.runs"],
            AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{never_answers.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_REGION="us-east-1",
            PREFECT_LOGGING_TO_API_ENABLED="false",  # one more that would write
        )
        yield started
        kill(started)


def _start(server: LocalStack, module: list[str], **variables: str) -> subprocess.Popen[bytes]:
    log = (server.data / f"{module[0]}.log").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            env=server.process_environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
