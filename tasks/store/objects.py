"""S3 objects with conditional writes: the only primitive the ledger needs.

Only conditional PutObject is relied on: stores differ in conditional delete, copy and multipart completion.
The ETag is sent without quotes, which Ceph compares literally. A PUT that is answered with an error is read
again before the error is believed, since botocore's own retries may have written it the first time.
"""

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from urllib3.exceptions import HTTPError

from tasks.faults import DocumentMoved, Fault, MomentFault, SetupFault
from tasks.store.accounts import ERRORS, AwsAccount, credentials_fault, error_code, own_account
from tasks.store.object_store import JSON, Described, Entry, Stored

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "OperationAborted"}
_GONE = {"NoSuchKey", "404", "NotFound"}
_DENIED = {"AccessDenied", "403", "Forbidden"}
# What IAM calls them. S3 also says so of an object that does not exist, to those who may not list.
_PERMISSIONS = {
    "read": "s3:GetObject (and s3:ListBucket)",
    "look": "s3:GetObject (and s3:ListBucket)",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list": "s3:ListBucket",
}


def connect(endpoint: str | None = None, connections: int = 32, account: AwsAccount | None = None) -> "S3Client":
    """An S3 client of an account; of boto3's own chain (environment, profile, role) where none is given.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    # Checksums that not every store knows (trailing CRC) are left out unless an operation demands them.
    config = Config(
        retries={"mode": "standard", "max_attempts": 6},
        max_pool_connections=connections,
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return (account or own_account()).s3(config, endpoint)


class Objects:
    """Reads and writes objects; every failure becomes one of this project's faults."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def get(self, bucket: str, key: str) -> Stored | None:
        """An object's bytes, or None when it isn't there."""
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            return Stored(answer["Body"].read(), answer["ETag"].strip('"'))
        except ERRORS as error:
            if error_code(error) in _GONE:
                return None
            raise explained(error, f"read s3://{bucket}/{key}", bucket) from error

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object is there."""
        return self.head(bucket, key) is not None

    def head(self, bucket: str, key: str) -> Described | None:
        """What is known of an object without reading it, or None when it isn't there."""
        try:
            answer = self._client.head_object(Bucket=bucket, Key=key)
        except ERRORS as error:
            if error_code(error) in _GONE:
                return None
            raise explained(self._in_words(error, bucket, key), f"look at s3://{bucket}/{key}", bucket) from error
        etag = answer["ETag"].strip('"')
        return Described(key, etag, answer["ContentLength"], answer["LastModified"], answer["Metadata"])

    def _in_words(self, error: Exception, bucket: str, key: str) -> Exception:
        """Why a look was refused: its answer is a number, and that of a read says whether it is the credentials."""
        if error_code(error) in {"400", "403"}:
            try:
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
            except ERRORS as refused:
                if credentials_fault(refused, "S3") is not None:
                    return refused
        return error

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag, or None when another was first."""
        return self._put_if(bucket, key, body, None)

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Write over exactly the version read before. Returns the new ETag, or None when it had changed."""
        return self._put_if(bucket, key, body, etag)

    def _put_if(self, bucket: str, key: str, body: bytes, etag: str | None) -> str | None:
        try:
            if etag is None:
                answer = self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=JSON, IfNoneMatch="*")
            else:
                answer = self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=JSON, IfMatch=etag)
            return answer["ETag"].strip('"')
        except ERRORS as error:
            code = error_code(error)
            if etag is not None and code in _GONE:
                return None
            if code not in _LOST and not _passing(error):
                raise explained(error, f"write s3://{bucket}/{key}", bucket) from error
            # The answer may speak of a retry of a write that had gone through: what is stored decides.
            stored = self.get(bucket, key)
            if stored is not None and stored.body == body:
                return stored.etag
            # Ceph answers most lost races over If-Match with 500: another version in its place is an answer too.
            if code in _LOST or (etag is not None and stored is not None and stored.etag != etag):
                return None
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Write a file over nothing (`over` is None), or over exactly the version with that ETag; streamed.

        Returns:
            Whether it was written by this call; after a False, look whether a retry of it was.
        """
        put = partial(self._client.put_object, Bucket=bucket, Key=key, Metadata=dict(metadata), ContentType=media_type)
        try:
            with file.open("rb") as body:
                if over is None:
                    put(Body=body, IfNoneMatch="*")
                else:
                    put(Body=body, IfMatch=over)
        except ERRORS as error:
            if error_code(error) in _LOST | _GONE:
                return False
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error
        return True

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """Write an object, whatever was there. A file is streamed."""
        try:
            self._client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=dict(metadata), ContentType=media_type)
        except ERRORS as error:
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that isn't there is fine."""
        try:
            self._client.delete_object(Bucket=bucket, Key=key)
        except ERRORS as error:
            raise explained(error, f"delete s3://{bucket}/{key}", bucket) from error

    def list(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """The objects under a prefix, in key order, a thousand a call, as lazily as they are taken."""
        # botocore asks for encoded keys by itself, and knows that S3 writes a space as "+".
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    yield Entry(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"])
        except ERRORS as error:
            raise explained(error, f"list s3://{bucket}/{prefix}", bucket) from error

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Download exactly the listed version into a file, in pieces.

        Raises:
            DocumentMoved: the object changed or vanished since.
        """
        try:
            body = self._client.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"]
            with to.open("wb") as file:
                for piece in body.iter_chunks(1 << 20):
                    file.write(piece)
        except ERRORS as error:
            if error_code(error) in _GONE | _LOST:
                raise DocumentMoved(f"s3://{bucket}/{key} changed or vanished since it was listed") from error
            raise explained(error, f"read s3://{bucket}/{key}", bucket) from error

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """Find out, with a small object of our own, whether the store honours conditional writes.

        Returns:
            When it was, by the store's clock, in whole seconds.

        Raises:
            SetupFault: it doesn't, so it could not tell two submitters apart; or we may not write there.
        """
        key = f"{folder}check-{uuid.uuid4().hex}"
        first = self.create(bucket, key, b'{"check":1}')
        try:
            again = self.create(bucket, key, b'{"check":2}')
            stale = self.replace(bucket, key, b'{"check":3}', "0" * 32)
            renewed = self.replace(bucket, key, b'{"check":4}', first or "")
            written = self.head(bucket, key)
        finally:
            self.delete(bucket, key)
        if first is None or again is not None or stale is not None or renewed is None or written is None:
            raise SetupFault(
                f"the S3 store behind bucket '{bucket}' ignores conditional writes (If-None-Match, If-Match): "
                "two runs could pay for the same document twice. Use a store that honours them, such as AWS S3, "
                "or a current MinIO or Ceph"
            )
        return written.last_modified


def _passing(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 501:  # an operation or header that the store will never know
            return False
        return status >= 500 or status == 429 or error_code(error) in {"SlowDown", "RequestTimeout", "Throttling"}
    return isinstance(error, BotoConnectionError | HTTPClientError | HTTPError)


def explained(error: Exception, attempt: str, bucket: str) -> Fault:
    """The fault that an S3 error means, in words to act on."""
    code = error_code(error)
    if (refused := credentials_fault(error, "S3")) is not None:
        return refused
    if code == "NoSuchBucket":
        return SetupFault(f"there is no bucket '{bucket}': create it, or correct the address")
    if code == "SignatureDoesNotMatch":  # of one odd key, where a proxy rewrites it; of all, where the secret is wrong
        return SetupFault(f"S3 refuses the credentials ({code}): check the AWS_* variables, your profile or the block")
    if code in _DENIED:
        return SetupFault(
            f"no permission to {attempt}: allow {_PERMISSIONS[attempt.split()[0]]} for these credentials, or use others"
        )
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}:
        return SetupFault(f"bucket '{bucket}' is in another region: set AWS_DEFAULT_REGION to the bucket's region")
    if _passing(error):
        return MomentFault(f"could not {attempt}: {error}")
    return SetupFault(f"could not {attempt}: {error}")
