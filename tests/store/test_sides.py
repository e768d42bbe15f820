"""Each side's bucket as its owner has set it up: who pays, whose it is, encryption, class, checksum, accounts."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from pydantic import ValidationError

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tasks.access.environment import Access
from tasks.context import accounts_of, store_of
from tasks.faults import SetupFault
from tasks.options import Credentials, Options, RunSettings
from tasks.store.aws import AwsAccount
from tasks.store.object_store import ObjectStore
from tasks.store.objects import Objects
from tasks.store.settings import DestinationOptions, SourceOptions
from tests.fakes import FakeClock
from tests.store.flaky_s3 import Call, FlakyS3, Rule

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BODY = b"a result" * 1000


def every_call(store: ObjectStore, bucket: str, folder: Path) -> None:
    """Each kind of call once."""
    (folder / "result").write_bytes(BODY)
    etag = store.create(bucket, "record", b"{}") or ""
    etag = store.replace(bucket, "record", b"{ }", etag) or ""
    store.put(bucket, "put", b"bytes", {}, "text/plain")
    with (folder / "result").open("rb") as file:
        store.put(bucket, "put", file, {}, "text/plain")
    assert store.put_file(bucket, "result", folder / "result", {"pages": "1"}, "application/json", over=None)
    assert store.get(bucket, "record") is not None
    described = store.head(bucket, "result", document=True)
    assert described is not None
    store.fetch(bucket, "result", described.etag, folder / "copy")
    assert (folder / "copy").read_bytes() == BODY
    assert len(list(store.list(bucket, ""))) == 3
    store.prove_conditional_writes(bucket, "out/")
    assert store.remove(bucket, "record", etag)
    store.delete(bucket, "put")


def calls(flaky: FlakyS3, options: SourceOptions | DestinationOptions, bucket: str, folder: Path) -> list[Call]:
    every_call(Objects(flaky.client(), FakeClock(), options=options), bucket, folder)
    return flaky.received


@pytest.mark.parametrize("kind", [SourceOptions, DestinationOptions])
def test_who_pays_and_whose_the_bucket_is_goes_with_every_call(
    flaky: FlakyS3, bucket: str, tmp_path: Path, kind: type[SourceOptions] | type[DestinationOptions]
) -> None:
    received = calls(flaky, kind(requester_pays=True, expected_owner="000000000000"), bucket, tmp_path)
    assert {call.headers.get("x-amz-request-payer") for call in received} == {"requester"}
    assert {call.headers.get("x-amz-expected-bucket-owner") for call in received} == {"000000000000"}
    assert {call.method for call in received} == {"GET", "HEAD", "PUT", "DELETE"}


def test_a_bucket_that_needs_nothing_said_gets_nothing_said(flaky: FlakyS3, bucket: str, tmp_path: Path) -> None:
    names = {name for call in calls(flaky, DestinationOptions(), bucket, tmp_path) for name in call.headers}
    wanted = (
        "x-amz-request-payer",
        "x-amz-expected",
        "x-amz-server-side",
        "x-amz-storage",
        "x-amz-checksum",
        "content-md5",
    )
    assert [name for name in names if name.startswith(wanted)] == []


def test_what_is_written_is_encrypted_and_results_are_in_their_class(
    flaky: FlakyS3, s3: "S3Client", bucket: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("s3") == "ceph":
        pytest.skip("this Ceph cluster has no key management; the headers are looked at on the other server")
    options = DestinationOptions(
        encryption="aws:kms", kms_key="alias/results", bucket_key=True, storage_class="STANDARD_IA"
    )
    received = calls(flaky, options, bucket, tmp_path)
    for call in received:
        expected = ("aws:kms", "alias/results", "true") if call.method == "PUT" else (None, None, None)
        names = ("", "-aws-kms-key-id", "-bucket-key-enabled")
        assert tuple(call.headers.get(f"x-amz-server-side-encryption{name}") for name in names) == expected
    writes = [call for call in received if call.method == "PUT"]
    classes = {call.path.rpartition("/")[2]: call.headers.get("x-amz-storage-class") for call in writes}
    assert classes.pop("result") == "STANDARD_IA"
    assert set(classes.values()) == {None}, "the smallest object that is billed in that class is larger than a record"
    assert s3.head_object(Bucket=bucket, Key="result")["StorageClass"] == "STANDARD_IA"


@pytest.mark.parametrize(
    ("kind", "header", "of"),
    [
        ("md5", "content-md5", lambda body: hashlib.md5(body, usedforsecurity=False).digest()),
        ("crc32", "x-amz-checksum-crc32", lambda body: zlib.crc32(body).to_bytes(4, "big")),
        ("sha256", "x-amz-checksum-sha256", lambda body: hashlib.sha256(body).digest()),
    ],
)
def test_a_checksum_goes_in_the_head_of_every_write(
    flaky: FlakyS3, bucket: str, tmp_path: Path, kind: Any, header: str, of: Callable[[bytes], bytes]
) -> None:
    received = calls(flaky, DestinationOptions(checksum=kind), bucket, tmp_path)
    writes = [call for call in received if call.method == "PUT"]
    assert all(call.headers.get(header) for call in writes)
    assert not any("x-amz-trailer" in call.headers for call in writes)
    [result] = [call for call in writes if call.path.endswith("/result")]
    assert result.length == len(BODY)
    assert result.headers[header] == base64.b64encode(of(BODY)).decode()


def test_a_bucket_that_wants_a_checksum_says_how_to_give_one(flaky: FlakyS3, bucket: str) -> None:
    words = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    flaky.fail(Rule("refuse", method="PUT", times=-1, status=400, code="InvalidRequest", message=words))
    with pytest.raises(SetupFault, match=r"set --destination\.checksum md5") as refused:
        flaky.objects().create(bucket, "a", b"")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kms_key": "alias/x"}, "needs the encryption"),
        ({"encryption": "AES256", "bucket_key": True}, "needs the encryption"),
        ({"storage_class": "GLACIER"}, "cannot be read immediately"),
        ({"storage_class": "DEEP_ARCHIVE"}, "cannot be read immediately"),
        ({"storage_class": "no class"}, "pattern"),
        ({"expected_owner": "12"}, "pattern"),
        ({"checksum": "crc64"}, "md5"),
        ({"secret": "x"}, "no such setting"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DestinationOptions(**fields)


@pytest.fixture
def two(s3_url: str) -> Iterator[tuple[FlakyS3, FlakyS3]]:
    """Two stores: the source's account reaches the first, the destination's the second."""
    with ExitStack() as stack:
        yield stack.enter_context(FlakyS3(s3_url)), stack.enter_context(FlakyS3(s3_url))


def account(store: FlakyS3) -> AwsAccount:
    return AwsAccount(
        boto3.Session(S3_ACCESS_KEY, S3_SECRET_KEY, region_name=REGION), {"endpoint_url": store.url}, store.url
    )


def settings(reads: str | None, writes: str, /, credentials: Credentials | None = None, **options: Any) -> RunSettings:
    return RunSettings(
        source=reads and f"s3://{reads}/in",
        destination=f"s3://{writes}/out",
        options=Options(**options),
        credentials=credentials or Credentials(),
    )


def test_each_account_reads_and_writes_its_own_side(
    two: tuple[FlakyS3, FlakyS3], s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    reading, writing = two
    run = settings(bucket, other, source={"requester_pays": True}, destination={"checksum": "md5"})
    accounts = accounts_of(run, Access(aws=account(writing), source_aws=account(reading)))
    assert [account.origin for account in accounts] == [reading.url, writing.url]
    store = store_of(run, accounts, FakeClock())
    every_call(store, bucket, tmp_path)
    every_call(store, other, tmp_path)
    assert {call.path.split("/")[1].split("?")[0] for call in reading.received} == {bucket}
    assert {call.path.split("/")[1].split("?")[0] for call in writing.received} == {other}
    assert all("x-amz-request-payer" in call.headers for call in reading.received)
    assert not any("x-amz-request-payer" in call.headers for call in writing.received)
    assert all(("content-md5" in call.headers) == (call.method == "PUT") for call in writing.received)


def test_one_account_for_both_sides_has_one_client_and_a_run_without_a_source_reads_documents_by_its_settings(
    two: tuple[FlakyS3, FlakyS3], s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    run = settings(None, other, source={"requester_pays": True})
    own, _ = two
    reading, writing = accounts_of(run, Access(aws=account(own)))
    assert reading is writing
    every_call(store_of(run, (reading, writing)), bucket, tmp_path)
    assert all("x-amz-request-payer" in call.headers for call in own.received)


def test_a_profile_is_one_sides_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bucket: str) -> None:
    (tmp_path / "credentials").write_text(
        "[archive]\naws_access_key_id = of-the-archive\naws_secret_access_key = x\n", encoding="utf-8"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    reading, writing = accounts_of(settings(bucket, "other", source={"profile": "archive"}), Access())
    found = [side.session.get_credentials() for side in (reading, writing)]
    assert [credentials and credentials.access_key for credentials in found] == ["of-the-archive", "of-the-environment"]
    assert reading.found_in() == "profile archive, which leads to the credentials file"
    with pytest.raises(SetupFault, match="missing"):
        accounts_of(settings(bucket, "other", destination={"profile": "missing"}), Access())


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({}, True),
        ({"source": {"requester_pays": True}}, False),
        ({"source": {"requester_pays": True}, "destination": {"requester_pays": True}}, True),
        ({"destination": {"requester_pays": True, "checksum": "md5"}}, True),
        ({"source": {"expected_owner": "1" * 12}, "destination": {"expected_owner": "2" * 12}}, False),
        ({"credentials": Credentials(source_aws="archive")}, False),
        ({"credentials": Credentials(source_aws="one", aws="one")}, True),
    ],
)
def test_one_bucket_is_used_one_way(given: dict[str, Any], good: bool) -> None:
    run = settings("one", "one", **given)
    if good:
        accounts_of(run, Access())
    else:
        with pytest.raises(SetupFault, match="source and destination are in the same bucket"):
            accounts_of(run, Access())
    accounts_of(settings("one", "other", **given), Access())


def test_an_account_named_twice_is_refused() -> None:
    run = settings("one", "other", Credentials(source_aws="archive"), source={"profile": "archive"})
    with pytest.raises(SetupFault, match="named twice"):
        accounts_of(run, Access())
