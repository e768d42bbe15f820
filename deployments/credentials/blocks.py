"""Creates blocks from the environment's credentials and saves them on the Prefect server. No secret is shown."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from prefect.blocks.core import Block
from pydantic import SecretStr

from tasks.access.blocks import UpstageAccount
from tasks.upstage.client import DEFAULT_BASE_URL

Did = Literal["created", "updated", "unchanged"]


class BlocksError(Exception):
    """The block cannot be created; the message says what to do."""


class Saved(NamedTuple):
    """What was done with a block."""

    block: str
    did: Did
    note: str = ""


def upstage_account(environment: Mapping[str, str]) -> UpstageAccount:
    """Create a block from UPSTAGE_API_KEY and UPSTAGE_BASE_URL.

    Raises:
        BlocksError: there is no key.
    """
    key = environment.get("UPSTAGE_API_KEY", "").strip()
    if not key:
        raise BlocksError("Set UPSTAGE_API_KEY to the key from the Upstage console: the block is created from it.")
    return UpstageAccount(
        api_key=SecretStr(key), base_url=environment.get("UPSTAGE_BASE_URL", "").strip() or DEFAULT_BASE_URL
    )


def aws_credentials(environment: Mapping[str, str]) -> Block:
    """Create a prefect-aws block from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, session token, region and endpoint.

    Raises:
        BlocksError: there is no key, or prefect-aws is not installed.
    """
    try:
        from prefect_aws import AwsCredentials
        from prefect_aws.client_parameters import AwsClientParameters
    except ImportError:
        raise BlocksError(
            "Blocks for AWS need prefect-aws: pip install --constraint constraints.txt '.[aws]'"
        ) from None
    name, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not name or not secret:
        raise BlocksError(
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the block is created from them. If boto3 finds "
            "credentials by itself (a profile, a role), no block is needed."
        )
    return AwsCredentials(
        aws_access_key_id=name,
        aws_secret_access_key=SecretStr(secret),
        aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
        region_name=environment.get("AWS_DEFAULT_REGION") or environment.get("AWS_REGION") or None,
        aws_client_parameters=AwsClientParameters(
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
        ),
    )


def save(block: Block, name: str, *, overwrite: bool = False) -> Saved:
    """Register the block's type, and save the block under a name. Saving the same block again changes nothing.

    Args:
        block: the block.
        name: its name.
        overwrite: whether to replace an existing block with other content.

    Raises:
        BlocksError: a block of that name has other content, and `overwrite` is not set.
    """
    kind = type(block)
    full = f"{kind.get_block_type_slug()}/{name}"
    kind.register_type_and_schema()
    existing = _loaded(kind, name)
    if existing is not None and dict(existing) == dict(block):
        return Saved(full, "unchanged")
    if existing is not None and not overwrite:
        raise BlocksError(f"Block {full} already exists with other content. Replace it with --overwrite.")
    block.save(name, overwrite=overwrite)
    expires = getattr(block, "aws_session_token", None) is not None
    note = "with a session token, which expires: save it again before that" if expires else ""
    return Saved(full, "created" if existing is None else "updated", note)


def _loaded(kind: type[Block], name: str) -> Block | None:
    try:
        block = kind.load(name)
    except ValueError:  # raised by Prefect if there is none
        return None
    return block if isinstance(block, Block) else None
