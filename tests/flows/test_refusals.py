"""What a user sees when the set-up or the account is wrong: one sentence, the right exit status, nothing half done."""

import hashlib

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.stand_in import StandInControl


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "sentence"),
    [
        (("s3://no-such-bucket-1/in", "{destination}"), {}, 2, "there is no bucket 'no-such-bucket-1'"),
        (("{source}", "s3://no-such-bucket-2/out"), {}, 2, "there is no bucket 'no-such-bucket-2'"),
        (("scans/in", "{destination}"), {}, 2, "'scans/in' is not an S3 address; write it as s3://bucket/prefix"),
        (("{source}", "{destination}"), {"UPSTAGE_API_KEY": None}, 2, "no API key: set UPSTAGE_API_KEY"),
        (("{source}", "{destination}"), {"AWS_ACCESS_KEY_ID": "nobody"}, 2, "S3 refuses the credentials"),
        (("{source}", "{destination}"), {"UPSTAGE_BASE_URL": "http://127.0.0.1:9/v1"}, 2, "the API cannot be reached"),
        (("{source}", "{destination}"), {"UPSTAGE_BASE_URL": "nonsense"}, 2, "is not a web address"),
        (("{source}", "{destination}"), {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, 2, "no Prefect server answers"),
        (("{source}", "{destination}", "--workers", "0"), {}, 2, "--workers: Input should be greater than or equal"),
        (("{source}",), {}, 2, "requires an argument"),
        (("{source}", "{destination}"), {"UPSTAGE_API_KEY": "up_wrong"}, 3, "the API key was rejected"),
    ],
)
def test_a_wrong_setup_is_one_sentence_and_changes_nothing(
    command: Command,
    place: Place,
    api: StandInControl,
    arguments: tuple[str, ...],
    variables: dict[str, str | None],
    status: int,
    sentence: str,
) -> None:
    place.put({"a.pdf": documents.text_pdf(["refused"])})
    filled = [part.format(source=place.source, destination=place.destination) for part in arguments]
    process = command("run", *filled, **variables)
    complaints = [line for line in process.stderr.splitlines() if line.strip()]
    assert process.returncode == status, process.stderr
    assert process.stdout == ""
    assert len(complaints) == 1, process.stderr
    assert sentence in complaints[0]
    assert place.keys() == set(), "nothing is left behind"
    assert api.calls().get("POST /v1/document-digitization/async", 0) == 0


def test_a_wrong_key_costs_a_handful_of_calls_and_the_right_one_does_all(
    command: Command, place: Place, api: StandInControl
) -> None:
    place.put({f"{number}.pdf": documents.text_pdf([f"key {number}"]) for number in range(12)})
    wrong = command("run", place.source, place.destination, *FAST, UPSTAGE_API_KEY="up_wrong")
    assert wrong.returncode == 3
    assert sum(api.calls().values()) <= 5
    right = report_of(command("run", place.source, place.destination, *FAST, "--json"))
    assert (right["done"], right["failed"], right["requests"]) == (12, 0, 12)


def test_credit_used_up_half_way_stops_early_and_loses_nothing(
    command: Command, place: Place, api: StandInControl
) -> None:
    given = {f"{number:02}.pdf": documents.text_pdf([f"credit {number}", "two"]) for number in range(20)}
    place.put(given)
    hashes = [hashlib.sha256(body).hexdigest() for body in given.values()]
    spent = sum(submission["pages"] for submission in api.billed())
    api.set(credit_pages=spent + 10)
    refused = command("run", place.source, place.destination, *FAST, "--json")
    report = report_of(refused)
    assert refused.returncode == 3
    assert "403" in report["refused"]
    assert "403" in refused.stderr
    assert report["requests"] == 5
    assert report["failed"] == 0
    assert place.keys("out/_jobs/failed/") == set()
    assert api.calls()["POST /v1/document-digitization/async"] <= 5 + 8, "no more refusals than workers"
    api.set(credit_pages=None)
    rest = command("run", place.source, place.destination, *FAST, "--json")
    assert rest.returncode == 0
    assert len(place.results()) == 20
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes), "billed once each"
