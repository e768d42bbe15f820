"""The Prefect server's API as the UI uses it, for tests to look and to act."""

import time
from typing import Any

import requests

from tests.waiting import PATIENCE


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    """One call, repeated while the server says that its database is locked, as Prefect's own client does.

    Args:
        url: the server's address, without `/api`.
        method: GET, POST, ….
        path: below `/api/`.
        body: the JSON to send.
    """
    deadline = time.monotonic() + PATIENCE
    with requests.Session() as session:
        session.trust_env = False
        while True:
            answer = session.request(method, f"{url}/api/{path}", json=body, timeout=PATIENCE)
            if answer.status_code != requests.codes.unavailable or time.monotonic() > deadline:
                break
            time.sleep(0.2)  # between bounded tries: the server has no way to call us
    assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None
