"""`bulk-ocr run` and the backfill flow under it, as a process, on real parts."""

import hashlib
import json
import re

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, History, Place, report_of
from tests.stand_in import StandInControl


def _documents(tag: str) -> dict[str, bytes]:
    """Documents of every kind that can be sent; the tag keeps tests from sharing bytes."""
    return {
        "a.pdf": documents.text_pdf([f"{tag} page {number}" for number in range(1, 26)]),
        "deep/er/b c.pdf": documents.text_pdf([f"{tag} single"]),
        "c.png": documents.png(tag),
        "d.jpg": documents.jpeg(tag),
        "e.tif": documents.tiff([f"{tag} 1", f"{tag} 2", f"{tag} 3"]),
    }


def _sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_documents_become_results_and_a_second_run_sends_nothing(
    command: Command, place: Place, api: StandInControl
) -> None:
    given = _documents("happy")
    place.put(given)
    first = command("run", place.source, place.destination, *FAST, "--json")
    report = report_of(first)
    assert first.returncode == 0, first.stderr
    assert (report["documents"], report["done"], report["pages"], report["requests"]) == (5, 5, 31, 5)
    assert (report["failed"], report["open"], report["skipped"], report["possible_duplicates"]) == (0, 0, 0, 0)
    assert set(place.results()) == {f"{key}.ocr.json" for key in given}
    result = json.loads(place.results()["a.pdf.ocr.json"])
    assert [page["id"] for page in result["pages"]] == list(range(25))
    assert [page["text"] for page in result["pages"]] == [f"happy page {number}" for number in range(1, 26)]
    assert place.keys("out/_jobs/open/") == set()
    assert len(place.records("done")) == 5
    bill = {submission["sha256"]: submission["pages"] for submission in api.billed(*map(_sha, given.values()))}
    assert bill[_sha(given["a.pdf"])] == 25
    assert len(api.billed(*map(_sha, given.values()))) == 5

    before, results = len(api.billed()), place.results()
    second = command("run", place.source, place.destination, *FAST, "--json")
    again = report_of(second)
    assert second.returncode == 0
    assert (again["documents"], again["skipped"], again["done"], again["requests"]) == (5, 5, 0, 0)
    assert len(api.billed()) == before
    assert place.results() == results


@pytest.mark.usefixtures("api")
def test_a_bad_document_fails_alone_and_in_words(command: Command, place: Place) -> None:
    place.put(
        {
            "good.pdf": documents.text_pdf(["bad ones beside me"]),
            "locked.pdf": documents.encrypted_pdf(),
            "cut.pdf": documents.truncated_pdf(),
            "empty.png": b"",
            "note.txt": b"just words",
        }
    )
    process = command("run", place.source, place.destination, *FAST, "--json")
    report = report_of(process)
    assert process.returncode == 1
    assert (report["done"], report["failed"]) == (1, 4)
    reasons = {failure["document"].rpartition("/")[2]: failure["reason"] for failure in report["failures"]}
    assert "password" in reasons["locked.pdf"]
    assert "broken" in reasons["cut.pdf"]
    assert "empty" in reasons["empty.png"]
    assert "unsupported format" in reasons["note.txt"]
    assert {record["reason"] for record in place.records("failed")} == set(reasons.values())

    again = command("run", place.source, place.destination, *FAST)
    assert again.returncode == 1, "documents that failed are not forgotten by the next run's exit status"
    assert "4 documents failed in earlier runs" in again.stdout


def test_the_prefect_ui_tells_the_story(command: Command, place: Place, api: StandInControl, history: History) -> None:
    place.put({"ünique|`x`.pdf": documents.text_pdf(["ui 1", "ui 2"]), "bad.pdf": b"%PDF-1.4 no more"})
    api.fail({"method": "POST", "path": "/async", "action": "status", "status": 503, "times": 1})
    assert command("run", place.source, place.destination, *FAST).returncode == 1

    run = history.flow_run(f"backfill {place.source}")
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Some failed")
    assert run["tags"] == ["bulk-ocr-terminal"], "not that of deployments, whose runs page somebody"
    good, bad = ("submit in/ünique|`x`.pdf", "collect in/ünique|`x`.pdf"), "submit in/bad.pdf"
    tasks = history.task_runs(run["id"], *good, bad)
    assert [tasks[name]["state"]["type"] for name in good] == ["COMPLETED", "COMPLETED"]
    assert tasks["submit in/bad.pdf"]["state"]["type"] == "FAILED"
    assert "broken" in tasks["submit in/bad.pdf"]["state"]["message"]
    log = "\n".join(history.logs(run["id"]))
    assert "the API answered 503" in log, "the client's retries are visible"
    assert re.search(r"ünique.*: published 2 pages at s3://", log)
    artifacts = history.artifacts(run["id"])
    assert "| 2 | 1 | 1 | 0 | 0 |" in history.report(run["id"])
    (progress,) = [data for key, data in artifacts.items() if key.endswith("-progress")]
    assert progress == 100
    (partitions,) = [data for key, data in artifacts.items() if key.endswith("-partitions")]
    partitions = json.loads(partitions)
    assert (partitions[0]["finished"], partitions[0]["pages charged"]) == ("2 of 2", "2")
    ((key, failures),) = [(key, data) for key, data in artifacts.items() if key.endswith("-failures")]
    assert key.startswith(f"bulk-ocr-{place.bucket}-out-in-"), "the place, and the backfill"
    (failure,) = json.loads(failures)
    assert (failure["document"], failure["code"]) == (f"{place.source}/bad.pdf", "broken")
    assert failure["run"] == f"[{run['id'][:8]}]({history.url}/runs/flow-run/{run['id']})"


@pytest.mark.usefixtures("api")
def test_a_small_window_and_a_page_budget_are_kept(command: Command, place: Place) -> None:
    place.put({f"{number}.pdf": documents.text_pdf([f"window {number}"] * 2) for number in range(5)})
    process = command("run", place.source, place.destination, *FAST, "--page-budget", "5", "--window", "1", "--json")
    report = report_of(process)
    assert process.returncode == 4, "a ceiling was reached"
    assert (report["done"], report["pages_sent"]) == (2, 4)
    assert "budget" in report["stopped"]
    rest = report_of(command("run", place.source, place.destination, *FAST, "--window", "2", "--json"))
    assert (rest["documents"], rest["done"], rest["skipped"], rest["pages_sent"]) == (5, 3, 2, 6)


@pytest.mark.usefixtures("api")
def test_a_document_over_the_limit_is_sent_in_parts_and_comes_out_whole(command: Command, place: Place) -> None:
    whole = [f"parts {number}" for number in range(1, 24)]
    place.put({"long.pdf": documents.text_pdf(whole)})
    report = report_of(command("run", place.source, place.destination, *FAST, "--limits.pages", "10", "--json"))
    assert (report["done"], report["requests"], report["pages"]) == (1, 3, 23)
    result = json.loads(place.results()["long.pdf.ocr.json"])
    assert [page["text"] for page in result["pages"]] == whole


@pytest.mark.usefixtures("api")
def test_submit_and_collect_as_scheduled_do_the_same_in_passes(command: Command, place: Place) -> None:
    place.put({"1.pdf": documents.text_pdf(["pass 1"]), "2.pdf": documents.text_pdf(["pass 2"])})
    submitted = report_of(command("submit", place.source, place.destination, *FAST, "--json"))
    assert (submitted["documents"], submitted["open"], submitted["requests"]) == (2, 2, 2)
    status = command("status", place.destination)
    assert "0 done, 0 failed, 2 open" in status.stdout
    assert "at the API" in status.stdout
    collected = report_of(command("collect", place.destination, *FAST, "--json"))
    assert (collected["documents"], collected["done"], collected["open"]) == (2, 2, 0)
    assert "2 done, 0 failed, 0 open" in command("status", place.destination).stdout


@pytest.mark.usefixtures("api")
def test_without_a_prefect_server_the_run_brings_its_own(command: Command, place: Place) -> None:
    place.put({"alone.pdf": documents.text_pdf(["no server"])})
    process = command("run", place.source, place.destination, *FAST, "--json", PREFECT_API_URL=None)
    assert report_of(process)["done"] == 1
    assert process.returncode == 0
