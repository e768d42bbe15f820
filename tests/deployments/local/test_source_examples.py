"""The calls that the source documents show, as they show them: with nothing else set, the stand-in answers them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests

from tests.deployments.local.process import KEY, StandIn
from tests.sample_documents import text_pdf
from tests.waiting import PATIENCE

TEXTS = [f"page {number} of a test" for number in range(1, 13)]


def test_the_synchronous_example_prints_the_words_and_where_they_stand(stand_in: StandIn, tmp_path: Path) -> None:
    api_key = KEY
    filename = tmp_path / "document.pdf"
    filename.write_bytes(text_pdf(TEXTS))

    url = stand_in.api
    headers = {"Authorization": f"Bearer {api_key}"}
    with filename.open("rb") as file:
        response = requests.post(
            url, headers=headers, files={"document": file}, data={"model": "ocr"}, timeout=PATIENCE
        )
    result = response.json()

    found = []
    for page in result["pages"]:
        for word in page["words"]:
            found.append((page["id"], word["text"], word["confidence"], word["bounding_box"]["vertices"]))
    assert [page["text"] for page in result["pages"]] == TEXTS
    assert len(found) == 5 * 12
    assert all(0 <= vertex["x"] <= 1 and 0 <= vertex["y"] <= 1 for *_, vertices in found for vertex in vertices)
    assert result["usage"]["pages"] == 12


def test_the_asynchronous_example_submits_polls_and_downloads(stand_in: StandIn, tmp_path: Path) -> None:
    api_key = KEY
    filename = tmp_path / "document.pdf"
    filename.write_bytes(text_pdf(TEXTS))

    headers = {"Authorization": f"Bearer {api_key}"}
    with filename.open("rb") as file:
        submitted = requests.post(
            f"{stand_in.api}/async", headers=headers, files={"document": file}, data={"model": "ocr"}, timeout=PATIENCE
        )
    request_id = submitted.json()["request_id"]

    status: dict[str, Any] = {"status": "submitted"}
    while status["status"] in ("submitted", "started"):
        status = requests.get(f"{stand_in.api}/requests/{request_id}", headers=headers, timeout=PATIENCE).json()
        time.sleep(0.02)  # the example's pause between polls
    assert status["status"] == "completed"

    texts = []
    for batch in sorted(status["batches"], key=lambda batch: int(batch["start_page"])):
        result = requests.get(batch["download_url"], timeout=PATIENCE).json()
        for page in result["pages"]:
            texts.append(page["text"])
            assert all(len(word["bounding_box"]["vertices"]) == 4 for word in page["words"])
    assert texts == TEXTS
