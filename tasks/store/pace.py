"""The minimum speed and the longest duration of calls to AWS, checked while an answer is read.

botocore's own timeout restarts with every byte, so an answer at one byte per minute would block a worker forever. Here,
every read from the connection is measured. botocore does not accept custom connections, so they are put into the pools
of an existing client.
"""

import http.client
import io
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.util.wait import wait_for_read

from tasks.clock import Clock
from tasks.faults import Cancelled

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # how often a waiting read checks whether the run is being ended
_ended_by = threading.local()


class TooSlow(OSError):
    """An answer or an upload was slower than allowed."""


@dataclass(frozen=True)
class Pace:
    """The limits of a call.

    Attributes:
        window_seconds: the length of the windows in which speed is measured, from the first byte on.
        lowest_bytes_per_second: the minimum speed in each window.
        longest_seconds: the maximum duration, apart from the body's size.
        longest_bytes_per_second: the maximum is extended by one second for this many bytes of body.
        clock: the timer.
    """

    window_seconds: float = 30
    lowest_bytes_per_second: float = 4096
    longest_seconds: float = 900
    longest_bytes_per_second: float = 100_000
    clock: Clock = field(default_factory=Clock)


@contextmanager
def ended_with(clock: Clock) -> Iterator[None]:
    """Interrupt this thread's calls within half a second once the run is ended. Not for writes of records.

    Raises:
        Cancelled: the run is being ended.
    """
    if clock.ended:
        raise Cancelled("the run is shutting down; nothing more is read")
    before = getattr(_ended_by, "clock", None)
    _ended_by.clock = clock
    try:
        yield
    finally:
        _ended_by.clock = before


def keep_pace(client: Any, pace: Pace) -> None:  # Any: clients of different services have no type in common
    """Apply the limits to every connection of a client."""
    answer = staticmethod(partial(_Answer, pace=pace))
    plain = type("PacedConnection", (_Sending, AWSHTTPConnection), {"response_class": answer, "pace": pace})
    secure = type("PacedSecureConnection", (_Sending, AWSHTTPSConnection), {"response_class": answer, "pace": pace})
    pools = {
        "http": type("PacedPool", (AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("PacedSecurePool", (AWSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    try:
        client._endpoint.http_session._pool_classes_by_scheme.update(pools)
    except AttributeError:  # not the pinned botocore: calls have its timeouts only
        log.warning("this version of botocore does not support a minimum speed: a slow answer can block a worker")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: libraries wrap each other's errors, some only as an argument."""
    pending, visited = [error], set()
    while pending:
        cause = pending.pop()
        if id(cause) in visited:
            continue
        visited.add(id(cause))
        yield cause
        inner = [cause.__cause__, cause.__context__, getattr(cause, "kwargs", {}).get("error"), *cause.args]
        pending += [candidate for candidate in inner if isinstance(candidate, BaseException)]


def cancelled_by(error: BaseException) -> Cancelled | None:
    """Return the cancellation that caused a client's error; None for any other cause."""
    return next((cause for cause in causes(error) if isinstance(cause, Cancelled)), None)


class _Meter:
    """Measures one transfer."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._began = self._window = pace.clock.monotonic()
        self._bytes = self._length = 0
        self._moved = False

    def count(self, number: int, left: int = 0) -> None:
        """Count transferred bytes.

        Args:
            number: the number of bytes.
            left: the number of bytes known to follow.

        Raises:
            TooSlow: the transfer is too slow or took too long.
        """
        pace, now = self._pace, self._pace.clock.monotonic()
        if not self._moved:  # the wait for the first byte is covered by botocore's timeout
            self._moved, self._began, self._window = True, now, now
        self._bytes += number
        self._length = max(self._length, left)
        if now - self._window >= pace.window_seconds:
            speed = self._bytes / (now - self._window)
            if speed < pace.lowest_bytes_per_second:
                raise TooSlow(
                    f"it transferred only {speed:.0f} bytes a second; the minimum is {pace.lowest_bytes_per_second:.0f}"
                )
            self._window, self._bytes = now, 0
        longest = pace.longest_seconds + self._length / pace.longest_bytes_per_second
        if now - self._began > longest:
            raise TooSlow(f"it did not finish within {longest:.0f} s")


class _PacedReader(io.RawIOBase):
    """Reads from a connection and measures every read."""

    def __init__(self, connection: socket.socket, meter: _Meter, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._meter = meter
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # Any: there is no type for buffers before Python 3.12
        self._wait()
        number = self._raw.readinto(buffer)
        left = self._answer.length
        self._meter.count(number or 0, left if isinstance(left, int) else 0)
        return number

    def _wait(self) -> None:
        """Wait for bytes in short steps, and stop when the run is ended."""
        clock: Clock | None = getattr(_ended_by, "clock", None)
        if clock is None:
            return  # the connection's own timeout holds
        if not isinstance(self._connection, socket.socket):
            return  # TLS within TLS buffers bytes, which polling the socket does not show
        pending = getattr(self._connection, "pending", None)
        waited, limit = 0.0, self._connection.gettimeout()
        while not clock.ended:
            if (pending is not None and pending()) or wait_for_read(self._connection, _LOOK_SECONDS):
                return
            waited += _LOOK_SECONDS
            if limit is not None and waited >= limit:
                raise TimeoutError("timed out")
        raise Cancelled("the run is shutting down; nothing more is read")

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose bytes are measured."""

    def __init__(self, connection: socket.socket, *args: Any, pace: Pace, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        unmeasured = self.fp
        self.fp = io.BufferedReader(_PacedReader(connection, _Meter(pace), self))
        unmeasured.close()


class _Sending:
    """Adds to a connection: measures what it sends."""

    pace: Pace
    _meter: _Meter | None = None

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._meter = _Meter(self.pace)
        return super().request(*args, **kwargs)  # type: ignore[misc]  # botocore has no types

    def send(self, data: Any) -> Any:
        sent = super().send(data)  # type: ignore[misc]  # botocore has no types
        if self._meter is not None:
            self._meter.count(len(data) if isinstance(data, bytes) else 0)
        return sent
