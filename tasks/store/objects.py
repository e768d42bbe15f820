"""S3 objects with conditional writes: the only primitive the ledger needs.

Only conditional PutObject is relied on: stores differ in conditional delete, copy and multipart completion.
ETags are sent without quotes, because Ceph compares them literally. If a PUT is answered with an error, the object is
read before the error is believed, since the store may have written it.

Retries are made here, never by botocore: it would repeat a DELETE whose answer was lost, and destroy what another
worker has written meanwhile. Waits use the clock, so that they end with the run.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from botocore.config import Config
from botocore.exceptions import ClientError

from tasks.clock import Clock
from tasks.faults import DocumentChanged, SetupFault, TransientFault
from tasks.scratch import folder_fault
from tasks.store.attempts import ATTEMPTS, Attempts
from tasks.store.aws import ERRORS, AwsAccount, error_code, own_account
from tasks.store.lean_calls import LeanCalls
from tasks.store.list_answers import read_lists_fast
from tasks.store.object_store import JSON, Described, Entry, Stored
from tasks.store.pace import Pace, keep_pace
from tasks.store.s3_errors import GONE, LOST, document_fault, etag_of, explained, not_of_s3, passing
from tasks.store.s3_parameters import checksum, parameters, result_parameters, write_parameters
from tasks.store.settings import DestinationOptions, SourceOptions
from tasks.store.stretches import Page, listed

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_PIECE = 1 << 20
_CONFLICTS = LOST - {"PreconditionFailed", "412"}


def connect(
    endpoint: str | None = None,
    connections: int = 32,
    account: AwsAccount | None = None,
    pace: Pace | None = None,
) -> "S3Client":
    """Create an S3 client that makes no retries of its own and aborts slow answers.

    Args:
        endpoint: the address of a store other than AWS S3.
        connections: the maximum number of pooled connections.
        account: the AWS account; boto3's own chain (environment, profile, role) by default.
        pace: the minimum speed and the longest duration of a call.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    # Trailing CRC checksums, which not every store supports, are omitted unless an operation requires them.
    config = Config(
        max_pool_connections=connections,
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = (account or own_account()).s3(config, endpoint)
    keep_pace(client, pace or Pace())
    read_lists_fast(client)
    return client


class Objects:
    """Reads and writes objects; every failure becomes one of this project's faults.

    Args:
        client: an S3 client from `connect`, which makes no retries of its own.
        clock: the clock to wait by between retries.
        attempts: maximum attempts of a call with transient errors, including the first.
        options: how the buckets are used.
    """

    def __init__(
        self,
        client: "S3Client",
        clock: Clock | None = None,
        attempts: int = ATTEMPTS,
        options: SourceOptions | DestinationOptions | None = None,
    ) -> None:
        self._client = client
        self._lean = LeanCalls(client)
        self._options = options or DestinationOptions()
        self._with_all = parameters(self._options)
        self._with_writes = self._with_all | write_parameters(self._options)
        self._attempts = Attempts(clock or Clock(), attempts, passing)
        self._deletes_heed_conditions = False  # until the store has shown that it does

    def get(self, bucket: str, key: str) -> Stored | None:
        """Read an object; None if it does not exist."""

        def read() -> Stored:
            answer = self._lean.get_object(Bucket=bucket, Key=key, **self._with_all)
            return Stored(answer["Body"].read(), etag_of(answer, f"read s3://{bucket}/{key}"))

        try:
            return self._attempts.on_record(read)
        except ERRORS as error:
            if error_code(error) in GONE:
                return None
            raise explained(error, f"read s3://{bucket}/{key}", bucket) from error

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object exists."""
        return self.head(bucket, key) is not None

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """Look up an object without reading it; None if it does not exist.

        Args:
            bucket: the bucket.
            key: the object's key.
            document: whether it is one of many documents, so that a refusal concerns it alone and not the set-up.

        Raises:
            ObjectRefused: a document that may not be read.
        """
        attempt = self._attempts.until_the_end if document else self._attempts.on_record
        try:
            answer = attempt(lambda: self._lean.head_object(Bucket=bucket, Key=key, **self._with_all))
        except ERRORS as error:
            if error_code(error) in GONE:
                return None
            detailed, uri = self._error_with_message(error, bucket, key), f"s3://{bucket}/{key}"
            raise (
                document_fault(detailed, uri, bucket) if document else explained(detailed, f"look at {uri}", bucket)
            ) from error
        action = f"look at s3://{bucket}/{key}"
        etag = etag_of(answer, action)
        if not {"ContentLength", "LastModified"} <= answer.keys():  # a proxy that compresses or rewrites answers
            raise not_of_s3(action)
        return Described(key, etag, answer["ContentLength"], answer["LastModified"], answer["Metadata"])

    def _error_with_message(self, error: Exception, bucket: str, key: str) -> Exception:
        """Replace the error of a HEAD, which has only a status, with that of a GET, which has a message."""
        if error_code(error) in {"400", "403", "405"}:
            try:
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **self._with_all)["Body"].close()
            except ERRORS as refused:
                if not error_code(refused).isdigit() and error_code(refused) not in GONE | {""}:
                    return refused
        return error

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag; None if another writer was first."""
        return self._put_if(bucket, key, body, None)

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Replace exactly the version with this ETag. Returns the new ETag; None if the object had changed."""
        return self._put_if(bucket, key, body, etag)

    def _put_if(self, bucket: str, key: str, body: bytes, etag: str | None) -> str | None:
        checked = self._with_writes | checksum(self._options, body)
        put = partial(self._lean.put_object, Bucket=bucket, Key=key, Body=body, ContentType=JSON, **checked)

        def write() -> str | None:
            try:
                answer = put(IfNoneMatch="*") if etag is None else put(IfMatch=etag)
                return etag_of(answer, f"write s3://{bucket}/{key}")
            except ERRORS as error:
                code = error_code(error)
                if etag is not None and code in GONE:
                    return None
                if code not in LOST and not passing(error):
                    raise
                # An earlier attempt may have succeeded, and this answer be about its retry: compare what is stored.
                stored = self.get(bucket, key)
                if stored is not None and stored.body == body:
                    return stored.etag
                # S3 also answers 409 to a write that merely met another call. If no other writer was first, repeat it.
                # Ceph answers most lost If-Match races with 500: a different version shows that the race was lost.
                if stored is not None and stored.etag != etag:
                    return None
                if etag is not None and code in LOST - _CONFLICTS:
                    return None
                raise

        try:
            return self._attempts.on_record(write, _passing_or_lost)
        except ERRORS as error:
            if error_code(error) in LOST:
                if etag is not None:
                    return None
                raise TransientFault(f"could not write s3://{bucket}/{key}: {error}") from error
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Create an object from a file (`over` is None), or replace exactly the version with that ETag; streamed.

        Returns:
            Whether this call wrote it. After False, check the stored object: an earlier attempt of this call may have
            written it.
        """
        put = partial(self._client.put_object, Bucket=bucket, Key=key, Metadata=dict(metadata), ContentType=media_type)
        put = partial(put, **self._with_writes, **result_parameters(self._options))

        def write() -> None:
            with file.open("rb") as body:
                checked = partial(put, **checksum(self._options, body))
                answer = checked(Body=body, IfNoneMatch="*") if over is None else checked(Body=body, IfMatch=over)
                etag_of(answer, f"write s3://{bucket}/{key}")

        try:
            self._attempts.on_record(write)
        except ERRORS as error:
            if error_code(error) in LOST | GONE:
                return False
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error
        return True

    def put(self, bucket: str, key: str, body: bytes | BinaryIO, metadata: Mapping[str, str], media_type: str) -> None:
        """Write an object unconditionally. A file is streamed."""
        start = 0 if isinstance(body, bytes) else body.tell()

        def write() -> None:
            if not isinstance(body, bytes):
                body.seek(start)
            checked = self._with_writes | checksum(self._options, body)
            put = partial(self._lean.put_object, Bucket=bucket, Key=key, Metadata=dict(metadata), **checked)
            etag_of(put(Body=body, ContentType=media_type), f"write s3://{bucket}/{key}")

        try:
            self._attempts.on_record(write)
        except ERRORS as error:
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error

    def remove(self, bucket: str, key: str, etag: str, *, just_written: bool = False) -> bool:
        """Delete exactly the version with this ETag, never one that has replaced it.

        If the answer to a DELETE was lost, the object is checked before the DELETE is repeated: it may have succeeded,
        and another worker may have written the object again. On a store that honours `If-Match`, no other version can
        be deleted. On one that ignores it, a version written between the check and the DELETE can be.

        Args:
            bucket: the bucket.
            key: the object's key.
            etag: the version as read or written.
            just_written: whether the caller's previous call wrote that version, so that no check is needed. A repeated
                DELETE is always preceded by a check.

        Returns:
            True if that version is gone, deleted by this call or earlier; False if another version has replaced it.

        Raises:
            TransientFault: the outcome is still unknown after several attempts.
            SetupFault: deleting is not permitted.
        """

        check_first = not just_written

        def delete() -> bool:
            nonlocal check_first
            checks, check_first = check_first, True
            if checks and not self._deletes_heed_conditions:
                outcome = self._removal_outcome(bucket, key, etag)
                if outcome is not None:
                    return outcome
            try:
                self._delete_if(bucket, key, etag)
            except ERRORS as error:
                code = error_code(error)
                if code in GONE:
                    return True
                if code not in LOST and not passing(error):
                    raise
                if (outcome := self._removal_outcome(bucket, key, etag)) is not None:
                    return outcome
                raise
            return True

        try:
            return self._attempts.on_record(delete, _passing_or_lost)
        except ERRORS as error:
            if error_code(error) in LOST:
                raise TransientFault(f"could not delete s3://{bucket}/{key}: {error}") from error
            raise explained(error, f"delete s3://{bucket}/{key}", bucket) from error

    def _removal_outcome(self, bucket: str, key: str, etag: str) -> bool | None:
        """Return what `remove` returns for the present state; None if that version still has to be deleted."""
        current = self.head(bucket, key)
        if current is None:
            return True
        return None if current.etag == etag else False

    def _delete_if(self, bucket: str, key: str, etag: str) -> None:
        try:
            self._lean.delete_object(Bucket=bucket, Key=key, IfMatch=etag, **self._with_all)
        except ClientError as error:
            if error_code(error) in {"PreconditionFailed", "412"}:
                self._deletes_heed_conditions = True
            if error_code(error) != "NotImplemented":
                raise
            self._lean.delete_object(
                Bucket=bucket, Key=key, **self._with_all
            )  # the store does not support the condition; the object was checked before

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that has no other writers (otherwise use `remove`). A missing object is no error."""
        try:
            self._attempts.on_record(lambda: self._lean.delete_object(Bucket=bucket, Key=key, **self._with_all))
        except ERRORS as error:
            raise explained(error, f"delete s3://{bucket}/{key}", bucket) from error

    def list(self, bucket: str, prefix: str, *, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
        """Yield the objects under a prefix, lazily and in key order, a thousand per call.

        Args:
            bucket: the bucket.
            prefix: the prefix of the keys.
            divide: returns keys at which a long listing is divided, to list its parts concurrently; see `listed`.

        Raises:
            TransientFault: the listing broke off, or contradicts itself: documents would be missed.
        """
        attempt = f"list s3://{bucket}/{prefix}"
        # botocore requests URL-encoded keys by itself, and knows that S3 encodes a space as "+".
        call = partial(self._client.list_objects_v2, Bucket=bucket, Prefix=prefix, **self._with_all)

        def ask(**where: str) -> Page:
            try:
                return self._attempts.on_record(partial(call, **where))
            except ERRORS as error:
                raise explained(error, attempt, bucket) from error

        return listed(ask, attempt, divide)

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """Return the names in a folder in one call, at most a thousand: objects, and folders with a trailing slash."""
        try:
            page = self._attempts.on_record(
                partial(self._client.list_objects_v2, Bucket=bucket, Prefix=folder, Delimiter="/", **self._with_all)
            )
        except ERRORS as error:
            raise explained(error, f"list s3://{bucket}/{folder}", bucket) from error
        names = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        names += [item["Key"] for item in page.get("Contents", [])]
        return [name.removeprefix(folder) for name in names if name != folder]

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Stream exactly the version with this ETag into a file. Interrupted when the run is ended.

        Raises:
            DocumentChanged: the object has changed or vanished.
            ObjectRefused: the store will not release it: no permission, a KMS key, an archive.
            SetupFault: the disk is full.
            Cancelled: the run is being ended.
        """

        def download() -> None:
            answer = self._client.get_object(Bucket=bucket, Key=key, IfMatch=etag, **self._with_all)
            body = answer["Body"]
            try:
                etag_of(answer, f"read s3://{bucket}/{key}")
                with to.open("wb") as file:
                    for piece in body.iter_chunks(_PIECE):
                        file.write(piece)
            finally:
                body.close()

        try:
            self._attempts.until_the_end(download)
        except ERRORS as error:
            if error_code(error) in GONE | LOST:
                raise DocumentChanged(f"s3://{bucket}/{key} changed or vanished since it was listed") from error
            raise document_fault(error, f"s3://{bucket}/{key}", bucket) from error
        except OSError as error:  # from the disk: network errors are wrapped
            raise folder_fault(to.parent, error) or SetupFault(f"{to} cannot be written: {error.strerror}") from error

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start` of exactly the version with this ETag. Interrupted like `fetch`.

        Raises:
            DocumentChanged, ObjectRefused, Cancelled: as for `fetch`.
        """

        def read() -> bytes:
            place = f"bytes={start}-{start + length - 1}"
            answer = self._client.get_object(Bucket=bucket, Key=key, IfMatch=etag, Range=place, **self._with_all)
            with closing(answer["Body"]) as body:
                return body.read()

        try:
            return self._attempts.until_the_end(read)
        except ERRORS as error:
            if error_code(error) in GONE | LOST:
                raise DocumentChanged(f"s3://{bucket}/{key} changed or vanished since it was listed") from error
            raise document_fault(error, f"s3://{bucket}/{key}", bucket) from error

    def prove_conditional_writes(self, bucket: str, folder: str) -> datetime:
        """Check with a small temporary object that the store honours conditional writes.

        Returns:
            The time of the check by the store's clock, in whole seconds.

        Raises:
            SetupFault: it does not, so two submitters could claim the same document; or writing is not permitted.
        """
        key = f"{folder}check-{uuid.uuid4().hex}"
        first = self.create(bucket, key, b'{"check":1}')
        try:
            again = self.create(bucket, key, b'{"check":2}')
            stale = self.replace(bucket, key, b'{"check":3}', "0" * 32)
            renewed = self.replace(bucket, key, b'{"check":4}', first or "")
            written = self.head(bucket, key)
            self._try_stale_delete(bucket, key)
            if renewed is not None:
                self.remove(bucket, key, renewed)
        finally:
            self.delete(bucket, key)
        if first is None or again is not None or stale is not None or renewed is None or written is None:
            raise SetupFault(
                f"the S3 store behind bucket '{bucket}' ignores conditional writes (If-None-Match, If-Match): "
                "two runs could pay for the same document twice. Use a store that honours them, such as AWS S3, "
                "or a current MinIO or Ceph"
            )
        return written.last_modified

    def _try_stale_delete(self, bucket: str, key: str) -> None:
        """Check whether the store honours `If-Match` in DELETE; not all do, and it is not required."""
        try:
            self._lean.delete_object(Bucket=bucket, Key=key, IfMatch="0" * 32, **self._with_all)
        except ERRORS as error:
            self._deletes_heed_conditions = error_code(error) in {"PreconditionFailed", "412"}


def _passing_or_lost(error: BaseException) -> bool:
    return passing(error) or (isinstance(error, Exception) and error_code(error) in LOST)
