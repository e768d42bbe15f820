"""Two versions of the program on two workers: the older one leaves alone what the newer one wrote, and says so."""

import hashlib
import json

from tasks.job.record import RECORD_FORMAT
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.stand_in import StandInControl


def _by_a_newer_version(place: Place, state: str) -> dict[str, bytes]:
    """Make the records of a state what a newer version would write. Gives them as they are now."""
    made = {}
    for record in place.records(state):
        identity = record["id"] if state == "open" else record["job"]["id"]
        body = json.dumps({**record, "format": RECORD_FORMAT + 1, "something_new": 1}).encode()
        key = f"out/_jobs/{state}/{identity}.json"
        place.s3.put_object(Bucket=place.bucket, Key=key, Body=body)
        made[key] = body
    return made


def test_an_older_worker_leaves_a_newer_ones_records_alone_and_does_the_rest(
    command: Command, place: Place, api: StandInControl
) -> None:
    given = {f"{name}.pdf": documents.text_pdf([f"{place.bucket} {name}"]) for name in ("done", "open", "mine")}
    hashes = [hashlib.sha256(body).hexdigest() for body in given.values()]

    def run(*arguments: str) -> int:
        return command(*arguments, place.source, place.destination, *FAST).returncode

    place.put({"done.pdf": given["done.pdf"], "failed.pdf": b"no document"})
    assert run("run") == 1
    place.put({"open.pdf": given["open.pdf"]})
    assert run("submit") == 1  # one failed before
    newer = {
        key: body for state in ("done", "failed", "open") for key, body in _by_a_newer_version(place, state).items()
    }
    assert len(newer) == 3
    place.put({"mine.pdf": given["mine.pdf"]})

    ran = command("run", place.source, place.destination, *FAST, "--json")
    report = report_of(ran)
    assert ran.returncode == 1, ran.stderr
    assert (report["done"], report["unreadable"], report["requests"]) == (1, 1, 1)
    assert sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)
    shown = command("run", place.source, place.destination, *FAST, "--verbose")
    assert "1 open jobs were left alone" in shown.stdout
    assert f"written by a newer version of this program (format {RECORD_FORMAT + 1}" in shown.stderr
    assert "1 more records belong to another version" in command("failures", place.destination).stdout
    assert "0 put back, 1 left" in command("retry", place.destination).stdout
    now = {key: place.s3.get_object(Bucket=place.bucket, Key=key)["Body"].read() for key in newer}
    assert now == newer
