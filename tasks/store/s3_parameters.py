"""Parameters of S3 calls that follow from the bucket options: requester pays, owner, encryption, class, checksum."""

import base64
import hashlib
import zlib
from typing import Any, BinaryIO

from tasks.store.settings import BucketOptions, DestinationOptions

_PIECE = 1 << 20


def parameters(options: BucketOptions) -> dict[str, Any]:
    """Return the parameters of every call."""
    common: dict[str, Any] = {"RequestPayer": "requester"} if options.requester_pays else {}
    if options.expected_owner is not None:
        common["ExpectedBucketOwner"] = options.expected_owner
    return common


def write_parameters(options: BucketOptions) -> dict[str, Any]:
    """Return the additional parameters of every write."""
    if not isinstance(options, DestinationOptions):
        return {}
    encryption = {
        "ServerSideEncryption": options.encryption,
        "SSEKMSKeyId": options.kms_key,
        "BucketKeyEnabled": options.bucket_key,
    }
    return {name: value for name, value in encryption.items() if value is not None}


def result_parameters(options: BucketOptions) -> dict[str, Any]:
    """Return the additional parameters for writing a result."""
    if not isinstance(options, DestinationOptions) or options.storage_class is None:
        return {}
    return {"StorageClass": options.storage_class}


def checksum(options: BucketOptions, body: bytes | BinaryIO) -> dict[str, str]:
    """Return the checksum parameter for a body; empty if none is configured. A file's position is unchanged.

    It is computed here and sent as a header: botocore would send it as a trailer, which not every store supports.
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
