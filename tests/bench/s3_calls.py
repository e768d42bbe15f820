"""Processor time of one call to S3, made in three ways: by boto3, by this project, by obstore.

`python -m tests.bench.s3_calls [--calls N]`: against the local stack's S3 server, in one thread; the client's own
processor time, so that the server's speed does not matter. obstore is measured where it is installed
(`pip install obstore`): it is what this project would use if it were worth a second client.
"""

import argparse
import importlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.config import Config

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, LocalStack
from tasks.store.aws import AwsAccount, own_account
from tasks.store.lean_calls import LeanCalls

_BODY = b"x" * 1500  # a record of the ledger
_BUCKET = "calls"

Call = Callable[[str], object]


def clients(url: str) -> Iterator[tuple[str, Call, Call, Call]]:
    """The entrants: a name, and what writes, looks at and reads a key."""
    account = AwsAccount(
        own_account().session,
        {"aws_access_key_id": S3_ACCESS_KEY, "aws_secret_access_key": S3_SECRET_KEY, "region_name": REGION},
    )
    config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    client = account.s3(config, url)
    client.create_bucket(Bucket=_BUCKET)
    yield "boto3", *_calls(client)
    yield "this project", *_calls(LeanCalls(client))
    try:
        obstore = importlib.import_module("obstore")
        stores = importlib.import_module("obstore.store")
    except ImportError:
        return
    store = stores.S3Store(
        _BUCKET,
        endpoint=url,
        region=REGION,
        access_key_id=S3_ACCESS_KEY,
        secret_access_key=S3_SECRET_KEY,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    yield (
        "obstore",
        lambda key: obstore.put(store, key, _BODY, mode="create", use_multipart=False),
        lambda key: obstore.head(store, key),
        lambda key: obstore.get(store, key).bytes(),
    )


def _calls(client: Any) -> tuple[Call, Call, Call]:
    return (
        lambda key: client.put_object(Bucket=_BUCKET, Key=key, Body=_BODY, IfNoneMatch="*"),
        lambda key: client.head_object(Bucket=_BUCKET, Key=key),
        lambda key: client.get_object(Bucket=_BUCKET, Key=key)["Body"].read(),
    )


def measured(call: Call, keys: list[str]) -> float:
    """Processor milliseconds of a call, as the fastest third of them takes."""
    spent: list[float] = []
    for key in keys:
        began = time.process_time()
        call(key)
        spent.append(1000 * (time.process_time() - began))
    fastest = sorted(spent)[: max(1, len(spent) // 3)]
    return sum(fastest) / len(fastest)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.s3_calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    given = parser.parse_args()
    print("| processor ms a call | PUT if none is there | HEAD | GET |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), services=("s3",)) as stack:
        for name, *calls in clients(stack.s3_url):
            keys = [f"{uuid.uuid4().hex}.json" for _ in range(given.calls)]
            print(f"| {name} | " + " | ".join(f"{measured(call, keys):.2f}" for call in calls) + " |", flush=True)


if __name__ == "__main__":
    main()
