"""Counts the calls received, so that tests can check what a client did."""

from __future__ import annotations

import re
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROL = "/_control"
API = "/v1/document-digitization"
STORAGE = "/storage"

_TEMPLATES = [
    (re.compile(rf"{API}/requests/[^/]+"), f"{API}/requests/{{id}}"),
    (re.compile(rf"{STORAGE}/[^/]+/[^/]+"), f"{STORAGE}/{{id}}/{{batch}}"),
    (re.compile(rf"{API}(/async|/requests)?"), None),
]


def is_control(path: str) -> bool:
    """Return whether a path belongs to the control plane, which is neither counted nor subject to faults."""
    return path == CONTROL or path.startswith(CONTROL + "/")


def _template(path: str) -> str:
    for pattern, template in _TEMPLATES:
        if pattern.fullmatch(path):
            return template or path
    return "other"


class Calls:
    """The counts. Used only by the event loop's thread.

    Attributes:
        begun_anew: how often the counts were cleared.
    """

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str]] = Counter()
        self._leaked = 0
        self.begun_anew = 0

    def note(self, method: str, path: str, outcome: str, leaked: bool) -> None:
        """Count a call: `outcome` is the status code, or `reset` if the caller got no answer."""
        self._answers[f"{method} {_template(path)}", outcome] += 1
        self._leaked += leaked

    def clear(self) -> None:
        """Reset all counts to zero."""
        self._answers.clear()
        self._leaked = 0
        self.begun_anew += 1

    def report(self) -> dict[str, object]:
        """Return all counts, in total and by call."""
        calls: Counter[str] = Counter()
        statuses: Counter[str] = Counter()
        by_call: dict[str, dict[str, int]] = {}
        for (call, outcome), count in sorted(self._answers.items()):
            calls[call] += count
            statuses[outcome] += count
            by_call.setdefault(call, {})[outcome] = count
        return {
            "calls": dict(calls),
            "statuses": dict(statuses),
            "by_call": by_call,
            "leaked_authorization": self._leaked,
        }


class CallCounter:
    """The outermost middleware, so that answers from fault rules are counted as well."""

    def __init__(self, app: ASGIApp, calls: Calls) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a call and count it."""
        if scope["type"] != "http" or is_control(scope["path"]):
            await self._app(scope, receive, send)
            return
        outcome, counts = "reset", self._calls.begun_anew

        async def noting_send(message: Message) -> None:
            nonlocal outcome
            if message["type"] == "http.response.start":
                outcome = str(message["status"])
                self._note(scope, outcome, counts)  # before the caller can ask for the counts
            await send(message)

        await self._app(scope, receive, noting_send)
        if outcome == "reset":
            self._note(scope, outcome, counts)

    def _note(self, scope: Scope, outcome: str, counts: int) -> None:
        if counts != self._calls.begun_anew:
            return  # received before the counts were cleared, and answered late
        carries_key = any(name == b"authorization" for name, _ in scope["headers"])
        leaked = carries_key and scope["path"].startswith(STORAGE + "/")
        self._calls.note(scope["method"], scope["path"], outcome, leaked)
