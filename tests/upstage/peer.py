"""The other end of a connection, byte by byte: a TCP server on loopback whose every connection follows a script."""

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Script = Callable[[socket.socket], None]


class Peer:
    """Serves while it is a context.

    Args:
        script: what to do with each connection; it is closed when the script returns.
        tls: certificate and key, to speak TLS.

    Attributes:
        url: where it listens.
        connections: how many were accepted.
    """

    def __init__(self, script: Script, tls: tuple[Path, Path] | None = None) -> None:
        self.connections = 0
        peer = self
        secure = None
        if tls is not None:
            secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            secure.load_cert_chain(*tls)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                peer.connections += 1
                with contextlib.suppress(OSError):  # the client hung up
                    if secure is None:
                        script(self.request)
                    else:
                        with secure.wrap_socket(self.request, server_side=True) as wrapped:
                            script(wrapped)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        host, port = self._server.server_address[:2]
        self.url = f"http{'s' if tls else ''}://{host!s}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def read_request(connection: socket.socket) -> bytes:
    """Take in a request to its end; gives its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", 0))
    pieces = [body]
    while length > sum(map(len, pieces)):
        pieces.append(_some(connection))
    return b"".join(pieces)


def answer(connection: socket.socket, body: bytes) -> None:
    """Answer 200 with a body."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def until_hung_up(connection: socket.socket, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Say nothing more, and wait for the client to hang up.

    Args:
        connection: the connection.
        meanwhile: done again and again while waiting.
    """
    connection.settimeout(0.02)
    while True:
        meanwhile()
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1 << 16):
                return


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    if not received:
        raise ConnectionError("the client hung up")
    return received
