"""The worker's image at work: on a read-only file system, without a place to write, and asked to stop.

Against stand-ins on loopback, with this machine's network, so that no other image is needed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments.local.stack import LocalStack
from tests import sample_documents as documents
from tests.containers.engine import BOUNDS, Engine, EngineMissing, require_engine, require_version
from tests.containers.images import OWN
from tests.flows.conftest import FAST, Place
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_SCRATCH = "--tmpfs=/tmp:rw,mode=1777"
# Prefect's temporary server is given as long as anything else here; by itself it has a minute.
_SERVER_START = f"--env=PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS={PATIENCE:.0f}"


@pytest.fixture
def place(s3: "S3Client", bucket: str) -> Place:
    """A source and a destination of the test's own."""
    return Place(bucket, s3)


def test_a_file_is_recognised_inside(engine: Engine, stack: LocalStack) -> None:
    with worker(engine, stack, "bulk-ocr-file", "sleep", "infinity") as container:
        body = documents.text_pdf(["first", "second"])
        engine.podman("exec", "--interactive", container, "sh", "-c", "cat > /tmp/two.pdf", stdin=body)
        printed = engine.podman("exec", container, "bulk-ocr", "file", "/tmp/two.pdf")
        assert printed.splitlines()[-1] == "/tmp/two.ocr.json"
        result = json.loads(engine.podman("exec", container, "cat", "/tmp/two.ocr.json"))
        assert [page["text"].split() for page in result["pages"]] == [["first"], ["second"]]


def test_without_a_place_to_write_it_says_so(engine: Engine, stack: LocalStack) -> None:
    bounds = [*BOUNDS, "--network=host", "--read-only-tmpfs=false", *variables(stack)]
    ran = engine.tried("run", "--rm", *bounds, OWN["worker"], "bulk-ocr", "file", "/opt/bulk-ocr/prefect.yaml")
    assert ran.returncode == 2, ran.stderr
    assert "mount one at /tmp" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_volume_that_it_may_not_write_is_named(engine: Engine, stack: LocalStack, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # root's, as an engine makes a folder that is mounted and not there
    bounds = [*BOUNDS, "--network=host", f"--volume={tmp_path}:/data/scratch", "--env=TMPDIR=/data/scratch"]
    command = ("bulk-ocr", "file", "/opt/bulk-ocr/prefect.yaml")
    bounds += ["--read-only-tmpfs=false", *variables(stack)]
    ran = engine.tried("run", "--rm", *bounds, OWN["worker"], *command)
    assert ran.returncode == 2, ran.stderr
    assert "no folder for temporary files can be written" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_sigterm_ends_uploads_in_order_and_the_next_run_finishes(
    engine: Engine, stack: LocalStack, api: StandInControl, place: Place
) -> None:
    place.put({f"{number}.pdf": documents.text_pdf([f"{place.bucket} {number}"]) for number in range(6)})
    # Long enough that uploads are under way when the signal comes; the engine waits a minute for their end.
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 3})
    before = api.requests()
    command = ("bulk-ocr", "run", place.source, place.destination, "--workers", "2", *FAST)
    # On one volume, as in the compose file: most of a run's start goes into the database of Prefect's temporary server,
    # and the next run finds it made.
    with engine.volume("bulk-ocr-sigterm") as volume:
        scratch = f"--volume={volume}:/tmp"
        with worker(engine, stack, "bulk-ocr-sigterm", *command, scratch=scratch) as container:
            until(lambda: claimed(engine, container, place), "a claim")
            engine.podman("stop", "--time", "60", container)
            ended = engine.inspect(container)["State"]["ExitCode"]
            said = engine.tried("logs", container)
        assert ended == 130, said.stderr + said.stdout
        # What was sent is on record: no page is between a request and its record.
        assert [job for job in place.records("open") if (job["lease"] or {}).get("doing") == "posting"] == []
        api.fail()
        with worker(engine, stack, "bulk-ocr-again", *command, scratch=scratch) as container:
            assert engine.podman("wait", container) == "0", engine.tried("logs", container).stderr
    records = place.records("done")
    assert len(records) == 6
    assert sum(record["job"]["possible_duplicates"] for record in records) == 0
    assert api.requests() - before == 6


def test_an_engine_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineMissing, match=r"not on this machine: podman, runc, .*apt-get install podman runc"):
        require_engine()


def test_an_engine_that_is_too_old_is_named() -> None:
    with pytest.raises(EngineMissing, match=r"podman 3\.4\.2 is too old"):
        require_version("podman version 3.4.2")
    require_version("podman version 4.3.1")
    require_version("podman version 5.0.0-rc1")


def claimed(engine: Engine, container: str, place: Place) -> bool:
    """Whether a run at work has claimed a document; one that has ended never will."""
    assert engine.running(container), engine.tried("logs", container).stderr
    return bool(place.records("open"))


@contextmanager
def worker(engine: Engine, stack: LocalStack, name: str, *command: str, scratch: str = _SCRATCH) -> Iterator[str]:
    """A container of the worker's image in the background, with something to write to. Gives its name."""
    options = ("--network=host", scratch, _SERVER_START, *variables(stack))
    with engine.container(OWN["worker"], *command, name=name, options=options) as container:
        yield container


def variables(stack: LocalStack) -> list[str]:
    """The stack's addresses and keys, as options."""
    names = ("AWS_", "UPSTAGE_")
    environment = stack.process_environment()
    return [f"--env={name}={value}" for name, value in environment.items() if name.startswith(names)]
