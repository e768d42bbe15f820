"""What is said when the store, or a proxy before it, refuses: its own words, whom it concerns, and what to do."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from deployments.local.stack import REGION
from tasks.faults import CredentialsRefused, Fault, ObjectRefused, SetupFault, TransientFault
from tasks.store.aws import AwsAccount
from tasks.store.objects import Objects, connect
from tests.fakes import FakeClock
from tests.serving import Serving
from tests.store.flaky_s3 import FlakyS3, Rule

KMS = "User: arn:aws:iam::1:user/me is not authorized to perform: kms:Decrypt on the resource associated with it"
DENY = "User: arn:aws:iam::1:user/me is not authorized to perform: s3:GetObject with an explicit deny in a policy"

OF_ONE_OBJECT = [
    (403, "AccessDenied", "Access Denied", "allow s3:GetObject"),
    (403, "AccessDenied", KMS, "allow kms:Decrypt on the KMS key"),
    (403, "AccessDenied", DENY, "a policy denies it explicitly"),
    (403, "InvalidObjectState", "The operation is not valid for the object's storage class", "restore it"),
    (400, "KMS.DisabledException", "the key is disabled", "fix its KMS key"),
    (400, "InvalidRequest", "The object was stored using a form of Server Side Encryption", "will not release"),
    (405, "MethodNotAllowed", "The specified method is not allowed", "will not release"),
]


@pytest.mark.parametrize(("status", "code", "words", "advice"), OF_ONE_OBJECT)
def test_a_document_that_is_not_given_out_is_its_own_trouble_in_the_stores_words(
    flaky: FlakyS3, objects: Objects, bucket: str, tmp_path: Path, status: int, code: str, words: str, advice: str
) -> None:
    etag = objects.create(bucket, "a", b"1") or ""
    flaky.fail(Rule("refuse", "/a", times=-1, status=status, code=code, message=words))
    calls: list[Callable[[Objects], object]] = [
        lambda store: store.fetch(bucket, "a", etag, tmp_path / "a"),
        lambda store: store.head(bucket, "a", document=True),
    ]
    for call in calls:
        with pytest.raises(ObjectRefused) as refused:
            call(flaky.objects())
        message = str(refused.value)
        assert f"s3://{bucket}/a" in message
        assert words in message
        assert advice in message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", SetupFault),
        (403, "InvalidAccessKeyId", CredentialsRefused),
        (400, "ExpiredToken", CredentialsRefused),
        (400, "AuthorizationHeaderMalformed", SetupFault),
        (503, "SlowDown", TransientFault),
        (500, "InternalError", TransientFault),
    ],
)
def test_what_concerns_every_document_is_not_put_down_to_one(
    flaky: FlakyS3, bucket: str, tmp_path: Path, status: int, code: str, kind: type[Fault]
) -> None:
    flaky.fail(Rule("refuse", "/a", times=-1, status=status, code=code))
    with pytest.raises(kind) as raised:
        flaky.objects().fetch(bucket, "a", "0" * 32, tmp_path / "a")
    assert not isinstance(raised.value, ObjectRefused)
    assert "as the test says" in str(raised.value)


@pytest.mark.parametrize("words", [KMS, DENY])
def test_a_ledger_that_may_not_be_written_is_the_set_up_in_the_stores_words(
    flaky: FlakyS3, bucket: str, words: str
) -> None:
    flaky.fail(Rule("refuse", "/a", times=-1, status=403, code="AccessDenied", message=words))
    for call in (lambda: flaky.objects().create(bucket, "a", b""), lambda: flaky.objects().get(bucket, "a")):
        with pytest.raises(SetupFault) as raised:
            call()
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        ({"x-amz-bucket-region": "eu-west-3"}, "is in region eu-west-3 .*: set AWS_DEFAULT_REGION=eu-west-3"),
        ({}, "is in another region .*: set AWS_DEFAULT_REGION to the bucket's region"),
        ({"Location": "https://portal.example/login"}, "redirects to https://portal.example/login"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_bucket_elsewhere_is_told_with_its_region_where_that_is_known(
    flaky: FlakyS3, bucket: str, headers: dict[str, str], advice: str, method: str
) -> None:
    flaky.fail(
        Rule("refuse", times=-1, status=301, code="PermanentRedirect" if "Location" not in headers else "301",
             message="address it at its endpoint", headers=headers)
    )  # fmt: skip
    calls: dict[str, Callable[[Objects], object]] = {
        "GET": lambda store: store.get(bucket, "a"),
        "HEAD": lambda store: store.head(bucket, "a"),
        "PUT": lambda store: store.create(bucket, "a", b""),
        "DELETE": lambda store: store.delete(bucket, "a"),
    }
    with pytest.raises(SetupFault, match=advice):
        calls[method](flaky.objects())


class Proxy(Serving):
    """A proxy that answers every call itself."""

    def __init__(self, status: int, page: bytes = b"<html><body>Go away</body></html>") -> None:
        self.calls = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            server_version = "squid/6.1"

            def do_GET(self) -> None:
                proxy.calls += 1
                self.send_response(status)
                self.send_header("Via", "1.1 proxy (squid/6.1)")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(page)
                self.close_connection = True

            do_HEAD = do_PUT = do_DELETE = do_CONNECT = do_GET  # noqa: N815 - the base class names them so

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        super().__init__(Handler)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (407, r"requires authentication \(407\): put user and password into HTTPS_PROXY"),
        (403, r"blocks these calls \(403\): have the store's host allowed"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("call", ["get", "head", "list"])
def test_a_proxy_that_refuses_is_named_once_and_not_asked_again(
    status: int, advice: str, scheme: str, call: str
) -> None:
    calls: dict[str, Callable[[Objects], object]] = {
        "get": lambda store: store.get("b", "a"),
        "head": lambda store: store.head("b", "a", document=True),
        "list": lambda store: list(store.list("b", "")),
    }
    with Proxy(status) as proxy:
        through = proxy.url.replace("://", "://user:hunter2@")
        account = AwsAccount(
            boto3.Session("a", "b", region_name=REGION), {"config": Config(proxies={"http": through, "https": through})}
        )
        store = Objects(connect(f"{scheme}://s3.example.com", account=account), FakeClock())
        with pytest.raises(SetupFault, match=advice) as raised:
            calls[call](store)
    assert "hunter2" not in str(raised.value)
    assert proxy.calls <= 2, "the second is the look for words"


@pytest.mark.parametrize(
    "page", [b"<html><body>Sign in</body></html>", b"Sign in", b"", b'{"error": "sign in"}', b"<a><b></a>"]
)
def test_a_sign_in_page_is_neither_an_object_nor_a_write(tmp_path: Path, page: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    calls: list[Callable[[Objects], object]] = [
        lambda store: store.get("b", "a"),
        lambda store: store.head("b", "a"),
        lambda store: store.create("b", "a", b"{}"),
        lambda store: store.replace("b", "a", b"{}", "0" * 32),
        lambda store: store.put("b", "a", b"{}", {}, "text/plain"),
        lambda store: store.put_file("b", "a", file, {}, "text/plain", over=None),
        lambda store: list(store.list("b", "")),
        lambda store: store.fetch("b", "a", "0" * 32, tmp_path / "copy"),
        lambda store: store.remove("b", "a", "0" * 32),
        lambda store: store.prove_conditional_writes("b", "out/"),
    ]
    account = AwsAccount(boto3.Session("a", "b", region_name=REGION))
    with Proxy(200, page) as portal:
        store = Objects(connect(portal.url, account=account), FakeClock(), attempts=2)
        for call in calls:
            with pytest.raises(Fault) as raised:
                call(store)
            assert isinstance(raised.value, TransientFault | SetupFault)
            assert "s3://b/" in str(raised.value)
    assert not (tmp_path / "copy").exists()


def test_a_proxy_that_is_not_there_is_a_fault_of_the_moment() -> None:
    account = AwsAccount(
        boto3.Session("a", "b", region_name=REGION), {"config": Config(proxies={"https": "http://127.0.0.1:9"})}
    )
    clock = FakeClock()
    with pytest.raises(TransientFault, match="could not read s3://b/a"):
        Objects(connect("https://s3.example.com", account=account), clock).get("b", "a")
    assert len(clock.slept) == 5


def test_a_full_disk_while_a_document_is_fetched_names_the_folder(objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"x" * 100_000) or ""
    with pytest.raises(SetupFault, match=r"the folder /dev cannot be written \(No space left on device\): make room"):
        objects.fetch(bucket, "a", etag, Path("/dev/full"))
