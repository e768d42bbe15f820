"""Whose AWS account it is: what the clients of S3 and SQS are made with, and where that came from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from tasks.faults import CredentialsRefused, Fault, Passes, SetupFault

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# botocore lets urllib3's own errors through when an error answer is cut off, and raises a bare RuntimeError when
# credentials that it has renewed are as old as before.
ERRORS = (ClientError, BotoCoreError, HTTPError, RuntimeError)
"""What a client of boto3 raises."""

REGION_HEADER = "x-amz-bucket-region"
"""In which S3 names a bucket's region, also to those who may not read it."""

_REDIRECTS = {301, 302, 307}
_LONGEST_WORDS = 500
_RAN_OUT = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSecurity",
    "InvalidSignatureException",
}  # fmt: skip
_NONE = "no credentials for {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
# How boto3 names the links of its chain.
_ORIGINS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the credentials file",
    "config-file": "the config file",
    "sso": "a profile's single sign-on",
    "login": "a profile's login",
    "custom-process": "the program that a profile names",
    "assume-role": "the role of a profile",
    "assume-role-with-web-identity": "the role of this service account",
    "container-role": "the role of this container",
    "iam-role": "the role of this machine",
}


@dataclass(frozen=True)
class AwsAccount:
    """Makes clients of AWS' services. Holds secrets, which are never shown.

    Attributes:
        session: boto3's, with the credentials.
        parameters: what every client is made with: the address of another store, its certificate, botocore's settings.
        origin: where all that came from; None for boto3's own chain.
    """

    session: boto3.Session = field(repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str | None = None

    def s3(self, config: Config, endpoint: str | None = None) -> "S3Client":
        """A client of S3.

        Raises:
            SetupFault: boto3 cannot be set up as configured.
        """
        given = dict(self.parameters)
        if "config" in given:
            config = config.merge(given.pop("config"))
        # Whatever a profile, a block or AWS_MAX_ATTEMPTS says: a call that may be repeated is repeated by its caller.
        config = config.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
        if endpoint is not None:
            given["endpoint_url"] = endpoint
        if self.session.region_name is None and not os.environ.get("AWS_REGION"):
            given["region_name"] = "us-east-1"
        try:
            client: S3Client = self.session.client("s3", config=config, **given)
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3 cannot be set up: {error}. Check {self.to_check}") from error
        client.meta.events.register_first("needs-retry.s3.HeadBucket", _end_redirects)
        return client

    def found_in(self) -> str:
        """Where the credentials came from, in words without any of them.

        Raises:
            SetupFault: there are none.
        """
        try:
            found = self.session.get_credentials()
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3's credentials cannot be loaded: {error}. Check {self.to_check}") from error
        if found is None:
            raise CredentialsRefused(_NONE.format("S3"))
        own = _ORIGINS.get(found.method, found.method)
        if self.origin is not None:
            return self.origin if found.method == "explicit" else f"{self.origin}, which leads to {own}"
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        return f"{own}, profile {profile}" if profile and found.method != "env" else own

    @property
    def to_check(self) -> str:
        """Where to look when it does not work."""
        return self.origin or "the AWS_* variables and your profile"


def own_account(profile: str | None = None) -> AwsAccount:
    """The account of boto3's own chain: environment, profile, role; or of a profile that is named.

    Raises:
        SetupFault: it is not set up as configured.
    """
    try:
        return AwsAccount(boto3.Session(profile_name=profile), origin=f"profile {profile}" if profile else None)
    except (ProfileNotFound, BotoCoreError, ValueError) as error:
        raise SetupFault(f"S3 cannot be set up: {error}. Check the AWS_* variables and your profile") from error


def _end_redirects(response: tuple[Any, Any] | None = None, **_: Any) -> None:
    """Stop botocore from going round in circles.

    Redirected to a bucket's region, it asks for that region with HeadBucket; and where that is redirected as well and
    names no region, with another HeadBucket, and so on.
    """
    if response is None:
        return
    metadata = response[1].get("ResponseMetadata", {})
    if metadata.get("HTTPStatusCode") in _REDIRECTS and REGION_HEADER not in metadata.get("HTTPHeaders", {}):
        raise ClientError(response[1], "HeadBucket")


def credentials_fault(error: Exception, service: str) -> Fault | None:
    """The fault of the credentials that an error of a client means; None where it speaks of something else."""
    code = error_code(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CredentialsRefused(_NONE.format(service))
    if isinstance(error, CredentialRetrievalError):  # such as a machine's role, whose service does not answer
        return Passes(f"the credentials for {service} cannot be loaded: {error}")
    if isinstance(error, SSOError | TokenRetrievalError):
        return CredentialsRefused(f"the credentials for {service} cannot be renewed: {error}")
    if isinstance(error, RuntimeError):
        if "credentials" not in str(error):
            raise error
        return CredentialsRefused(f"the credentials for {service} expired and cannot be renewed: {error}")
    if code in _RAN_OUT:
        return CredentialsRefused(
            f"{service} refuses the credentials ({code}: {own_words(error)}): they expired; renew them and start again"
        )
    if code in _BAD_CREDENTIALS:
        return CredentialsRefused(
            f"{service} refuses the credentials ({code}: {own_words(error)}): check the AWS_* variables, your profile "
            "or the block"
        )
    return None


def error_code(error: BaseException) -> str:
    """The code that an AWS service gave an error; empty where it gave none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def own_words(error: Exception) -> str:
    """What the service itself says of an error, in one line; the client's words where it said nothing."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = str(error.response.get("Error", {}).get("Message", "")) or f"status {status}, without a message"
    else:
        said = str(error)
    return " ".join(said.split())[:_LONGEST_WORDS].rstrip(".")
