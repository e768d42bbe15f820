"""Opens the API and S3 with secrets from blocks or the environment.

Blocks are read only where one is named, since that takes Prefect, which takes seconds to import.
"""

from tasks.access.environment import Access, environment_access
from tasks.options import Credentials
from tasks.store.aws import AwsAccount
from tasks.store.object_store import ObjectStore
from tasks.store.objects import Objects, connect
from tasks.store.settings import AS_IT_IS, DestinationOptions
from tasks.store.sides import account_of


def open_access(credentials: Credentials) -> Access:
    """The credentials of a run: from the named blocks, otherwise from the environment.

    Raises:
        SetupFault: a block is missing or unusable; the message says how to fix it.
        TransientFault: the Prefect server is unavailable at the moment.
    """
    storage = storage_access(credentials)
    return api_access(credentials).with_aws(storage.aws, storage.source_aws)


def api_access(credentials: Credentials) -> Access:
    """The API's address and key. They come from the same place, so that a key is never sent to another's address.

    Raises:
        SetupFault, TransientFault: as for `open_access`.
    """
    if credentials.upstage is None:
        return environment_access()
    from tasks.access.blocks import upstage_block

    return upstage_block(credentials.upstage)


def storage_access(credentials: Credentials) -> Access:
    """The accounts for S3 alone; none, which stands for boto3's own chain, where no block is named.

    Raises:
        SetupFault, TransientFault: as for `open_access`.
    """
    return Access().with_aws(_account(credentials.aws), _account(credentials.source_aws))


def _account(block: str | None) -> AwsAccount | None:
    if block is None:
        return None
    from tasks.access.blocks import aws_block

    return aws_block(block)


def open_results(credentials: Credentials, connections: int, options: DestinationOptions = AS_IT_IS) -> ObjectStore:
    """The store of results and ledger alone, for commands that need no API key.

    Args:
        credentials: where its secrets are.
        connections: how many threads will use it at once.
        options: how its bucket is used.

    Raises:
        SetupFault, TransientFault: as for `open_access`.
    """
    account = account_of(options, storage_access(credentials).aws)
    return Objects(connect(connections=connections, account=account), options=options)
