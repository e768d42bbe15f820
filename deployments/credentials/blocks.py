"""Blocks with what the environment holds, saved at the Prefect server; no secret is shown."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from prefect.blocks.core import Block
from pydantic import SecretStr

from tasks.access.blocks import UpstageAccount
from tasks.upstage.client import DEFAULT_BASE_URL

Did = Literal["created", "updated", "as it was"]


class BlocksError(Exception):
    """The block cannot be made; the message says what to do."""


class Saved(NamedTuple):
    """What became of a block."""

    block: str
    did: Did
    note: str = ""


def upstage_account(environment: Mapping[str, str]) -> UpstageAccount:
    """A block of UPSTAGE_API_KEY and UPSTAGE_BASE_URL.

    Raises:
        BlocksError: there is no key.
    """
    key = environment.get("UPSTAGE_API_KEY", "").strip()
    if not key:
        raise BlocksError("Set UPSTAGE_API_KEY to the key from the Upstage console: the block is made of it.")
    return UpstageAccount(
        api_key=SecretStr(key), base_url=environment.get("UPSTAGE_BASE_URL", "").strip() or DEFAULT_BASE_URL
    )


def aws_credentials(environment: Mapping[str, str]) -> Block:
    """A block of prefect-aws of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, the session token, region and endpoint.

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
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the block is made of them. Where boto3 finds credentials "
            "by itself (a profile, a role), no block is needed."
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
    """Register the block's type, and save the block under a name. A second time changes nothing.

    Raises:
        BlocksError: a block of that name holds something else, and is not to be written over.
    """
    kind = type(block)
    full = f"{kind.get_block_type_slug()}/{name}"
    kind.register_type_and_schema()
    there = _loaded(kind, name)
    if there is not None and dict(there) == dict(block):
        return Saved(full, "as it was")
    if there is not None and not overwrite:
        raise BlocksError(f"Block {full} is there and holds something else. Write over it with --overwrite.")
    block.save(name, overwrite=overwrite)
    expires = getattr(block, "aws_session_token", None) is not None
    note = "with a session token, so it will run out: make it again before that" if expires else ""
    return Saved(full, "created" if there is None else "updated", note)


def _loaded(kind: type[Block], name: str) -> Block | None:
    try:
        found = kind.load(name)
    except ValueError:  # so Prefect says that there is none
        return None
    return found if isinstance(found, Block) else None
