"""Whose AWS account it is: what the clients of S3 and SQS are made with, and where that came from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from tasks.faults import SetupFault

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

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
        if endpoint is not None:
            given["endpoint_url"] = endpoint
        if self.session.region_name is None and not os.environ.get("AWS_REGION"):
            given["region_name"] = "us-east-1"
        try:
            client: S3Client = self.session.client("s3", config=config, **given)
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3 cannot be set up: {error}. Check {self.to_check}") from error
        return client

    def found_in(self) -> str:
        """Where the credentials came from, in words without any of them.

        Raises:
            SetupFault: there are none.
        """
        try:
            found = self.session.get_credentials()
        except (BotoCoreError, ValueError) as error:
            raise SetupFault(f"S3's credentials cannot be got: {error}. Check {self.to_check}") from error
        if found is None:
            raise SetupFault(
                "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
            )
        own = _ORIGINS.get(found.method, found.method)
        if self.origin is not None:
            return self.origin if found.method == "explicit" else f"{self.origin}, which leads to {own}"
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        return f"{own}, profile {profile}" if profile and found.method != "env" else own

    @property
    def to_check(self) -> str:
        """Where to look when it does not work."""
        return self.origin or "the AWS_* variables and your profile"


def own_account() -> AwsAccount:
    """The account of boto3's own chain: environment, profile, role.

    Raises:
        SetupFault: it is not set up as configured.
    """
    try:
        return AwsAccount(boto3.Session())
    except (ProfileNotFound, BotoCoreError, ValueError) as error:
        raise SetupFault(f"S3 cannot be set up: {error}. Check the AWS_* variables and your profile") from error
