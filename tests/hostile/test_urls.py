"""A download goes to the public internet over https, or beside the API itself; nowhere else, and never with the key."""

import traceback
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.faults import DocumentFault, Fault, TransientFault
from tasks.upstage.client import UpstageClient
from tasks.upstage.destinations import Refused, check_destination
from tasks.upstage.throttle import Throttle
from tests.fakes import FakeClock
from tests.hostile.server import KEY, SECRET, Body, HostileApi

PUBLIC = "https://api.upstage.ai/v1"
NAMES = {
    "api.upstage.ai": ["8.8.4.4"],
    "storage.example": ["8.8.8.8", "2001:4860:4860::8888"],
    "inside.example": ["10.1.2.3"],
    "mixed.example": ["8.8.8.8", "127.0.0.1"],
    "rebound.example": ["::ffff:127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "upstage": ["172.18.0.2"],
    "zoned.example": ["fe80::1%eth0"],
}
NEVER = [
    "https://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "https://[fe80::1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:a9fe:a9fe::1]/",
    "https://[fd00:ec2::254]/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://metadata.example/",
    "https://zoned.example/",
    "https://2852039166/",
    "https://0xa9.0xfe.0xa9.0xfe/",
    "file:///etc/passwd",
    "ftp://storage.example/x",
    "gopher://storage.example/x",
    "javascript:alert(1)",
    "//storage.example/x",
    "/etc/passwd",
    "",
    "https://",
    "https:///x",
    "https://user:word@storage.example/x",
    "https://storage.example@127.0.0.1/x",
    "https://storage.example\\@127.0.0.1/x",
    "https://storage.example\r\nHost: 127.0.0.1/x",
    "https://storage.example/x\r\nX-Injected: 1",
    "https://storage.example /x",
    "https://storage.example:0/x",
    "https://storage.example:/x",
    "https://storage.example:99999/x",
    "https://storage.example:44\uff13/x",
    "https://storage.example%2f.evil/x",
    "https://127。0。0。1/x",
    "https://[::1/x",
    "https://[::1]x/x",
    "https://[::1%25eth0]/x",
    "https://\ud800/x",
]
INSIDE = [
    "https://127.0.0.1/x",
    "https://127.1/x",
    "https://2130706433/x",
    "https://0x7f000001/x",
    "https://0177.0.0.1/x",
    "https://localhost/x",
    "https://LOCALHOST./x",
    "https://any.localhost/x",
    "https://0.0.0.0/x",
    "https://[::]/x",
    "https://[::1]/x",
    "https://[::ffff:10.0.0.1]/x",
    "https://[64:ff9b::7f00:1]/x",
    "https://[fc00::1]/x",
    "https://10.0.0.1/x",
    "https://172.16.0.1/x",
    "https://192.168.1.1/x",
    "https://100.64.0.1/x",
    "https://224.0.0.1/x",
    "https://255.255.255.255/x",
    "https://inside.example/x",
    "https://mixed.example/x",
    "https://rebound.example/x",
    "http://storage.example/x",
    "http://8.8.8.8/x",
]


class Names:
    """A resolver that never leaves the process, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, host: str) -> Iterable[str]:
        self.asked.append(host)
        if host.lower() not in NAMES:
            raise OSError(f"no such host: {host}")
        return NAMES[host.lower()]


def connect(base_url: str, clock: FakeClock, names: Names | None = None) -> UpstageClient:
    return UpstageClient(base_url, KEY, Throttle(1e6, 1e9, clock), clock, resolver=names or Names())


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails, at once and loudly."""

    def connected(*_args: object, **_more: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", connected)
    monkeypatch.setattr("socket.socket.connect", connected)


def refused(client: UpstageClient, url: str, to: Path) -> DocumentFault:
    with pytest.raises(DocumentFault) as caught:
        client.download(url, to)
    traceback_text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in traceback_text
    assert KEY not in traceback_text
    assert caught.value.retry_helps
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("url", NEVER)
@pytest.mark.parametrize("base_url", [PUBLIC, "http://127.0.0.1:8080/v1", "http://upstage:8080/v1"])
def test_some_places_are_never_asked(clock: FakeClock, tmp_path: Path, base_url: str, url: str) -> None:
    fault = refused(connect(base_url, clock), f"{url}?X-Signature={SECRET}" if url else "", tmp_path / "batch")
    assert fault.code == "refused-address"
    assert clock.slept == []


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("url", INSIDE)
def test_the_own_network_is_asked_only_where_the_api_is_in_it(clock: FakeClock, tmp_path: Path, url: str) -> None:
    fault = refused(connect(PUBLIC, clock), f"{url}?X-Signature={SECRET}", tmp_path / "batch")
    assert "which is not fetched" in str(fault)
    assert clock.slept == []
    for gateway in ("http://127.0.0.1:8080/v1", "http://[::1]/v1", "https://10.0.0.5/v1", "http://upstage:8080/v1"):
        check_destination(url, gateway, Names())


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.example/a/b?X-Amz-Signature=1&x=%2F",
        "https://storage.example:8443/x",
        "HTTPS://STORAGE.example/x",
        "https://8.8.8.8/x",
        "https://[2001:4860:4860::8888]/x",
    ],
)
def test_the_public_internet_is_fine_over_https(url: str) -> None:
    check_destination(url, PUBLIC, Names())


def test_names_are_looked_up_once_and_the_apis_only_when_it_matters() -> None:
    names = Names()
    check_destination("https://storage.example/x", PUBLIC, names)
    assert names.asked == ["storage.example"]
    with pytest.raises(Refused):
        check_destination("https://inside.example/x", PUBLIC, names)
    assert names.asked == ["storage.example", "inside.example", "api.upstage.ai"]


def test_an_api_that_cannot_be_looked_up_opens_nothing() -> None:
    with pytest.raises(Refused):
        check_destination("https://10.0.0.1/x", "https://unknown.example/v1", Names())


@pytest.mark.usefixtures("no_connection")
def test_a_storage_host_that_cannot_be_looked_up_now_is_a_fault_of_the_moment(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(TransientFault, match="cannot be resolved"):
        connect(PUBLIC, clock).download(f"https://gone.example/x?s={SECRET}", tmp_path / "batch")
    assert clock.slept


@pytest.mark.usefixtures("no_connection")
def test_behind_a_proxy_the_proxy_looks_names_up_and_addresses_are_still_refused(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    names = Names()
    client = connect(PUBLIC, clock, names)
    with pytest.raises(AssertionError, match="a connection was attempted"):
        client.download("https://storage.example/x", tmp_path / "batch")
    for url in ("https://169.254.169.254/x", "https://localhost/x", "https://10.0.0.1/x", "https://127.1/x"):
        refused(client, url, tmp_path / "batch")
    assert names.asked == []


@given(st.text() | st.text().map("https://".__add__) | st.text(":/?#[]@.%0123456789abcdefx\\-").map("https://".__add__))
@example("https://[::ffff:0:127.0.0.1]/")
@example("https://[" + "1" * 10_000)
@example("https://" + "a" * 100_000 + ".example/")
@example("https://..")
@example("https://[v1.x]/")
def test_no_text_breaks_the_check(url: str) -> None:
    try:
        check_destination(url, PUBLIC, Names())
    except (Refused, OSError):
        return
    assert url.lower().startswith("https://")
    assert "@" not in url.partition("://")[2].partition("/")[0].partition("?")[0]


def test_no_redirect_leads_anywhere(hostile: HostileApi, clock: FakeClock, tmp_path: Path) -> None:
    for target in (b"http://169.254.169.254/x", b"file:///etc/passwd", hostile.url.encode() + b"/elsewhere"):
        for status in (301, 302, 303, 307, 308):
            hostile.override = {"/storage/": Body([b""], status, [b"Location: " + target])}
            with pytest.raises(TransientFault, match=str(status)):
                connect(hostile.base_url, clock).download(f"{hostile.url}/storage/0/0?s={SECRET}", tmp_path / "batch")
    assert hostile.calls("/elsewhere") == 0
    assert all(authorization is None for _, _, authorization in hostile.seen)


def test_the_key_goes_to_no_other_host_even_when_it_is_the_apis_own(
    hostile: HostileApi, clock: FakeClock, tmp_path: Path
) -> None:
    hostile.override = {"/": Body([b"{}"])}
    connect(hostile.base_url, clock).download(f"{hostile.base_url}/document-digitization/requests/x", tmp_path / "b")
    assert hostile.seen == [("GET", "/v1/document-digitization/requests/x", None)]


def test_headers_that_no_library_understands_tell_no_secret(
    hostile: HostileApi, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.override = {"/storage/": Body([b"{}"], headers=[b"Fine: 1", b": no name", b"no colon", b"X: 2"])}
    connect(hostile.base_url, clock).download(f"{hostile.url}/storage/0/0?s={SECRET}", tmp_path / "batch")
    assert "Failed to parse headers" in caplog.text  # the record that holds the URL; see `no_secret_is_told`


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 429, 500, 503, 599, 999])
def test_whatever_status_the_storage_host_gives_is_a_fault_without_the_query(
    hostile: HostileApi, clock: FakeClock, tmp_path: Path, status: int
) -> None:
    hostile.override = {"/storage/": Body([SECRET.encode()], status, [b"Retry-After: 1e400"])}
    with pytest.raises(Fault) as caught:
        connect(hostile.base_url, clock).download(f"{hostile.url}/storage/0/0?s={SECRET}", tmp_path / "batch")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
