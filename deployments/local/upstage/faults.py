"""Injects faults of networks and servers into selected calls."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.local.upstage.calls import is_control
from deployments.local.upstage.settings import FOR_EVER
from deployments.local.upstage.transport import hang_up, reset

_WELCOME = "<html><body><h1>Welcome</h1></body>"
_SIGN_IN = """<!doctype html>
<html><head><title>Sign in</title></head>
<body><h1>Welcome to this network</h1><form action="/login">Please sign in to go on</form></body></html>
"""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


class Fault(BaseModel):
    """A rule: which calls fail, how often, and how."""

    model_config = ConfigDict(extra="forbid")

    action: Literal[
        "status", "status_after", "reset_before", "reset_after", "delay", "cut", "drip", "garbage", "sign_in", "instead"
    ] = Field(
        description=(
            "status: answer with `status`, `headers` and `body` without handling the call. "
            "status_after: handle the call (a submit is accepted and billed), then give that answer. "
            "reset_before: break the connection without handling the call. "
            "reset_after: handle the call (a submit is accepted and billed), then break the connection. "
            "delay: wait for `seconds`, then handle the call. "
            "cut: handle the call, send the headers and half of the body, then hang up. "
            "drip: handle the call, then send a byte of the body every `seconds`, until the caller hangs up. "
            "garbage: answer 200 with a body that is not JSON, without handling the call. "
            "sign_in: answer 200 with a network's sign-in page, without handling the call. "
            "instead: handle the call as if it were for the path `target`."
        )
    )
    method: str | None = Field(default=None, description="Only calls with this method; null takes any.")
    path: Annotated[str, AfterValidator(_pattern)] = Field(
        default="", description="A regular expression, searched in the path (without the query)."
    )
    times: int = Field(default=1, ge=FOR_EVER, description="The number of calls that fail; -1 for all.")
    skip: int = Field(default=0, ge=0, description="The number of matching calls to let pass first.")
    status: int = Field(default=500, ge=200, le=599, description="For status and status_after.")
    headers: dict[str, str] = Field(default_factory=dict, description="For status and status_after.")
    body: object = Field(default="", description="For status and status_after: text as it is, anything else as JSON.")
    seconds: float = Field(default=0, ge=0, description="For delay and drip.")
    target: str = Field(default="", description="For instead: a path, such as that of another request.")
    hits: int = Field(default=0, ge=0, description="The number of calls that have failed so far; set by the server.")

    def claims(self, method: str, path: str) -> bool:
        """Return whether this call should fail, and count it."""
        if self.method not in (None, method) or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if not self.times:
            return False
        if self.times != FOR_EVER:
            self.times -= 1
        self.hits += 1
        return True


FAULTS = TypeAdapter(list[Fault])


class FaultBook:
    """The active rules; the first that matches applies. Used only by the event loop's thread."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self._closing = asyncio.Event()

    def let_go(self) -> None:
        """End all delays, because the server is shutting down."""
        self._closing.set()

    async def delay(self, seconds: float) -> bool:
        """Wait. Returns whether the server is still running afterwards."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def take(self, method: str, path: str) -> Fault | None:
        """Return the rule that applies to this call, and count it."""
        return next((rule for rule in self.rules if rule.claims(method, path)), None)


class FaultMiddleware:
    """Applies the rules before anything else handles a call."""

    def __init__(self, app: ASGIApp, book: FaultBook) -> None:
        self._app = app
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a call according to the rules."""
        rule = None
        if scope["type"] == "http" and not is_control(scope["path"]):
            rule = self._book.take(scope["method"], scope["path"])
        if rule is None:
            await self._app(scope, receive, send)
            return
        match rule.action:
            case "status":
                await _answer(rule)(scope, receive, send)
            case "status_after":
                await self._handled(scope, receive)
                await _answer(rule)(scope, receive, send)
            case "garbage":
                await Response(_WELCOME, media_type="application/json")(scope, receive, send)
            case "sign_in":
                await Response(_SIGN_IN, media_type="text/html")(scope, receive, send)
            case "instead":
                await self._app({**scope, "path": rule.target, "raw_path": rule.target.encode()}, receive, send)
            case "reset_before":
                await reset(scope, receive)
            case "reset_after":
                await self._handled(scope, receive)
                await reset(scope, receive)
            case "delay" if await self._book.delay(rule.seconds):
                await self._app(scope, receive, send)
            case "delay":
                await reset(scope, receive)
            case "cut":
                await self._cut(scope, receive, send)
            case "drip":
                await self._drip(scope, receive, send, rule.seconds)

    async def _handled(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Let the application handle the call, but hold back its answer."""
        start: Message = {}
        body = b""

        async def keep(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, keep)
        return start, body

    async def _drip(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        start, body = await self._handled(scope, receive)
        await send({**start, "headers": _with_length(start, len(body))})
        hung_up = asyncio.ensure_future(_disconnected(receive))
        for at in range(len(body)):
            await send({"type": "http.response.body", "body": body[at : at + 1], "more_body": at + 1 < len(body)})
            if hung_up.done():
                return
            if not await self._book.delay(seconds):
                hung_up.cancel()
                await hang_up(scope, receive)
                return
        hung_up.cancel()

    async def _cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, body = await self._handled(scope, receive)
        await send({**start, "headers": _with_length(start, len(body))})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await hang_up(scope, receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_length(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    headers = [header for header in start["headers"] if header[0] != b"content-length"]
    return [*headers, (b"content-length", str(length).encode())]


def _answer(rule: Fault) -> Response:
    if isinstance(rule.body, str):
        return Response(rule.body, rule.status, rule.headers)
    text = TypeAdapter(object).dump_json(rule.body)
    return Response(text, rule.status, rule.headers, media_type="application/json")
