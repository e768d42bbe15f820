"""S3 for the commands that run no flow."""

from tasks.options import Credentials
from tasks.store.objects import Objects, connect


def store(credentials: Credentials, connections: int) -> Objects:
    """S3 with the credentials that are named.

    Raises:
        SetupFault, MomentFault: there are none to be had.
    """
    if credentials.aws is None:
        return Objects(connect(connections=connections))
    from tasks.credentials import aws_account  # brings Prefect, which takes seconds: only where a block is named

    return Objects(connect(connections=connections, account=aws_account(credentials.aws)))
