"""The real parts that tests run against: an S3 server, the API's stand-in and a Prefect server, once a session."""

import gc
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from deployments.ceph.cluster import CephCluster, require_programs
from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, UNWANTED, UPSTAGE_KEY, LocalStack, StackError
from tasks.store.ledger import Ledger
from tasks.store.location import Location
from tasks.store.objects import Objects
from tests.fakes import FakeClock
from tests.prefect_server import empty_database
from tests.stand_in import StandInControl

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# Derandomised: a test that fails on one machine fails on every machine.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("repeatable")


# Fixtures that start servers.
_SERVERS = {"stack", "s3_url", "prefect_database", "stand_in"}
# Tests that start servers themselves.
_OWN_SERVERS = ("tests/deployments/local/test_upstage_stand_in", "tests/deployments/local/test_stack.py")
# What takes many processes or seconds each, measured; `make quick` leaves it out.
_SLOW = (
    "tests/bench/", "tests/deployments/local/test_samples.py", "tests/documents/files/test_pdf_pages.py",
    "tests/documents/files/test_split", "tests/flows/cli/test_progress.py::test_bash_completes",
    "tests/mutants/test_mutants.py", "tests/outputs/test_searchable_pdf.py",
    "tests/documents/results/test_schemas.py::test_memory_does_not_grow_with_the_document",
    "tests/hostile/test_answers.py", "tests/hostile/test_containers.py", "tests/hostile/test_documents.py",
    "tests/outputs/test_viewer_in_a_browser.py", "tests/outputs/test_results_server.py",
)  # fmt: skip
# What takes longest, so that no process is left alone with it at the end.
_LONG = (
    "tests/deployments/local/test_demo.py", "tests/flows/run/test_engines.py", "tests/deployed/",
    "tests/deployments/alerts/", "tests/flows/", "tests/weather/", "tests/deployments/local/",
    "tests/steps/", "tests/hostile/", "tests/documents/", "tests/store/",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--s3 ceph`: the tests of steps and store against Ceph's S3 gateway; `--machines`: those of several machines."""
    parser.addoption("--s3", choices=("ministack", "ceph"), default="ministack", help="the S3 server to test against")
    parser.addoption("--machines", action="store_true", help="tests/machines too: needs PostgreSQL and Redis")
    parser.addoption(
        "--containers", action="store_true", help="tests/containers too: needs a container engine, as root"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say what is missing once, rather than in every test."""
    # Started in the background by a shell, this process ignores Ctrl-C, and whatever it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("s3") == "ceph":
        try:
            require_programs()
        except StackError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_collection() -> None:
    """Look for no garbage while thousands of tests are collected: nearly all that is made is kept."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From now on only for garbage of the tests, not through what was collected."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs servers or takes long, and put the longest first."""
    for item in items:
        if _SERVERS & set(getattr(item, "fixturenames", ())) or item.nodeid.startswith(_OWN_SERVERS):
            item.add_marker("servers")
        if item.nodeid.startswith(_SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: next((n for n, long in enumerate(_LONG) if item.nodeid.startswith(long)), len(_LONG)))


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> None:
    """Nothing of the user's environment reaches a test, and no test reaches beyond this machine."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "UPSTAGE_", "PREFECT_")) or name in UNWANTED or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    os.environ["DO_NOT_TRACK"] = "1"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, _only_loopback: None) -> Iterator[LocalStack]:
    """S3 and the stand-in in its fast mode, without Prefect: enough for everything but flows."""
    with LocalStack(tmp_path_factory.mktemp("stack"), recogniser="text", services=("s3", "upstage")) as running:
        yield running


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str, _only_loopback: None) -> Path:
    """What a Prefect server keeps that has done nothing yet: once for all the processes of a test run."""
    folder = tmp_path_factory.getbasetemp()
    return empty_database(folder if worker_id == "master" else folder.parent)


@pytest.fixture(scope="session")
def s3_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The S3 server to test against; the keys are the local stack's either way."""
    if request.config.getoption("s3") == "ceph":
        with CephCluster(tmp_path_factory.mktemp("ceph")) as cluster:
            yield cluster.s3_url
    else:
        yield request.getfixturevalue("stack").s3_url


@pytest.fixture(scope="session")
def s3(s3_url: str) -> "S3Client":
    """A plain client, for arranging and asserting."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name=REGION,
        aws_access_key_id=S3_ACCESS_KEY,
        aws_secret_access_key=S3_SECRET_KEY,
    )


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """A bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def objects(s3: "S3Client") -> Objects:
    """The product's view of the S3 server."""
    return Objects(s3)


@pytest.fixture
def destination(bucket: str) -> Location:
    """Where the ledger lies."""
    return Location(bucket, "out/")


@pytest.fixture
def ledger(objects: Objects, destination: Location) -> Ledger:
    """A ledger on a store that works."""
    return Ledger(objects, destination)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only moves when somebody sleeps or a test says so."""
    return FakeClock()


@pytest.fixture
def api(stack: LocalStack) -> Iterator[StandInControl]:
    """The stand-in's control plane; settings and faults are back to normal after the test."""
    control = StandInControl(stack.upstage_url, UPSTAGE_KEY)
    control.reset()
    yield control
    control.reset()
