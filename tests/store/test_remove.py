"""Deleting exactly the version that is meant, whatever happens to the answer and whoever writes meanwhile.

Each case on a store that heeds `If-Match` when it deletes, as AWS does, and on one that ignores it, as MinIO and older
Ceph do.
"""

from typing import TYPE_CHECKING

import boto3
import pytest

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tasks.clock import Clock
from tasks.faults import SetupFault, TransientFault
from tasks.store.aws import AwsAccount
from tasks.store.local_folder import FolderObjects
from tasks.store.object_store import ObjectStore
from tasks.store.objects import Objects, connect
from tests.fakes import FakeClock
from tests.store.flaky_s3 import FlakyS3, Rule

if TYPE_CHECKING:
    from pathlib import Path

    from types_boto3_s3 import S3Client

LOST = ["lose", "hang_up"]


@pytest.fixture(params=[False, True], ids=["If-Match heeded", "If-Match ignored"])
def ignored(request: pytest.FixtureRequest) -> bool:
    """Whether the store ignores the condition of a DELETE."""
    return bool(request.param)


def body(objects: ObjectStore, bucket: str) -> bytes | None:
    stored = objects.get(bucket, "a")
    return None if stored is None else stored.body


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: "Path") -> ObjectStore:
    """Both kinds of stores."""
    if request.param == "folder":
        return FolderObjects(tmp_path / "folder")
    objects: Objects = request.getfixturevalue("objects")
    return objects


def test_the_version_that_is_meant_is_deleted_and_another_left_alone(store: ObjectStore, bucket: str) -> None:
    first = store.create(bucket, "a", b"1") or ""
    second = store.replace(bucket, "a", b"2", first) or ""
    assert not store.remove(bucket, "a", first)
    assert body(store, bucket) == b"2"
    assert store.remove(bucket, "a", second)
    assert body(store, bucket) is None
    assert store.remove(bucket, "a", second), "it is gone, whoever deleted it"


def test_a_file_that_was_deleted_leaves_nothing_in_the_folder(tmp_path: "Path") -> None:
    store = FolderObjects(tmp_path / "folder")
    (tmp_path / "result").write_bytes(b"{}")
    store.put_file("b", "a", tmp_path / "result", {}, "application/json", over=None)
    before = set((tmp_path / "folder").iterdir())
    described = store.head("b", "a")
    assert described is not None
    assert store.remove("b", "a", described.etag)
    assert len(before - set((tmp_path / "folder").iterdir())) == 1


@pytest.mark.parametrize("action", LOST)
def test_what_another_writes_while_the_answer_is_lost_stays(
    flaky: FlakyS3, objects: Objects, bucket: str, action: str, ignored: bool
) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    rule = Rule(
        "lose" if action == "lose" else "hang_up", "/a", "DELETE", times=-1, status=500, code="InternalError",
        unconditional=ignored, after=lambda: objects.create(bucket, "a", b"theirs"),
    )  # fmt: skip
    flaky.fail(rule)
    assert not flaky.objects(attempts=6).remove(bucket, "a", etag)
    assert body(objects, bucket) == b"theirs"
    assert rule.hits == 1


@pytest.mark.parametrize("action", LOST)
def test_a_delete_whose_answer_was_lost_is_not_repeated(
    flaky: FlakyS3, objects: Objects, bucket: str, action: str, ignored: bool
) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("lose" if action == "lose" else "hang_up", "/a", "DELETE", times=-1, unconditional=ignored))
    assert flaky.objects(attempts=6).remove(bucket, "a", etag)
    assert flaky.calls("DELETE") == 1


def test_a_delete_that_was_not_carried_out_is_tried_again_within_bounds(
    flaky: FlakyS3, objects: Objects, bucket: str
) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("refuse", "/a", "DELETE", times=8))
    with pytest.raises(TransientFault, match=f"could not delete s3://{bucket}/a.*SlowDown"):
        flaky.objects(attempts=6).remove(bucket, "a", etag)
    assert body(objects, bucket) == b"ours"
    assert flaky.objects(attempts=6).remove(bucket, "a", etag)
    assert body(objects, bucket) is None
    assert flaky.calls("DELETE") == 6 + 3


@pytest.mark.parametrize("read", ["GET", "HEAD"])
def test_what_cannot_be_looked_at_afterwards_is_left_open(
    flaky: FlakyS3, objects: Objects, bucket: str, read: str
) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    through = flaky.objects()
    through.prove_conditional_writes(bucket, "out/")
    flaky.fail(Rule("hang_up", "/a", "DELETE"))
    flaky.fail(Rule("refuse", "/a", read, times=-1))
    if read == "HEAD":
        with pytest.raises(TransientFault):
            through.remove(bucket, "a", etag)
    else:
        assert through.remove(bucket, "a", etag)


def test_what_took_the_place_before_the_delete_stays(
    flaky: FlakyS3, objects: Objects, bucket: str, ignored: bool
) -> None:
    """As when a laptop slept between the read of a record and its deletion."""
    etag = objects.create(bucket, "a", b"ours") or ""
    through = flaky.objects()
    flaky.fail(Rule("pass", "", "DELETE", times=-1, unconditional=ignored))
    through.prove_conditional_writes(bucket, "out/")
    objects.replace(bucket, "a", b"theirs", etag)
    assert not through.remove(bucket, "a", etag)
    assert body(objects, bucket) == b"theirs"


def test_a_store_that_heeds_the_condition_needs_no_look_before(
    flaky: FlakyS3, objects: Objects, bucket: str, request: pytest.FixtureRequest
) -> None:
    looks = 1 if request.config.getoption("s3") == "ceph" else 0  # whose gateway ignores it
    through = flaky.objects()
    through.prove_conditional_writes(bucket, "out/")
    etag = objects.create(bucket, "a", b"ours") or ""
    assert through.remove(bucket, "a", etag)
    assert flaky.calls("HEAD", "/a$") == looks


def test_a_store_that_ignores_the_condition_is_looked_at_before(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    through = flaky.objects()
    flaky.fail(Rule("strip", "", "DELETE", times=-1))
    through.prove_conditional_writes(bucket, "out/")
    etag = objects.create(bucket, "a", b"ours") or ""
    assert through.remove(bucket, "a", etag)
    assert flaky.calls("HEAD", "/a$") == 1
    assert flaky.calls("DELETE", "/a$") == 1


def test_a_store_that_does_not_know_the_condition_is_asked_without_it(
    flaky: FlakyS3, objects: Objects, s3: "S3Client", bucket: str
) -> None:
    through = flaky.objects()
    flaky.fail(Rule("refuse", "", "DELETE", status=501, code="NotImplemented", times=2))
    through.prove_conditional_writes(bucket, "out/")
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("refuse", "/a", "DELETE", status=501, code="NotImplemented"))
    assert through.remove(bucket, "a", etag)
    assert not s3.list_objects_v2(Bucket=bucket).get("Contents")


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
def test_a_store_that_takes_the_same_version_for_another_does_not_hold_the_worker(
    flaky: FlakyS3, objects: Objects, bucket: str, status: int, code: str
) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("refuse", "/a", "DELETE", status=status, code=code, times=-1))
    with pytest.raises(TransientFault, match=code):
        flaky.objects(attempts=3).remove(bucket, "a", etag)
    assert flaky.calls("DELETE") == 3


def test_a_missing_permission_to_delete_is_the_set_up(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("refuse", "/a", "DELETE", status=403, code="AccessDenied"))
    with pytest.raises(SetupFault, match="s3:DeleteObject"):
        flaky.objects(attempts=6).remove(bucket, "a", etag)


def test_the_end_of_the_run_does_not_leave_a_record_half_deleted(flaky: FlakyS3, objects: Objects, bucket: str) -> None:
    etag = objects.create(bucket, "a", b"ours") or ""
    flaky.fail(Rule("refuse", "/a", "DELETE"))
    clock = Clock()
    clock.end()
    assert Objects(flaky.client(), clock, attempts=2).remove(bucket, "a", etag)
    assert body(objects, bucket) is None


def test_a_client_repeats_no_call_by_itself_whatever_the_environment_says(
    flaky: FlakyS3, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    session = boto3.Session(S3_ACCESS_KEY, S3_SECRET_KEY, region_name=REGION)
    flaky.fail(Rule("refuse", times=-1, status=500, code="InternalError"))
    objects = Objects(connect(flaky.url, account=AwsAccount(session)), FakeClock(), attempts=1)
    with pytest.raises(TransientFault):
        objects.delete(bucket, "a")
    with pytest.raises(TransientFault):
        objects.put(bucket, "a", b"", {}, "text/plain")
    assert len(flaky.seen) == 2
