"""A proxy in front of a Prefect server that makes chosen calls go wrong; its event feed passes through."""

import contextlib
import socket
import threading

from tests.store.flaky_s3 import FlakyS3, ProxyHandler

_PIECE = 1 << 16


class _Handler(ProxyHandler):
    def do_GET(self) -> None:  # noqa: N802  # the base class names it so
        if self.headers.get("Upgrade", "").lower() != "websocket":
            self.handle_call()
            return
        host, _, port = self.proxy.target.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            head = f"{self.requestline}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            upstream.sendall(f"{head}\r\n".encode())
            back = threading.Thread(target=_relay, args=(upstream, self.connection), daemon=True)
            back.start()
            _relay(self.connection, upstream)
            back.join()
        self.close_connection = True


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Hand on what comes from one side, until it ends."""
    with contextlib.suppress(OSError):
        while piece := one.recv(_PIECE):
            other.sendall(piece)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class PrefectProxy(FlakyS3):
    """The proxy. Use as a context manager.

    Args:
        url: the Prefect server.
    """

    @staticmethod
    def handling() -> type[ProxyHandler]:
        return _Handler
