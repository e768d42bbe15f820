"""An address or a key that cannot work is refused before anything is sent."""

import pytest

from tasks.faults import SetupFault, TransientFault
from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle
from tests.fakes import FakeClock
from tests.stand_in import StandInControl
from tests.upstage.conftest import connect


@pytest.mark.parametrize(
    ("base_url", "key", "words"),
    [
        ("", "key", "UPSTAGE_BASE_URL"),
        ("api.upstage.ai/v1", "key", "UPSTAGE_BASE_URL"),
        ("ftp://api.upstage.ai/v1", "key", "UPSTAGE_BASE_URL"),
        ("https://", "key", "UPSTAGE_BASE_URL"),
        ("https://[/v1", "key", "UPSTAGE_BASE_URL"),
        ("https://api.upstage.ai:port/v1", "key", "UPSTAGE_BASE_URL"),
        ("https://api.upstage.ai:99999/v1", "key", "UPSTAGE_BASE_URL"),
        ("https://api.upstage.ai", "key", "lacks the version .*https://api.upstage.ai/v1"),
        ("https://api.upstage.ai/", "key", "lacks the version"),
        ("https://api.upstage.ai/document-digitization", "key", "lacks the version"),
        ("https://api.upstage.ai/v1\nX-Injected: 1", "key", "not a web address"),
        ("https://api.up stage.ai/v1", "key", "not a web address"),
        ("https://api.upstage.ai\\@evil.example/v1", "key", "not a web address"),
        ("https://user:word@api.upstage.ai/v1", "key", "more than an address"),
        ("https://api.upstage.ai/v1?x=1", "key", "more than an address"),
        ("https://api.upstage.ai/v1#x", "key", "more than an address"),
        ("http://8.8.8.8/v1", "key", "sent unencrypted. Use https"),
        ("http://[2001:4860:4860::8888]/v1", "key", "sent unencrypted"),
        ("http://134744072/v1", "key", "sent unencrypted"),
        ("https://api.upstage.ai/v1", "", "set UPSTAGE_API_KEY"),
        ("https://api.upstage.ai/v1", " \n", "set UPSTAGE_API_KEY"),
        ("https://api.upstage.ai/v1", "up_\nX-Injected: 1", "copy it again"),
        ("https://api.upstage.ai/v1", "up_ключ", "copy it again"),
    ],
)
def test_a_setup_that_cannot_work_is_refused_before_anything_is_sent(base_url: str, key: str, words: str) -> None:
    with pytest.raises(SetupFault, match=words) as caught:
        connect(base_url, key, FakeClock())
    assert not key.strip() or key not in str(caught.value).replace("API key", "")
    assert "word" not in str(caught.value)


NAMES = {
    "upstage": ["172.18.0.2", "fd00::2"],
    "both.example": ["172.18.0.2", "8.8.8.8"],
    "gateway.example": ["8.8.8.8"],
    "api.upstage.ai": ["8.8.4.4"],
}


class Names:
    """A resolver that never leaves the process; knows nothing until it is told to."""

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def __call__(self, host: str) -> list[str]:
        if not self.known or host not in NAMES:
            raise OSError(f"no such host: {host}")
        return NAMES[host]


def connect_by_name(base_url: str, names: Names) -> UpstageClient:
    clock = FakeClock()
    return UpstageClient(base_url, "a-key", Throttle(1e6, 1e9, clock), clock, resolver=names)


@pytest.mark.parametrize("host", ["gateway.example", "both.example", "api.upstage.ai"])
def test_the_key_goes_over_the_internet_encrypted_or_not_at_all(host: str) -> None:
    with pytest.raises(SetupFault, match=f"{host} is not in a private network: the API key would be sent unencrypted"):
        connect_by_name(f"http://{host}/v1", Names())
    connect_by_name(f"https://{host}/v1", Names(known=False))


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8080/v1",
        "http://localhost/v1",
        "http://[::1]/v1",
        "http://10.0.0.5/v1",
        "http://upstage:80/v1",
    ],
)
def test_within_the_machine_and_a_private_network_http_will_do(base_url: str) -> None:
    connect_by_name(base_url, Names())


@pytest.mark.parametrize("host", ["gateway.example", "both.example"])
def test_a_host_that_cannot_be_looked_up_yet_is_judged_before_anything_is_sent(host: str) -> None:
    names = Names(known=False)
    client = connect_by_name(f"http://{host}/v1", names)
    with pytest.raises(TransientFault, match="cannot be resolved"):
        client.probe()
    names.known = True
    with pytest.raises(SetupFault, match="sent unencrypted"):
        client.probe()


@pytest.mark.parametrize("wrapped", ["{}/", "{}//", " {}", "{}\n", "\t{}/ \r\n"])
def test_an_address_copied_with_blanks_and_slashes_still_works(
    api: StandInControl, clock: FakeClock, wrapped: str
) -> None:
    connect(wrapped.format(api.base_url), api.key, clock).probe()
    assert api.calls() == {"GET /v1/document-digitization/requests": 1}


def test_an_address_without_version_that_leads_nowhere_is_named(api: StandInControl, clock: FakeClock) -> None:
    with pytest.raises(SetupFault, match=r"404.*has no version, as in https://api\.upstage\.ai/v1"):
        connect(api.url, api.key, clock).probe()
    # With one, the API may just not list requests.
    api.fail({"action": "status", "status": 404, "path": "/requests$"})
    connect(api.base_url, api.key, clock).probe()


def test_a_key_copied_with_a_line_break_still_works(api: StandInControl, clock: FakeClock) -> None:
    connect(f"{api.base_url}/", f" {api.key}\r\n", clock).probe()
    assert api.calls() == {"GET /v1/document-digitization/requests": 1}
