"""The stand-in as a process of a test's own, and calls to it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.sample_documents import text_pdf
from tests.waiting import PATIENCE, until

KEY = "test-key"


class StandIn:
    """A running server, and the calls that tests make to it."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/v1/document-digitization"
        command = [sys.executable, "-m", "deployments.local.upstage", "--port", str(self.port)]
        command += ["--data-dir", str(data_dir), "--api-key", KEY, *flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(self._answers)
        except BaseException:
            self.process.kill()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return call("GET", f"{self.url}/_control/health").ok
        except requests.ConnectionError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def post(self, path: str, document: bytes, name: str = "a.pdf", **fields: str) -> requests.Response:
        return call(
            "POST",
            self.api + path,
            files={"document": (name, document)},
            data={"model": "ocr", **fields},
            headers={"Authorization": f"Bearer {KEY}"},
        )

    def submit(self, document: bytes, name: str = "a.pdf", **fields: str) -> str:
        answer = self.post("/async", document, name, **fields)
        answer.raise_for_status()
        return str(answer.json()["request_id"])

    def get(self, path: str) -> requests.Response:
        return call("GET", self.api + path, headers={"Authorization": f"Bearer {KEY}"})

    def status(self, request_id: str) -> dict[str, Any]:
        answer = self.get(f"/requests/{request_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def finished(self, request_id: str) -> dict[str, Any]:
        return until(lambda: s if (s := self.status(request_id))["status"] in ("completed", "failed") else None)

    def results(self, request_id: str) -> list[Any]:
        """The bodies of a request's batches, once it is finished."""
        batches = self.finished(request_id)["batches"]
        return [download(batch["download_url"]).json() for batch in sorted(batches, key=lambda b: int(b["id"]))]

    def control(self, path: str) -> Any:
        return call("GET", f"{self.url}/_control/{path}").json()

    def set(self, **settings: object) -> None:
        call("PATCH", f"{self.url}/_control/settings", json=settings).raise_for_status()

    def faults(self, *rules: dict[str, object]) -> None:
        call("POST", f"{self.url}/_control/faults", json=rules).raise_for_status()


def call(method: str, url: str, **options: Any) -> requests.Response:
    """One call on a connection of its own; a proxy that the environment names is for other hosts."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=PATIENCE, **options)


def download(url: str, **headers: str) -> requests.Response:
    return call("GET", url, headers=headers)


def numbered_pdf(pages: int) -> bytes:
    """A PDF whose pages say which they are."""
    return text_pdf([f"page {number} of a test" for number in range(1, pages + 1)])
