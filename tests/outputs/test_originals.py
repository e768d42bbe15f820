"""The document that a result is of is had in the version that was recognised, or not at all."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tasks.outputs.originals import Source, find_original, source_of_result
from tasks.store.objects import Objects

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def _etag(s3: "S3Client", bucket: str, key: str, body: bytes) -> str:
    return s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')


def test_a_document_in_s3_is_fetched_in_the_version_of_the_metadata(
    s3: "S3Client", bucket: str, objects: Objects, tmp_path: Path
) -> None:
    etag = _etag(s3, bucket, "in/스캔 1.pdf", b"as it was")
    source = source_of_result({"source": quote(f"s3://{bucket}/in/스캔 1.pdf", safe="/:"), "source-etag": etag})
    assert source == Source(f"s3://{bucket}/in/스캔 1.pdf", etag)
    original = find_original(source, objects, tmp_path)
    assert original.file is not None
    assert original.file.read_bytes() == b"as it was"
    assert original.reason == ""


def test_a_document_that_changed_or_is_gone_is_none_with_a_reason(
    s3: "S3Client", bucket: str, objects: Objects, tmp_path: Path
) -> None:
    source = Source(f"s3://{bucket}/a.pdf", _etag(s3, bucket, "a.pdf", b"as it was"))
    _etag(s3, bucket, "a.pdf", b"as it is")
    changed = find_original(source, objects, tmp_path)
    s3.delete_object(Bucket=bucket, Key="a.pdf")
    gone = find_original(source, objects, tmp_path)
    for original in (changed, gone):
        assert original.file is None
        assert f"s3://{bucket}/a.pdf" in original.reason


def test_a_local_document_is_told_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"as it was")
    source = Source(str(path), hashlib.sha256(b"as it was").hexdigest())
    assert find_original(source, None, tmp_path).file == path
    path.write_bytes(b"as it is")
    changed = find_original(source, None, tmp_path)
    assert (changed.file, "changed" in changed.reason) == (None, True)
    path.unlink()
    gone = find_original(source, None, tmp_path)
    assert (gone.file, str(path) in gone.reason) == (None, True)


def test_metadata_that_do_not_tell_the_document_give_a_reason(tmp_path: Path) -> None:
    assert source_of_result({"bulk-ocr-job": "1"}) is None
    original = find_original(None, None, tmp_path)
    assert original.file is None
    assert "name it with --document" in original.reason
