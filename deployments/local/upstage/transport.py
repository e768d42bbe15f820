"""Lets a handler break the connection that its caller waits on, which no ASGI server offers by itself."""

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
        """Put the connection where `reset` and `hang_up` find it."""
        super().connection_made(transport)
        app: ASGIApp = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[_EXTENSION] = transport
            await app(scope, receive, send)

        self.app = with_connection


async def reset(scope: Scope, receive: Receive) -> None:
    """Abort the connection at once, so that the caller sees a reset; nothing of an answer reaches it.

    Args:
        scope: the request's scope.
        receive: the request's receive channel.
    """
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]
    connection = transport.get_extra_info("socket")
    # Without lingering the kernel sends RST instead of an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_gone(receive)


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close the connection after what was already sent has gone out.

    Args:
        scope: the request's scope.
        receive: the request's receive channel.
    """
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]
    transport.close()
    await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    # uvicorn takes a handler that returns without an answer for broken, unless it knows the caller is gone.
    while (await receive())["type"] != "http.disconnect":
        pass
