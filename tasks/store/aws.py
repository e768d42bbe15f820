"""AWS accounts: the credentials and parameters of S3 and SQS clients, and where they come from."""

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

from tasks.faults import CredentialsRefused, Fault, SetupFault, TransientFault

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# botocore lets urllib3's errors through when an error answer is cut off, and raises a bare RuntimeError when renewed
# credentials are expired as well.
ERRORS = (ClientError, BotoCoreError, HTTPError, RuntimeError)
"""The errors of boto3's clients."""

REGION_HEADER = "x-amz-bucket-region"
"""The header with a bucket's region; S3 sends it even without read permission."""

_REDIRECTS = {301, 302, 307}
_LONGEST_WORDS = 500
_RAN_OUT = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSecurity",
    "InvalidSignatureException",
}  # fmt: skip
_NONE = "no credentials for {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
# By boto3's names for the sources in its chain.
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
    """Creates clients of AWS services. Contains secrets, which are never shown.

    Attributes:
        session: boto3's session with the credentials.
        parameters: parameters of every client: the address of another store, its certificate, botocore's settings.
        origin: the source of credentials and parameters; None for boto3's own chain.
    """

    session: boto3.Session = field(repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str | None = None

    def s3(self, config: Config, endpoint: str | None = None) -> "S3Client":
        """Create an S3 client.

        Raises:
            SetupFault: boto3 cannot be set up as configured.
        """
        parameters = dict(self.parameters)
        if "config" in parameters:
            config = config.merge(parameters.pop("config"))
        # Regardless of profile, block and AWS_MAX_ATTEMPTS: retries are made by the caller only.
        config = config.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
        if endpoint is not None:
            parameters["endpoint_url"] = endpoint
        if self.session.region_name is None and not os.environ.get("AWS_REGION"):
            parameters["region_name"] = "us-east-1"
        try:
            client: S3Client = self.session.client("s3", config=config, **parameters)
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3 cannot be set up: {error}. Check {self.to_check}") from error
        client.meta.events.register_first("needs-retry.s3.HeadBucket", _end_redirects)
        return client

    def found_in(self) -> str:
        """Describe where the credentials come from, without revealing them.

        Raises:
            SetupFault: there are none.
        """
        try:
            credentials = self.session.get_credentials()
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3's credentials cannot be loaded: {error}. Check {self.to_check}") from error
        if credentials is None:
            raise CredentialsRefused(_NONE.format("S3"))
        method = _ORIGINS.get(credentials.method, credentials.method)
        if self.origin is not None:
            return self.origin if credentials.method == "explicit" else f"{self.origin}, which leads to {method}"
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        return f"{method}, profile {profile}" if profile and credentials.method != "env" else method

    @property
    def to_check(self) -> str:
        """What to check if it does not work."""
        return self.origin or "the AWS_* variables and your profile"


def own_account(profile: str | None = None) -> AwsAccount:
    """Return the account of boto3's own chain (environment, profile, role), or of a named profile.

    Raises:
        SetupFault: boto3 cannot be set up as configured.
    """
    try:
        return AwsAccount(boto3.Session(profile_name=profile), origin=f"profile {profile}" if profile else None)
    except (ProfileNotFound, BotoCoreError, ValueError) as error:
        raise SetupFault(f"S3 cannot be set up: {error}. Check the AWS_* variables and your profile") from error


def _end_redirects(response: tuple[Any, Any] | None = None, **_: Any) -> None:
    """Stop an endless loop in botocore.

    When it is redirected to a bucket's region, it looks the region up with HeadBucket; if that is redirected as well
    without a region, it sends another HeadBucket, and so on.
    """
    if response is None:
        return
    metadata = response[1].get("ResponseMetadata", {})
    if metadata.get("HTTPStatusCode") in _REDIRECTS and REGION_HEADER not in metadata.get("HTTPHeaders", {}):
        raise ClientError(response[1], "HeadBucket")


def credentials_fault(error: Exception, service: str) -> Fault | None:
    """Return the fault for an error caused by the credentials; None for any other error."""
    code = error_code(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CredentialsRefused(_NONE.format(service))
    if isinstance(error, CredentialRetrievalError):  # such as a machine's role, whose service does not answer
        return TransientFault(f"the credentials for {service} cannot be loaded: {error}")
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
    """Return the code of an AWS error; empty if it has none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def own_words(error: Exception) -> str:
    """Return the service's own message in one line; the client's message if the service sent none."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        message = str(error.response.get("Error", {}).get("Message", "")) or f"status {status}, without a message"
    else:
        message = str(error)
    return " ".join(message.split())[:_LONGEST_WORDS].rstrip(".")
