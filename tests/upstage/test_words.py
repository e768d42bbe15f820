"""What the API says, shown and stored: never a credential."""

from pathlib import Path

import pytest

from tasks.faults import AccountFault
from tasks.upstage.client import Upload, UpstageClient
from tasks.upstage.throttle import Throttle
from tasks.upstage.words import clean_words
from tests.fakes import FakeClock
from tests.stand_in import StandInControl


def test_a_key_that_the_api_repeats_goes_no_further(api: StandInControl, clock: FakeClock, tmp_path: Path) -> None:
    api.fail(
        {
            "method": "POST",
            "path": "/async",
            "action": "status",
            "status": 401,
            "body": '{"error": {"message": "Incorrect API key provided: ' + api.key + '"}}',
        }
    )
    document = tmp_path / "a.pdf"
    document.write_bytes(b"%PDF-1.4")
    client = UpstageClient(api.base_url, api.key, Throttle(1000, 100_000, clock), clock)
    with pytest.raises(AccountFault, match="Incorrect API key provided: …") as caught:
        client.submit(Upload(document, "a.pdf", "application/pdf", "ocr", 1))
    assert api.key not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain words", "plain words"),
        ("two\nlines\x1b[2J", "two lines [2J"),
        ("at https://s.example/b/1?X-Signature=secret, sorry", "at https://s.example/b/1?… sorry"),
        ("HTTPS://s.example?sig=secret", "HTTPS://s.example?…"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_words_are_one_short_line_without_queries(said: str, shown: str) -> None:
    assert clean_words(said) == shown
