"""The yardstick: what a run costs at least. The same calls as a plain script would make them, and nothing else.

`python -m tests.bench.runs.yardstick BUCKET WORKERS`: lists `in/`, submits each document, polls it, downloads its
batches, writes them as one result to `plain/`. No ledger, no retries, no history: killed, it forgets what it sent.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import boto3
import requests
from botocore.config import Config
from requests.adapters import HTTPAdapter

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

    def submit(key: str) -> None:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        name = key.rpartition("/")[2]
        answer = api.post(
            f"{base}/async", data={"model": "ocr"}, files={"document": (name, body)}, timeout=_CALL_SECONDS
        )
        answer.raise_for_status()
        sent.put((key, answer.json()["request_id"]))

    def collect() -> None:
        while (job := sent.get()) is not None:
            key, request_id = job
            wait = polled_at.get(request_id, 0.0) - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, _POLL_SECONDS))
            answer = api.get(f"{base}/requests/{request_id}", timeout=_CALL_SECONDS)
            answer.raise_for_status()
            status = answer.json()
            if status["status"] != "completed":
                polled_at[request_id] = time.monotonic() + _LONGEST_POLL_SECONDS / 4
                sent.put(job)
                sent.task_done()
                continue
            whole: dict[str, Any] = {}
            for batch in status["batches"]:
                body = storage.get(batch["download_url"], timeout=_CALL_SECONDS).json()
                if whole:
                    whole["pages"] += body["pages"]
                else:
                    whole = body
            s3.put_object(Bucket=bucket, Key=f"plain/{key}.json", Body=json.dumps(whole).encode())
            sent.task_done()

    keys = [
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="in/")
        for item in page.get("Contents", [])
    ]
    collectors = [threading.Thread(target=collect) for _ in range(workers // 2)]
    for collector in collectors:
        collector.start()
    with ThreadPoolExecutor(workers // 2) as pool:
        for _ in pool.map(submit, keys):
            pass
    sent.join()
    for _ in collectors:
        sent.put(None)
    for collector in collectors:
        collector.join()
    return len(keys)


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=connections))
    return session


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
