"""What the API says, shown and stored: never a credential."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.faults import AccountFault
from tasks.upstage.client import UpstageClient
from tasks.upstage.errors import clean_words, message_of
from tasks.upstage.throttle import Throttle
from tasks.upstage.upload import Upload
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
        (r"at https:\/\/s.example\/b\/1?X-Signature=secret", r"at https:\/\/s.example\/b\/1?…"),
        ("at s.example/b/1?X-Amz-Signature=secret&x=1", "at s.example/b/1?…"),
        ("at //s.example/b/1?sig=secret", "at //s.example/b/1?…"),
        ("…mple/b/1?a=1&sig=secret", "…mple/b/1?…"),
        ("a=1&X-Amz-Signature=secret&b=2 is late", "a=1&X-Amz-Signature=…&b=2 is late"),
        ("X-Amz-Credential=secret X-Amz-Security-Token=secret", "X-Amz-Credential=… X-Amz-Security-Token=…"),
        (r"x=1\u0026X-Goog-Signature=secret", r"x=1\u0026X-Goog-Signature=…"),
        ("to=https%3A%2F%2Fs.example%2F1%3Fsig%3Dsecret", "to=https%3A%2F%2Fs.example%2F1%3Fsig%3D…"),
        ("AWSAccessKeyId=secret&Signature=secret", "AWSAccessKeyId=…&Signature=…"),
        ("is it late? so=so", "is it late? so=so"),
        ("design=1 monkey=2", "design=1 monkey=2"),
    ],
)
def test_words_are_one_short_line_without_queries(said: str, shown: str) -> None:
    assert clean_words(said) == shown


@given(
    st.sampled_from(["https://s.example/b", "s.example/b", r"https:\/\/s.example\/b", "//s.example/b", "/b", ""]),
    st.sampled_from(["X-Amz-Signature", "x-goog-signature", "sig", "Signature", "X-Amz-Security-Token"]),
    st.text("abc019+/%", max_size=20),
    st.sampled_from(["?", "?x=1&", "&", "?x=1\\u0026", ""]),
)
def test_no_spelling_of_a_signature_gets_through(start: str, name: str, noise: str, before: str) -> None:
    assume(before or not start)
    link = f"{start}{before}{name}=topsecret{noise}"
    for message in (link, f'the link "{link}" is over'):
        assert "topsecret" not in clean_words(message)
        for body in ({"unknown": message}, {"message": message}, [message]):
            assert "topsecret" not in message_of(json.dumps(body).encode())
