"""HTTP sessions in which every call has a deadline and a minimum speed, and is cut when the run is ended.

A socket's own timeout restarts with every byte, so a peer that sends or accepts a byte per second would block a thread
for hours. Here, a call has a number of seconds, and more only in proportion to the bytes transferred. A watcher thread
checks the calls in progress and shuts down the connection of an expired one, which ends any send or read that waits on
it: request, headers, body, a proxy's answer, a TLS handshake.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tasks.clock import Clock
from tasks.faults import SetupFault

LOWEST_SPEED = 16_384
"""The minimum average speed of a body, in bytes per second."""

_LOOK_SECONDS = 0.1
_IDLE_LOOKS = 50
_PIECE = 1 << 16

Monotonic = Callable[[], float]


class CallCut(requests.RequestException):
    """A call was ended from this side."""


class TooSlow(CallCut, requests.Timeout):
    """A call exceeded its time."""


class RunEnded(CallCut):
    """A call was in progress when the run was ended."""


class Call:
    """A call in progress: its deadline, and the connection to shut down at the deadline.

    Args:
        clock: knows whether the run is ended.
        monotonic: the timer, in seconds.
        seconds: the initial time; see `allow`.
    """

    def __init__(self, clock: Clock, monotonic: Monotonic, seconds: float) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._ending = False
        self._cut: CallCut | None = None
        self.allow(seconds)

    def allow(self, seconds: float, *, when_ended: float = 0.0) -> None:
        """Set the time for the next part of the call, counted from now.

        Args:
            seconds: the time; bytes transferred meanwhile extend it, up to this many seconds from the last one.
            when_ended: the maximum once the run is ended.
        """
        with self._lock:
            self._span, self._when_ended = seconds, when_ended
            self._until = self._monotonic() + (min(seconds, when_ended) if self._ending else seconds)

    def moved(self, count: int) -> None:
        """Note that bytes were sent or received.

        Raises:
            CallCut: the call's time is over.
        """
        with self._lock:
            if not self._ending:
                self._until = min(self._until + count / LOWEST_SPEED, self._monotonic() + self._span)
        self.look()
        self.finish()

    def attach(self, connection: socket.socket) -> None:
        """Note the connection that the call uses."""
        # A duplicate that nobody else closes: otherwise the descriptor could be reused before it is shut down.
        with self._lock:
            self._release()
            # By file descriptor: TLS sockets do not support dup().
            self._connection = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            if self._cut is not None:
                self._shut_down()

    def look(self) -> None:
        """Cut the call if its time is over."""
        with self._lock:
            now = self._monotonic()
            if self._clock.ended and not self._ending:
                self._ending = True
                self._until = min(self._until, now + self._when_ended)
            if self._cut is None and now >= self._until:
                self._cut = (
                    RunEnded("the run is shutting down")
                    if self._ending
                    else TooSlow("it took too long, or moved too slowly")
                )
                self._shut_down()

    def finish(self) -> None:
        """Check that the call was not cut: a body without a length would seem complete.

        Raises:
            CallCut: it was cut.
        """
        if self._cut is not None:
            raise self._cut from None  # the resulting error may contain a whole URL

    def close(self) -> None:
        """Release the connection."""
        with self._lock:
            self._release()

    def _shut_down(self) -> None:
        if self._connection is not None:
            with suppress(OSError):  # no longer connected
                self._connection.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Calls:
    """Creates sessions and watches the calls in progress. Thread-safe.

    Args:
        clock: knows whether the run is ended.
        monotonic: the timer for calls, in seconds. Not the clock's: a test's clock may jump by hours during a call.
    """

    def __init__(self, clock: Clock, monotonic: Monotonic = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._under_way: set[Call] = set()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def session(self, connections: int) -> requests.Session:
        """Create a session of `requests` for calls made within `call`."""
        session = requests.Session()
        adapter = _Adapter(pool_connections=4, pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    @contextmanager
    def call(self, seconds: float) -> Iterator[Call]:
        """Make one call in the `with` block, including the reading of its body.

        Args:
            seconds: the initial time; see `Call.allow`.

        Raises:
            TooSlow: it took too long, or moved too slowly.
            RunEnded: the run was ended meanwhile.
        """
        call = Call(self._clock, self._monotonic, seconds)
        outer, _current.call = getattr(_current, "call", None), call
        self._watch(call)
        try:
            yield call
        except requests.RequestException:
            call.finish()
            raise
        else:
            call.close()  # from here on it cannot be cut
            call.finish()
        finally:
            _current.call = outer
            with self._lock:
                self._under_way.discard(call)
            call.close()

    def _watch(self, call: Call) -> None:
        with self._lock:
            self._under_way.add(call)
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._look_after, name="calls to the API", daemon=True)
                self._watcher.start()

    def _look_after(self) -> None:
        pause, idle = threading.Event(), 0
        while True:
            pause.wait(_LOOK_SECONDS)
            with self._lock:
                under_way = tuple(self._under_way)
                idle = 0 if under_way else idle + 1
                if idle > _IDLE_LOOKS:
                    self._watcher = None
                    return
            for call in under_way:
                call.look()


def pieces(response: requests.Response, call: Call) -> Iterator[bytes]:
    """Yield a body in pieces, which have to arrive at the minimum speed.

    Raises:
        CallCut, requests.RequestException: the body does not arrive, or is incomplete.
    """
    for piece in response.iter_content(_PIECE):
        call.moved(len(piece))
        yield piece


@contextmanager
def writing(to: Path) -> Iterator[IO[bytes]]:
    """Open a file to write a body to.

    Raises:
        SetupFault: the file cannot be written.
    """
    try:
        with to.open("wb") as file:
            yield file
    except requests.RequestException:  # a subclass of OSError, but about the network
        raise
    except OSError as error:
        raise SetupFault(
            f"cannot write to {to.parent} ({error.strerror}): free some space there, or set TMPDIR to another folder"
        ) from error


class _Redacting(logging.Filter):
    """Removes the query from URLs that urllib3 logs at DEBUG level and in some warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(str(part).partition("?")[0] if "?" in str(part) else part for part in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_Redacting())


_current = threading.local()


def _attach(connection: socket.socket | None) -> None:
    call: Call | None = getattr(_current, "call", None)
    if call is not None and connection is not None:
        call.attach(connection)


class _Connection(HTTPConnection):
    """Attaches its socket to the current call of the thread, before anything waits on it."""

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _attach(connection)
        return connection

    def request(self, *args: Any, **options: Any) -> None:
        _attach(self.sock)  # open since an earlier call, or None
        super().request(*args, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if proxy.lower().startswith("http"):
            manager.pool_classes_by_scheme = _POOLS
        return manager
