"""The test's hand on the API's stand-in: its settings, its faults, its bill."""

import sys
from typing import Any
from urllib.parse import urlencode

import requests

from tests.waiting import PATIENCE


class StandInControl:
    """Talks to the control plane of a running stand-in."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.base_url = f"{url}/v1"
        self.key = key
        self._session = requests.Session()
        self._session.trust_env = False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self.url}/_control/{path}", json=body, timeout=PATIENCE)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def reset(self) -> None:
        """Back to normal: no faults, the first settings, counts at zero."""
        self._call("POST", "reset")

    def set(self, **settings: Any) -> None:
        """Change settings; see `deployments.local.upstage.settings`."""
        self._call("PATCH", "settings", settings)

    def fail(self, *rules: dict[str, Any]) -> None:
        """Inject faults at the network; see `deployments.local.upstage.faults`."""
        self._call("POST", "faults", list(rules))

    def billed(self, *sha256: str, since: int = 0) -> list[dict[str, Any]]:
        """What was billed, for the given documents or for all, but for so many of the oldest."""
        return list(self._call("GET", f"bill?{urlencode({'since': since, 'sha256': sha256}, doseq=True)}")["documents"])

    def requests(self) -> int:
        """How many requests were billed so far."""
        # Of none of them the details: a long test run makes thousands.
        return int(self._call("GET", f"bill?since={sys.maxsize}")["requests"])

    def settings(self) -> dict[str, Any]:
        """The settings in force."""
        return dict(self._call("GET", "settings"))

    def calls(self) -> dict[str, int]:
        """How often each call was made since the last reset."""
        return dict(self._call("GET", "calls")["calls"])

    def answers(self) -> dict[str, dict[str, int]]:
        """How often each call was answered with each status since the last reset."""
        return dict(self._call("GET", "calls")["by_call"])

    def leaked_keys(self) -> int:
        """How often the API key was sent to the storage host."""
        return int(self._call("GET", "calls")["leaked_authorization"])
