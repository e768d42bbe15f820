"""Credentials from blocks at a real Prefect server: they work, what is wrong says so, and no secret is seen."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr, ValidationError

from deployments.credentials.blocks import BlocksError, aws_credentials, upstage_account
from deployments.local.stack import S3_ACCESS_KEY, LocalStack
from tasks.access.blocks import UpstageAccount, aws_block, upstage_block
from tasks.access.open import open_access
from tasks.faults import Fault, SetupFault, TransientFault
from tasks.options import Credentials
from tests import prefect_api
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, History, Place, report_of
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE


@pytest.fixture
def server(prefect: LocalStack) -> Iterator[str]:
    """The Prefect server, for calls from this process."""
    with temporary_settings({PREFECT_API_URL: f"{prefect.prefect_url}/api"}):
        yield prefect.prefect_url


def marked(what: str) -> str:
    """A secret that can be told from everything else."""
    return f"{what}-{uuid.uuid4().hex}"


Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(environment: dict[str, str]) -> Make:
    """Runs `python -m deployments.credentials …`."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deployments.credentials", *arguments],
            env=environment | variables, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    return run


def everything(server: str, since: datetime, flow_runs: list[str]) -> str:
    """All that the server gives away of some flow runs, of what happened since, and of blocks, as text."""
    recent = {"filter": {"occurred": {"since": since.isoformat()}}, "limit": 50}
    deadline = time.monotonic() + PATIENCE
    while True:
        events: list[Any] = []
        page = prefect_api.call(server, "POST", "events/filter", recent)
        while True:
            events += page["events"]
            if not page["next_page"]:
                break
            page = prefect_api.call(server, "GET", page["next_page"].partition("/api/")[2])
        ended = {
            event["resource"]["prefect.resource.id"].rpartition(".")[2]
            for event in events
            if event["event"] in ("prefect.flow-run.Completed", "prefect.flow-run.Failed")
        }
        if ended >= set(flow_runs):
            break
        assert time.monotonic() < deadline, (ended, flow_runs)
        time.sleep(0.2)  # between bounded looks: the server records events in its own time
    found: list[Any] = [events]
    for flow_run in flow_runs:
        of_run = {"flow_runs": {"id": {"any_": [flow_run]}}}
        found.append(prefect_api.call(server, "GET", f"flow_runs/{flow_run}"))
        found += [prefect_api.call(server, "POST", f"{kind}/filter", of_run) for kind in ("task_runs", "artifacts")]
        logs = prefect_api.call(server, "POST", "logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})
        assert logs
        found.append(logs)
    blocks = prefect_api.call(server, "POST", "block_documents/filter", {})
    assert blocks
    return json.dumps([*found, blocks])


def test_a_run_with_both_blocks_needs_no_secret_in_its_environment_and_shows_none(
    command: Command, make: Make, place: Place, api: StandInControl, stack: LocalStack, server: str, history: History
) -> None:
    secret, wrong, name = marked("aws-secret"), marked("wrong-key"), f"both-{uuid.uuid4().hex[:8]}"
    began = datetime.now(UTC)
    given = {"AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL_S3": stack.s3_url}
    made = make(name, "--aws", name, **given)
    assert (made.returncode, made.stdout.count(": created")) == (0, 2), made.stderr
    again = make(name, "--aws", name, **given)
    assert (again.returncode, again.stdout.count(": unchanged")) == (0, 2), again.stderr
    other = make(name, UPSTAGE_API_KEY=wrong)
    assert (other.returncode, "--overwrite" in other.stderr) == (2, True)
    outputs = [made, again, other, make(f"{name}-wrong", UPSTAGE_API_KEY=wrong)]

    # Nothing that could stand in for the blocks; the API's address would take the environment's key elsewhere.
    bare: dict[str, str | None] = dict.fromkeys(
        ("UPSTAGE_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    bare |= {"UPSTAGE_BASE_URL": "http://127.0.0.1:9/v1", "AWS_EC2_METADATA_DISABLED": "true"}
    blocks = ("--upstage-block", name, "--aws-block", name)
    place.put({"a.pdf": documents.text_pdf(["block a"]), "b.pdf": documents.text_pdf(["block b"])})
    done = command("run", place.source, place.destination, *FAST, *blocks, "--json", "--verbose", **bare)
    assert (done.returncode, report_of(done)["done"]) == (0, 2), done.stderr
    shown = command("check", place.source, place.destination, *blocks, **bare)
    assert shown.returncode == 0, shown.stdout
    assert f"for S3 from block aws-credentials/{name}" in shown.stdout
    assert f"accepts the key from block upstage-account/{name}" in shown.stdout
    status = command("status", place.destination, "--aws-block", name, **bare)
    assert status.stdout.startswith("2 done"), status.stderr
    # An account that is refused, and a traceback in the run's log.
    refused = command("collect", place.destination, "--upstage-block", f"{name}-wrong", "--aws-block", name, **bare)
    assert refused.returncode == 3, refused.stderr

    names = [f"backfill {place.source}", f"collect {place.destination}"]
    seen = everything(server, began, [history.flow_run(name)["id"] for name in names])
    assert f'"upstage": "{name}"' in seen, "names are what parameters hold"
    outputs += [done, shown, status, refused]
    kept = [place.s3.get_object(Bucket=place.bucket, Key=f"out/{key}")["Body"].read() for key in sorted(place.keys())]
    for hidden in (api.key, secret, wrong):
        assert hidden not in seen
        assert not any(hidden in output.stdout + output.stderr for output in outputs)
        assert not any(hidden.encode() in body for body in kept)
    assert not any(S3_ACCESS_KEY in output.stdout + output.stderr for output in outputs)


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(Fault) as raised:
        call()
    assert raised.value.__suppress_context__ or raised.value.__context__ is None, "a traceback would tell more"
    return raised.value


def test_what_is_wrong_with_a_block_is_said_without_what_is_in_it(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, hidden = f"wrong-{uuid.uuid4().hex[:8]}", marked("key")
    with get_client(sync_client=True) as client:
        for kind in client.read_block_types():
            if kind.slug == "upstage-account":
                client.delete_block_type(kind.id)
    unregistered = fault_of(lambda: upstage_block(name))
    assert "its type is not registered" in str(unregistered)
    assert f"'python -m deployments.credentials {name}'" in str(unregistered)
    assert "'prefect block register --module tasks.access.blocks'" in str(unregistered)

    UpstageAccount(api_key=SecretStr(hidden)).save(f"{name}-good")
    assert f"there is no block upstage-account/{name} at the Prefect server {server}/api; blocks of that type: " in (
        message := str(fault_of(lambda: upstage_block(name)))
    )
    assert f"{name}-good" in message
    Secret(value=hidden).save(name)
    assert "has type secret, but upstage-account is needed" in str(fault_of(lambda: upstage_block(name)))
    assert "has type secret, but aws-credentials is needed" in str(fault_of(lambda: aws_block(name)))

    for wrong, words in (
        ({"api_key": ""}, "has no API key"),
        ({"api_key": f"{hidden}\nsecond line"}, "characters that are not valid in an API key"),
        ({"api_key": hidden, "base_url": f"https://me:{hidden}@api.example/v1"}, "is not a web address"),
        ({"api_key": hidden, "base_url": hidden}, "is not a web address"),
    ):
        UpstageAccount.model_validate(wrong).save(f"{name}-bad", overwrite=True)
        message = str(fault_of(lambda: upstage_block(f"{name}-bad")))
        assert words in message
        assert hidden not in message
    with get_client(sync_client=True) as client:
        stored_block = client.read_block_document_by_name(f"{name}-bad", "upstage-account")
        prefect_api.call(
            server,
            "PATCH",
            f"block_documents/{stored_block.id}",
            {"data": {"base_url": {"a": hidden}}, "merge_existing_data": False},
        )
    damaged = fault_of(lambda: upstage_block(f"{name}-bad"))
    assert isinstance(damaged, SetupFault)
    assert "does not fit this version" in str(damaged)
    assert hidden not in str(damaged)

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        gone = fault_of(lambda: upstage_block(name))
    assert isinstance(gone, TransientFault)
    assert "http://127.0.0.1:9/api does not answer" in str(gone)
    monkeypatch.setitem(sys.modules, "prefect_aws", None)
    assert "pip install --constraint constraints.txt '.[aws]'" in str(fault_of(lambda: aws_block(name)))


@pytest.mark.usefixtures("server")
def test_a_key_goes_to_the_address_it_came_with_only(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"pair-{uuid.uuid4().hex[:8]}"
    UpstageAccount(api_key=SecretStr("of-the-block")).save(name)
    monkeypatch.setenv("UPSTAGE_API_KEY", "of-the-environment")
    monkeypatch.setenv("UPSTAGE_BASE_URL", "https://elsewhere.example/v1")
    with_block, without = open_access(Credentials(upstage=name)), open_access(Credentials())
    assert (with_block.base_url, with_block.key) == ("https://api.upstage.ai/v1", "of-the-block")
    assert (without.base_url, without.key) == ("https://elsewhere.example/v1", "of-the-environment")
    assert "of-the" not in repr([with_block, without])


@pytest.mark.usefixtures("server")
def test_blocks_for_aws_bring_their_own_endpoint_and_role(stack: LocalStack, place: Place) -> None:
    from prefect_aws import AwsCredentials, MinIOCredentials
    from prefect_aws.client_parameters import AwsClientParameters

    from tasks.store.objects import Objects, connect

    name, endpoint = f"own-{uuid.uuid4().hex[:8]}", AwsClientParameters(endpoint_url=stack.s3_url)
    place.put({"a": b"a"})
    hidden = marked("secret")
    MinIOCredentials(
        minio_root_user=S3_ACCESS_KEY, minio_root_password=SecretStr(hidden), aws_client_parameters=endpoint
    ).save(name)
    account = aws_block(f"minio-credentials/{name}")
    assert [entry.key for entry in Objects(connect(account=account)).list(place.bucket, "in/")] == ["in/a"]
    assert account.found_in() == f"block minio-credentials/{name}"
    assert hidden not in repr(account)
    other = Credentials(source_aws=f"minio-credentials/{name}")
    access = open_access(other)
    assert access.aws is None
    assert access.source_aws is not None
    assert access.source_aws.found_in() == f"block minio-credentials/{name}"
    assert hidden not in repr(access)
    AwsCredentials(aws_access_key_id=S3_ACCESS_KEY).save(name)
    assert "has only half of an access key" in str(fault_of(lambda: aws_block(name)))
    AwsCredentials(profile_name="not-there").save(name, overwrite=True)
    assert "its profile does not exist on this machine" in str(fault_of(lambda: aws_block(name)))


def test_blocks_are_made_of_whole_keys_only() -> None:
    with pytest.raises(BlocksError, match="Set UPSTAGE_API_KEY"):
        upstage_account({"UPSTAGE_API_KEY": " "})
    with pytest.raises(BlocksError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        aws_credentials({"AWS_ACCESS_KEY_ID": "half"})


@pytest.mark.parametrize("name", ["up_Secret", "AKEYOFSOMEBODY", "a/b", "", "minio-credentials/", "a b", "ä"])
def test_what_is_no_name_of_a_block_is_refused_and_not_repeated(name: str) -> None:
    for field in ("upstage", "aws", "source_aws"):
        with pytest.raises(ValidationError, match="this is not a block name") as refused:
            Credentials.model_validate({field: name})
        assert len(name) < 5 or name not in str(refused.value)


def test_credentials_that_run_out_in_the_middle_end_a_run_at_once_and_the_next_one_finishes(
    command: Command, place: Place, api: StandInControl, stack: LocalStack
) -> None:
    given = {f"{number}.pdf": documents.text_pdf([f"token {number}"]) for number in range(8)}
    place.put(given)
    billed_before = len(api.billed())
    with FlakyS3(stack.s3_url) as gateway:
        nothing_more = Rule("refuse", times=-1, status=400, code="ExpiredToken")
        # The fourth record of a request is the first call that S3 refuses.
        gateway.fail(
            Rule(
                "refuse", "_jobs/open/", "PUT", rb'"submitted_at"', skip=3, times=-1, status=400, code="ExpiredToken",
                before=lambda: gateway.rules.insert(0, nothing_more),
            )
        )  # fmt: skip
        arguments = (place.source, place.destination, *FAST, "--lease-seconds", "5")
        ended = command("run", *arguments, AWS_ENDPOINT_URL_S3=gateway.url)
        assert nothing_more.hits
    assert ended.returncode == 2, ended.stderr
    assert [line for line in ended.stderr.splitlines() if line.startswith("bulk-ocr:")] == [
        ended.stderr.splitlines()[-1]
    ]
    assert "they expired; renew them and start again" in ended.stderr
    assert "Traceback" not in ended.stderr
    rest = command("run", *arguments, "--json")
    assert (rest.returncode, report_of(rest)["done"]) == (0, 8), rest.stderr
    paid_twice = len(api.billed()) - billed_before - 8
    counted = sum(record["job"]["possible_duplicates"] for record in place.records("done"))
    assert 1 <= paid_twice <= counted <= 8 - 3
    assert report_of(rest)["possible_duplicates"] == counted
