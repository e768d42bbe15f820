"""S3 objects with conditional writes: the only primitive the ledger needs.

Only conditional PutObject is relied on: stores differ in conditional delete, copy and multipart completion.
The ETag is sent without quotes, which Ceph compares literally. A PUT that is answered with an error is read
again before the error is believed, since the store may have carried it out.

Retries are made here, never by botocore: it would repeat a DELETE whose answer was lost, and destroy what another
worker has written meanwhile. Their waits are the clock's, so that they end with the run.
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
from tasks.faults import DocumentChanged, Passes, SetupFault
from tasks.scratch import folder_fault
from tasks.store.attempts import ATTEMPTS, Attempts
from tasks.store.aws import ERRORS, AwsAccount, error_code, own_account
from tasks.store.lean_calls import LeanCalls
from tasks.store.list_answers import read_lists_fast
from tasks.store.object_store import JSON, Described, Entry, Stored
from tasks.store.pace import Pace, keep_pace
from tasks.store.s3_errors import GONE, LOST, document_fault, etag_of, explained, passing
from tasks.store.s3_parameters import checksum, parameters, result_parameters, write_parameters
from tasks.store.settings import DestinationOptions, SourceOptions
from tasks.store.stretches import Page, listed

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_PIECE = 1 << 20


def connect(
    endpoint: str | None = None,
    connections: int = 32,
    account: AwsAccount | None = None,
    pace: Pace | None = None,
) -> "S3Client":
    """An S3 client that repeats no call by itself and gives up answers that drip.

    Args:
        endpoint: the address of another store than AWS'.
        connections: how many are kept.
        account: whose; boto3's own chain (environment, profile, role) when left out.
        pace: how slow is too slow.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    # Checksums that not every store knows (trailing CRC) are left out unless an operation demands them.
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
        client: boto3's client for S3, as `connect` makes it: one that repeats no call by itself.
        clock: paces the retries.
        attempts: how often a call is made, the first included, while it fails for reasons that may pass.
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
        self._deletes_heed_conditions = False  # until the store has shown that they do

    def get(self, bucket: str, key: str) -> Stored | None:
        """An object's bytes, or None when it isn't there."""

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
        """Whether the object is there."""
        return self.head(bucket, key) is not None

    def head(self, bucket: str, key: str, *, document: bool = False) -> Described | None:
        """What is known of an object without reading it, or None when it isn't there.

        Args:
            bucket: the bucket.
            key: the object's key.
            document: whether it is one of many, so that a refusal is its own and not the set-up's.

        Raises:
            ObjectRefused: a document that may not be looked at.
        """
        tried = self._attempts.until_the_end if document else self._attempts.on_record
        try:
            answer = tried(lambda: self._lean.head_object(Bucket=bucket, Key=key, **self._with_all))
        except ERRORS as error:
            if error_code(error) in GONE:
                return None
            why, uri = self._in_words(error, bucket, key), f"s3://{bucket}/{key}"
            raise (
                document_fault(why, uri, bucket) if document else explained(why, f"look at {uri}", bucket)
            ) from error
        etag = etag_of(answer, f"look at s3://{bucket}/{key}")
        return Described(key, etag, answer["ContentLength"], answer["LastModified"], answer["Metadata"])

    def _in_words(self, error: Exception, bucket: str, key: str) -> Exception:
        """Why a look was refused: its answer is a number, and that of a read has a sentence."""
        if error_code(error) in {"400", "403", "405"}:
            try:
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **self._with_all)["Body"].close()
            except ERRORS as refused:
                if not error_code(refused).isdigit() and error_code(refused) not in GONE | {""}:
                    return refused
        return error

    def create(self, bucket: str, key: str, body: bytes) -> str | None:
        """Write an object that must not exist yet. Returns its ETag, or None when another was first."""
        return self._put_if(bucket, key, body, None)

    def replace(self, bucket: str, key: str, body: bytes, etag: str) -> str | None:
        """Write over exactly the version read before. Returns the new ETag, or None when it had changed."""
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
                # The answer may speak of a retry of a write that had gone through: what is stored decides.
                stored = self.get(bucket, key)
                if stored is not None and stored.body == body:
                    return stored.etag
                # Ceph answers most lost races over If-Match with 500: another version in its place is an answer too.
                if code in LOST or (etag is not None and stored is not None and stored.etag != etag):
                    return None
                raise

        try:
            return self._attempts.on_record(write)
        except ERRORS as error:
            raise explained(error, f"write s3://{bucket}/{key}", bucket) from error

    def put_file(
        self, bucket: str, key: str, file: Path, metadata: Mapping[str, str], media_type: str, *, over: str | None
    ) -> bool:
        """Write a file over nothing (`over` is None), or over exactly the version with that ETag; streamed.

        Returns:
            Whether it was written by this call; after a False, look whether a retry of it was.
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
        """Write an object, whatever was there. A file is streamed."""
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
        """Delete an object while it is exactly the version with that ETag, and no other that took its place.

        A DELETE whose answer was lost is not repeated before the object is looked at: it may have been carried out,
        and another worker may have written the object anew. On a store that heeds `If-Match` nothing else can be
        deleted. On one that ignores it, what is written between the look and the DELETE can.

        Args:
            bucket: the bucket.
            key: the object's key.
            etag: the version, as it was read or written.
            just_written: whether the call before this one has written that version, which is as good as a look. A
                DELETE that is repeated is preceded by a look in any case.

        Returns:
            True when that version is gone, by this call or already; False when another is in its place, left alone.

        Raises:
            Passes: it could not be told, within several attempts.
            SetupFault: it may not be deleted.
        """

        look = not just_written

        def delete() -> bool:
            nonlocal look
            looks, look = look, True
            if looks and not self._deletes_heed_conditions and (other := self._replaced(bucket, key, etag)) is not None:
                return other
            try:
                self._delete_if(bucket, key, etag)
            except ERRORS as error:
                code = error_code(error)
                if code in GONE:
                    return True
                if code not in LOST and not passing(error):
                    raise
                if (other := self._replaced(bucket, key, etag)) is not None:
                    return other
                raise
            return True

        try:
            return self._attempts.on_record(
                delete, lambda error: passing(error) or (isinstance(error, Exception) and error_code(error) in LOST)
            )
        except ERRORS as error:
            if error_code(error) in LOST:
                raise Passes(f"could not delete s3://{bucket}/{key}: {error}") from error
            raise explained(error, f"delete s3://{bucket}/{key}", bucket) from error

    def _replaced(self, bucket: str, key: str, etag: str) -> bool | None:
        """What `remove` answers for what is there now; None while it is that version, which is still to be deleted."""
        found = self.head(bucket, key)
        if found is None:
            return True
        return None if found.etag == etag else False

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
            )  # a store that refuses the condition; it was looked at

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object that nobody else writes; one that isn't there is fine. For all others there is `remove`."""
        try:
            self._attempts.on_record(lambda: self._lean.delete_object(Bucket=bucket, Key=key, **self._with_all))
        except ERRORS as error:
            raise explained(error, f"delete s3://{bucket}/{key}", bucket) from error

    def list(self, bucket: str, prefix: str, *, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
        """The objects under a prefix, in key order, a thousand a call, as lazily as they are taken.

        Args:
            bucket: the bucket.
            prefix: what the keys begin with.
            divide: gives keys at which a long listing is divided, to list its stretches side by side; see `listed`.

        Raises:
            Passes: the listing broke off, or contradicts itself: what it did not name would go unseen.
        """
        attempt = f"list s3://{bucket}/{prefix}"
        # botocore asks for encoded keys by itself, and knows that S3 writes a space as "+".
        call = partial(self._client.list_objects_v2, Bucket=bucket, Prefix=prefix, **self._with_all)

        def ask(**where: str) -> Page:
            try:
                return self._attempts.on_record(partial(call, **where))
            except ERRORS as error:
                raise explained(error, attempt, bucket) from error

        return listed(ask, attempt, divide)

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        """What lies in a folder: objects, and folders with a slash at their ends; a thousand at most, in one call."""
        try:
            page = self._attempts.on_record(
                partial(self._client.list_objects_v2, Bucket=bucket, Prefix=folder, Delimiter="/", **self._with_all)
            )
        except ERRORS as error:
            raise explained(error, f"list s3://{bucket}/{folder}", bucket) from error
        found = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        found += [item["Key"] for item in page.get("Contents", [])]
        return [name.removeprefix(folder) for name in found if name != folder]

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        """Download exactly the listed version into a file, in pieces. Ends with the run.

        Raises:
            DocumentChanged: the object changed or vanished since.
            ObjectRefused: the store does not give it out: no permission, a KMS key, an archive.
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
        except OSError as error:  # the disk's: those of a connection come wrapped
            raise folder_fault(to.parent, error) or SetupFault(f"{to} cannot be written: {error.strerror}") from error

    def read_part(self, bucket: str, key: str, etag: str, start: int, length: int) -> bytes:
        """Some bytes of exactly the listed version, from a place on. Ends with the run.

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
        """Find out whether the store heeds `If-Match` when it deletes; not all do, and it can be done without."""
        try:
            self._lean.delete_object(Bucket=bucket, Key=key, IfMatch="0" * 32, **self._with_all)
        except ERRORS as error:
            self._deletes_heed_conditions = error_code(error) in {"PreconditionFailed", "412"}
