"""Secrets from this process's environment, and the credentials of a run, wherever they come from."""

import os
from dataclasses import dataclass, field, replace

from tasks.faults import SetupFault
from tasks.options import Credentials, Options
from tasks.store.aws import AwsAccount
from tasks.upstage.client import DEFAULT_BASE_URL, NO_KEY


@dataclass(frozen=True)
class Access:
    """The credentials of a run. They are never shown.

    Attributes:
        base_url: the API's address.
        key: the account's key for that address, and for no other.
        origin: where these two came from.
        aws: the account for S3; None for boto3's own chain.
        source_aws: the account for the source, where it is another's; None where it is not.
    """

    base_url: str = DEFAULT_BASE_URL
    key: str = field(default="", repr=False)
    origin: str = "the environment"
    aws: AwsAccount | None = None
    source_aws: AwsAccount | None = None

    def with_aws(self, account: AwsAccount | None, source: AwsAccount | None = None) -> "Access":
        """The same, with other accounts for S3."""
        return replace(self, aws=account, source_aws=source)


def environment_access() -> Access:
    """The API's address and the account's key from the environment, and boto3's own chain."""
    variable = os.environ.get("UPSTAGE_BASE_URL", "")
    base_url = variable.strip()  # of a line break, as a file or a secret store may bring
    origin = "the environment" if base_url == variable else "the environment, with white space around the URL removed"
    return Access(base_url or DEFAULT_BASE_URL, os.environ.get("UPSTAGE_API_KEY", ""), origin)


def prove_key(credentials: Credentials, options: Options) -> None:
    """Prove that there is a key for the API, before a Prefect server is started for a run that cannot begin.

    A cluster's processes may have one of their own.

    Raises:
        SetupFault: the environment has none, and no block is named.
    """
    if options.engine == "threads" and credentials.upstage is None and not environment_access().key.strip():
        raise SetupFault(NO_KEY)
