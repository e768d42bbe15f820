"""What a run can do nothing about does not keep it running for ever, and does not hurt the others."""

import hashlib

import pytest

from deployments.local.stack import LocalStack
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, History, Place, report_of
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule


def test_missing_pages_that_the_budget_has_no_room_for_wait_for_a_run_that_has(
    command: Command, place: Place, api: StandInControl
) -> None:
    body = documents.text_pdf([f"budget {page}" for page in range(1, 26)])
    place.put({"a.pdf": body})
    api.set(fail_batches=[{"sha256": hashlib.sha256(body).hexdigest(), "batch": 1, "times": 1}])
    first = command("run", place.source, place.destination, *FAST, "--page-budget", "30", "--json")
    report = report_of(first)
    assert first.returncode == 4, "a ceiling was reached"
    assert (report["open"], report["failed"], report["pages_sent"]) == (1, 0, 25)
    assert "page budget" in report["stopped"]
    second = report_of(command("run", place.source, place.destination, *FAST, "--json"))
    assert (second["done"], second["pages_sent"]) == (1, 10)


def test_an_object_that_may_not_be_read_is_set_aside_and_the_others_are_done(
    command: Command, place: Place, api: StandInControl, stack: LocalStack, history: History
) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"aside {name}"]) for name in ("a", "archived", "c")})
    run = ("run", place.source, place.destination, *FAST)
    with FlakyS3(stack.s3_url) as gateway:
        archived = Rule("refuse", "/in/archived", "GET", times=-1, status=403, code="InvalidObjectState")
        gateway.fail(archived)
        ended = command(*run, "--json", AWS_ENDPOINT_URL_S3=gateway.url)
        assert archived.hits == 1, "it is tried once in a run"
        shown = command(*run, AWS_ENDPOINT_URL_S3=gateway.url)
    report = report_of(ended)
    assert ended.returncode == 1
    assert (report["documents"], report["done"], report["failed"], report["open"]) == (3, 2, 0, 0)
    assert (report["aside"], report["left"]) == (1, 0)
    (named,) = report["set_aside"]
    assert named["document"] == f"{place.source}/archived.pdf"
    assert "is archived" in named["reason"]
    assert "restore it" in named["reason"]
    assert place.keys("out/_jobs/open/") == set(), "nothing stays claimed"

    assert shown.returncode == 1
    assert f"set aside: {named['document']}: {named['reason']}" in shown.stdout
    assert "2 skipped, 1 set aside" in shown.stdout
    status = command("status", place.destination, "--json")
    assert status.returncode == 1
    found = report_of(status)
    assert (found["documents"], found["done"], found["aside"]) == (3, 2, 1)
    assert [(document["document"], document["reason"]) for document in found["set_aside"]] == [
        (named["document"], named["reason"])
    ]
    first, *_ = history.flow_runs(f"backfill {place.source}")
    assert (first["state"]["type"], first["state"]["name"]) == ("COMPLETED", "Some set aside")
    tasks = history.task_runs(first["id"], "submit in/archived.pdf")
    assert tasks["submit in/archived.pdf"]["state"]["name"] == "Set aside"
    page = history.report(first["id"])
    assert "## Set aside" in page
    assert "archived.pdf" in page

    assert report_of(command(*run, "--json"))["done"] == 1
    assert api.calls()["POST /v1/document-digitization/async"] == 3
    after = command("status", place.destination)
    assert after.returncode == 0
    assert after.stdout.splitlines() == [
        f"3 done, 0 failed, 0 open at {place.destination}",
        "3 pages published; 3 pages paid for, $0.0045",
    ]


@pytest.mark.usefixtures("api")
def test_what_was_set_aside_and_is_gone_is_forgotten_by_a_run_over_all(
    command: Command, place: Place, stack: LocalStack
) -> None:
    place.put({name: documents.text_pdf([f"gone {name}"]) for name in ("a.pdf", "b.pdf")})
    with FlakyS3(stack.s3_url) as gateway:
        gateway.fail(Rule("refuse", r"/in/\w", "GET", times=-1, status=403, code="AccessDenied"))
        run = command("run", place.source, place.destination, *FAST, "--json", AWS_ENDPOINT_URL_S3=gateway.url)
    assert report_of(run)["aside"] == 2
    place.s3.delete_object(Bucket=place.bucket, Key="in/a.pdf")
    chosen = command("run", place.source, place.destination, *FAST, "--include", "b.pdf", "--json")
    assert report_of(chosen)["done"] == 1
    assert report_of(command("status", place.destination, "--json"))["aside"] == 1, "it has not looked for the other"
    assert command("run", place.source, place.destination, *FAST).returncode == 0
    assert report_of(command("status", place.destination, "--json"))["aside"] == 0


def test_a_look_at_the_open_jobs_that_fails_does_not_double_what_was_sent(
    command: Command, place: Place, api: StandInControl, stack: LocalStack
) -> None:
    given = {f"{number:02}.pdf": documents.text_pdf([f"listing {number}"]) for number in range(4)}
    place.put(given)
    hashes = [hashlib.sha256(body).hexdigest() for body in given.values()]
    api.fail({"method": "POST", "path": "/async", "action": "delay", "seconds": 2.0, "times": 4})
    with FlakyS3(stack.s3_url) as gateway:
        # The second look at the open jobs fails for good while nothing else does; boto gives up after its attempts.
        gateway.fail(Rule("refuse", r"prefix=out/_jobs/open/", "GET", times=6, skip=2, status=503))
        ended = command("run", place.source, place.destination, *FAST, "--json", AWS_ENDPOINT_URL_S3=gateway.url)
    assert ended.returncode == 0, ended.stderr
    assert report_of(ended)["done"] == 4
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)
