"""Calls that go around botocore's machinery: whoever makes them sees what the client itself would have given."""

from http.server import BaseHTTPRequestHandler
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from deployments.local.stack import REGION
from tasks.faults import TransientFault
from tasks.store.aws import AwsAccount
from tasks.store.lean_calls import LeanCalls
from tasks.store.objects import Objects, connect
from tests.fakes import FakeClock
from tests.serving import Serving
from tests.store.flaky_s3 import FlakyS3, Rule

KEY = "a b/ü+~.json"


def outcome(calls: Any, name: str, **parameters: Any) -> Any:
    """What a call gives, as far as it is read: of an error, all that is told of it."""
    try:
        answer = getattr(calls, name)(**parameters)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return type(error).__name__, error.operation_name, error.response["Error"], status
    told = {key: answer.get(key) for key in ("ETag", "ContentLength", "LastModified", "Metadata")}
    return told | {"Body": answer["Body"].read()} if name == "get_object" else told


@pytest.fixture
def written(flaky: FlakyS3, bucket: str) -> str:
    LeanCalls(flaky.client()).put_object(Bucket=bucket, Key=KEY, Body=b"body", Metadata={"job": "j"}, ContentType="t/x")
    return bucket


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("get_object", {}),
        ("get_object", {"IfMatch": "0" * 32}),
        ("get_object", {"Range": "bytes=1-2"}),
        ("get_object", {"Key": "missing"}),
        ("head_object", {}),
        ("head_object", {"Key": "missing"}),
        ("head_object", {"Bucket": "no-such-bucket"}),
        ("put_object", {"Body": b"other", "IfNoneMatch": "*"}),
        ("put_object", {"Body": b"other", "IfMatch": "0" * 32}),
        ("delete_object", {"Bucket": "no-such-bucket"}),
    ],
)
def test_a_call_gives_what_the_client_gives(
    flaky: FlakyS3, written: str, name: str, parameters: dict[str, Any]
) -> None:
    client = flaky.client()
    given = {"Bucket": written, "Key": KEY} | parameters
    found, expected = outcome(LeanCalls(client), name, **given), outcome(client, name, **given)
    if isinstance(found, dict) and name == "head_object":
        assert found == expected
    elif isinstance(found, dict):
        assert {**found, "Metadata": None} == {**expected, "Metadata": None}
    else:
        assert found[:2] == expected[:2]
        assert found[2]["Code"] == expected[2]["Code"]
        assert found[3] == expected[3]


def test_what_is_written_is_what_the_client_reads(flaky: FlakyS3, written: str) -> None:
    answer = flaky.client().get_object(Bucket=written, Key=KEY)
    assert (answer["Body"].read(), answer["Metadata"], answer["ContentType"]) == (b"body", {"job": "j"}, "t/x")


@pytest.mark.parametrize("status", [301, 307, 400])
def test_an_answer_that_leads_elsewhere_is_the_clients_to_follow(flaky: FlakyS3, written: str, status: int) -> None:
    flaky.rules.append(Rule("refuse", path="ü", method="GET", status=status, code="Elsewhere"))
    assert LeanCalls(flaky.client()).get_object(Bucket=written, Key=KEY)["Body"].read() == b"body"


def test_a_call_that_fails_is_made_once(flaky: FlakyS3, written: str) -> None:
    flaky.rules.append(Rule("lose", path="ü", method="DELETE", status=503, times=-1))
    with pytest.raises(ClientError, match="SlowDown"):
        LeanCalls(flaky.client()).delete_object(Bucket=written, Key=KEY)
    assert flaky.calls("DELETE", "ü") == 1


def test_a_parameter_that_is_not_known_here_is_left_to_the_client(flaky: FlakyS3, written: str) -> None:
    LeanCalls(flaky.client()).put_object(Bucket=written, Key=KEY, Body=b"1", CacheControl="no-store")
    assert flaky.client().head_object(Bucket=written, Key=KEY)["CacheControl"] == "no-store"


def test_success_that_holds_an_error_is_none(flaky: FlakyS3, written: str) -> None:
    flaky.rules.append(Rule("refuse", path="ü", method="PUT", status=200, code="InternalError"))
    with pytest.raises(ClientError, match="InternalError"):
        LeanCalls(flaky.client()).put_object(Bucket=written, Key=KEY, Body=b"1")


@pytest.mark.parametrize(
    ("length", "modified"),
    [
        ("5", None),
        (None, "Thu, 26 Nov 2026 10:44:02 GMT"),
        ("five", "Thu, 26 Nov 2026 10:44:02 GMT"),
        ("5", "yesterday"),
        ("5", "Thu, 99999999999999999999 Nov 2026 10:44:02 GMT"),
    ],
)
def test_a_look_whose_answer_lacks_what_s3_tells_is_a_fault_of_the_moment(
    length: str | None, modified: str | None
) -> None:
    """A proxy that compresses answers leaves their length out."""

    class Rewriting(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            for name, value in (("ETag", '"e"'), ("Content-Length", length), ("Last-Modified", modified)):
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with Serving(Rewriting) as proxy:
        client = connect(proxy.url, account=AwsAccount(boto3.Session("a", "b", region_name=REGION)))
        with pytest.raises(TransientFault, match="the answer is not from S3"):
            Objects(client, FakeClock()).head("bucket", "key")
