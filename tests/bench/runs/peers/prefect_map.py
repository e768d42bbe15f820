"""A naive Prefect flow: a task for each document, with retries, mapped over them.

`python -m tests.bench.runs.peers.prefect_map BUCKET WORKERS`
"""

import sys
import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from tests.bench.runs.peers import calls

_POLL_SECONDS = 0.5


@task(retries=3, retry_delay_seconds=2, cache_policy=NO_CACHE, persist_result=False)
def recognise(bucket: str, key: str) -> str:
    """Send one document, wait for it, and write its result."""
    request_id = calls.submit(bucket, key)
    while not calls.collect(bucket, key, request_id):
        time.sleep(_POLL_SECONDS)
    return key


@flow
def recognise_all(bucket: str) -> int:
    """Recognise all documents that have no result."""
    keys = list(calls.waiting(bucket))
    return len(recognise.map(bucket, keys).result())


if __name__ == "__main__":
    runner: Any = ThreadPoolTaskRunner(max_workers=int(sys.argv[2]))
    print(recognise_all.with_options(task_runner=runner)(sys.argv[1]))
