"""How long a call to AWS may take: a lowest speed and a longest time, looked at while an answer is read.

botocore's own timeout starts anew with every byte, so an answer of a byte a minute would hold a worker for ever. Here
every read from the connection is measured. botocore has no way to hand in such connections: they are put into the
pools of a client that is made already.
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

_LOOK_SECONDS = 0.5  # how often a read that brings nothing looks whether the run is being ended
_ended_by = threading.local()


class TooSlow(OSError):
    """An answer, or the upload of a body, that came slower than is bearable."""


@dataclass(frozen=True)
class Pace:
    """What is bearable.

    Attributes:
        window_seconds: over so long a time the speed is measured, from the first byte.
        lowest_bytes_per_second: the lowest speed in such a time.
        longest_seconds: for an answer without its body's length; and
        longest_bytes_per_second: a second more for so many bytes of it.
        clock: tells the time.
    """

    window_seconds: float = 30
    lowest_bytes_per_second: float = 4096
    longest_seconds: float = 900
    longest_bytes_per_second: float = 100_000
    clock: Clock = field(default_factory=Clock)


@contextmanager
def ended_with(clock: Clock) -> Iterator[None]:
    """Let the calls of this thread end with the run, within half a second. Not for what has to be put on record.

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
    """Let every connection of a client keep the pace."""
    answer = staticmethod(partial(_Answer, pace=pace))
    plain = type("PacedConnection", (_Sending, AWSHTTPConnection), {"response_class": answer, "pace": pace})
    secure = type("PacedSecureConnection", (_Sending, AWSHTTPSConnection), {"response_class": answer, "pace": pace})
    pools = {
        "http": type("PacedPool", (AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("PacedSecurePool", (AWSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    try:
        client._endpoint.http_session._pool_classes_by_scheme.update(pools)
    except AttributeError:  # another botocore than the pinned one: calls have its timeouts, and no more
        log.warning("this version of botocore lets no lowest speed be set: an answer that drips can hold a worker")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what led to it: libraries wrap each other's, some as an argument only."""
    waiting, met = [error], set()
    while waiting:
        cause = waiting.pop()
        if id(cause) in met:
            continue
        met.add(id(cause))
        yield cause
        inner = [cause.__cause__, cause.__context__, getattr(cause, "kwargs", {}).get("error"), *cause.args]
        waiting += [one for one in inner if isinstance(one, BaseException)]


def cancelled_by(error: BaseException) -> Cancelled | None:
    """The end of the run, where it is what an error of a client comes from."""
    return next((cause for cause in causes(error) if isinstance(cause, Cancelled)), None)


class _Meter:
    """Measures one transfer."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._began = self._window = pace.clock.monotonic()
        self._bytes = self._length = 0
        self._moved = False

    def count(self, number: int, left: int = 0) -> None:
        """Count bytes that were moved.

        Args:
            number: how many.
            left: how many are known to follow.

        Raises:
            TooSlow: they took too long.
        """
        pace, now = self._pace, self._pace.clock.monotonic()
        if not self._moved:  # until then it is the other side's work, which has a timeout
            self._moved, self._began, self._window = True, now, now
        self._bytes += number
        self._length = max(self._length, left)
        if now - self._window >= pace.window_seconds:
            speed = self._bytes / (now - self._window)
            if speed < pace.lowest_bytes_per_second:
                raise TooSlow(
                    f"{speed:.0f} bytes a second came through, and less than {pace.lowest_bytes_per_second:.0f} is "
                    "given up"
                )
            self._window, self._bytes = now, 0
        longest = pace.longest_seconds + self._length / pace.longest_bytes_per_second
        if now - self._began > longest:
            raise TooSlow(f"it was not done after {longest:.0f} s")


class _PacedReader(io.RawIOBase):
    """A connection's bytes, each read of them measured."""

    def __init__(self, connection: socket.socket, meter: _Meter, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._meter = meter
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # Any: what has a buffer has no name before Python 3.12
        self._wait()
        number = self._raw.readinto(buffer)
        left = self._answer.length
        self._meter.count(number or 0, left if isinstance(left, int) else 0)
        return number

    def _wait(self) -> None:
        """Wait for bytes, in steps short enough to end with the run."""
        clock: Clock | None = getattr(_ended_by, "clock", None)
        if clock is None:
            return  # the connection's own timeout holds
        if not isinstance(self._connection, socket.socket):
            return  # TLS within TLS keeps bytes that no look at the connection shows
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
    """What a connection does more: it measures what it sends."""

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
