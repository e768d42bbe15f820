"""A run that is ended while its workers wait: it ends at once, and gives back what it has claimed and not sent."""

import signal
from typing import Any

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, Start, report_of
from tests.stand_in import StandInControl
from tests.waiting import until

SLOW = ("--pages-per-minute", "1000000", "--poll-seconds", "0.05")
# The API asks for nearly five minutes, the longest a worker waits for it; orchestrators give a process thirty seconds.
REFUSED = {"method": "POST", "path": "/async", "action": "status", "status": 429, "headers": {"Retry-After": "290"}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("rule", "options"),
    [({**REFUSED, "times": -1}, FAST), (None, (*SLOW, "--requests-per-second", "0.004"))],
    ids=["Retry-After", "rate limit"],
)
def test_no_wait_outlives_a_signal(
    start: Start,
    command: Command,
    place: Place,
    api: StandInControl,
    rule: dict[str, Any] | None,
    options: tuple[str, ...],
    number: int,
) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"{place.bucket} {name}"]) for name in "ab"})
    if rule is not None:
        api.fail(rule)
    process = start("run", place.source, place.destination, *options)
    try:
        if rule is None:
            until(lambda: place.keys("out/_jobs/open/"), "a claim")
        else:
            until(lambda: api.calls().get("POST /v1/document-digitization/async"), "a refusal")
        process.send_signal(number)
        _, complaints = process.communicate(200)  # less than the API asks for
    finally:
        process.kill()
    assert process.returncode == 130, complaints
    assert complaints.splitlines()[-1] == (
        "bulk-ocr: interrupted; what was sent is on record: rerun the command to resume"
    )
    assert place.keys("out/_jobs/open/") == set(), "what was claimed and not sent is given back"
    api.fail()
    assert report_of(command("run", place.source, place.destination, *FAST, "--json"))["done"] == 2
