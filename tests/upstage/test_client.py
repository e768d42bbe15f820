"""The API client against the stand-in over real HTTP: nothing is sent twice that may have been accepted."""

import hashlib
import json
import logging
import socket
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pikepdf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.faults import (
    AccountFault,
    AnswerLost,
    Cancelled,
    DocumentFault,
    Fault,
    RequestUnknown,
    TransientFault,
    UrlExpired,
)
from tasks.upstage.answers import RequestStatus
from tasks.upstage.client import UpstageClient
from tasks.upstage.destinations import redacted
from tasks.upstage.patience import ATTEMPTS
from tasks.upstage.upload import Upload
from tests.fakes import FakeClock
from tests.sample_documents import text_pdf, truncated_pdf
from tests.stand_in import StandInControl
from tests.upstage.conftest import connect

SUBMIT = "POST /v1/document-digitization/async"
STATUS = "GET /v1/document-digitization/requests/{id}"
DOWNLOAD = "GET /storage/{id}/{batch}"
# Full jitter: each wait is anywhere from nothing up to here.
LONGEST_WAITS = [1, 2, 4, 8, 16, 30, 30]
MB = 1_000_000


@pytest.fixture
def client(api: StandInControl, clock: FakeClock) -> UpstageClient:
    return connect(api.base_url, api.key, clock)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "document"
    file.write_bytes(text_pdf([f"page {number}" for number in range(1, 13)]))
    return file


@pytest.fixture
def refused() -> Iterator[str]:
    """An address that refuses connections, for as long as the test holds the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def upload(file: Path, model: str = "ocr", pages: int = 12, schema: str | None = None) -> Upload:
    return Upload(file, "document.pdf", "application/pdf", model, pages, schema)


def submit(client: UpstageClient, file: Path, model: str = "ocr") -> str:
    return client.submit(upload(file, model))


def finished(client: UpstageClient, request_id: str) -> RequestStatus:
    for _ in range(10_000):
        if (status := client.status(request_id)).finished:
            return status
    raise AssertionError("the stand-in does not come to an end")


def signed_url(client: UpstageClient, file: Path) -> str:
    return finished(client, submit(client, file)).batches[0].download_url


def within_jitter(slept: Sequence[float]) -> bool:
    return all(0 <= seconds <= most for seconds, most in zip(slept, LONGEST_WAITS, strict=False))


def status_rule(status: int, **more: Any) -> dict[str, Any]:
    return {"action": "status", "status": status, "body": {"code": status, "message": "said the API"}, **more}


def test_a_document_goes_out_and_its_pages_come_back(
    api: StandInControl, client: UpstageClient, document: Path, tmp_path: Path
) -> None:
    status = finished(client, submit(client, document))
    assert (status.status, status.total_pages) == ("completed", 12)
    texts = []
    for batch in status.batches:
        client.download(batch.download_url, tmp_path / "batch.json")
        texts += [page["text"] for page in json.loads((tmp_path / "batch.json").read_bytes())["pages"]]
    assert texts == [f"page {number}" for number in range(1, 13)]
    [billed] = api.billed(hashlib.sha256(document.read_bytes()).hexdigest())[-1:]
    assert (billed["file_name"], billed["pages"]) == ("document.pdf", 12)
    assert api.leaked_keys() == 0


def test_an_upload_is_streamed_and_not_built_in_memory(client: UpstageClient, tmp_path: Path) -> None:
    file = tmp_path / "large.pdf"
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.Root.Padding = pdf.make_stream(bytes(40 * MB))
        pdf.save(file, compress_streams=False)
    assert file.stat().st_size > 40 * MB
    tracemalloc.start()
    try:
        request_id = client.submit(upload(file, pages=1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MB
    assert finished(client, request_id).status == "completed"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["7", "Wed, 01 Jul 2026 12:00:07 GMT"])
def test_a_submission_refused_for_the_moment_waits_as_long_as_it_is_told_to(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock, status: int, header: str
) -> None:
    api.fail(status_rule(status, path="/async$", headers={"Retry-After": header}))
    submit(client, document)
    assert clock.slept == [7]
    assert api.calls()[SUBMIT] == 2


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "0"}, {"Retry-After": "-3"}])
@pytest.mark.parametrize("status", [429, 503])
def test_without_a_usable_retry_after_a_submission_backs_off_with_jitter(
    api: StandInControl,
    client: UpstageClient,
    document: Path,
    clock: FakeClock,
    status: int,
    headers: dict[str, str],
) -> None:
    api.fail(status_rule(status, path="/async$", headers=headers, times=-1))
    with pytest.raises(TransientFault, match=f"{status} .*said the API"):
        submit(client, document)
    assert api.calls()[SUBMIT] == ATTEMPTS
    assert len(clock.slept) == ATTEMPTS - 1
    assert within_jitter(clock.slept)
    assert len(set(clock.slept)) > 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_status_call_is_tried_again_until_it_is_answered(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock, status: int
) -> None:
    request_id = submit(client, document)
    api.fail(status_rule(status, path="/requests/", times=3))
    client.status(request_id)
    assert api.calls()[STATUS] == 4
    assert len(clock.slept) == 3
    assert within_jitter(clock.slept)


@pytest.mark.parametrize("status", [500, 501, 502, 504, 520, 524, 529])
def test_an_error_of_the_server_on_submit_may_hide_an_accepted_document_so_it_is_not_sent_again(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock, status: int
) -> None:
    api.fail(status_rule(status, path="/async$"))
    with pytest.raises(AnswerLost, match=f"{status} .*said the API"):
        submit(client, document)
    assert api.calls()[SUBMIT] == 1
    assert clock.slept == []


def test_a_long_retry_after_is_handed_up_and_not_slept_through(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock
) -> None:
    api.fail(status_rule(429, path="/async$", headers={"Retry-After": "301"}))
    with pytest.raises(TransientFault) as caught:
        submit(client, document)
    assert caught.value.retry_after == 301
    assert clock.slept == []
    assert api.calls()[SUBMIT] == 1


def test_after_a_429_the_other_calls_rest_too(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock
) -> None:
    request_id = submit(client, document)
    api.fail(status_rule(429, path="/async$", headers={"Retry-After": "100000"}))
    with pytest.raises(TransientFault):
        submit(client, document)
    client.status(request_id)
    assert sum(clock.slept) == pytest.approx(300)  # no longer than the client would wait itself


def test_an_upload_that_broke_off_half_way_is_sent_again_and_billed_once(
    api: StandInControl, client: UpstageClient, clock: FakeClock, tmp_path: Path
) -> None:
    file = tmp_path / "large.pdf"
    # More than the sockets' buffers hold, so that the break comes while it is being sent.
    padding = b"%" + b"reset before" * (2 * MB) + b"\n"
    file.write_bytes(b"%PDF-1.7\n" + padding + text_pdf(["page 1"]))
    api.fail({"action": "reset_before", "path": "/async$"})
    submit(client, file)
    assert len(clock.slept) == 1
    assert len(api.billed(hashlib.sha256(file.read_bytes()).hexdigest())) == 1


@pytest.mark.parametrize(
    ("rule", "billed"),
    [
        ({"action": "reset_after"}, 1),
        ({"action": "cut"}, 1),
        ({"action": "garbage"}, 0),
        (status_rule(200), 0),
        (status_rule(204), 0),
        ({"action": "status", "status": 200, "body": {"request_id": ""}}, 0),
        ({"action": "status", "status": 200, "body": {"request_id": 7.5}}, 0),
        ({"action": "status", "status": 200, "body": {"request_id": True}}, 0),
        ({"action": "status", "status": 200, "body": {"request_id": None}}, 0),
    ],
)
def test_a_lost_answer_is_not_taken_for_a_refusal_and_the_document_is_not_sent_again(
    api: StandInControl,
    client: UpstageClient,
    clock: FakeClock,
    tmp_path: Path,
    rule: dict[str, Any],
    billed: int,
) -> None:
    file = tmp_path / "document"
    file.write_bytes(text_pdf([f"lost {rule}"]))
    api.fail({**rule, "path": "/async$"})
    with pytest.raises(AnswerLost, match=r"document\.pdf"):
        submit(client, file)
    assert api.calls()[SUBMIT] == 1
    assert clock.slept == []
    assert len(api.billed(hashlib.sha256(file.read_bytes()).hexdigest())) == billed


@pytest.mark.parametrize("action", ["reset_before", "reset_after", "garbage", "cut"])
def test_a_broken_status_answer_is_asked_for_again(
    api: StandInControl, client: UpstageClient, document: Path, action: str
) -> None:
    request_id = submit(client, document)
    api.fail({"action": action, "path": "/requests/", "times": 2})
    assert client.status(request_id).total_pages == 12
    assert api.calls()[STATUS] == 3
    api.fail({"action": action, "path": "/requests/", "times": -1})
    with pytest.raises(TransientFault):
        client.status(request_id)
    assert api.calls()[STATUS] == 3 + ATTEMPTS


def test_a_refused_connection_is_a_fault_of_the_moment_and_sends_nothing(
    refused: str, document: Path, tmp_path: Path, clock: FakeClock
) -> None:
    client = connect(f"{refused}/v1", "key", clock)
    for call in (lambda: submit(client, document), lambda: client.status("r"), client.probe):
        with pytest.raises(TransientFault):
            call()
    assert within_jitter(clock.slept[: ATTEMPTS - 1])
    with pytest.raises(TransientFault):
        client.download(f"{refused}/x?sig=topsecret", tmp_path / "batch")


def test_a_request_the_api_does_not_know_yet_is_told_apart_at_once(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock
) -> None:
    api.set(not_found_polls=1)
    request_id = submit(client, document)
    with pytest.raises(RequestUnknown):
        client.status(request_id)
    assert clock.slept == []
    assert client.status(request_id).total_pages == 12


@pytest.mark.parametrize("status", [401, 403, 302, 307])
def test_once_the_account_is_refused_no_further_document_goes_out(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock, status: int
) -> None:
    headers = {"Location": f"{api.url}/storage/elsewhere/0"}
    api.fail(status_rule(status, path="/async$", headers=headers))
    with pytest.raises(AccountFault, match=r"answered \d+ "):
        submit(client, document)
    # The rule is used up: a second submission would be accepted.
    with pytest.raises(AccountFault):
        submit(client, document)
    assert api.calls() == {SUBMIT: 1}
    assert clock.slept == []


@pytest.mark.parametrize("nested", [[], [400, 401, 403]])
def test_a_wrong_key_and_no_credit_are_the_accounts_in_either_error_body(
    api: StandInControl, document: Path, clock: FakeClock, nested: list[int]
) -> None:
    api.set(nested_errors=nested, credit_pages=0)
    with pytest.raises(AccountFault, match=r"401 \(API key is invalid, .*\): .*UPSTAGE_API_KEY"):
        submit(connect(api.base_url, "wrong", clock), document)
    with pytest.raises(AccountFault, match="UPSTAGE_API_KEY"):
        connect(api.base_url, "wrong", clock).probe()
    with pytest.raises(AccountFault, match=r"403 \(.*top it up"):
        submit(connect(api.base_url, api.key, clock), document)
    connect(api.base_url, api.key, clock).probe()
    assert clock.slept == []


def test_nothing_goes_out_when_the_run_is_being_ended(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock
) -> None:
    client.stop_submitting(Cancelled("the run is being cancelled"))
    with pytest.raises(Cancelled):
        submit(client, document)
    assert api.calls() == {}
    assert clock.slept == []


def test_the_caller_has_the_last_word_before_every_attempt(
    api: StandInControl, client: UpstageClient, document: Path
) -> None:
    api.fail(status_rule(503, path="/async$"))
    sent_before: list[int] = []

    def ready() -> None:
        sent_before.append(api.calls().get(SUBMIT, 0))
        if len(sent_before) == 2:
            raise Cancelled("the lease is over")

    with pytest.raises(Cancelled):
        client.submit(upload(document), ready)
    assert sent_before == [0, 1]
    assert api.calls()[SUBMIT] == 1


@pytest.mark.parametrize(
    ("content", "limits", "status"),
    [
        (text_pdf(["1", "2"]), {"async_pages": 1}, 413),
        (text_pdf(["1"]), {"max_bytes": 100}, 413),
        (b"just text", {}, 415),
        (truncated_pdf(), {}, 422),
    ],
)
def test_a_refused_document_is_that_documents_fault_alone(
    api: StandInControl, client: UpstageClient, document: Path, content: bytes, limits: dict[str, int], status: int
) -> None:
    api.set(limits=limits)
    bad = document.with_name("bad")
    bad.write_bytes(content)
    with pytest.raises(DocumentFault, match=rf"answered {status} \("):
        submit(client, bad)
    assert api.calls()[SUBMIT] == 1
    api.set(limits={"async_pages": 1000, "max_bytes": 50 * MB})
    assert submit(client, document)


def test_a_cut_download_is_fetched_again_whole(
    api: StandInControl, client: UpstageClient, document: Path, tmp_path: Path
) -> None:
    url, whole, again = signed_url(client, document), tmp_path / "whole", tmp_path / "again"
    client.download(url, whole)
    api.fail(
        {"action": "cut", "path": "^/storage/", "times": 2},
        {"action": "reset_before", "path": "^/storage/"},
        status_rule(503, path="^/storage/"),
    )
    client.download(url, again)
    assert again.read_bytes() == whole.read_bytes()
    assert api.calls()[DOWNLOAD] == 6
    api.fail({"action": "cut", "path": "^/storage/", "times": -1})
    with pytest.raises(TransientFault, match="download"):
        client.download(url, again)


def test_an_expired_url_is_given_back_at_once_for_a_fresh_one(
    api: StandInControl, client: UpstageClient, document: Path, clock: FakeClock, tmp_path: Path
) -> None:
    api.set(url_seconds=0)
    request_id = submit(client, document)
    url = finished(client, request_id).batches[0].download_url
    with pytest.raises(UrlExpired):
        client.download(url, tmp_path / "batch")
    assert api.calls()[DOWNLOAD] == 1
    assert clock.slept == []
    api.set(url_seconds=900)
    client.download(client.status(request_id).batches[0].download_url, tmp_path / "batch")


def test_no_redirect_is_followed(api: StandInControl, client: UpstageClient, document: Path, tmp_path: Path) -> None:
    url = signed_url(client, document)
    before = api.calls()
    to_storage = {"Location": f"{api.url}/storage/elsewhere/0"}
    api.fail(status_rule(302, path="/requests", headers=to_storage, times=-1))
    for call in (lambda: client.status("r"), client.probe):
        with pytest.raises(AccountFault, match="redirect"):
            call()
    assert DOWNLOAD not in before
    assert DOWNLOAD not in api.calls()
    api.fail(status_rule(302, path="^/storage/", headers={"Location": api.base_url}, times=-1))
    with pytest.raises(TransientFault, match="302"):
        client.download(url, tmp_path / "batch")
    assert "other" not in api.calls()
    assert api.leaked_keys() == 0


def test_a_netrc_file_neither_replaces_the_key_nor_reaches_the_storage_host(
    api: StandInControl, clock: FakeClock, document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client = connect(api.base_url, api.key, clock)
    client.probe()
    client.download(signed_url(client, document), tmp_path / "batch")
    assert api.leaked_keys() == 0


def test_neither_a_presigned_url_nor_the_key_reaches_logs_or_tracebacks(
    api: StandInControl,
    client: UpstageClient,
    document: Path,
    refused: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = signed_url(client, document)
    secret = url.rpartition("=")[2]
    assert len(secret) == 64
    client.download(url, tmp_path / "batch")
    shouts: list[str] = []
    for rule in (
        status_rule(500),
        status_rule(403),
        status_rule(302, headers={"Location": url}),
        {"action": "reset_before"},
        {"action": "cut"},
    ):
        api.fail({**rule, "times": -1})
        for call in (
            lambda: client.download(url, tmp_path / "batch"),
            lambda: client.status("r"),
            lambda: submit(client, document),
        ):
            try:
                call()
            except Fault as fault:
                logging.getLogger("somebody").exception("failed")
                shouts.append(f"{fault!r} {fault}")
    for bad in (url.replace(api.url, refused), f"ftp://host/x?sig={secret}", f"http://[/x?sig={secret}"):
        with pytest.raises((TransientFault, DocumentFault)) as caught:
            client.download(bad, tmp_path / "batch")
        logging.getLogger("somebody").error("failed", exc_info=caught.value)
    assert len(shouts) == 15
    for text in (caplog.text, "\n".join(shouts), repr(client)):
        assert secret not in text
        assert api.key not in text
    assert urlsplit(url).path in caplog.text  # what is cut off is the credential, not the context


@given(st.text() | st.text().map("http://".__add__) | st.text("/:?#[]@.%*\ud800 a1").map("https://[".__add__))
@example("http://127.0.0.1:99999/x?sig=topsecret")
@example("http://127.0.0.1:0/x?sig=topsecret")
@example("http:///x?sig=topsecret")
@example("//host/x?sig=topsecret")
def test_no_text_breaks_the_redaction(url: str) -> None:
    assert "topsecret" not in redacted(url)
    assert not redacted(url).partition("?")[2].strip("…")


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://h/x", "http://", "http://[/", "http://127.0.0.1:99999/x", "http://\ud800/"]
)
def test_a_download_url_that_is_none_is_refused_at_once(
    client: UpstageClient, clock: FakeClock, tmp_path: Path, url: str
) -> None:
    with pytest.raises(DocumentFault) as caught:
        client.download(url, tmp_path / "batch")
    assert caught.value.retry_helps
    assert clock.slept == []
