"""Objects: who wins a race, whose write is believed, and what is said when the store refuses."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from deployments.local.stack import REGION, S3_SECRET_KEY
from tasks.faults import CredentialsRefused, DocumentChanged, SetupFault, TransientFault
from tasks.store.aws import AwsAccount
from tasks.store.local_folder import FolderObjects
from tasks.store.objects import Objects, connect
from tests.fakes import FakeClock
from tests.store.flaky_s3 import FlakyS3, Rule

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# What people, cameras and other programs call their files.
ODD_KEYS = [
    "a b.pdf", "a+b.pdf", "a%20b.pdf", "a%2Bb.pdf", "ümlaut/日本.pdf", "..", "x/../y.pdf", "a//b.pdf", "line\nbreak",
    "tab\t", "q?x=1&y=2", "#hash", "'quotes\"", "<tag>&amp;", "a*b", "~", "back\\slash", " leading", "trailing ",
]  # fmt: skip


def _keys(s3: "S3Client", bucket: str) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_an_object_is_created_once(objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"first")
    assert etag is not None
    assert objects.create(bucket, "a", b"second") is None
    stored = objects.get(bucket, "a")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"first", etag)


def test_only_the_version_read_before_is_replaced(objects: Objects, bucket: str) -> None:
    first = objects.create(bucket, "a", b"1")
    assert first is not None
    second = objects.replace(bucket, "a", b"2", first)
    assert second not in (None, first)
    assert objects.replace(bucket, "a", b"3", first) is None
    stored = objects.get(bucket, "a")
    assert stored is not None
    assert stored.body == b"2"


def test_replacing_what_is_gone_does_not_bring_it_back(objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"1") or ""
    objects.delete(bucket, "a")
    assert objects.replace(bucket, "a", b"2", etag) is None
    assert not objects.exists(bucket, "a")


def test_etags_are_without_quotes_everywhere(objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"1")
    head, stored = objects.head(bucket, "a"), objects.get(bucket, "a")
    assert head is not None
    assert stored is not None
    assert {head.etag, stored.etag, next(objects.list(bucket, "")).etag} == {etag}
    assert '"' not in head.etag


def test_the_condition_is_sent_without_quotes_which_ceph_would_compare(flaky: FlakyS3, bucket: str) -> None:
    client, sent = flaky.client(), []
    client.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request.headers))
    etag = Objects(client).create(bucket, "a", b"1") or ""
    Objects(client).replace(bucket, "a", b"2", etag)
    assert [sent[0].get("If-None-Match"), sent[1].get("If-Match")] == [b"*", etag.encode()]


def test_a_folder_names_what_lies_in_it_once(objects: Objects, bucket: str, tmp_path: Path) -> None:
    for store in (objects, FolderObjects(tmp_path)):
        for key in ("in/a.pdf", "in/x/1", "in/x/2", "in/y z/1", "in/", "ink", "other/1"):
            store.create(bucket, key, b"")
        assert sorted(store.names(bucket, "in/")) == ["a.pdf", "x/", "y z/"]
        assert sorted(store.names(bucket, "")) == ["in/", "ink", "other/"]
        assert list(store.names(bucket, "nowhere/")) == []


def test_what_is_not_there_is_none(objects: Objects, bucket: str) -> None:
    assert objects.get(bucket, "a") is None
    assert objects.head(bucket, "a") is None
    assert not objects.exists(bucket, "a")
    objects.delete(bucket, "a")


def test_of_many_who_create_at_once_one_wins(objects: Objects, bucket: str) -> None:
    ready = threading.Barrier(8)

    def create(number: int) -> str | None:
        ready.wait()
        return objects.create(bucket, "a", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(create, range(8)))
    assert sum(etag is not None for etag in etags) == 1


def test_of_many_who_replace_the_same_version_one_wins(objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"start") or ""
    ready = threading.Barrier(8)

    def replace(number: int) -> str | None:
        ready.wait()
        return objects.replace(bucket, "a", b"%d" % number, etag)

    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(replace, range(8)))
    assert sum(etag is not None for etag in etags) == 1


@pytest.mark.parametrize("action", ["lose", "hang_up"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_write_whose_answer_was_lost_is_believed(
    flaky: FlakyS3, objects: Objects, bucket: str, action: str, attempts: int
) -> None:
    unsure = flaky.objects(attempts)
    flaky.fail(Rule("lose" if action == "lose" else "hang_up", method="PUT", status=500, code="InternalError"))
    created = unsure.create(bucket, "a", b"mine")
    assert created is not None
    assert objects.replace(bucket, "a", b"next", created) is not None
    current = objects.get(bucket, "a")
    assert current is not None

    flaky.fail(Rule("lose" if action == "lose" else "hang_up", method="PUT", status=500, code="InternalError"))
    replaced = unsure.replace(bucket, "a", b"mine again", current.etag)
    assert replaced is not None
    stored = objects.get(bucket, "a")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"mine again", replaced)


@pytest.mark.parametrize("status", [412, 409])
def test_a_lost_race_is_not_taken_for_a_write_of_ours(
    flaky: FlakyS3, objects: Objects, bucket: str, status: int
) -> None:
    etag = objects.create(bucket, "a", b"theirs") or ""
    code = {412: "PreconditionFailed", 409: "ConditionalRequestConflict"}[status]
    flaky.fail(Rule("refuse", method="PUT", status=status, code=code, times=2))
    assert flaky.objects().create(bucket, "a", b"ours") is None
    assert flaky.objects().replace(bucket, "a", b"ours", etag) is None


def test_a_write_that_met_another_call_and_lost_to_none_is_made_again(flaky: FlakyS3, bucket: str) -> None:
    """S3 answers 409 where a delete of the key, or a write that comes to nothing, was under way."""
    conflict = Rule("refuse", method="PUT", status=409, code="ConditionalRequestConflict")
    flaky.fail(replace(conflict))
    etag = flaky.objects(attempts=2).create(bucket, "a", b"ours")
    assert etag is not None
    flaky.fail(replace(conflict))
    assert flaky.objects(attempts=2).replace(bucket, "a", b"ours again", etag) is not None
    flaky.fail(replace(conflict, times=2))
    with pytest.raises(TransientFault, match="ConditionalRequestConflict"):
        flaky.objects(attempts=2).create(bucket, "b", b"nobody was first")


def test_a_write_that_was_refused_for_the_moment_says_so_and_changes_nothing(
    flaky: FlakyS3, objects: Objects, bucket: str
) -> None:
    flaky.fail(Rule("refuse", method="PUT", times=2))
    with pytest.raises(TransientFault, match="SlowDown"):
        flaky.objects().create(bucket, "a", b"1")
    assert not objects.exists(bucket, "a")
    etag = objects.create(bucket, "a", b"1") or ""
    with pytest.raises(TransientFault, match="could not write"):
        flaky.objects().replace(bucket, "a", b"2", etag)
    stored = objects.get(bucket, "a")
    assert stored is not None
    assert stored.body == b"1"


def test_a_write_that_cannot_be_read_back_either_is_left_open(flaky: FlakyS3, bucket: str) -> None:
    flaky.fail(Rule("hang_up", method="PUT"))
    flaky.fail(Rule("refuse", method="GET"))
    with pytest.raises(TransientFault):
        flaky.objects().create(bucket, "a", b"1")


def test_a_store_that_asks_to_slow_down_is_asked_again(flaky: FlakyS3, bucket: str) -> None:
    rule = flaky.fail(Rule("refuse", method="PUT"))
    assert flaky.objects(attempts=2).create(bucket, "a", b"1") is not None
    assert rule.hits == 1


def test_a_read_that_is_cut_short_is_never_half_an_object(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    objects.create(bucket, "a", b"x" * 1000)
    flaky.fail(Rule("cut", method="GET"))
    with pytest.raises(TransientFault):
        flaky.objects().get(bucket, "a")


def test_a_missing_bucket_is_named(objects: Objects) -> None:
    for attempt in (
        lambda: objects.get("not-there", "a"),
        lambda: objects.create("not-there", "a", b""),
        lambda: next(objects.list("not-there", ""), None),
        lambda: objects.put("not-there", "a", b"", {}, "text/plain"),
    ):
        with pytest.raises(SetupFault, match="no bucket 'not-there'"):
            attempt()


def test_a_wrong_access_key_is_the_set_up(s3_url: str, bucket: str) -> None:
    stranger = boto3.client(
        "s3", endpoint_url=s3_url, region_name=REGION,
        aws_access_key_id="stranger", aws_secret_access_key=S3_SECRET_KEY,
    )  # fmt: skip
    with pytest.raises(SetupFault, match=r"refuses the credentials.*AWS_"):
        Objects(stranger).get(bucket, "a")


def test_no_credentials_at_all_is_the_set_up(
    s3_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(SetupFault, match="AWS_ACCESS_KEY_ID"):
        Objects(connect(s3_url)).get(bucket, "a")


def test_credentials_that_stay_old_when_they_are_renewed_are_the_set_up(s3_url: str, bucket: str) -> None:
    old = {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2020-01-01T00:00:00Z"}
    session = botocore.session.get_session()
    renewed = RefreshableCredentials.create_from_metadata(old, lambda: old, "iam-role")
    session._credentials = renewed  # type: ignore[attr-defined]  # there is no public way to give it such
    account = AwsAccount(boto3.Session(botocore_session=session, region_name=REGION))
    with pytest.raises(CredentialsRefused, match="expired and cannot be renewed"):
        Objects(connect(s3_url, account=account)).get(bucket, "a")


def test_an_unknown_profile_is_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(SetupFault, match="not-there"):
        connect()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_missing_permission_says_what_was_tried(flaky: FlakyS3, bucket: str, method: str) -> None:
    flaky.fail(Rule("refuse", method=method, status=403, code="AccessDenied"))
    through = flaky.objects()
    attempts: dict[str, Callable[[], object]] = {
        "GET": lambda: through.get(bucket, "a"),
        "HEAD": lambda: through.head(bucket, "a"),
        "PUT": lambda: through.create(bucket, "a", b""),
        "DELETE": lambda: through.delete(bucket, "a"),
    }
    with pytest.raises(SetupFault, match=f"no permission to .* s3://{bucket}/a"):
        attempts[method]()


def test_a_store_that_cannot_be_reached_is_a_fault_of_the_moment() -> None:
    client = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:9", region_name=REGION,
        aws_access_key_id="a", aws_secret_access_key="b", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(TransientFault, match="could not read"):
        Objects(client, FakeClock()).get("bucket", "a")


def test_odd_keys_are_listed_and_read_as_they_are(objects: Objects, s3: "S3Client", bucket: str) -> None:
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    listed = [entry.key for entry in objects.list(bucket, "")]
    assert sorted(listed) == sorted(ODD_KEYS)
    for key in listed:
        stored = objects.get(bucket, key)
        assert stored is not None
        assert stored.body == key.encode()


def test_a_space_that_aws_lists_as_a_plus_is_a_space(flaky: FlakyS3, s3: "S3Client", bucket: str) -> None:
    """AWS encodes listed keys as forms do; the local server writes %20."""
    for key in ("a b.pdf", "a+b.pdf", "a%20b.pdf"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    flaky.fail(Rule("pass", path="list-type=2", rewrite=lambda body: body.replace(b"a%20b.pdf", b"a+b.pdf")))
    assert [entry.key for entry in flaky.objects().list(bucket, "")] == ["a b.pdf", "a%20b.pdf", "a+b.pdf"]


def test_a_long_listing_is_whole_in_order_and_lazy(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: objects.create(bucket, f"many/{number:04}", b""), range(1005)))
    objects.create(bucket, "many-more/1", b"")
    listing = flaky.objects().list(bucket, "many/")
    assert flaky.calls("GET", "list-type=2") == 0
    assert next(listing).key == "many/0000"
    assert flaky.calls("GET", "list-type=2") == 1
    assert [entry.key for entry in listing] == [f"many/{number:04}" for number in range(1, 1005)]
    assert flaky.calls("GET", "list-type=2") == 2


def test_a_listing_that_breaks_off_is_an_error_not_an_end(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    objects.create(bucket, "a", b"")
    flaky.fail(Rule("refuse", path="list-type=2"))
    with pytest.raises(TransientFault, match="could not list"):
        list(flaky.objects().list(bucket, ""))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda page: re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", page),
            "sends no continuation token",
        ),
        (
            lambda _: (
                b"<ListBucketResult><IsTruncated>true</IsTruncated>"
                b"<NextContinuationToken>same</NextContinuationToken></ListBucketResult>"
            ),
            "repeats a continuation token",
        ),
        (lambda _: b"<html><body>Sign in, please</body></html>", "not from S3"),
        (lambda page: re.sub(rb"<IsTruncated>.*?</IsTruncated>", b"", page), "not from S3"),
    ],
    ids=["no token", "a token again", "another's page", "not said"],
)
def test_a_listing_that_contradicts_itself_is_a_fault_not_an_end(
    flaky: FlakyS3, objects: Objects, bucket: str, change: Callable[[bytes], bytes], complaint: str
) -> None:
    for key in ("a", "b", "c"):
        objects.create(bucket, key, b"")
    client = flaky.client()

    def in_pages_of_two(params: dict[str, Any], **_: object) -> None:  # so that there is a second one
        params["MaxKeys"] = 2

    client.meta.events.register("before-parameter-build.s3.ListObjectsV2", in_pages_of_two)
    assert [entry.key for entry in Objects(client).list(bucket, "")] == ["a", "b", "c"]
    flaky.fail(Rule("pass", "list-type=2", rewrite=change, times=-1))
    with pytest.raises(TransientFault, match=f"could not list s3://{bucket}/.*{complaint}"):
        list(Objects(client).list(bucket, ""))


def test_exactly_the_listed_version_is_fetched(objects: Objects, bucket: str, tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192
    etag = objects.create(bucket, "a", body) or ""
    objects.fetch(bucket, "a", etag, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == body


def test_a_document_that_changed_since_it_was_listed_has_moved(objects: Objects, bucket: str, tmp_path: Path) -> None:
    etag = objects.create(bucket, "a", b"1") or ""
    objects.put(bucket, "a", b"2", {}, "text/plain")
    with pytest.raises(DocumentChanged, match=f"s3://{bucket}/a"):
        objects.fetch(bucket, "a", etag, tmp_path / "a")


def test_a_document_that_vanished_since_it_was_listed_has_moved(objects: Objects, bucket: str, tmp_path: Path) -> None:
    etag = objects.create(bucket, "a", b"1") or ""
    objects.delete(bucket, "a")
    with pytest.raises(DocumentChanged):
        objects.fetch(bucket, "a", etag, tmp_path / "a")


def test_a_document_that_is_cut_on_the_way_is_not_taken_for_whole(
    flaky: FlakyS3, objects: Objects, bucket: str, tmp_path: Path
) -> None:
    etag = objects.create(bucket, "a", b"x" * 100_000) or ""
    flaky.fail(Rule("cut", method="GET"))
    with pytest.raises(TransientFault):
        flaky.objects().fetch(bucket, "a", etag, tmp_path / "a")


def test_metadata_and_media_type_are_kept_and_a_file_is_streamed(
    objects: Objects, s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"{}")
    objects.put(bucket, "old", b"before", {}, "text/plain")
    with file.open("rb") as body:
        objects.put(bucket, "old", body, {"pages": "3"}, "application/json")
    stored = s3.get_object(Bucket=bucket, Key="old")
    assert (stored["Body"].read(), stored["Metadata"], stored["ContentType"]) == (
        b"{}", {"pages": "3"}, "application/json",
    )  # fmt: skip


def test_the_local_server_honours_conditional_writes_and_the_proof_leaves_nothing(
    objects: Objects, s3: "S3Client", bucket: str
) -> None:
    objects.prove_conditional_writes(bucket, "out/_jobs/")
    assert _keys(s3, bucket) == []


@pytest.mark.parametrize("ignored", ["both", "If-None-Match", "If-Match"])
def test_a_store_that_ignores_conditions_is_refused_and_the_proof_leaves_nothing(
    flaky: FlakyS3, s3: "S3Client", bucket: str, ignored: str
) -> None:
    # The proof creates twice, then replaces twice.
    skip, times = {"both": (0, 4), "If-None-Match": (0, 2), "If-Match": (2, 2)}[ignored]
    flaky.fail(Rule("strip", method="PUT", skip=skip, times=times))
    with pytest.raises(SetupFault, match=r"ignores conditional writes.*twice"):
        flaky.objects().prove_conditional_writes(bucket, "out/_jobs/")
    assert _keys(s3, bucket) == []


def test_a_store_that_does_not_know_the_condition_is_the_set_up_not_the_moment(flaky: FlakyS3, bucket: str) -> None:
    flaky.fail(Rule("refuse", method="PUT", status=501, code="NotImplemented", times=-1))
    with pytest.raises(SetupFault, match="NotImplemented"):
        flaky.objects().prove_conditional_writes(bucket, "out/_jobs/")


def test_a_proof_that_the_store_interrupts_leaves_nothing(flaky: FlakyS3, s3: "S3Client", bucket: str) -> None:
    flaky.fail(Rule("refuse", method="PUT", skip=3))
    with pytest.raises(TransientFault):
        flaky.objects().prove_conditional_writes(bucket, "out/_jobs/")
    assert _keys(s3, bucket) == []
