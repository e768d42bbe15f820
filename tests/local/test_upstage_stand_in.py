"""The stand-in for the OCR API keeps to the contract, remembers over a restart, and fails when told to."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.documents import encrypted_pdf, jpeg, png, text_pdf, tiff, truncated_pdf
from tests.local.process import KEY, StandIn, call, download, until


def numbered_pdf(pages: int) -> bytes:
    return text_pdf([f"page {number} of a test" for number in range(1, pages + 1)])


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
    assert second["text"] == "page 11 of a test\npage 12 of a test"
    assert second["numBilledPages"] == 2
    assert [page["page"] for page in second["metadata"]["pages"]] == [1, 2]
    word = second["pages"][0]["words"][1]
    assert word["text"] == "11"
    vertices = word["boundingBox"]["vertices"]
    assert all(0 < v["x"] < 1240 and 0 < v["y"] < 1754 for v in vertices)
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
        (numbered_pdf(1), "a.pdf", {"model": "ocr-x"}, 400),
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
    nested = stand_in.post("/async", numbered_pdf(1))
    assert nested.status_code == 400
    assert nested.json()["error"]["message"] == "invalid model name"
    stand_in.set(nested_errors=[])
    assert stand_in.post("/async", numbered_pdf(1)).json() == {"code": 400, "message": "invalid model name"}
    assert stand_in.post("", numbered_pdf(1)).status_code == 200


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


def test_the_newer_shape_has_ratios(stand_in: StandIn) -> None:
    stand_in.set(shape="new", page_ids="one")
    body = stand_in.post("", numbered_pdf(2), model="ocr-123").json()
    assert (body["api"], body["model"], body["usage"]) == ("2.0", "ocr-123", {"pages": 2})
    assert [page["id"] for page in body["pages"]] == [1, 2]
    vertices = body["pages"][0]["words"][0]["bounding_box"]["vertices"]
    assert len(vertices) == 4
    assert all(0 < v["x"] < 1 and 0 < v["y"] < 1 for v in vertices)


def test_a_slow_sync_request_times_out_but_is_billed(stand_in: StandIn) -> None:
    before = stand_in.control("bill")["pages"]
    stand_in.set(seconds_per_page=5, limits={"sync_seconds": 0.05})
    assert stand_in.post("", numbered_pdf(2)).status_code == 504
    assert stand_in.control("bill")["pages"] == before + 2


def test_credit_runs_out(stand_in: StandIn) -> None:
    billed = stand_in.control("bill")["pages"]
    stand_in.set(credit_pages=billed + 3)
    assert [stand_in.post("/async", numbered_pdf(2)).status_code for _ in range(2)] == [200, 403]


def test_batches_go_wrong_as_told(stand_in: StandIn) -> None:
    stand_in.set(
        limits={"batch_pages": 1},
        fail_batches=[{"batch": 0}],
        drop_batches=[{"batch": 1}],
        duplicate_batches=[{"batch": 2}],
        short_batches=[{"batch": 3}],
        batch_order="reversed",
    )
    bad = stand_in.finished(stand_in.submit(numbered_pdf(4)))
    assert (bad["status"], bad["completed_pages"]) == ("completed", 3)
    assert [(b["start_page"], b["status"]) for b in bad["batches"]] == [
        (3, "completed"),
        (4, "completed"),
        (3, "failed"),
        (1, "failed"),
    ]
    assert download(bad["batches"][1]["download_url"]).json()["pages"] == []
    # Each rule was for one time only.
    good = stand_in.finished(stand_in.submit(numbered_pdf(4)))
    assert [b["start_page"] for b in good["batches"]] == [4, 3, 2, 1]

    stand_in.set(fail_batches=[{"batch": 3}], request_status_on_failed_batch="failed")
    failed = stand_in.finished(stand_in.submit(numbered_pdf(4)))
    assert failed["status"] == "failed"
    assert failed["failure_message"]


def test_requests_go_wrong_as_told(stand_in: StandIn) -> None:
    stand_in.set(fail_requests=[{}], not_found_polls=2)
    request_id = stand_in.submit(numbered_pdf(1))
    assert [stand_in.get(f"/requests/{request_id}").status_code for _ in range(3)] == [404, 404, 200]
    assert stand_in.finished(request_id)["status"] == "failed"

    stand_in.set(not_found_polls=0)
    stuck = [stand_in.submit(numbered_pdf(1), name) for name in ("a.png", "a" * 901)]
    fine = stand_in.submit(numbered_pdf(1), "a.pdf")
    assert stand_in.finished(fine)["status"] == "completed"
    assert [stand_in.status(request_id)["status"] for request_id in stuck] == ["started", "started"]


def test_a_setting_that_makes_no_sense_changes_nothing(stand_in: StandIn) -> None:
    before = stand_in.control("settings")
    for change in ({"shape": "round"}, {"no_such": 1}, {"url_seconds": 5, "limits": {"sync_pages": -1}}):
        answer = call("PATCH", f"{stand_in.url}/_control/settings", json=change)
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert stand_in.control("settings") == before


def test_a_fault_answers_some_calls_with_a_status(stand_in: StandIn) -> None:
    stand_in.faults(
        {
            "action": "status",
            "method": "GET",
            "path": "/requests$",
            "skip": 1,
            "times": 2,
            "status": 429,
            "headers": {"Retry-After": "7"},
            "body": {"code": 429, "message": "slow down"},
        }
    )
    answers = [stand_in.get("/requests") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert answers[1].json()["message"] == "slow down"
    assert stand_in.control("faults")[0]["hits"] == 2
    # Faults come before the key is looked at.
    stand_in.faults({"action": "status", "status": 503})
    assert call("GET", f"{stand_in.api}/requests").status_code == 503


def test_a_reset_before_the_call_leaves_no_trace_and_one_after_it_a_bill(stand_in: StandIn) -> None:
    before = stand_in.control("bill")["requests"]
    for action, billed in (("reset_before", 0), ("reset_after", 1)):
        stand_in.faults({"action": action, "path": "/async$"})
        with pytest.raises(requests.ConnectionError):
            stand_in.submit(numbered_pdf(1))
        assert stand_in.control("bill")["requests"] == before + billed
    assert stand_in.control("calls")["statuses"] == {"reset": 2}


def test_a_download_is_cut_in_half(stand_in: StandIn) -> None:
    url = stand_in.finished(stand_in.submit(numbered_pdf(10)))["batches"][0]["download_url"]
    whole = download(url).content
    stand_in.faults({"action": "cut", "path": "^/storage/"})
    with call("GET", url, stream=True) as answer:
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(whole)
        chunks: list[bytes] = []
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            chunks.extend(answer.iter_content(512))
    got = b"".join(chunks)
    assert got == whole[: len(got)]
    assert len(got) <= len(whole) // 2
    assert download(url).content == whole


def test_garbage_and_delay(stand_in: StandIn) -> None:
    stand_in.faults({"action": "garbage"}, {"action": "delay", "seconds": 0.2})
    garbage = stand_in.get("/requests")
    assert garbage.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        garbage.json()
    start = time.monotonic()
    assert stand_in.get("/requests").json()["requests"] is not None
    assert time.monotonic() - start >= 0.2


def test_a_fault_rule_that_makes_no_sense_is_refused(stand_in: StandIn) -> None:
    for rule in ({"action": "explode"}, {"action": "cut", "path": "("}):
        answer = call("POST", f"{stand_in.url}/_control/faults", json=[rule])
        assert answer.status_code == 400


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
