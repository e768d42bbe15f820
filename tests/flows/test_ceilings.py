"""A ceiling over documents whose pages only the API can count: in a real run, and of documents on this machine."""

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Machine, Place, report_of
from tests.stand_in import StandInControl

CEILING, LONGEST, PAGES = 27, 10, 5


def test_a_run_of_office_documents_exceeds_its_ceiling_by_one_document_at_most_and_sends_all_that_fit(
    command: Command, place: Place, api: StandInControl
) -> None:
    """They claim one page and have five: without the counts, all eight would seem to fit."""
    texts = [[f"{place.bucket} {number} {page}" for page in range(PAGES)] for number in range(8)]
    place.put({f"{number}.docx": documents.docx(text) for number, text in enumerate(texts)})
    before = api.requests()
    limits = ("--limits.pages", str(LONGEST), "--max-pages", str(CEILING))
    run = command("run", place.source, place.destination, *FAST, *limits, "--json")
    assert run.returncode == 4, run.stderr
    report = report_of(run)
    billed = [submission["pages"] for submission in api.billed(since=before)]
    # The sixth is admitted when 25 pages are counted; the seventh, when it is counted as well.
    assert (report["done"], report["left"], billed) == (6, 2, 6 * [PAGES])
    assert sum(billed) <= CEILING + PAGES
    assert f"its 1 page exceeds what is left of the page budget of this run (0 of {CEILING}" in report["ceiling"]


def test_documents_on_this_machine_wait_for_one_another_too(machine: Machine, api: StandInControl) -> None:
    texts = [[f"{machine.documents} {number} {page}" for page in range(PAGES)] for number in range(4)]
    names = [machine.put(f"{number}.docx", documents.docx(text)).name for number, text in enumerate(texts)]
    before = api.requests()
    status, _, complaints = machine.run(*names, "--limits.pages", str(LONGEST), "--max-pages", "12", "--workers", "4")
    assert [submission["pages"] for submission in api.billed(since=before)] == 3 * [PAGES], complaints
    assert (status, "its 1 page exceeds what is left of the page budget" in complaints) == (1, True)
