"""`bulk-ocr run` where the account takes no jobs, in mode auto, and with plain texts: told in the report and the UI."""

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, History, Place, report_of
from tests.stand_in import StandInControl

ASYNC = "POST /v1/document-digitization/async"


def test_an_account_without_jobs_is_served_synchronously_and_the_run_says_so_once(
    command: Command, place: Place, api: StandInControl, history: History
) -> None:
    api.set(refuse_async=True, limits={"sync_pages": 100})
    place.put(
        {
            "long.pdf": documents.text_pdf([f"sync page {number}" for number in range(1, 251)]),
            "a.png": documents.png("sync"),
            "b.docx": documents.docx(["sync one", "sync two"]),
        }
    )
    process = command("run", place.source, place.destination, *FAST, "--workers", "1")
    assert process.returncode == 0, process.stderr
    assert api.calls()[ASYNC] == 1, "refused once, remembered for the run"
    note = "the account has no async access, so requests were synchronous (the API answered 400 (The requested model"
    assert process.stdout.count(note) == 1
    modes = [(submission["mode"], submission["pages"]) for submission in api.billed()[-5:]]
    assert sorted(modes) == [("sync", 1), ("sync", 2), ("sync", 50), ("sync", 100), ("sync", 100)]
    run = history.flow_run(f"backfill {place.source}")
    assert run["state"]["type"] == "COMPLETED"
    warnings = [line for line in history.logs(run["id"]) if "has no async access" in line]
    assert len(warnings) == 1
    assert "has no async access" in history.report(run["id"])


def test_auto_and_texts_and_what_was_recognised_before(command: Command, place: Place, api: StandInControl) -> None:
    place.put({"short.pdf": documents.text_pdf(["auto short"]), "long.pdf": documents.text_pdf(["auto long"] * 11)})
    before = len(api.billed())
    first = command("run", place.source, place.destination, *FAST, "--mode", "auto", "--json")
    assert first.returncode == 0, first.stderr
    assert {(submission["mode"], submission["pages"]) for submission in api.billed()[before:]} == {
        ("sync", 1),
        ("async", 11),
    }

    second = report_of(command("run", place.source, place.destination, *FAST, "--text", "--json"))
    assert (second["done"], second["texts"], second["requests"]) == (0, 2, 0)
    assert place.results()["short.pdf.ocr.txt"] == b"auto short"
    assert place.results()["long.pdf.ocr.txt"] == b"\f".join([b"auto long"] * 11)
