"""`bulk-ocr failures` and `bulk-ocr retry`, as commands."""

import hashlib
import json

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.stand_in import StandInControl


def test_failures_are_grouped_and_put_back_by_reason_and_by_key(
    command: Command, place: Place, api: StandInControl
) -> None:
    body = documents.text_pdf([f"retry {page}" for page in range(1, 26)])
    sha = hashlib.sha256(body).hexdigest()
    place.put({"hole.pdf": body, "locked.pdf": documents.encrypted_pdf(), "note.txt": b"words", "b.txt": b"words"})
    api.set(fail_batches=[{"sha256": sha, "batch": 1, "times": 1}])
    run = ("run", place.source, place.destination, *FAST, "--json")
    assert command(*run, "--rounds", "1").returncode == 1

    shown = command("failures", place.destination)
    assert shown.returncode == 1
    assert "unsupported-format: 2 (a retry without a change does not help)" in shown.stdout
    assert "missing-pages: 1 (a retry can help)" in shown.stdout
    assert "hole.pdf: pages 11-20 did not come back after 1 submissions" in shown.stdout
    groups = {group["code"]: group for group in report_of(command("failures", place.destination, "--json"))["groups"]}
    assert groups["missing-pages"]["documents"][0]["pages_kept"] == 15

    by_key = report_of(command("retry", place.destination, "--key", "in/b.txt", "--json"))
    assert (by_key["put_back"], by_key["left"]) == (1, 3)
    by_reason = report_of(command("retry", place.destination, "--reason", "missing-pages", "--json"))
    assert (by_reason["put_back"], by_reason["pages_kept"], by_reason["pages_missing"]) == (1, 15, 10)

    again = command(*run)
    report = report_of(again)
    assert again.returncode == 1
    assert (report["done"], report["failed"], report["failed_before"]) == (1, 1, 2)
    assert report["pages_sent"] == 10, "the missing pages only"
    result = json.loads(place.results()["hole.pdf.ocr.json"])
    assert [page["text"] for page in result["pages"]] == [f"retry {page}" for page in range(1, 26)]
    everything = report_of(command("retry", place.destination, "--json"))
    assert (everything["put_back"], everything["left"]) == (3, 0)
    assert "0 failed" in command("failures", place.destination).stdout
