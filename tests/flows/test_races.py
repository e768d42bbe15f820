"""Several of anything at once, as processes: nothing doubled, nothing lost, nobody fails because of another."""

import hashlib

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, Start, report_of
from tests.flows.races import at_once, billed_once
from tests.stand_in import StandInControl

DOCUMENTS = 12


def _put(place: Place, tag: str) -> list[str]:
    given = {
        f"{number:02}.pdf": documents.text_pdf([f"{tag} {number}.{page}" for page in range(12)])
        for number in range(DOCUMENTS)
    }
    place.put(given)
    return [hashlib.sha256(body).hexdigest() for body in given.values()]


def test_three_runs_at_once_share_the_work(start: Start, place: Place, api: StandInControl) -> None:
    api.set(seconds_per_page=0.01)  # jobs stay open for a while, so that all three have something to do
    hashes = _put(place, "three")
    runs = at_once(start, *[("run", place.source, place.destination)] * 3)
    assert [run.returncode for run in runs] == [0, 0, 0], [run.stderr for run in runs]
    reports = [report_of(run) for run in runs]
    assert billed_once(api, hashes)
    assert sum(report["requests"] for report in reports) == DOCUMENTS
    assert sum(report["done"] for report in reports) == DOCUMENTS
    assert all(report["documents"] == DOCUMENTS and report["open"] == 0 for report in reports)
    assert len(place.results()) == DOCUMENTS
    assert place.keys("out/_jobs/open/") == set()
    # Two batches a document: the lease for collecting keeps the three from downloading the same.
    assert api.calls()["GET /storage/{id}/{batch}"] == 2 * DOCUMENTS


def test_overlapping_schedules_of_submit_and_of_collect_double_nothing(
    start: Start, command: Command, place: Place, api: StandInControl
) -> None:
    hashes = _put(place, "schedules")
    submits = at_once(start, *[("submit", place.source, place.destination)] * 2)
    assert [run.returncode for run in submits] == [0, 0], [run.stderr for run in submits]
    assert billed_once(api, hashes)
    collects = at_once(start, *[("collect", place.destination)] * 2)
    assert [run.returncode for run in collects] == [0, 0], [run.stderr for run in collects]
    # A collector may have looked before the stand-in was done with all; another pass takes the rest.
    assert command("collect", place.destination, *FAST).returncode == 0
    assert len(place.records("done")) == DOCUMENTS
    assert api.calls()["GET /storage/{id}/{batch}"] == 2 * DOCUMENTS


@pytest.mark.usefixtures("api")
def test_submit_collect_and_run_at_once_get_along(start: Start, place: Place) -> None:
    _put(place, "all kinds")
    ended = at_once(
        start,
        ("run", place.source, place.destination),
        ("submit", place.source, place.destination),
        ("collect", place.destination),
    )
    assert [run.returncode for run in ended] == [0, 0, 0], [run.stderr for run in ended]
    assert len(place.results()) == DOCUMENTS
