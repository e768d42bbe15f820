"""HTTP sessions in which every call has a deadline and a lowest speed, and ends as soon as the run is ended.

A socket's own time-out begins anew with every byte, so a peer that sends a byte a second, or takes one, would hold a
thread for hours. Here a call may take a number of seconds, and more only in the measure that its bytes move. A thread
looks at the calls under way; the connection of one whose time is over is shut down, which ends whatever send or read
waits on it: request, headers, body, a proxy's answer, a TLS handshake.
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
"""Bytes a second that a body has to move at, in the long run."""

_LOOK_SECONDS = 0.1
_IDLE_LOOKS = 50
_PIECE = 1 << 16

Monotonic = Callable[[], float]


class CallCut(requests.RequestException):
    """A call was ended from this side."""


class TooSlow(CallCut, requests.Timeout):
    """A call took longer than it may."""


class RunEnded(CallCut):
    """A call was under way when the run was ended."""


class Call:
    """A call under way: until when it may take, and its connection, to be shut down then.

    Args:
        clock: says when the run is ended.
        monotonic: the seconds to go by.
        seconds: how long it may take at first; see `allow`.
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
        """Let the next part of the call take so many seconds from now.

        Args:
            seconds: how long; what moves meanwhile extends it, up to so many seconds from then.
            when_ended: how long at the most once the run is ended.
        """
        with self._lock:
            self._span, self._when_ended = seconds, when_ended
            self._until = self._monotonic() + (min(seconds, when_ended) if self._ending else seconds)

    def moved(self, count: int) -> None:
        """Note that bytes went out or came in.

        Raises:
            CallCut: the call has no more time.
        """
        with self._lock:
            if not self._ending:
                self._until = min(self._until + count / LOWEST_SPEED, self._monotonic() + self._span)
        self.look()
        self.finish()

    def attach(self, connection: socket.socket) -> None:
        """Note the connection that the call goes over."""
        # A duplicate, which nobody else closes: a number may be another connection's by the time it is shut down.
        with self._lock:
            self._release()
            # By its number, since a TLS socket does not let itself be duplicated.
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
        """Prove that the call was not cut: a body without a length ends in the same way.

        Raises:
            CallCut: it was.
        """
        if self._cut is not None:
            raise self._cut from None  # what came of it may hold a whole URL

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._release()

    def _shut_down(self) -> None:
        if self._connection is not None:
            with suppress(OSError):  # it is not connected any more
                self._connection.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Calls:
    """Makes sessions and looks after the calls that are under way in them. Safe to share between threads.

    Args:
        clock: says when the run is ended.
        monotonic: the seconds that calls are measured by. Not the clock's, which may be a test's and then jumps by
            hours while a call is under way.
    """

    def __init__(self, clock: Clock, monotonic: Monotonic = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._under_way: set[Call] = set()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def session(self, connections: int) -> requests.Session:
        """A session of requests for calls that are made within `call`."""
        session = requests.Session()
        adapter = _Adapter(pool_connections=4, pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    @contextmanager
    def call(self, seconds: float) -> Iterator[Call]:
        """Make one call in the `with` block, its body read included.

        Args:
            seconds: how long it may take until it is allowed more.

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
            call.close()  # so that it is not cut any more
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
    """A body in pieces, which have to come at some speed.

    Raises:
        CallCut, requests.RequestException: it does not come, or not to its end.
    """
    for piece in response.iter_content(_PIECE):
        call.moved(len(piece))
        yield piece


@contextmanager
def writing(to: Path) -> Iterator[IO[bytes]]:
    """Write what came into a file.

    Raises:
        SetupFault: the disk does not take it.
    """
    try:
        with to.open("wb") as file:
            yield file
    except requests.RequestException:  # an OSError as well, but of the network
        raise
    except OSError as error:
        raise SetupFault(
            f"cannot write to {to.parent} ({error.strerror}): free some space there, or set another temporary folder "
            "files (TMPDIR)"
        ) from error


class _Redacting(logging.Filter):
    """Cuts the query off the URLs that urllib3 logs, at DEBUG and in some of its warnings."""

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
    """Tells the call of its thread over which socket it goes, before anything waits on that."""

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
