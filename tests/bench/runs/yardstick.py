"""The yardstick: what a run costs at least. The same calls as a plain script would make them, and nothing else.

`python -m tests.bench.runs.yardstick BUCKET WORKERS`: lists `in/`, submits each document, polls it, downloads its
batches, writes them as one result to `plain/`. No ledger, no retries, no history: killed, it forgets what it sent.
"""

import itertools
import json
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import Queue
from typing import Any

import boto3
import requests
from botocore.config import Config
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 2.0
_CALL_SECONDS = 60.0


def main(bucket: str, workers: int) -> int:
    """Bring every document to a result. Returns how many there were."""
    s3 = boto3.client("s3", config=Config(max_pool_connections=2 * workers))
    api, storage = _session(workers), _session(workers)
    base = f"{os.environ['UPSTAGE_BASE_URL']}/document-digitization"
    api.headers["Authorization"] = f"Bearer {os.environ['UPSTAGE_API_KEY']}"
    sent: Queue[tuple[str, str] | None] = Queue()
    polled_at: dict[str, float] = {}
    collected = itertools.count(1)

    def submit(key: str) -> None:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        name = key.rpartition("/")[2]
        answer = api.post(
            f"{base}/async", data={"model": "ocr"}, files={"document": (name, body)}, timeout=_CALL_SECONDS
        )
        answer.raise_for_status()
        sent.put((key, answer.json()["request_id"]))

    def collect_one(key: str, request_id: str) -> bool:
        wait = polled_at.get(request_id, 0.0) - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, _POLL_SECONDS))
        answer = api.get(f"{base}/requests/{request_id}", timeout=_CALL_SECONDS)
        answer.raise_for_status()
        status = answer.json()
        if status["status"] != "completed":
            polled_at[request_id] = time.monotonic() + _LONGEST_POLL_SECONDS / 4
            return False
        whole: dict[str, Any] = {}
        for batch in status["batches"]:
            body = storage.get(batch["download_url"], timeout=_CALL_SECONDS).json()
            if whole:
                whole["pages"] += body["pages"]
            else:
                whole = body
        s3.put_object(Bucket=bucket, Key=f"plain/{key}.json", Body=json.dumps(whole).encode())
        return True

    def collect() -> None:
        while (job := sent.get()) is not None:
            if not collect_one(*job):
                sent.put(job)
            elif next(collected) == len(keys):
                for _ in range(threads):
                    sent.put(None)

    keys = [
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="in/")
        for item in page.get("Contents", [])
    ]
    if not keys:
        return 0
    threads = workers // 2
    with ThreadPoolExecutor(threads) as collecting, ThreadPoolExecutor(threads) as submitting:
        collectors = [collecting.submit(collect) for _ in range(threads)]
        for call in as_completed([*(submitting.submit(submit, key) for key in keys), *collectors]):
            if call.exception() is not None:  # the others would wait for it for ever
                traceback.print_exception(call.exception())
                os._exit(1)
    return len(keys)


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    # A connection that the server has closed meanwhile is opened anew; a POST is not repeated.
    session.mount("http://", HTTPAdapter(pool_maxsize=connections, max_retries=Retry(3, status=0)))
    return session


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
