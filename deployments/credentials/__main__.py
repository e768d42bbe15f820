"""`python -m deployments.credentials`: saves credentials from the environment as blocks."""

import os
import sys
from typing import Annotated

import httpx
from cyclopts import App, Parameter
from prefect.blocks.core import Block
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from deployments.credentials.blocks import BlocksError, aws_credentials, save, upstage_account
from tasks.options import Credentials

app = App(name="python -m deployments.credentials", version_flags=[])


@app.default
def main(
    name: str | None = None,
    *,
    aws: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Save this environment's credentials as blocks on the Prefect server of PREFECT_API_URL, and register their types.

    Running it again changes nothing. Secrets are read from the environment only, never from the command line.

    Args:
        name: name of the 'Upstage account' block, from UPSTAGE_API_KEY and UPSTAGE_BASE_URL. Omit to create none.
        aws: name of the 'AWS Credentials' block, from the AWS_* variables. Omit to create none.
        overwrite: overwrite existing blocks with other content.
    """
    server = PREFECT_API_URL.value() or "of this machine"
    if name is None and aws is None:
        return _complain("Name the block to create, or use --aws NAME; --help lists the variables that are used.")
    try:
        Credentials(upstage=name, aws=aws)
    except ValidationError as error:
        return _complain("; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors()))
    try:
        # Both are read before either is saved, so that nothing is saved if one of them is incomplete.
        wanted: list[tuple[str, Block]] = [(name, upstage_account(os.environ))] if name is not None else []
        wanted += [(aws, aws_credentials(os.environ))] if aws is not None else []
        for own, block in wanted:
            done = save(block, own.rpartition("/")[2], overwrite=overwrite)
            print(f"block {done.block}: {done.did}{f', {done.note}' if done.note else ''}")
    except BlocksError as error:
        return _complain(str(error))
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:  # their messages may contain the secrets sent
        return _complain(f"The Prefect server {server} did not accept this ({type(error).__name__}).")
    used = [f"--upstage-block {name}"] * (name is not None) + [f"--aws-block {aws}"] * (aws is not None)
    print(f"at the Prefect server {server}; use with: bulk-ocr run … {' '.join(used)}")
    if name is not None and aws is not None:
        print(f"commands that send nothing, such as plan and status, take --aws-block {aws} alone")
    return 0


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
