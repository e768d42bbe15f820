"""A TCP gate in front of a server: closed, it refuses connections, as a host does whose service is down."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Gate:
    """The gate, open at first. Use as a context manager; it keeps its port while it is closed.

    Args:
        url: the server behind it.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        assert target.hostname is not None
        assert target.port is not None
        self._target = (target.hostname, target.port)
        self._listening: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = 0
        self.open()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Let connections in."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        listening.listen()
        self._port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and end those that there are."""
        with self._lock:
            listening, self._listening = self._listening, None
            connections = list(self._connections)
        if listening is not None:
            # Closing alone would not wake the thread that waits in accept, and the port would stay open.
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(self._target)
                with self._lock:
                    self._connections |= {near, far}
                ends = threading.Barrier(2, action=lambda near=near, far=far: self._forget(near, far))  # type: ignore[misc]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink, ends), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, ends: threading.Barrier) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        ends.wait()

    def _forget(self, near: socket.socket, far: socket.socket) -> None:
        with self._lock:
            self._connections -= {near, far}
        near.close()
        far.close()
