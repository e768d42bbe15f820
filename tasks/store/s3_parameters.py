"""What is sent with calls to S3 because of how a bucket is used: who pays, whose it is, encryption, class, checksum."""

import base64
import hashlib
import zlib
from typing import Any, BinaryIO

from tasks.store.settings import BucketOptions, DestinationOptions

_PIECE = 1 << 20


def parameters(options: BucketOptions) -> dict[str, Any]:
    """What every call takes."""
    given: dict[str, Any] = {"RequestPayer": "requester"} if options.requester_pays else {}
    if options.expected_owner is not None:
        given["ExpectedBucketOwner"] = options.expected_owner
    return given


def write_parameters(options: BucketOptions) -> dict[str, Any]:
    """What every write takes beside those."""
    if not isinstance(options, DestinationOptions):
        return {}
    given = {
        "ServerSideEncryption": options.encryption,
        "SSEKMSKeyId": options.kms_key,
        "BucketKeyEnabled": options.bucket_key,
    }
    return {name: value for name, value in given.items() if value is not None}


def result_parameters(options: BucketOptions) -> dict[str, Any]:
    """What the writing of a result takes beside those."""
    if not isinstance(options, DestinationOptions) or options.storage_class is None:
        return {}
    return {"StorageClass": options.storage_class}


def checksum(options: BucketOptions, body: bytes | BinaryIO) -> dict[str, str]:
    """The checksum that goes with a body, where one is wanted. A file is left where it was.

    It is reckoned here and sent in the head: botocore would send it behind the body, which not every store knows.
    """
    kind = options.checksum if isinstance(options, DestinationOptions) else None
    if kind is None:
        return {}
    hashed = hashlib.new("sha256" if kind == "sha256" else "md5", usedforsecurity=False)
    cyclic = 0
    start = 0 if isinstance(body, bytes) else body.tell()
    for piece in [body] if isinstance(body, bytes) else iter(lambda: body.read(_PIECE), b""):
        hashed.update(piece)
        cyclic = zlib.crc32(piece, cyclic)
    if not isinstance(body, bytes):
        body.seek(start)
    if kind == "crc32":
        return {"ChecksumCRC32": base64.b64encode(cyclic.to_bytes(4, "big")).decode()}
    name = "ContentMD5" if kind == "md5" else "ChecksumSHA256"
    return {name: base64.b64encode(hashed.digest()).decode()}
