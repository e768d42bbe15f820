"""The local stack with real processes: it starts, keeps its data, and leaves nothing running."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from deployments.local import stack as stack_module
from deployments.local.stack import UNWANTED, UPSTAGE_KEY, LocalStack, StackError
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

pytestmark = pytest.mark.servers

ROOT = Path(stack_module.__file__).parents[2]


def _running(process_id: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process_id}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    return not Path("/proc/self/stat").exists()


def _get(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def _s3(environment: dict[str, str]) -> "S3Client":
    return boto3.session.Session().client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data folder"


@pytest.fixture
def s3_stack(data: Path) -> Iterator[LocalStack]:
    with LocalStack(data, services=["s3"]) as stack:
        yield stack


def test_objects_and_their_etags_survive_a_restart(data: Path) -> None:
    keys = ["a.pdf", "a b/Zoë.pdf", "n", "n/below"]
    etags = {}
    with LocalStack(data, services=["s3"]) as stack:
        client = _s3(stack.environment())
        client.create_bucket(Bucket="kept")
        for key in keys:
            answer = client.put_object(
                Bucket="kept", Key=key, Body=key.encode(), Metadata={"pages": "3"}, IfNoneMatch="*"
            )
            etags[key] = answer["ETag"]
    with LocalStack(data, services=["s3"]) as stack:
        client = _s3(stack.environment())
        listed = client.list_objects_v2(Bucket="kept")["Contents"]
        assert {entry["Key"]: entry["ETag"] for entry in listed} == etags
        for key in keys:
            answer_read = client.get_object(Bucket="kept", Key=key)
            assert answer_read["Body"].read() == key.encode()
            assert answer_read["Metadata"] == {"pages": "3"}
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket="kept", Key="n", Body=b"", IfNoneMatch="*")
        client.put_object(Bucket="kept", Key="n", Body=b"new", IfMatch=etags["n"].strip('"'))
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket="kept", Key="n", Body=b"newer", IfMatch=etags["n"].strip('"'))


def test_an_unknown_access_key_is_refused(s3_stack: LocalStack) -> None:
    client = _s3(s3_stack.environment() | {"AWS_ACCESS_KEY_ID": "somebody-else"})
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client.list_buckets()


def test_stopping_leaves_no_process_and_no_port(data: Path) -> None:
    stack = LocalStack(data, services=["s3"])
    stack.start()
    process_id = stack.processes["s3"]
    address = ("127.0.0.1", int(stack.s3_url.rpartition(":")[2]))
    stack.stop()
    assert not _running(process_id)
    assert stack.processes == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE)
    assert {path.name for path in data.iterdir()} == {"lock", "logs", "s3"}
    stack.stop()


def test_a_service_that_does_not_end_is_killed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "_STOP_SECONDS", 0.3)
    with LocalStack(data, services=["s3"]) as stack:
        process_id = stack.processes["s3"]
        os.kill(process_id, signal.SIGSTOP)
    assert not _running(process_id)


def test_a_second_stack_over_the_same_data_is_refused(s3_stack: LocalStack) -> None:
    with pytest.raises(StackError, match=rf"process {os.getpid()}\) is using .*\n.*another data folder"):
        LocalStack(s3_stack.data, services=["s3"]).start()
    assert _get(f"{s3_stack.s3_url}/_ministack/health")


def test_the_services_end_when_the_stack_is_killed(data: Path) -> None:
    code = """if True:
        import json, sys
        from pathlib import Path
        from deployments.local.stack import LocalStack
        stack = LocalStack(Path(sys.argv[1]), services=["s3"])
        stack.start()
        print(json.dumps([stack.processes["s3"], stack.s3_url]), flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", code, str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        process_id, url = json.loads(owner.stdout.readline())
        assert _get(f"{url}/_ministack/health")
        owner.kill()
    # The next one waits for the last of the services to let go of the folder, and no longer.
    with LocalStack(data, services=["s3"]):
        assert not _running(process_id)


def test_a_port_that_is_taken_is_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(StackError, match=rf"Port {port} for s3 cannot be used.*\n.*another port"):
            LocalStack(data, services=["s3"], ports={"s3": port}).start()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"The data folder .*file.* cannot be used"):
        LocalStack(tmp_path / "file", services=["s3"]).start()


def test_a_service_that_ends_by_itself_is_reported(s3_stack: LocalStack) -> None:
    s3_stack.check()
    os.kill(s3_stack.processes["s3"], signal.SIGKILL)

    def reported() -> bool:
        try:
            s3_stack.check()
        except StackError as error:
            return "The S3 server ended with status -9" in str(error)
        return False

    until(reported, "the end of the service is reported")


def test_a_service_that_does_not_come_up_is_explained_and_the_others_are_stopped(data: Path) -> None:
    (data / "prefect").mkdir(parents=True)
    (data / "prefect" / "prefect.db").write_bytes(b"this is no database" * 100)
    stack = LocalStack(data, services=["s3", "prefect"])
    with pytest.raises(StackError) as failure:
        stack.start()
    message = str(failure.value)
    assert message.startswith("The Prefect server ended with status")
    assert "file is not a database" in message
    assert f"remove {data / 'prefect'}" in message
    assert stack.processes == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(stack.s3_url.rpartition(":")[2])), timeout=PATIENCE)


def test_a_missing_package_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        StackError, match=r"needs the package ministack.*\n.*pip install --constraint constraints\.txt '\.\[local\]'"
    ):
        LocalStack(data, services=["s3"]).start()


def test_the_environment_names_only_what_was_started_and_nothing_leads_elsewhere(
    s3_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in UNWANTED:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    environment = s3_stack.process_environment()
    assert not set(UNWANTED) & set(environment)
    assert environment["NO_PROXY"].split(",")[:3] == ["127.0.0.1", "localhost", "intranet.example"]
    assert environment["AWS_ENDPOINT_URL_S3"] == s3_stack.s3_url
    assert not {"UPSTAGE_API_KEY", "PREFECT_API_URL"} & set(s3_stack.environment())
    with pytest.raises(StackError, match="has not started prefect"):
        _ = s3_stack.prefect_url


def test_the_keys_of_real_services_do_not_reach_the_local_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "UPSTAGE_API_KEY", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "real")
    assert "real" not in stack_module._service_environment().values()


def test_the_stand_in_listens_and_wants_its_key(data: Path) -> None:
    with LocalStack(data, services=["upstage"], recogniser="text") as stack:
        assert _get(f"{stack.upstage_url}/_control/health")
        assert stack.environment()["UPSTAGE_BASE_URL"] == f"{stack.upstage_url}/v1"
        assert stack.environment()["UPSTAGE_API_KEY"] == UPSTAGE_KEY


def _foreground(data: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deployments.local", "--data", str(data), "--recogniser", "text"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _exported(owner: "subprocess.Popen[str]") -> dict[str, str]:
    """Read the instructions up to their last line, and take the variables from them as a shell would."""
    assert owner.stdout is not None
    variables = {}
    for line in iter(owner.stdout.readline, ""):
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            variables[name] = value
        if "Ctrl-C" in line:
            return variables
    assert owner.stderr is not None
    pytest.fail(f"the stack did not start: {owner.stderr.read()}")


def test_in_the_foreground_it_starts_everything_and_stops_when_interrupted(data: Path, prefect_database: Path) -> None:
    shutil.copytree(prefect_database, data / "prefect")
    with _foreground(data) as owner:
        first = _exported(owner)
        assert _s3(first).list_buckets()["Buckets"] == []
        assert _get(f"{first['UPSTAGE_BASE_URL'].removesuffix('/v1')}/_control/health")
        assert _get(f"{first['PREFECT_API_URL']}/health") == b"true"
        # The profile alone leads to the server: no address in the environment.
        known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        made = subprocess.run(
            [sys.executable, "-m", "prefect", "work-pool", "create", "here", "--type", "process"],
            env=known | {"PREFECT_HOME": first["PREFECT_HOME"], "NO_PROXY": first["NO_PROXY"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        owner.send_signal(signal.SIGINT)
        _, errors = owner.communicate(timeout=PATIENCE)
    assert owner.returncode == 0, errors
    assert errors.rstrip().endswith("Stopped.")

    with _foreground(data) as owner:
        second = _exported(owner)
        assert b'"process"' in _get(f"{second['PREFECT_API_URL']}/work_pools/here")
        owner.kill()
    for variable in ("AWS_ENDPOINT_URL_S3", "UPSTAGE_BASE_URL", "PREFECT_API_URL"):
        found = re.search(r":(\d+)", second[variable])
        assert found is not None
        until(partial(_silent, int(found[1])), f"nothing listens for {variable}")


def _silent(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


def test_help_says_what_it_does() -> None:
    command = [sys.executable, "-m", "deployments.local", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for word in (
        "--data",
        "--recogniser",
        "--s3-port",
        "--upstage-port",
        "--prefect-port",
        "interrupted",
    ):
        assert word in told
