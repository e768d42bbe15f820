"""The calls that both peers make, one document at a time."""

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

_CALL_SECONDS = 60.0
_local = threading.local()


def s3() -> Any:
    """A client of S3 for this thread."""
    if not hasattr(_local, "s3"):
        _local.s3 = boto3.session.Session().client("s3")
    return _local.s3


def session() -> requests.Session:
    """A session with the API for this thread."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
        # A connection that was idle for a poll interval may have been closed by the server: a GET is tried again.
        _local.session.mount("http://", HTTPAdapter(max_retries=Retry(total=3)))
    found: requests.Session = _local.session
    return found


def waiting(bucket: str) -> Iterator[str]:
    """The documents without a result."""
    pages = s3().get_paginator("list_objects_v2")

    def keys(prefix: str) -> Iterator[str]:
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", []))

    there = {key.removeprefix("plain/").removesuffix(".json") for key in keys("plain/")}
    return (key for key in keys("in/") if key not in there)


def submit(bucket: str, key: str) -> str:
    """Send a document. Returns the request's id."""
    body = s3().get_object(Bucket=bucket, Key=key)["Body"].read()
    answer = session().post(
        f"{_base()}/async",
        data={"model": "ocr"},
        files={"document": (key.rpartition("/")[2], body)},
        headers=_headers(),
        timeout=_CALL_SECONDS,
    )
    answer.raise_for_status()
    return str(answer.json()["request_id"])


def collect(bucket: str, key: str, request_id: str) -> bool:
    """Write the result of a request, if it is finished. Returns whether it is."""
    answer = session().get(f"{_base()}/requests/{request_id}", headers=_headers(), timeout=_CALL_SECONDS)
    answer.raise_for_status()
    if answer.json()["status"] != "completed":
        return False
    whole: dict[str, Any] = {}
    for batch in answer.json()["batches"]:
        body = session().get(batch["download_url"], timeout=_CALL_SECONDS).json()
        if whole:
            whole["pages"] += body["pages"]
        else:
            whole = body
    s3().put_object(Bucket=bucket, Key=f"plain/{key}.json", Body=json.dumps(whole).encode())
    return True


def _base() -> str:
    return f"{os.environ['UPSTAGE_BASE_URL']}/document-digitization"


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {os.environ['UPSTAGE_API_KEY']}"}
