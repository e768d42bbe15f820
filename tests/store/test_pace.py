"""Answers that drip, stores that fall silent and the end of a run: no call to S3 holds a worker."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest

from deployments.local.stack import REGION
from tasks.clock import Clock
from tasks.faults import Cancelled, TransientFault
from tasks.store.aws import AwsAccount
from tasks.store.objects import Objects, connect
from tasks.store.pace import Pace
from tests.fakes import FakeClock
from tests.serving import Serving

BODY = b"x" * 100_000
HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: %d\r\n'
Write = Callable[[bytes], object]
Answer = Callable[["SlowStore", Write], None]


class SlowStore(Serving):
    """Answers every call as the test says; `write` sends bytes at once."""

    def __init__(self, answer: Answer, before: Callable[[BaseHTTPRequestHandler], None] = lambda _: None) -> None:
        self.calls = 0
        store = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                store.calls += 1
                with contextlib.suppress(ConnectionError):
                    before(self)
                    answer(store, self.wfile.write)
                self.close_connection = True

            do_PUT = do_HEAD = do_GET  # noqa: N815 - the base class names them so

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        super().__init__(Handler)


def objects(url: str, clock: Clock, attempts: int = 3, pace: Pace | None = None) -> Objects:
    session = boto3.Session("a", "b", region_name=REGION)
    return Objects(connect(url, account=AwsAccount(session), pace=pace or Pace(clock=clock)), clock, attempts)


def dripping(clock: FakeClock, head: bytes = HEAD % len(BODY)) -> Answer:
    """After the head, a byte a second, until the client hangs up."""

    def answer(_: SlowStore, write: Write) -> None:
        write(head + b"\r\n")
        while True:
            write(b"x")
            clock.advance(1)

    return answer


@pytest.fixture
def store_of() -> Iterator[Callable[..., SlowStore]]:
    """Makes stores that are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def make(answer: Answer, **given: Callable[[BaseHTTPRequestHandler], None]) -> SlowStore:
            return stack.enter_context(SlowStore(answer, **given))

        yield make


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, Callable[[Objects], object]]:
    """One call of each kind."""
    return {
        "fetch": lambda store: store.fetch("b", "k", "e", tmp_path / "to"),
        "get": lambda store: store.get("b", "k"),
        "list": lambda store: list(store.list("b", "")),
        "create": lambda store: store.create("b", "k", b"1"),
    }


@pytest.mark.parametrize("call", ["fetch", "get", "list"])
def test_a_body_that_drips_is_given_up_and_not_asked_for_again(
    store_of: Callable[..., SlowStore], clock: FakeClock, calls: dict[str, Callable[[Objects], object]], call: str
) -> None:
    store = store_of(dripping(clock))
    with pytest.raises(TransientFault, match=r"could not .* s3://b/.*: it transferred only \d+ bytes a second"):
        calls[call](objects(store.url, clock))
    assert store.calls == 1


@pytest.mark.parametrize("call", ["fetch", "get", "list", "create"])
def test_a_head_that_drips_is_given_up(
    store_of: Callable[..., SlowStore], clock: FakeClock, calls: dict[str, Callable[[Objects], object]], call: str
) -> None:
    store = store_of(dripping(clock, b"HTTP/1.1 200 OK\r\nX-Endless: "[:-2]))
    with pytest.raises(TransientFault, match=r"transferred only .* bytes a second"):
        calls[call](objects(store.url, clock))


class Ticking(FakeClock):
    """Every look at it takes some time; a call looks once for each piece that it reads."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def monotonic(self) -> float:
        self.advance(self._seconds)
        return super().monotonic()


def test_a_body_that_never_ends_is_given_up_however_fast_it_comes(
    store_of: Callable[..., SlowStore], tmp_path: Path
) -> None:
    def answer(_: SlowStore, write: Write) -> None:
        write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nConnection: close\r\n\r\n')
        while True:
            write(BODY)

    clock = Ticking(100)
    pace = Pace(lowest_bytes_per_second=1, clock=clock)
    with pytest.raises(TransientFault, match="it did not finish within 900 s"):
        objects(store_of(answer).url, clock, pace=pace).fetch("b", "k", "e", tmp_path / "to")


def test_a_slow_and_steady_body_is_waited_for(store_of: Callable[..., SlowStore], tmp_path: Path) -> None:
    def answer(_: SlowStore, write: Write) -> None:
        write(HEAD % (100 * len(BODY)) + b"\r\n")
        for _piece in range(100):
            write(BODY)

    clock = Ticking(5)
    pace = Pace(lowest_bytes_per_second=1000, longest_seconds=1_000_000, clock=clock)
    objects(store_of(answer).url, clock, pace=pace).fetch("b", "k", "e", tmp_path / "to")
    assert (tmp_path / "to").stat().st_size == 100 * len(BODY)
    assert clock.monotonic() > pace.window_seconds


def test_an_upload_that_is_taken_in_drips_is_given_up(
    store_of: Callable[..., SlowStore], clock: FakeClock, tmp_path: Path
) -> None:
    def swallow(request: BaseHTTPRequestHandler) -> None:
        while request.rfile.read(1024):
            clock.advance(1)

    store = store_of(lambda *_: None, before=swallow)
    (tmp_path / "result").write_bytes(b"x" * (32 << 20))  # more than the buffers between the two hold
    with pytest.raises(TransientFault, match=r"could not write s3://b/k: .* bytes a second"):
        objects(store.url, clock).put_file("b", "k", tmp_path / "result", {}, "application/json", over=None)


@pytest.mark.parametrize("sent", ["nothing", "head", "half"])
def test_the_end_of_the_run_ends_a_fetch_whose_store_has_fallen_silent(
    store_of: Callable[..., SlowStore], tmp_path: Path, sent: str
) -> None:
    clock = Clock()
    given_up = contextlib.ExitStack()

    def answer(_: SlowStore, write: Write) -> None:
        write({"nothing": b"", "head": HEAD % 9 + b"\r\n", "half": HEAD % 9 + b"\r\nhalf"}[sent])
        clock.end()
        waiting.recv(1)  # until the test is over

    waiting, other = socket.socketpair()
    with given_up:
        given_up.callback(other.close)
        store = store_of(answer)
        with pytest.raises(Cancelled, match="the run is shutting down"):
            objects(store.url, clock).fetch("b", "k", "e", tmp_path / "to")
    assert store.calls == 1


def test_what_has_to_be_put_on_record_is_not_ended_with_the_run(store_of: Callable[..., SlowStore]) -> None:
    clock = Clock()

    def answer(store: SlowStore, write: Write) -> None:
        clock.end()
        if store.calls == 1:
            write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        else:
            write(HEAD % 2 + b"\r\n{}")

    store = store_of(answer)
    stored = objects(store.url, clock, attempts=2).get("b", "k")
    assert stored is not None
    assert stored.body == b"{}"
    with pytest.raises(Cancelled):
        objects(store.url, clock).head("b", "k", document=True)
    assert store.calls == 2
