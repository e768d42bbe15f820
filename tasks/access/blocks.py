"""Secrets from Prefect blocks: the API key with its address, and the AWS account. They are read where the work is done.

A run only carries names of blocks. If it names none, secrets come from the environment. No error reveals a secret:
messages of Prefect, pydantic and boto3 about a block might, so these are dropped along with their tracebacks.
"""

from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL
from pydantic import ConfigDict, Field, SecretStr

from tasks.access.environment import Access
from tasks.faults import SetupFault, TransientFault
from tasks.store.aws import AwsAccount
from tasks.upstage.client import DEFAULT_BASE_URL

_AWS = "aws-credentials"
_PAGE = 200

AnyBlock = TypeVar("AnyBlock", bound=Block)


class UpstageAccount(Block):
    """An account of the Upstage API: its key, and the address that the key is sent to."""

    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Upstage account"
    _block_type_slug = "upstage-account"
    _description = (
        "An account of the Upstage API for bulk-ocr: the key, and the address that the key is sent to. Name the block "
        "in the flows' parameter 'credentials', or with --upstage-block."
    )

    api_key: SecretStr = Field(title="API key", description="From the Upstage console. Sent to the base URL only.")
    base_url: str = Field(
        DEFAULT_BASE_URL,
        title="Base URL",
        description="The API's address up to and with the version. Leave it, unless the API is reached otherwise.",
    )


def upstage_block(name: str) -> Access:
    """The API's address and key from a block 'Upstage account'.

    Raises:
        SetupFault, TransientFault: as for `open_access`.
    """
    name = name.rpartition("/")[2]
    block = _load(UpstageAccount, name)
    shown, remedy = f"block upstage-account/{name}", "correct it in Prefect's UI"
    key = block.api_key.get_secret_value().strip()
    if not key:
        raise SetupFault(f"{shown} has no API key: {remedy}")
    if not key.isascii() or not key.isprintable():
        raise SetupFault(f"the key in {shown} has characters that are not valid in an API key: {remedy}")
    if not _is_base_url(block.base_url):
        raise SetupFault(f"the base URL in {shown} is not a web address such as {DEFAULT_BASE_URL}: {remedy}")
    return Access(block.base_url.strip(), key, origin=shown)


def aws_block(name: str) -> AwsAccount:
    """The AWS account of a block of prefect-aws: NAME of type 'AWS Credentials', or minio-credentials/NAME.

    Raises:
        SetupFault, TransientFault: as for `open_access`.
    """
    kind, _, own = f"{'' if '/' in name else f'{_AWS}/'}{name}".rpartition("/")
    shown = f"block {kind}/{own}"
    try:
        from prefect_aws import AwsCredentials, MinIOCredentials
    except ImportError:
        raise SetupFault(
            f"{shown} needs a package that is not installed: pip install --constraint constraints.txt '.[aws]'"
        ) from None
    block = _load(AwsCredentials, own) if kind == _AWS else _load(MinIOCredentials, own)
    if isinstance(block, AwsCredentials):
        halves = (block.aws_access_key_id, block.aws_secret_access_key)
    else:
        halves = (block.minio_root_user, block.minio_root_password)
    if bool(halves[0]) != bool(halves[1]):  # boto3 would find out at the first call
        raise SetupFault(f"{shown} has only half of an access key: fill in both parts in Prefect's UI")
    try:
        return AwsAccount(block.get_boto3_session(), block.aws_client_parameters.get_params_override(), shown)
    except ClientError as error:  # of STS: the block names a role to assume
        refused = f"its role cannot be assumed ({error.response.get('Error', {}).get('Code', '')})"
    except ProfileNotFound:
        refused = "its profile does not exist on this machine"
    except (BotoCoreError, ValueError, TypeError) as error:
        refused = f"boto3 rejects it as incomplete or wrong ({type(error).__name__})"
    raise SetupFault(f"{shown} cannot be used: {refused}; correct it in Prefect's UI")


def _load(kind: type[AnyBlock], name: str) -> AnyBlock:
    slug = kind.get_block_type_slug()
    try:
        block = kind.load(name)
    except ValueError:  # so Prefect says that there is none
        block = None
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise _trouble(slug, name, error) from None
    if isinstance(block, kind):
        return block
    try:
        with get_client(sync_client=True) as client:
            said = _what_there_is(client, slug, name)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise _trouble(slug, name, error) from None
    raise SetupFault(said)


def _what_there_is(client: SyncPrefectClient, slug: str, name: str) -> str:
    """What to say where there is no such block."""
    own = slug == UpstageAccount.get_block_type_slug()
    command = f"python -m deployments.credentials {name if own else f'--aws {name}'}"
    where = f"at {_server()}"
    try:
        client.read_block_type_by_slug(slug)
    except ObjectNotFound:
        module = "tasks.access.blocks" if own else "prefect_aws"
        return (
            f"there is no block {slug}/{name} {where}, and its type is not registered: create both from "
            "the environment "
            f"with '{command}', or register the type with 'prefect block register --module {module}' and fill in its "
            "form in the UI"
        )
    blocks = [
        (each.block_type.slug if each.block_type else each.block_type_name, each.name)
        for each in client.read_block_documents(limit=_PAGE, include_secrets=False)
    ]
    other_types = sorted(f"{kind}" for kind, each in blocks if each == name)
    if other_types:
        return (
            f"block {name} {where} has type {', '.join(other_types)}, but {slug} is needed. Name another block, "
            f"or create it with '{command}'"
        )
    of_type = sorted(f"{each}" for kind, each in blocks if kind == slug)
    known = f"blocks of that type: {', '.join(of_type)}" if of_type else "there are no blocks of that type"
    return f"there is no block {slug}/{name} {where}; {known}. Create it in the UI, or with '{command}'"


def _trouble(slug: str, name: str, error: Exception) -> SetupFault | TransientFault:
    """What it means when a block cannot be read, without the error's own words."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        kind = TransientFault if status == 429 or status >= 500 else SetupFault
        return kind(
            f"block {slug}/{name} cannot be read: {_server()} answered {status}. Check PREFECT_API_KEY and "
            "its permissions"
        )
    if isinstance(error, httpx.HTTPError) or "Failed to reach API" in str(error):
        return TransientFault(
            f"block {slug}/{name} cannot be read: {_server()} does not answer ({type(error).__name__}). Start "
            "it, or correct PREFECT_API_URL or the profile"
        )
    return SetupFault(
        f"block {slug}/{name} does not fit this version ({type(error).__name__}): open it in Prefect's UI, fill in "
        "the missing fields and save it"
    )


def _server() -> str:
    return f"the Prefect server {PREFECT_API_URL.value() or 'of this machine'}"


def _is_base_url(text: str) -> bool:
    try:
        address = urlsplit(text.strip())
        plain = address.username is None and not address.query and not address.fragment
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0 and plain
    except ValueError:
        return False
