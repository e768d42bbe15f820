"""Answers that are not quite the API's own: what can be understood is, and the rest is quoted, counted and bounded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.faults import AnswerLost, NotUnderstood, SetupFault, TransientFault
from tasks.upstage.client import UpstageClient
from tasks.upstage.patience import ATTEMPTS
from tasks.upstage.throttle import Throttle
from tasks.upstage.upload import Upload
from tests.fakes import FakeClock
from tests.hostile.server import KEY, Body, HostileApi
from tests.sample_documents import text_pdf
from tests.upstage.peer import Peer

SUBMIT = "/v1/document-digitization/async"
SYNC = "/v1/document-digitization"
STATUS = "/v1/document-digitization/requests/"
LIST = "/v1/document-digitization/requests"
SIGN_IN = b"<!doctype html>\n<title>Hotel Wi-Fi</title><p>Please sign in to go on"
HTML = [b"Content-Type: text/html; charset=utf-8"]
ERROR = b'{"error": {"message": "service is busy", "type": "x", "code": "y"}}'


@pytest.fixture
def hostile() -> Iterator[HostileApi]:
    with HostileApi() as running:
        yield running


@pytest.fixture
def client(hostile: HostileApi, clock: FakeClock) -> UpstageClient:
    return UpstageClient(hostile.base_url, KEY, Throttle(1e6, 1e9, clock), clock)


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    file = tmp_path / "document"
    file.write_bytes(text_pdf(["page 1"]))
    return Upload(file, "a.pdf", "application/pdf", "ocr", 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Body([SIGN_IN], headers=HTML), "Please sign in to go on"),
        (Body([ERROR]), "service is busy"),
        (Body([b'{"code": 503, "message": "service is busy"}']), "service is busy"),
        (Body([b'{"unexpected": "words"}']), "unexpected"),
        (Body([b"[]"]), r"\[\]"),
        (Body([b"null"]), "null"),
        (Body([b""]), "an empty body"),
        (Body([b"{"]), "{"),
        (Body([b'{"request_id": ""}']), "request_id"),
        (Body([b'{"message": "no, %s"}' % KEY.encode()]), "no, …"),
    ],
)
def test_what_comes_instead_of_an_answer_to_a_document_is_a_lost_answer_and_is_quoted(
    hostile: HostileApi, client: UpstageClient, upload: Upload, tmp_path: Path, body: Body, said: str
) -> None:
    hostile.override = {"/": body}
    with pytest.raises(AnswerLost, match=rf"a\.pdf was sent, but .*: .*{said}"):
        client.submit(upload)
    with pytest.raises(AnswerLost, match=rf"a\.pdf was sent, but .*: .*{said}"):
        client.recognise(upload, tmp_path / "answer")
    assert hostile.calls(SYNC) == 2


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
@pytest.mark.parametrize(
    "result",
    [
        b'\xef\xbb\xbf {"api": "2.0", "pages": [{"error": "a word on the page"}]}',
        b'{"message": "SUCCESS", "images": []}',
        b'{"error": null, "responses": []}',
        b'{"textAnnotations": []}',
        '{"pages": []}'.encode("utf-16"),
        b'\n\n {"model": "' + b"x" * 70_000 + b'", "pages": []}',
    ],
)
def test_what_may_be_a_result_is_left_to_whoever_reads_it(
    hostile: HostileApi, client: UpstageClient, upload: Upload, tmp_path: Path, result: bytes, pieces: int
) -> None:
    step = max(1, len(result) // pieces)
    chunks = [result[at : at + step] for at in range(0, len(result), step)]
    hostile.override = {"/": Body(chunks)}
    client.recognise(upload, tmp_path / "answer")
    assert (tmp_path / "answer").read_bytes() == result


def test_a_web_page_that_answers_everything_with_200_ends_the_run_before_anything_is_sent(
    hostile: HostileApi, client: UpstageClient
) -> None:
    hostile.override = {"/": Body([SIGN_IN], headers=HTML)}
    with pytest.raises(NotUnderstood, match=r"Please sign in to go on.*UPSTAGE_BASE_URL"):
        client.probe()


def test_a_status_answer_that_is_none_is_asked_for_again_and_quoted(
    hostile: HostileApi, client: UpstageClient, clock: FakeClock
) -> None:
    for body, said in ((Body([SIGN_IN], headers=HTML), "Please sign in"), (Body([b"nope"]), "nope")):
        hostile.override = {STATUS: body}
        with pytest.raises(TransientFault, match=said):
            client.status("request-0")
    assert hostile.calls(STATUS) == 2 * ATTEMPTS
    assert len(clock.slept) == 2 * (ATTEMPTS - 1)


@pytest.mark.parametrize("number", [0, 7, 10**18, 10**30])
def test_a_request_id_that_is_a_number_is_one(
    hostile: HostileApi, client: UpstageClient, upload: Upload, number: int
) -> None:
    hostile.override = {
        SUBMIT: Body([b'{"request_id": %d}' % number]),
        f"{STATUS}{number}": Body([b'{"id": %d, "status": "started"}' % number]),
    }
    request_id = client.submit(upload)
    assert request_id == str(number)
    assert client.status(request_id).status == "started"


@pytest.mark.parametrize("answered", ["request-1", "7", "", "REQUEST-0", None])
def test_an_answer_for_another_request_is_a_fault_of_the_moment(
    hostile: HostileApi, client: UpstageClient, answered: str | None
) -> None:
    request_id_json = "null" if answered is None else f'"{answered}"'
    hostile.override = {STATUS: Body([f'{{"id": {request_id_json}, "status": "completed"}}'.encode()])}
    if answered in ("", None, "REQUEST-0"):  # it does not say whose it is; or spells it otherwise
        assert client.status("request-0").finished
        return
    with pytest.raises(TransientFault, match=f"for another request .'{answered}'"):
        client.status("request-0")
    assert hostile.calls(STATUS) == ATTEMPTS


def test_another_requests_answer_is_asked_for_again(hostile: HostileApi, client: UpstageClient, upload: Upload) -> None:
    request_id = client.submit(upload)
    hostile.status, hostile.changes = lambda _: b'{"id": "request-9", "status": "failed"}', 2
    assert client.status(request_id).status == "completed"
    assert hostile.calls(STATUS) == 3


def refused(headers: list[bytes]) -> Body:
    return Body([b'{"error": {"message": "slow down", "code": "too_many_requests"}}'], 429, headers)


@pytest.mark.parametrize(
    "name",
    ["Retry-After", "X-Upstage-RateLimit-Retry-After-Requests", "X-Upstage-Ratelimit-Reset-Pages"],
)
def test_a_refusal_that_says_when_to_come_again_is_one_wait(
    hostile: HostileApi, client: UpstageClient, clock: FakeClock, name: str
) -> None:
    again = int(clock.now().timestamp()) + 40
    answers = iter([refused([f"{name}: {again}".encode()]), Body([b'{"status": "started"}'])])
    hostile.override = {STATUS: lambda: next(answers)}
    assert client.status("request-0").status == "started"
    assert clock.slept == [40]
    assert hostile.calls(STATUS) == 2


def test_waits_that_the_api_asks_for_are_no_attempts_until_they_add_up_to_minutes(
    hostile: HostileApi, client: UpstageClient, clock: FakeClock
) -> None:
    hostile.override = {STATUS: refused([b"Retry-After: 0.01"])}  # as good as none
    with pytest.raises(TransientFault):
        client.status("request-0")
    assert len(clock.slept) == ATTEMPTS - 1
    clock.slept.clear()
    hostile.override = {STATUS: refused([b"Retry-After: 20"])}
    with pytest.raises(TransientFault, match=r"429 \(slow down") as caught:
        client.status("request-0")
    assert [seconds for seconds in clock.slept if seconds >= 1] == [20] * 15
    assert caught.value.retry_after == 20


def test_what_any_answer_tells_of_the_rate_limit_is_heeded(
    hostile: HostileApi, client: UpstageClient, upload: Upload, clock: FakeClock
) -> None:
    reset = int(clock.now().timestamp()) + 30
    rate_headers = [b"X-Upstage-RateLimit-Remaining-Requests: 0", b"X-Upstage-RateLimit-Reset-Requests: %d" % reset]
    hostile.override = {SUBMIT: Body([b'{"request_id": "r"}'], headers=rate_headers)}
    client.submit(upload)
    assert clock.slept == []
    client.probe()
    assert sum(clock.slept) == 30, "in steps, since the rate may be set to another meanwhile"


def test_a_disk_without_room_for_what_came_is_the_set_ups_fault_and_names_the_folder(
    hostile: HostileApi, client: UpstageClient, upload: Upload, clock: FakeClock
) -> None:
    full = Path("/dev/full")
    hostile.override = {"/": Body([b'{"pages": []}'])}
    complaint = r"cannot write to /dev \(No space left on device\): free some space"
    with pytest.raises(SetupFault, match=complaint):
        client.recognise(upload, full)
    with pytest.raises(SetupFault, match=complaint):
        client.download(f"{hostile.url}/storage/0/0", full)
    assert hostile.calls("/") == 2
    assert clock.slept == []


def test_an_error_that_comes_before_the_upload_is_through_was_no_acceptance(upload: Upload, clock: FakeClock) -> None:
    upload.file.write_bytes(bytes(24_000_000))  # more than the sockets' buffers hold

    with (
        Peer(lambda connection: connection.sendall(b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\n\r\n")) as peer,
        pytest.raises(TransientFault),
    ):
        UpstageClient(f"{peer.url}/v1", KEY, Throttle(1e6, 1e9, clock), clock).submit(upload)
    assert peer.connections == ATTEMPTS


@pytest.mark.parametrize("stem", ["scan", "계약서" * 200, "é" * 900, "x" * 2000])
def test_a_name_is_sent_within_900_bytes_and_keeps_its_extension(
    hostile: HostileApi, client: UpstageClient, upload: Upload, stem: str
) -> None:
    client.submit(Upload(upload.file, f"{stem}.pdf", upload.media_type, "ocr", 1))
    [form] = hostile.uploads
    sent = form.partition(b'filename="')[2].partition(b'"')[0].decode()
    assert sent.endswith(".pdf")
    assert stem.startswith(sent.removesuffix(".pdf"))
    assert len(sent.encode()) in range(min(898, len(f"{stem}.pdf".encode())), 901)
