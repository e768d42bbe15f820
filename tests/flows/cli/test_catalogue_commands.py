"""`bulk-ocr documents`, `usage`, `show` and `status`, as commands after real runs."""

import csv
import io
import json
from pathlib import Path

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.prefect_api import call
from tests.stand_in import StandInControl

# No key, and no Prefect: nothing listens there.
ALONE = {"UPSTAGE_API_KEY": None, "PREFECT_API_URL": "http://127.0.0.1:9/api"}


def test_what_is_known_of_the_documents_of_a_run(command: Command, place: Place, tmp_path: Path) -> None:
    place.put(
        {
            "2021/long.pdf": documents.text_pdf(["one", "", "three"]),
            "2022/short.pdf": documents.text_pdf(["short"]),
            "broken.pdf": b"%PDF-1.4 nonsense",
        }
    )
    run = ("run", place.source, place.destination, *FAST, "--price-per-page", "0.01", "--json")
    assert command(*run).returncode == 1
    assert len(place.keys("out/_jobs/catalogue/journal/")) == 1, "one write for the run"

    shown = command("documents", place.destination, **ALONE)
    assert shown.returncode == 0, shown.stderr
    assert "3 documents at" in shown.stdout
    assert "2 done, 1 failed" in shown.stdout
    assert "4 pages, 1 of them blank" in shown.stdout
    assert len(place.keys("out/_jobs/catalogue/")) == 1, "saved, and the journal is in it"
    blank = report_of(command("documents", place.destination, "--blank", "--json", **ALONE))
    assert [(row["path"], row["pages"], row["blank_pages"]) for row in blank["documents"]] == [("2021/long.pdf", 3, 1)]
    largest = command("documents", place.destination, "--largest", "1", "--csv", **ALONE)
    (row,) = csv.DictReader(io.StringIO(largest.stdout))
    assert (row["path"], row["cost"], row["superseded"]) == ("2021/long.pdf", "0.03", "false")
    assert row["ended_at"].endswith("Z")
    failed = command("documents", place.destination, "--failed", **ALONE)
    assert "the PDF is broken" in failed.stdout
    file = tmp_path / "rows.parquet"
    assert command("documents", place.destination, "--parquet", str(file), **ALONE).returncode == 0
    assert file.read_bytes()[:4] == b"PAR1"
    both = command("documents", place.destination, "--csv", "--json", **ALONE)
    assert (both.returncode, both.stdout) == (2, "")

    usage = report_of(command("usage", place.destination, "--by", "prefix", "--json", **ALONE))
    assert {group["name"]: (group["pages"], group["billed_pages"]) for group in usage["groups"]} == {
        "2021": (3, 3),
        "2022": (1, 1),
    }
    assert usage["total"]["cost"] == 0.04
    assert "0 pages, $0.00" in command("usage", place.destination, "--month", "1999-01", **ALONE).stdout
    assert "write it as 2026-11" in command("usage", place.destination, "--month", "November", **ALONE).stderr

    status = report_of(command("status", place.destination, "--json", **ALONE))
    assert (status["pages"], status["pages_sent"], status["cost"], status["open"]) == (4, 4, 0.04, 0)


def test_the_history_of_one_document(command: Command, place: Place, environment: dict[str, str]) -> None:
    first, second = documents.text_pdf(["first"]), documents.text_pdf(["second", "version"])
    place.put({"deep/a.pdf": first, "broken.pdf": b"%PDF-1.4 nonsense"})
    run = ("run", place.source, place.destination, *FAST, "--price-per-page", "0.01", "--json")
    command(*run)
    place.put({"deep/a.pdf": second})
    result = f"{place.destination}/deep/a.pdf.ocr.json"

    changed = report_of(command("show", result, "--json"))
    assert changed["document"] == f"{place.source}/deep/a.pdf"
    (job,) = changed["jobs"]
    assert (job["state"], job["is_current"], job["cost"]) == ("done", False, 0.01)
    assert "the next run treats the new version" in job["next"]
    ui = environment["PREFECT_API_URL"].removesuffix("/api")
    assert job["requests"][0]["run_url"] == f"{ui}/runs/flow-run/{job['run']}"
    assert call(environment["PREFECT_API_URL"].removesuffix("/api"), "GET", f"flow_runs/{job['run']}", None)

    command(*run)
    shown = command("show", "deep/a.pdf", "--at", place.destination)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("done: model ocr") == 2
    assert "(an earlier version of the document)" in shown.stdout
    assert "2; 2 words" in shown.stdout
    failed = report_of(command("show", f"{place.source}/broken.pdf", "--at", place.destination, "--json"))
    assert [(job["state"], job["code"]) for job in failed["jobs"]] == [("failed", "broken")]
    assert "does not help" in failed["jobs"][0]["next"]

    wrong = command("show", "deep/b.pdf", "--at", place.destination)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"Did you mean {place.source}/deep/a.pdf?" in wrong.stderr
    assert "give it with --at" in command("show", f"{place.source}/deep/a.pdf").stderr
    nowhere = command("documents", f"{place.destination}t")
    assert f"Did you mean {place.destination}?" in nowhere.stderr


def test_status_takes_names_of_places_and_says_what_is_waited_for(
    command: Command, place: Place, api: StandInControl, tmp_path: Path
) -> None:
    api.set(queue_seconds=600)
    place.put({"a.pdf": documents.text_pdf(["a"])})
    assert command("submit", place.source, place.destination, *FAST).returncode == 0
    file = tmp_path / "places.yaml"
    listed = [
        {"name": name, "source": f"s3://${{bucket}}/{name}", "destination": "s3://${bucket}/out"} for name in ("in",)
    ]
    listed.append({"name": "new", "source": "s3://${bucket}/new", "destination": "s3://${bucket}/never"})
    listed.append({"name": "gone", "source": "s3://gone-bucket/new", "destination": "s3://gone-bucket/never"})
    environments = {"local": {"values": {"bucket": place.bucket}, "work_pool": "x"}}
    file.write_text(json.dumps({"environments": environments, "places": listed}))
    named = {"BULK_OCR_PLACES": str(file), **ALONE}

    waiting = command("status", "in", **named)
    assert waiting.returncode == 1, "unfinished"
    assert "1 at the API" in waiting.stdout
    assert "no worker is running: run 'bulk-ocr collect" in waiting.stdout
    assert "0 pages published; 1 page paid for" in waiting.stdout
    everywhere = command("status", "--json", **named)
    assert everywhere.returncode == 1
    report = report_of(everywhere)
    assert [status["open"] for status in report["places"]] == [1]
    assert report["unused"] == [f"new (s3://{place.bucket}/never)"]
    assert "there is no bucket 'gone-bucket'" in report["troubles"][0]
    history = report_of(command("show", f"{place.source}/a.pdf", "--json", **named))
    assert history["jobs"][0]["state"] == "open"
    assert history["jobs"][0]["next"].startswith("at the API")
    wrong = command("usage", "inn", **named)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Did you mean in?" in wrong.stderr
    nothing = command("status", BULK_OCR_ENVIRONMENT="production", **named)
    assert "has no environment 'production' (it has local)" in nothing.stderr
