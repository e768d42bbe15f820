"""An address or a key that cannot work is refused before anything is sent."""

import pytest

from tasks.faults import SetupFault
from tests.fakes import FakeClock
from tests.stand_in import StandInControl
from tests.upstage.test_client import connect


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
        ("https://api.upstage.ai/v1", "", "set UPSTAGE_API_KEY"),
        ("https://api.upstage.ai/v1", " \n", "set UPSTAGE_API_KEY"),
        ("https://api.upstage.ai/v1", "up_\nX-Injected: 1", "copy it again"),
        ("https://api.upstage.ai/v1", "up_ключ", "copy it again"),
    ],
)
def test_a_setup_that_cannot_work_is_refused_before_anything_is_sent(base_url: str, key: str, words: str) -> None:
    with pytest.raises(SetupFault, match=words) as caught:
        connect(base_url, key, FakeClock())
    assert not key.strip() or key not in str(caught.value)


def test_a_key_copied_with_a_line_break_still_works(api: StandInControl, clock: FakeClock) -> None:
    connect(f"{api.base_url}/", f" {api.key}\r\n", clock).probe()
    assert api.calls() == {"GET /v1/document-digitization/requests": 1}
