"""Lets a handler break its caller's connection, which ASGI servers do not offer."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_EXTENSION = "bulk-ocr.connection"


class BreakableProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also hands its connection to the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Store the connection for `reset` and `hang_up`."""
        super().connection_made(transport)
        app: ASGIApp = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[_EXTENSION] = transport
            await app(scope, receive, send)

        self.app = with_connection


async def reset(scope: Scope, receive: Receive) -> None:
    """Abort the connection at once: the caller sees a reset, and no part of an answer.

    Args:
        scope: the request's scope.
        receive: the request's receive channel.
    """
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]
    connection = transport.get_extra_info("socket")
    # With a linger time of zero, the kernel sends RST instead of closing the connection in order.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_gone(receive)


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close the connection after everything already written has been sent.

    Args:
        scope: the request's scope.
        receive: the request's receive channel.
    """
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]
    transport.close()
    await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    # uvicorn reports an error if a handler returns without an answer, unless it knows that the caller is gone.
    while (await receive())["type"] != "http.disconnect":
        pass
