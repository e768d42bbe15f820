"""`python -m deployments.credentials`: makes the blocks that hold credentials, from the environment."""

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
    """Save this environment's credentials as blocks at the Prefect server of PREFECT_API_URL; registers their types.

    A second time changes nothing. Secrets are taken from the environment only, never from the command line.

    Args:
        name: of the block 'Upstage account', made of UPSTAGE_API_KEY and UPSTAGE_BASE_URL; none when left out.
        aws: name of the block 'AWS Credentials', made of the AWS_* variables; none when left out.
        overwrite: write over blocks that hold something else.
    """
    server = PREFECT_API_URL.value() or "of this machine"
    if name is None and aws is None:
        return _complain("Name the block to make, or give --aws NAME; --help says what they are made of.")
    try:
        Credentials(upstage=name, aws=aws)
    except ValidationError as error:
        return _complain("; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors()))
    try:
        # Both are read before one is saved: half of what was asked for helps nobody.
        wanted: list[tuple[str, Block]] = [(name, upstage_account(os.environ))] if name is not None else []
        wanted += [(aws, aws_credentials(os.environ))] if aws is not None else []
        for own, block in wanted:
            done = save(block, own.rpartition("/")[2], overwrite=overwrite)
            print(f"block {done.block}: {done.did}{f', {done.note}' if done.note else ''}")
    except BlocksError as error:
        return _complain(str(error))
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:  # their own words may hold what was sent
        return _complain(f"The Prefect server {server} does not do it ({type(error).__name__}).")
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
