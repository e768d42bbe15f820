"""Classification of S3 errors: which are transient, and the fault for each, with the store's message and a remedy."""

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from urllib3.exceptions import HTTPError

from tasks.faults import Cancelled, CredentialsRefused, Fault, ObjectRefused, SetupFault, TransientFault
from tasks.store.aws import REGION_HEADER, credentials_fault, error_code, own_words
from tasks.store.pace import TooSlow, cancelled_by, causes

LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "OperationAborted"})
"""A condition was not met: another writer was first."""
GONE = frozenset({"NoSuchKey", "404", "NotFound"})
"""There is no such object."""

_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_REDIRECTED = {"301", "302", "307"}
_ELSEWHERE = _REDIRECTED | {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_SLOW_DOWN = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d+)")
# IAM permissions. Without permission to list, S3 also answers "access denied" for objects that do not exist.
_PERMISSIONS = {
    "read": "s3:GetObject (and s3:ListBucket)",
    "look": "s3:GetObject (and s3:ListBucket)",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list": "s3:ListBucket",
}


def passing(error: BaseException) -> bool:
    """Whether an error is transient."""
    if isinstance(error, ClientError):
        status = _status(error)
        if status == 501:  # an operation or header that the store does not implement
            return False
        return status >= 500 or status == 429 or error_code(error) in _SLOW_DOWN
    if isinstance(error, BotoConnectionError | HTTPClientError | HTTPError):
        return not any(isinstance(cause, TooSlow | Cancelled) for cause in causes(error)) and not _set_up(error)
    return False


def explained(error: Exception, attempt: str, bucket: str) -> Fault:
    """Return the fault for an S3 error.

    Args:
        error: the error raised by boto3.
        attempt: what was attempted: a verb of `_PERMISSIONS` and its object.
        bucket: the bucket.
    """
    if (cancelled := cancelled_by(error)) is not None:
        return cancelled
    for cause in causes(error):
        if isinstance(cause, TooSlow):
            return TransientFault(f"could not {attempt}: {cause}")
    code, words = error_code(error), own_words(error)
    if (refused := credentials_fault(error, "S3")) is not None:
        return refused
    if (through := _proxy_fault(error, attempt)) is not None:
        return through
    if code == "NoSuchBucket":
        return SetupFault(f"there is no bucket '{bucket}': create it, or correct the address ({words})")
    if code == "SignatureDoesNotMatch":  # for one key if a proxy rewrites it; for every key if the secret is wrong
        return SetupFault(
            f"S3 refuses the credentials ({code}: {words}): check the AWS_* variables, your profile or the block"
        )
    if code in _DENIED:
        return SetupFault(f"no permission to {attempt} ({words}): {_advice(words, _PERMISSIONS[attempt.split()[0]])}")
    if code in _ELSEWHERE:
        return SetupFault(_elsewhere(error, bucket, words))
    if "Content-MD5" in words:  # S3's message if a bucket with default Object Lock gets no checksum
        return SetupFault(f"could not {attempt} ({code}: {words}): set --destination.checksum md5")
    what = f"could not {attempt}: {f'{words} ({code})' if code else words}"
    if passing(error):
        return TransientFault(what)
    if isinstance(error, SSLError):
        return SetupFault(f"{what}. Name the certificates to trust with AWS_CA_BUNDLE, or correct the address")
    return SetupFault(what)


def document_fault(error: Exception, uri: str, bucket: str) -> Fault:
    """Return the fault for an error in reading one document: `ObjectRefused` if it concerns that object alone."""
    fault, code, words = explained(error, f"read {uri}", bucket), error_code(error), own_words(error)
    if not isinstance(fault, SetupFault) or isinstance(fault, CredentialsRefused) or not isinstance(error, ClientError):
        return fault
    if code == "NoSuchBucket" or code in _ELSEWHERE or _proxy_fault(error, "") is not None:
        return fault
    if code == "InvalidObjectState":
        return ObjectRefused(f"{uri} is archived ({words}): restore it, or exclude it with --exclude")
    if code.startswith("KMS."):
        return ObjectRefused(f"{uri} cannot be decrypted ({code}: {words}): fix its KMS key, or exclude it")
    if code in _DENIED:
        return ObjectRefused(f"no permission to read {uri} ({words}): {_advice(words, _PERMISSIONS['read'])}")
    return ObjectRefused(f"the store will not release {uri} ({code}: {words})")


def etag_of(answer: Mapping[str, Any], attempt: str) -> str:
    """Return the ETag of an answer, without quotes. S3 sends one with every read and write.

    Raises:
        TransientFault: there is none: the answer did not come from S3, and a write was not carried out.
    """
    etag = answer.get("ETag")
    if not etag:
        raise not_of_s3(attempt)
    return str(etag).strip('"')


def not_of_s3(attempt: str) -> TransientFault:
    """Return the fault for a successful answer that did not come from S3."""
    return TransientFault(
        f"could not {attempt}: the answer is not from S3, although its status is success; check what answers at the "
        "store's address (a proxy, a sign-in page)"
    )


def _advice(words: str, permission: str) -> str:
    if "explicit deny" in words:
        return "a policy denies it explicitly, so change that policy, or exclude it"
    if "kms:" in words:
        action = re.search(r"kms:\w+", words)
        return f"allow {action[0] if action else 'kms:Decrypt'} on the KMS key for these credentials, or use others"
    return f"allow {permission} for these credentials, or use others"


def _elsewhere(error: Exception, bucket: str, words: str) -> str:
    """Return the message for a bucket in another region, or a server that redirects to another address."""
    answer = error.response if isinstance(error, ClientError) else {}
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    details = dict(answer.get("Error", {}))
    region = headers.get(REGION_HEADER) or details.get("Region")
    if region:
        return (
            f"bucket '{bucket}' is in region {region} ({words}): set AWS_DEFAULT_REGION={region}, or the region of "
            "the profile or block"
        )
    to = details.get("Endpoint") or headers.get("location")
    if to and error_code(error) in _REDIRECTED:
        return f"the server for bucket '{bucket}' redirects to {to} ({words}): correct the store's address"
    return (
        f"bucket '{bucket}' is in another region ({words}): set AWS_DEFAULT_REGION to the bucket's region, which its "
        "properties show"
    )


def _proxy_fault(error: Exception, attempt: str) -> SetupFault | None:
    """Return the fault for an answer from a proxy instead of the store; None for any other error."""
    status = 0
    proxy = "the proxy"
    if isinstance(error, ProxyConnectionError):
        refused = _TUNNEL.search(" ".join(str(cause) for cause in causes(error)))
        status = int(refused[1]) if refused else 0
        proxy = f"the proxy {error.kwargs.get('proxy_url', '')}".rstrip()
    elif isinstance(error, ClientError) and (_status(error) == 407 or _anonymous(error)):
        status = _status(error)
    if status == 407:
        return SetupFault(
            f"could not {attempt}: {proxy} requires authentication (407): put user and password into HTTPS_PROXY or "
            "HTTP_PROXY, or the store's host into NO_PROXY"
        )
    if status == 403:
        return SetupFault(
            f"could not {attempt}: {proxy} blocks these calls (403): have the store's host allowed "
            "there, or put it into NO_PROXY"
        )
    return None


def _anonymous(error: ClientError) -> bool:
    """Whether a 403 comes from a proxy: no S3 code, no request id, but a proxy's header."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    signed = any(name.startswith(("x-amz", "x-rgw", "x-minio")) for name in headers)
    through = "via" in headers or "proxy-connection" in headers or "proxy" in headers.get("server", "").lower()
    return _status(error) == 403 and error_code(error) in {"", "403"} and not signed and through


def _set_up(error: BaseException) -> bool:
    """Whether a connection error is caused by the set-up: a certificate, or a proxy that refuses."""
    if isinstance(error, SSLError):
        return "certificate" in str(error).lower()
    return isinstance(error, ProxyConnectionError) and _proxy_fault(error, "") is not None


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
