"""The stand-in for the OCR API keeps to the contract, in both its faces, and remembers over a restart."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.deployments.local.process import KEY, StandIn, call, download, numbered_pdf
from tests.sample_documents import encrypted_pdf, jpeg, png, text_pdf, tiff, truncated_pdf
from tests.waiting import until


def test_a_call_without_the_key_is_refused(stand_in: StandIn) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
        answer = call("GET", f"{stand_in.api}/requests", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["message"]
    assert stand_in.control("calls")["statuses"] == {"401": 3}


def test_twelve_pages_come_back_in_two_batches(stand_in: StandIn) -> None:
    before = stand_in.control("bill")
    request_id = stand_in.submit(numbered_pdf(12), "twelve.pdf")
    done = stand_in.finished(request_id)
    assert (done["status"], done["model"], done["total_pages"], done["completed_pages"]) == (
        "completed",
        "ocr",
        12,
        12,
    )
    assert [(b["id"], b["start_page"], b["end_page"]) for b in done["batches"]] == [(0, 1, 10), (1, 11, 12)]
    assert {b["status"] for b in done["batches"]} == {"completed"}
    assert {b["model"] for b in done["batches"]} == {"ocr-250904"}
    assert done["requested_at"].endswith("Z")
    assert done["completed_at"].endswith("Z")

    bodies = [download(b["download_url"]).json() for b in done["batches"]]
    assert [page["id"] for body in bodies for page in body["pages"]] == [*range(10), 0, 1]
    texts = [page["text"] for body in bodies for page in body["pages"]]
    assert texts == [f"page {number} of a test" for number in range(1, 13)]
    second = bodies[1]
    assert list(second) == ["api", "model", "pages", "usage"]
    assert (second["api"], second["model"], second["usage"]) == ("2.0", "ocr-250904", {"pages": 2})
    word = second["pages"][0]["words"][1]
    assert (word["id"], word["text"]) == (1, "11")
    assert [word["id"] for page in second["pages"] for word in page["words"]] == list(range(10))
    vertices = word["bounding_box"]["vertices"]
    assert all(0 < v["x"] < 1 and 0 < v["y"] < 1 for v in vertices)
    assert vertices[0]["x"] < vertices[1]["x"]
    assert vertices[1]["y"] < vertices[2]["y"]

    bill = stand_in.control("bill")
    assert (bill["requests"], bill["pages"]) == (before["requests"] + 1, before["pages"] + 12)
    assert bill["documents"][-1]["id"] == request_id
    assert bill["documents"][-1]["file_name"] == "twelve.pdf"
    listed = stand_in.get("/requests").json()["requests"][0]
    assert listed == {key: done[key] for key in ("id", "status", "model", "requested_at", "completed_at")}


def test_progress_is_shown_page_by_page(stand_in: StandIn) -> None:
    stand_in.set(queue_seconds=600, seconds_per_page=0.03)
    request_id = stand_in.submit(numbered_pdf(12))
    queued = stand_in.status(request_id)
    assert (queued["status"], queued["batches"], queued["completed_at"]) == ("submitted", None, None)

    stand_in.set(queue_seconds=0)
    seen: list[tuple[int, str, str]] = []

    def step() -> bool:
        now = stand_in.status(request_id)
        if now["batches"]:
            first, second = now["batches"]
            seen.append((now["completed_pages"], first["status"], second["status"]))
            assert bool(first["download_url"]) == (first["status"] == "completed")
        return bool(now["status"] == "completed")

    until(step)
    assert seen == sorted(seen, key=lambda entry: entry[0])
    assert {entry[1:] for entry in seen} >= {("started", "scheduled"), ("completed", "completed")}
    assert any(0 < pages < 10 for pages, _, _ in seen)


def test_every_status_call_mints_a_url_that_expires(stand_in: StandIn) -> None:
    request_id = stand_in.submit(numbered_pdf(1))
    fresh = [stand_in.finished(request_id)["batches"][0]["download_url"] for _ in range(2)]
    assert fresh[0] != fresh[1]
    assert all(download(url).ok for url in fresh)

    stand_in.set(url_seconds=0)
    url = stand_in.status(request_id)["batches"][0]["download_url"]
    expired = download(url)
    assert expired.status_code == 403
    assert "<Message>Request has expired</Message>" in expired.text
    forged = download(fresh[0].replace(request_id, request_id[::-1]))
    assert forged.status_code == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in forged.text


def test_a_key_sent_to_the_storage_is_noticed(stand_in: StandIn) -> None:
    url = stand_in.finished(stand_in.submit(numbered_pdf(1)))["batches"][0]["download_url"]
    assert stand_in.control("calls")["leaked_authorization"] == 0
    assert download(url, Authorization=f"Bearer {KEY}").status_code == 400
    calls = stand_in.control("calls")
    assert calls["leaked_authorization"] == 1
    assert calls["by_call"]["GET /storage/{id}/{batch}"] == {"400": 1}


@pytest.mark.parametrize(
    ("document", "name", "fields", "status"),
    [
        (numbered_pdf(1), "a.pdf", {"model": "solar"}, 400),
        (numbered_pdf(1), "a.pdf", {"model": "document-parse"}, 400),
        (numbered_pdf(1), "a.pdf", {"schema": "CLOVA"}, 400),
        (numbered_pdf(1), "a.pdf", {"callback": "x"}, 400),
        (b"", "a.pdf", {}, 400),
        (numbered_pdf(6), "a.pdf", {}, 413),
        (b"%PDF-1.7\n" + bytes(100_001), "a.pdf", {}, 413),
        (b"just text", "a.txt", {}, 415),
        (truncated_pdf(), "a.pdf", {}, 422),
        (encrypted_pdf(), "a.pdf", {}, 422),
        (png("cut")[:200], "a.png", {}, 422),
    ],
)
def test_what_the_api_does_not_take_is_refused_and_costs_nothing(
    stand_in: StandIn, document: bytes, name: str, fields: dict[str, str], status: int
) -> None:
    before = stand_in.control("bill")
    stand_in.set(limits={"async_pages": 5, "sync_pages": 5, "max_bytes": 100_000})
    for path in ("", "/async"):
        answer = stand_in.post(path, document, name, **fields)
        assert answer.status_code == status, answer.text
        assert answer.json().get("code", status) == status
    assert stand_in.control("bill") == before
    assert list((stand_in.data_dir / "uploads").iterdir()) == []


def test_a_form_without_document_or_model_is_refused(stand_in: StandIn) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    parts: list[dict[str, Any]] = [
        {"files": {"model": (None, "ocr")}},
        {"files": {"document": ("a.pdf", numbered_pdf(1))}},
        {"files": {"document": (None, "not a file"), "model": (None, "ocr")}},
        {"data": b"no form"},
    ]
    for part in parts:
        answer = call("POST", f"{stand_in.api}/async", headers=key, **part)
        assert answer.status_code == 400, part


def test_both_error_bodies_are_spoken(stand_in: StandIn) -> None:
    stand_in.set(refuse_async=True)
    error = stand_in.post("/async", numbered_pdf(1)).json()["error"]
    assert error.pop("message").startswith("The requested model is invalid or no longer supported.")
    assert error == {"type": "invalid_request_error", "param": "", "code": "invalid_request_body"}
    stand_in.set(nested_errors=[])
    flat = stand_in.post("/async", numbered_pdf(1)).json()
    assert (sorted(flat), flat["code"]) == (["code", "message"], 400)
    assert stand_in.post("", numbered_pdf(1)).status_code == 200


@pytest.mark.parametrize("face", ["documented", "recorded"])
def test_errors_read_as_recorded(stand_in: StandIn, face: str) -> None:
    stand_in.set(face=face, credit_pages=0, limits={"sync_pages": 1})
    errors = [
        call("GET", f"{stand_in.api}/requests").json()["error"],
        stand_in.post("", numbered_pdf(1)).json()["error"],
        stand_in.post("", numbered_pdf(2)).json()["error"],
    ]
    assert [error["code"] for error in errors] == ["invalid_api_key", "api_key_is_not_allowed", "invalid_document"]
    assert "insufficient credit" in errors[1]["message"]
    assert "exceeds the page limit. The maximum allowed is 1 " in errors[2]["message"]


@pytest.mark.parametrize(
    ("document", "name", "pages"),
    [(png("x"), "a.png", 1), (jpeg("x"), "a.jpg", 1), (tiff("abc"), "a.tiff", 3)],
)
def test_images_are_answered_at_once_and_always_alike(
    stand_in: StandIn, document: bytes, name: str, pages: int
) -> None:
    first, again = (stand_in.post("", document, name) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.content == again.content
    texts = [page["text"] for page in first.json()["pages"]]
    assert len(set(texts)) == pages


@pytest.mark.parametrize("model", ["ocr-123", "ocr-2.2.1", "ocr-260930"])
def test_any_snapshot_of_ocr_is_taken_and_the_alias_is_resolved(stand_in: StandIn, model: str) -> None:
    assert stand_in.post("", numbered_pdf(1), model=model).json()["model"] == model
    stand_in.set(model_snapshot="ocr-260930", face="recorded")
    assert stand_in.post("", numbered_pdf(1)).json()["modelVersion"] == "ocr-260930"


def test_pages_may_count_from_one(stand_in: StandIn) -> None:
    stand_in.set(page_ids="one")
    assert [page["id"] for page in stand_in.post("", numbered_pdf(2)).json()["pages"]] == [1, 2]


def test_the_recorded_face_has_every_trait_of_the_recordings(stand_in: StandIn) -> None:
    stand_in.set(face="recorded")
    texts = ["one two\nthree", "four", "five six"]
    body = stand_in.post("", text_pdf(texts)).json()
    pages = body["pages"]
    assert all(list(part) == sorted(part) for part in (body, *pages, pages[0]["words"][0]))
    assert (body["apiVersion"], body["stored"], body["numBilledPages"]) == ("1.1", False, 3)
    assert [page["text"] for page in pages] == ["one two \nthree", "four", "five six"]
    assert body["text"] == "one two \nthreefourfive six"
    assert [[word["id"] for word in page["words"]] for page in pages] == [[0, 1, 2], [3], [4, 5]]
    for page in pages:
        sure = [word["confidence"] for word in page["words"]]
        assert page["confidence"] == pytest.approx(sum(sure) / len(sure), abs=1e-4)
        width, height = page["width"], page["height"]
        assert all(
            0 < corner["x"] < width and 0 < corner["y"] < height
            for word in page["words"]
            for corner in word["boundingBox"]["vertices"]
        )
    assert body["confidence"] == min(page["confidence"] for page in pages)
    sizes = [(1, 1242, 1755), (2, 1240, 1755), (3, 1242, 1755)]
    assert [(size["page"], size["width"], size["height"]) for size in body["metadata"]["pages"]] == sizes


@pytest.mark.parametrize("path", ["", "/async"])
def test_too_many_pages_may_be_cut_off_without_a_word(stand_in: StandIn, path: str) -> None:
    before = stand_in.control("bill")["pages"]
    stand_in.set(over_page_limit="first", limits={"sync_pages": 3, "async_pages": 3})
    answer = stand_in.post(path, numbered_pdf(5)).json()
    bodies = stand_in.results(answer["request_id"]) if path else [answer]
    assert [page["text"] for body in bodies for page in body["pages"]] == [f"page {n} of a test" for n in (1, 2, 3)]
    assert stand_in.control("bill")["pages"] == before + 3


def test_request_ids_may_be_numbers_or_all_the_same(stand_in: StandIn) -> None:
    stand_in.set(request_ids="number")
    numbers = [stand_in.post("/async", numbered_pdf(1)).json()["request_id"] for _ in range(2)]
    assert all(isinstance(number, int) for number in numbers)
    assert numbers[0] != numbers[1]
    done = stand_in.finished(str(numbers[0]))
    assert done["id"] == numbers[0]
    assert download(done["batches"][0]["download_url"]).json()["usage"] == {"pages": 1}
    assert numbers[1] in [entry["id"] for entry in stand_in.get("/requests").json()["requests"]]

    billed = stand_in.control("bill")["requests"]
    stand_in.set(request_ids="same")
    same = [stand_in.submit(text_pdf([text])) for text in ("first", "second", "third")]
    assert len(set(same)) == 1
    assert stand_in.control("bill")["requests"] == billed + 3
    assert stand_in.results(same[2])[0]["pages"][0]["text"] == "first"


def test_fields_of_document_parse_are_ignored_when_told_to(stand_in: StandIn) -> None:
    fields = {"ocr": "force", "output_formats": '["text"]', "coordinates": "true", "base64_encoding": "x" * 5000}
    assert stand_in.post("", numbered_pdf(1), **fields).status_code == 400
    stand_in.set(extra_fields="ignore", other_models=["document-parse"])
    answer = stand_in.post("", numbered_pdf(1), **fields, model="document-parse")
    assert answer.json()["pages"][0]["text"] == "page 1 of a test"


@pytest.mark.parametrize("face", ["documented", "recorded"])
def test_every_answer_tells_the_rates(stand_in: StandIn, face: str) -> None:
    stand_in.set(face=face, requests_per_second=7, pages_per_minute=300)
    answers = [
        stand_in.get("/requests"),
        stand_in.post("", numbered_pdf(2)),
        stand_in.post("", b""),
        call("GET", stand_in.api),
    ]
    for answer in answers[:3]:
        assert answer.headers["X-Upstage-RateLimit-Limit-Requests"] == "7"
        assert answer.headers["x-upstage-ratelimit-limit-pages"] == "300"
        assert 0 <= int(answer.headers["X-Upstage-RateLimit-Remaining-Requests"]) <= 7
        assert int(answer.headers["X-Upstage-RateLimit-Reset-Requests"]) > 1.7e9


@pytest.mark.parametrize("said", ["none", "seconds", "date", "unix"])
def test_rates_are_kept_when_told_to(stand_in: StandIn, said: str) -> None:
    stand_in.set(keep_rates=True, pages_per_minute=5, retry_after=said)
    billed = stand_in.control("bill")["pages"]

    def too_many() -> list[requests.Response]:
        answer = stand_in.post("/async", numbered_pdf(4))
        return [answer] if answer.status_code == 429 else []

    [refused] = until(too_many, "a refusal: the second of two documents within a minute")
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert ("Retry-After" in refused.headers) == (said != "none")
    again = int(refused.headers["X-Upstage-RateLimit-Retry-After-Pages"])
    assert again % 60 == 0
    if said == "unix":
        assert int(refused.headers["Retry-After"]) == again
    assert (stand_in.control("bill")["pages"] - billed) % 4 == 0
    # More than a minute's at once is taken, when it is the first.
    stand_in.set(requests_per_second=1, pages_per_minute=1_000_000)
    assert until(lambda: stand_in.get("/requests").status_code == 429)


def test_a_slow_sync_request_times_out_but_is_billed(stand_in: StandIn) -> None:
    before = stand_in.control("bill")["pages"]
    stand_in.set(seconds_per_page=5, limits={"sync_seconds": 0.05})
    assert stand_in.post("", numbered_pdf(2)).status_code == 504
    assert stand_in.control("bill")["pages"] == before + 2


def test_credit_runs_out(stand_in: StandIn) -> None:
    billed = stand_in.control("bill")["pages"]
    stand_in.set(credit_pages=billed + 3)
    assert [stand_in.post("/async", numbered_pdf(2)).status_code for _ in range(2)] == [200, 403]


def test_a_setting_that_makes_no_sense_changes_nothing(stand_in: StandIn) -> None:
    before = stand_in.control("settings")
    for change in ({"face": "round"}, {"no_such": 1}, {"url_seconds": 5, "limits": {"sync_pages": -1}}):
        answer = call("PATCH", f"{stand_in.url}/_control/settings", json=change)
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert stand_in.control("settings") == before


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    first = StandIn(tmp_path / "data", "--recogniser", "text")
    try:
        done = first.submit(numbered_pdf(3), "done.pdf")
        result = download(first.finished(done)["batches"][0]["download_url"]).content
        first.set(seconds_per_page=0.02)
        half = first.submit(numbered_pdf(25), "half.pdf")
        until(lambda: first.status(half)["completed_pages"] >= 12)
        first.set(queue_seconds=600)
        waiting = first.submit(numbered_pdf(2), "waiting.pdf")
        bill = first.control("bill")
    finally:
        first.stop(signal.SIGKILL)

    second = StandIn(tmp_path / "data", "--recogniser", "text")
    try:
        assert second.control("bill") == bill
        again = second.status(done)
        assert download(again["batches"][0]["download_url"]).content == result
        finished = second.finished(half)
        assert finished["completed_pages"] == 25
        texts = [p["text"] for b in finished["batches"] for p in download(b["download_url"]).json()["pages"]]
        assert texts == [f"page {number} of a test" for number in range(1, 26)]
        assert second.finished(waiting)["status"] == "completed"
    finally:
        assert second.stop(signal.SIGINT) == 0
    assert first.log.read_text() == ""


def test_stopping_does_not_wait_for_calls_that_wait(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "data", "--recogniser", "text", "--seconds-per-page", "600")
    try:
        stand_in.faults({"action": "delay", "path": "/requests$", "seconds": 600})
        with ThreadPoolExecutor() as pool:
            delayed = pool.submit(stand_in.get, "/requests")
            until(lambda: stand_in.control("faults")[0]["hits"])
            waiting = pool.submit(stand_in.post, "", numbered_pdf(1))
            until(lambda: stand_in.control("bill")["requests"])
            assert stand_in.stop() == 0
            assert waiting.result().status_code == 503
            with pytest.raises(requests.ConnectionError):
                delayed.result()
    finally:
        stand_in.process.kill()
    assert stand_in.log.read_text() == ""
