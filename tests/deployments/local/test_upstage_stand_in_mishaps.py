"""The stand-in fails when told to: single calls by rules, requests and batches by settings."""

from __future__ import annotations

import asyncio
import time

import pytest
import requests
from starlette.types import Message, Receive, Scope, Send

from deployments.local.upstage.calls import CallCounter, Calls
from tests.deployments.local.process import StandIn, call, download, numbered_pdf
from tests.sample_documents import text_pdf


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
    stuck = [stand_in.submit(numbered_pdf(1), name) for name in ("a.png", "a" * 901, "가" * 301)]
    fine = stand_in.submit(numbered_pdf(1), "가" * 297 + ".pdf")
    assert stand_in.finished(fine)["status"] == "completed"
    assert [stand_in.status(request_id)["status"] for request_id in stuck] == ["started"] * 3


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


@pytest.mark.parametrize("answers", [True, False])
def test_a_call_that_is_answered_after_the_counts_were_cleared_is_not_among_the_next(answers: bool) -> None:
    calls = Calls()

    async def late(_scope: Scope, _receive: Receive, send: Send) -> None:
        calls.clear()
        if answers:
            await send({"type": "http.response.start", "status": 200})

    async def take(_message: Message) -> None:
        """Send it nowhere."""

    async def nothing() -> Message:
        return {}

    scope = {"type": "http", "method": "GET", "path": "/v1/document-digitization/requests", "headers": []}
    asyncio.run(CallCounter(late, calls)(scope, nothing, take))
    assert calls.report()["calls"] == {}


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


def test_a_document_may_be_accepted_and_answered_with_an_error(stand_in: StandIn) -> None:
    before = stand_in.control("bill")["requests"]
    stand_in.faults({"action": "status_after", "path": "/async$", "status": 500, "body": {"message": "oh no"}})
    answer = stand_in.post("/async", numbered_pdf(1))
    assert (answer.status_code, answer.json()) == (500, {"message": "oh no"})
    assert stand_in.control("bill")["requests"] == before + 1


def test_a_status_call_may_be_answered_for_another_request(stand_in: StandIn) -> None:
    mine, other = (stand_in.submit(text_pdf([text])) for text in ("mine", "other"))
    path = f"/v1/document-digitization/requests/{other}"
    stand_in.faults({"action": "instead", "path": f"/requests/{mine}", "target": path})
    assert stand_in.status(mine)["id"] == other
    assert stand_in.status(mine)["id"] == mine


def test_a_sign_in_page_answers_anything_with_200(stand_in: StandIn) -> None:
    stand_in.faults({"action": "sign_in", "times": 2})
    for answer in (stand_in.get("/requests"), stand_in.post("/async", numbered_pdf(1))):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "sign in" in answer.text


def test_a_body_drips_until_the_caller_has_enough(stand_in: StandIn) -> None:
    url = stand_in.finished(stand_in.submit(numbered_pdf(1)))["batches"][0]["download_url"]
    whole = download(url).content
    stand_in.faults({"action": "drip", "path": "^/storage/"})
    assert download(url).content == whole
    stand_in.faults({"action": "drip", "path": "^/storage/", "seconds": 3600})
    with call("GET", url, stream=True) as answer:
        assert next(answer.iter_content(1)) == whole[:1]


def test_a_fault_rule_that_makes_no_sense_is_refused(stand_in: StandIn) -> None:
    for rule in ({"action": "explode"}, {"action": "cut", "path": "("}):
        answer = call("POST", f"{stand_in.url}/_control/faults", json=[rule])
        assert answer.status_code == 400
