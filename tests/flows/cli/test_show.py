"""`bulk-ocr show` takes the address of a document or of its result, and answers a wrong one with the nearest."""

from pathlib import Path

import pytest

from flows.cli.show import history_of
from tasks.faults import SetupFault
from tests.catalogue.conftest import Records

DOCUMENT, FAILED = "s3://archive/scans/2021/report.pdf", "s3://archive/scans/broken.pdf"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A ledger at s3://out/ocr with a finished document, whose result is there, and a failed one."""
    records = Records(tmp_path_factory.mktemp("store"), "archive")
    done = records.open("2021/report.pdf")
    records.done(done)
    records.failed(records.open("broken.pdf"))
    records.journal.close()
    metadata = {"bulk-ocr-job": done.job.id, "source": DOCUMENT}
    records.objects.put("out", "ocr/2021/report.pdf.ocr.json", b"{}", metadata, "application/json")
    records.objects.put("archive", "scans/2021/report.pdf", b"%PDF", {}, "application/pdf")
    return records


@pytest.mark.parametrize(("address", "document"), [
    ("s3://out/ocr/2021/report.pdf.ocr.json", DOCUMENT),
    ("s3://out/ocr/2021/report.pdf.ocr.txt", DOCUMENT),
    ("s3://out/ocr/2021/report.pdf.ocr.pdf", DOCUMENT),
    ("s3://out/ocr/broken.pdf.ocr.json", FAILED),
])  # fmt: skip
def test_a_results_address_names_its_document_whether_it_exists_or_not(
    records: Records, address: str, document: str
) -> None:
    history = history_of(records.objects, address, None)
    assert (history.document, history.destination, len(history.jobs)) == (document, "s3://out/ocr", 1)


def test_a_results_address_names_its_document_if_the_source_of_a_place_contains_the_destination(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "bulk-ocr.toml"
    configuration.write_text('[places.other]\nsource = "s3://out"\ndestination = "s3://out/other"\n')
    monkeypatch.setenv("BULK_OCR_CONFIG", str(configuration))
    for address, document in (("2021/report.pdf", DOCUMENT), ("broken.pdf", FAILED)):
        history = history_of(records.objects, f"s3://out/ocr/{address}.ocr.json", None)
        assert (history.document, history.destination) == (document, "s3://out/ocr")


@pytest.mark.parametrize("address", [DOCUMENT, "scans/2021/report.pdf", "2021/report.pdf"])
def test_a_document_needs_its_destination(records: Records, address: str) -> None:
    assert history_of(records.objects, address, "s3://out/ocr").document == DOCUMENT
    with pytest.raises(SetupFault, match="--at"):
        history_of(records.objects, address, None)


@pytest.mark.parametrize(("address", "meant"), [
    ("s3://out/ocr/2021/report.pdf.json", DOCUMENT),
    ("s3://out/ocr/2021/report.pdf", DOCUMENT),
    ("s3://out/ocr/2021/reprot.pdf.ocr.json", DOCUMENT),
    ("s3://out/ocr/brokn.pdf.ocr.json", FAILED),
])  # fmt: skip
def test_a_wrong_address_in_the_destination_is_answered_with_the_nearest_document(
    records: Records, address: str, meant: str
) -> None:
    with pytest.raises(SetupFault, match=r"the ledger at s3://out/ocr has no document") as refused:
        history_of(records.objects, address, None)
    assert str(refused.value).endswith(f"Did you mean {meant}?")


def test_a_document_beside_a_destination_is_answered_with_that_destination(records: Records) -> None:
    with pytest.raises(SetupFault, match=r"or give the result's address\. Did you mean --at s3://out/ocr\?"):
        history_of(records.objects, "s3://out/scans/2021/report.pdf", None)
