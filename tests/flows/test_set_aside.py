"""What a run can do nothing about does not keep it running for ever, and does not hurt the others."""

import hashlib

from deployments.local.stack import LocalStack
from tests import documents
from tests.flows.conftest import FAST, Command, Place, report_of
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
    assert first.returncode == 1
    assert (report["open"], report["failed"], report["pages_sent"]) == (1, 0, 25)
    assert "page budget" in report["stopped"]
    second = report_of(command("run", place.source, place.destination, *FAST, "--json"))
    assert (second["done"], second["pages_sent"]) == (1, 10)


def test_an_object_that_may_not_be_read_is_left_and_the_others_are_done(
    command: Command, place: Place, api: StandInControl, stack: LocalStack
) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"aside {name}"]) for name in ("a", "archived", "c")})
    with FlakyS3(stack.s3_url) as gateway:
        gateway.fail(Rule("refuse", "/in/archived", "GET", times=-1, status=403, code="InvalidObjectState"))
        ended = command("run", place.source, place.destination, *FAST, "--json", AWS_ENDPOINT_URL_S3=gateway.url)
    report = report_of(ended)
    assert ended.returncode == 1
    assert (report["done"], report["failed"], report["open"]) == (2, 0, 1)
    assert place.keys("out/_jobs/open/") == set(), "nothing stays claimed"
    assert report_of(command("run", place.source, place.destination, *FAST, "--json"))["done"] == 1
    assert api.calls()["POST /v1/document-digitization/async"] == 3


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
    assert sorted(each["sha256"] for each in api.billed(*hashes)) == sorted(hashes)
