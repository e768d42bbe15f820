"""What an error of S3 means: whether it may pass, and the fault it is, in the store's own words and with what to do."""

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

from tasks.faults import Cancelled, CredentialsRefused, Fault, ObjectRefused, Passes, SetupFault
from tasks.store.aws import REGION_HEADER, credentials_fault, error_code, own_words
from tasks.store.pace import TooSlow, cancelled_by, causes

LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "OperationAborted"})
"""A condition was not met: another was first."""
GONE = frozenset({"NoSuchKey", "404", "NotFound"})
"""There is no such object."""

_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_REDIRECTED = {"301", "302", "307"}
_ELSEWHERE = _REDIRECTED | {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_SLOW_DOWN = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d+)")
# What IAM calls them. S3 also says so of an object that does not exist, to those who may not list.
_PERMISSIONS = {
    "read": "s3:GetObject (and s3:ListBucket)",
    "look": "s3:GetObject (and s3:ListBucket)",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list": "s3:ListBucket",
}


def passing(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, ClientError):
        status = _status(error)
        if status == 501:  # an operation or header that the store will never know
            return False
        return status >= 500 or status == 429 or error_code(error) in _SLOW_DOWN
    if isinstance(error, BotoConnectionError | HTTPClientError | HTTPError):
        return not any(isinstance(cause, TooSlow | Cancelled) for cause in causes(error)) and not _set_up(error)
    return False


def explained(error: Exception, attempt: str, bucket: str) -> Fault:
    """The fault that an S3 error means.

    Args:
        error: as boto3 raised it.
        attempt: what was tried: a verb of `_PERMISSIONS`, and on what.
        bucket: where.
    """
    if (cancelled := cancelled_by(error)) is not None:
        return cancelled
    for cause in causes(error):
        if isinstance(cause, TooSlow):
            return Passes(f"could not {attempt}: {cause}")
    code, words = error_code(error), own_words(error)
    if (refused := credentials_fault(error, "S3")) is not None:
        return refused
    if (through := _proxy_fault(error, attempt)) is not None:
        return through
    if code == "NoSuchBucket":
        return SetupFault(f"there is no bucket '{bucket}': create it, or correct the address ({words})")
    if code == "SignatureDoesNotMatch":  # of one odd key, where a proxy rewrites it; of all, where the secret is wrong
        return SetupFault(
            f"S3 refuses the credentials ({code}: {words}): check the AWS_* variables, your profile or the block"
        )
    if code in _DENIED:
        return SetupFault(f"no permission to {attempt} ({words}): {_advice(words, _PERMISSIONS[attempt.split()[0]])}")
    if code in _ELSEWHERE:
        return SetupFault(_elsewhere(error, bucket, words))
    if "Content-MD5" in words:  # in S3's own words, where a bucket with Object Lock by default gets none
        return SetupFault(f"could not {attempt} ({code}: {words}): set --destination.checksum md5")
    what = f"could not {attempt}: {f'{words} ({code})' if code else words}"
    if passing(error):
        return Passes(what)
    if isinstance(error, SSLError):
        return SetupFault(f"{what}. Name the certificates to trust with AWS_CA_BUNDLE, or correct the address")
    return SetupFault(what)


def document_fault(error: Exception, uri: str, bucket: str) -> Fault:
    """The fault that an error of reading one document means: what concerns that object alone is its own."""
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
    """The ETag of an answer, without quotes. S3 gives one with everything that is read or written.

    Raises:
        Passes: there is none: what answered with success is not S3, and a write has gone nowhere.
    """
    etag = answer.get("ETag")
    if not etag:
        raise not_of_s3(attempt)
    return str(etag).strip('"')


def not_of_s3(attempt: str) -> Passes:
    """What to say of an answer that looks like success and has nothing of S3's."""
    return Passes(
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
    """What to say where the bucket, or what answers for it, is at another address."""
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
    """What to say where a proxy answered instead of the store."""
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
    """Whether a 403 has nothing of S3's: no code, no id of a request, but a name of a proxy."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    signed = any(name.startswith(("x-amz", "x-rgw", "x-minio")) for name in headers)
    through = "via" in headers or "proxy-connection" in headers or "proxy" in headers.get("server", "").lower()
    return _status(error) == 403 and error_code(error) in {"", "403"} and not signed and through


def _set_up(error: BaseException) -> bool:
    """Whether an error of the connection is one of the set-up: a certificate, a proxy that refuses."""
    if isinstance(error, SSLError):
        return "certificate" in str(error).lower()
    return isinstance(error, ProxyConnectionError) and _proxy_fault(error, "") is not None


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
