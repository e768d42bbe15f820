"""No peer holds a worker, however slowly it moves its bytes; when the run is ended, no call outlives it for long."""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.clock import Clock
from tasks.faults import AnswerLost, Cancelled, TimedOut, TransientFault
from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle
from tasks.upstage.transport import LOWEST_SPEED, Call, RunEnded, TooSlow
from tasks.upstage.upload import Upload
from tests.fakes import FakeClock
from tests.upstage.peer import Peer, answer, read_request, until_hung_up
from tests.waiting import PATIENCE

RECEIPT = b'{"request_id": "r-1"}'
STATUS = b'{"id": "r-1", "status": "completed"}'
LONGER_THAN_BUFFERS = 24_000_000


class RetryingClock(FakeClock):
    """Its waits take no time, but none ends before the slow connection is done with: that one moves the stopwatch."""

    def __init__(self) -> None:
        super().__init__()
        self.hung_up = threading.Event()
        self.hung_up.set()

    def sleep(self, seconds: float) -> None:
        assert self.hung_up.wait(PATIENCE)
        super().sleep(seconds)


class Trial:
    """A client whose calls are measured by a time that only the test moves; its waits take none."""

    def __init__(self, folder: Path) -> None:
        self.stopwatch = FakeClock()
        self.retrying = RetryingClock()
        self.clock: Clock = self.retrying
        self.document = folder / "document"
        self.document.write_bytes(b"%PDF-1.7 a few bytes")
        self.target = folder / "batch"

    def client(self, url: str) -> UpstageClient:
        throttle = Throttle(1e6, 1e9, self.clock)
        return UpstageClient(f"{url}/v1", "a-key", throttle, self.clock, monotonic=self.stopwatch.monotonic)

    def upload(self) -> Upload:
        return Upload(self.document, "a.pdf", "application/pdf", "ocr", 1)

    def calls(self, url: str) -> dict[str, Callable[[], object]]:
        """Every kind of call, to the same peer."""
        client = self.client(url)
        return {
            "probe": client.probe,
            "status": lambda: client.status("r-1"),
            "download": lambda: client.download(f"{url}/storage/r-1/0?sig=topsecret", self.target),
            "submit": lambda: client.submit(self.upload()),
            "recognise": lambda: client.recognise(self.upload(), self.target),
        }


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


Script = Callable[[Trial, socket.socket], None]


def stalled(start: bytes) -> Script:
    """Nothing more comes, though the connection stays."""

    def script(trial: Trial, connection: socket.socket) -> None:
        connection.sendall(start)
        until_hung_up(connection, lambda: trial.stopwatch.advance(400))

    return script


def dripping(start: bytes, drop: bytes) -> Script:
    """A drop a second, until the client hangs up."""

    def script(trial: Trial, connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            trial.stopwatch.advance(1)

    return script


OK = b"HTTP/1.1 200 OK\r\n"
STALLED: dict[str, Script] = {
    "nothing": stalled(b""),
    "half a status line": stalled(b"HT"),
    "headers": stalled(OK),
    "body": stalled(OK + b"Content-Length: 99\r\n\r\n{"),
    "chunk size": stalled(OK + b"Transfer-Encoding: chunked\r\n\r\n1"),
    # All there, to look at; but who says that this is the end, where the connection is closed from our side?
    "body without a length": stalled(b"HTTP/1.0 200 OK\r\n\r\n" + STATUS),
}
DRIPPING: dict[str, Script] = {
    "headers": dripping(OK, b"X: y\r\n"),
    "one endless header": dripping(OK + b"X: ", b"y"),
    "interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": dripping(OK + b"Content-Length: 99999999\r\n\r\n", b" "),
    "chunks": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "error body": dripping(b"HTTP/1.1 500 Oh no\r\nContent-Length: 99999999\r\n\r\n", b" "),
}


def slow_once(trial: Trial, slow: Script) -> Callable[[socket.socket], None]:
    """The first connection is slow, the others are answered."""
    slow_ones = [slow]

    def script(connection: socket.socket) -> None:
        read_request(connection)
        if not slow_ones:
            answer(connection, STATUS)
            return
        trial.retrying.hung_up.clear()
        try:
            slow_ones.pop()(trial, connection)
        finally:
            trial.retrying.hung_up.set()

    return script


@pytest.mark.parametrize(
    ("call", "slow"),
    [
        *(("status", slow) for slow in STALLED),
        *(("download", slow) for slow in STALLED),
        ("probe", "nothing"),
        ("probe", "headers"),  # what it lists is not read
    ],
)
def test_a_peer_that_stalls_is_hung_up_on_and_asked_again(
    trial: Trial, slow: str, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer(slow_once(trial, STALLED[slow])) as peer:
        trial.calls(peer.url)[call]()
        assert peer.connections == 2
    assert "too slowly" in caplog.text or "TooSlow" in caplog.text
    assert "topsecret" not in caplog.text


@pytest.mark.parametrize("slow", DRIPPING)
@pytest.mark.parametrize("call", ["status", "download"])
def test_a_peer_that_drips_is_hung_up_on_and_asked_again(trial: Trial, slow: str, call: str) -> None:
    with Peer(slow_once(trial, DRIPPING[slow])) as peer:
        trial.calls(peer.url)[call]()
        assert peer.connections == 2


@pytest.mark.parametrize("slow", ["nothing", "body", "body without a length"])
@pytest.mark.parametrize(("call", "kind"), [("submit", AnswerLost), ("recognise", TimedOut)])
def test_what_was_sent_whole_and_gets_no_answer_in_time_is_a_lost_answer(
    trial: Trial, slow: str, call: str, kind: type[AnswerLost]
) -> None:
    with Peer(slow_once(trial, STALLED[slow])) as peer:
        with pytest.raises(kind, match=r"a\.pdf was sent, but the answer was lost: it took too long") as caught:
            trial.calls(peer.url)[call]()
        assert type(caught.value) is kind
        assert peer.connections == 1


@pytest.mark.parametrize(("call", "seconds"), [("submit", 299), ("recognise", 329)])
def test_an_answer_may_take_as_long_as_the_api_allows_itself(trial: Trial, call: str, seconds: float) -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        trial.stopwatch.advance(seconds)
        answer(connection, RECEIPT if call == "submit" else b'{"pages": [{}]}')

    with Peer(script) as peer:
        trial.calls(peer.url)[call]()


@pytest.fixture
def untaken(trial: Trial) -> Iterator[Callable[[socket.socket], None]]:
    """A peer that takes in one byte of an upload, and no more."""
    trial.document.write_bytes(bytes(LONGER_THAN_BUFFERS))
    over = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(1)
        trial.stopwatch.advance(400)
        over.wait(PATIENCE)

    yield script
    over.set()


@pytest.mark.parametrize("call", ["submit", "recognise"])
def test_an_upload_that_is_not_taken_in_is_given_up_and_was_not_accepted(
    trial: Trial, untaken: Callable[[socket.socket], None], call: str
) -> None:
    with Peer(untaken) as peer, pytest.raises(TransientFault, match=r"could not send a\.pdf: it took too long"):
        trial.calls(peer.url)[call]()


def test_a_tls_connection_is_hung_up_on_as_well(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with Peer(slow_once(trial, STALLED["body"]), certificate) as peer:
        assert trial.client(peer.url).status("r-1").finished
    assert "too slowly" in caplog.text


def test_a_tls_handshake_that_never_ends_is_given_up(trial: Trial) -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(1)
        until_hung_up(connection, lambda: trial.stopwatch.advance(400))

    with Peer(script) as peer, pytest.raises(TransientFault, match="too slowly"):
        trial.client(peer.url.replace("http:", "https:")).probe()


@pytest.mark.parametrize("call", ["status", "download", "probe"])
def test_when_the_run_is_ended_no_call_that_costs_nothing_goes_on(trial: Trial, call: str) -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        trial.clock.end()
        until_hung_up(connection)

    with Peer(script) as peer:
        calls = trial.calls(peer.url)
        with pytest.raises(Cancelled):
            calls[call]()
        for later in calls.values():
            with pytest.raises(Cancelled):
                later()
        assert peer.connections == 1


@pytest.mark.parametrize("call", ["submit", "recognise"])
def test_when_the_run_is_ended_an_upload_breaks_off(trial: Trial, call: str) -> None:
    trial.document.write_bytes(bytes(LONGER_THAN_BUFFERS))
    over = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.recv(1)
        trial.clock.end()
        over.wait(PATIENCE)

    with Peer(script) as peer:
        try:
            with pytest.raises(Cancelled, match=r"a\.pdf was not sent"):
                trial.calls(peer.url)[call]()
        finally:
            over.set()


def test_when_the_run_is_ended_what_was_sent_whole_is_waited_for_a_little_since_it_is_paid_for(trial: Trial) -> None:
    def script(connection: socket.socket) -> None:
        read_request(connection)
        trial.clock.end()
        trial.stopwatch.advance(9)
        answer(connection, RECEIPT)

    with Peer(script) as peer:
        assert trial.client(peer.url).submit(trial.upload()) == "r-1"


@pytest.mark.parametrize("call", ["submit", "recognise"])
def test_an_answer_that_does_not_come_soon_after_the_end_of_the_run_is_lost(trial: Trial, call: str) -> None:
    ended = threading.Event()

    class Watched(FakeClock):
        """Tells when its end was first noticed."""

        @property
        def ended(self) -> bool:
            if super().ended:
                ended.set()
            return super().ended

    trial.clock = Watched()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        trial.clock.end()
        assert ended.wait(PATIENCE)
        trial.stopwatch.advance(11)
        until_hung_up(connection)

    with Peer(script) as peer, pytest.raises(AnswerLost, match=r"a\.pdf was sent, but the answer was lost: the run"):
        trial.calls(peer.url)[call]()


@pytest.mark.parametrize("call", ["status", "submit"])
@pytest.mark.parametrize("header", [b"Retry-After: 280", b"X-Upstage-RateLimit-Retry-After-Requests: 280"])
def test_a_long_wait_that_the_api_asks_for_ends_with_the_run(trial: Trial, call: str, header: bytes) -> None:
    trial.clock = Clock()  # the real one

    def script(connection: socket.socket) -> None:
        read_request(connection)
        # Closed, or another caller might send its request over this connection, where nobody answers a second one.
        connection.sendall(b"HTTP/1.1 429 Slow\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n\r\n" % header)

    with Peer(script) as peer, ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(blocked) for blocked in [trial.calls(peer.url)[call]] * 3]
        assert not wait(callers, 0.1).done
        trial.clock.end()
        for caller in callers:
            with pytest.raises(Cancelled):
                caller.result(PATIENCE)


def test_bytes_that_move_fast_enough_may_take_long_and_slow_ones_may_not() -> None:
    stopwatch = FakeClock()

    def moves(call: Call, speed: float, seconds: int) -> None:
        for _ in range(seconds):
            stopwatch.advance(1)
            call.moved(int(speed))

    moves(Call(Clock(), stopwatch.monotonic, 60), LOWEST_SPEED, 10_000)
    with pytest.raises(TooSlow):
        moves(Call(Clock(), stopwatch.monotonic, 60), LOWEST_SPEED / 2, 130)
    # What moved fast earlier is no credit for a drip later.
    call = Call(Clock(), stopwatch.monotonic, 60)
    moves(call, LOWEST_SPEED * 1000, 600)
    with pytest.raises(TooSlow):
        moves(call, 1, 65)
    # Nor does what moves put off the end of the run.
    clock = Clock()
    call = Call(clock, stopwatch.monotonic, 60)
    call.allow(60, when_ended=10)
    moves(call, LOWEST_SPEED, 100)
    clock.end()
    call.look()
    with pytest.raises(RunEnded):
        moves(call, LOWEST_SPEED * 1000, 11)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
