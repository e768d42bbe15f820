"""A synchronous request: streamed both ways, paid once, and told apart by what went wrong."""

import json
import tracemalloc
from pathlib import Path

import pytest

from tasks.faults import AccountFault, AnswerLost, DocumentFault, NotOffered, TimedOut
from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle
from tasks.upstage.upload import Upload
from tests.fakes import FakeClock
from tests.sample_documents import text_pdf
from tests.stand_in import StandInControl

SYNC = "POST /v1/document-digitization"
SYNC_PATH = {"method": "POST", "path": "/document-digitization$"}
PAGES = 12


@pytest.fixture
def client(api: StandInControl, clock: FakeClock) -> UpstageClient:
    return UpstageClient(api.base_url, api.key, Throttle(1e6, 1e9, clock), clock)


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    file = tmp_path / "document"
    file.write_bytes(text_pdf([f"page {number}" for number in range(1, PAGES + 1)]))
    return Upload(file, "document.pdf", "application/pdf", "ocr", PAGES)


def with_schema(upload: Upload, schema: str) -> Upload:
    return Upload(upload.file, upload.name, upload.media_type, upload.model, upload.pages, schema)


def test_the_answer_is_the_documents_pages(client: UpstageClient, upload: Upload, tmp_path: Path) -> None:
    client.recognise(upload, tmp_path / "answer")
    pages = json.loads((tmp_path / "answer").read_bytes())["pages"]
    assert [page["text"] for page in pages] == [f"page {number}" for number in range(1, PAGES + 1)]


def test_a_schema_is_passed_through_and_only_when_asked_for(
    client: UpstageClient, upload: Upload, tmp_path: Path
) -> None:
    client.recognise(with_schema(upload, "clova"), tmp_path / "answer")
    assert len(json.loads((tmp_path / "answer").read_bytes())["images"]) == PAGES
    with pytest.raises(DocumentFault, match="invalid schema"):
        client.recognise(with_schema(upload, "nonsense"), tmp_path / "answer")


def test_a_long_answer_is_streamed_to_disk(client: UpstageClient, upload: Upload, tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(150))
    upload.file.write_bytes(text_pdf([words] * 80))
    client.recognise(upload, tmp_path / "warm-up")
    tracemalloc.start()
    try:
        client.recognise(upload, tmp_path / "answer")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "answer").stat().st_size > 1_500_000
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"action": "status", "status": 504}, TimedOut),
        ({"action": "status", "status": 502}, AnswerLost),
        ({"action": "reset_after"}, AnswerLost),
    ],
)
def test_an_answer_that_is_lost_is_not_asked_for_again_behind_the_callers_back(
    api: StandInControl,
    client: UpstageClient,
    upload: Upload,
    tmp_path: Path,
    rule: dict[str, object],
    kind: type[AnswerLost],
) -> None:
    api.fail(SYNC_PATH | rule)
    with pytest.raises(AnswerLost) as caught:
        client.recognise(upload, tmp_path / "answer")
    assert type(caught.value) is kind
    assert api.calls() == {SYNC: 1}


def test_the_apis_own_time_limit_is_a_time_out(
    api: StandInControl, client: UpstageClient, upload: Upload, tmp_path: Path
) -> None:
    api.set(limits={"sync_seconds": 0}, seconds_per_page=0.01)
    with pytest.raises(TimedOut, match="504"):
        client.recognise(upload, tmp_path / "answer")


def test_too_many_pages_at_once_are_the_documents_fault(
    api: StandInControl, client: UpstageClient, upload: Upload, tmp_path: Path
) -> None:
    api.set(limits={"sync_pages": PAGES - 1})
    with pytest.raises(DocumentFault, match=r"413 .*--limits.sync-pages"):
        client.recognise(upload, tmp_path / "answer")


@pytest.mark.parametrize("status", [400, 404, 405])
def test_an_account_without_jobs_may_still_recognise_at_once(
    api: StandInControl, client: UpstageClient, upload: Upload, tmp_path: Path, status: int
) -> None:
    api.set(refuse_async=True, refuse_async_status=status)
    with pytest.raises(NotOffered, match=f"answered {status}"):
        client.submit(upload)
    assert not client.stopped
    client.recognise(upload, tmp_path / "answer")
    assert (tmp_path / "answer").exists()


def test_a_model_that_is_not_offered_is_no_reason_to_stop_others(
    client: UpstageClient, upload: Upload, tmp_path: Path
) -> None:
    wrong = Upload(upload.file, upload.name, upload.media_type, "no-such-model", upload.pages)
    with pytest.raises(NotOffered, match="--model"):
        client.submit(wrong)
    with pytest.raises(AccountFault, match="--model"):
        client.recognise(wrong, tmp_path / "answer")
    assert not client.stopped
    assert client.submit(upload)
