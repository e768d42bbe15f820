"""Mistakes that people make are told, with what they may have meant, instead of ending green."""

import json
from pathlib import Path

import pytest

from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Machine, Place, pdf, report_of, submissions, texts
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3


@pytest.mark.usefixtures("api")
def test_a_source_that_holds_nothing_is_told_with_the_one_that_was_meant(command: Command, place: Place) -> None:
    place.put({"a.pdf": documents.text_pdf(["not meant"])})
    wrong, meant = f"s3://{place.bucket}/inn", f". Did you mean {place.source}?"
    for name in ("run", "submit", "plan"):
        options = () if name == "plan" else FAST
        process = command(name, wrong, place.destination, *options)
        assert process.returncode == 2, name
        # A slow machine says how far it is before.
        assert process.stderr.splitlines()[-1] == f"bulk-ocr: there is nothing at {wrong}{meant}"
        allowed = command(name, wrong, place.destination, *options, "--allow-empty", "--json")
        assert allowed.returncode == 1, name
        report = report_of(allowed)
        assert (report["documents"], report["nothing"]) == (0, f"there is nothing at {wrong}{meant}")
    assert place.keys() == set()


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--include", "*.pfd"), "matches --include '*.pfd': there are a.pdf. Did you mean --include '*.pdf'?"),
        (("--include", "[a.pdf"), "'[a.pdf' has a [ that no ] closes, so it stands for itself"),
        (("--min-bytes", "1000000"), "matches --min-bytes '1000000': there are a.pdf"),
    ],
)
def test_a_selection_that_takes_nothing_is_told(
    command: Command, place: Place, flags: tuple[str, ...], words: str
) -> None:
    place.put({"a.pdf": documents.text_pdf(["not selected"])})
    for name in ("run", "plan"):
        process = command(name, place.source, place.destination, *flags, *(() if name == "plan" else FAST))
        assert process.returncode == 2
        assert words in process.stderr.splitlines()[-1]
    assert place.keys() == set()


@pytest.mark.usefixtures("api")
def test_a_source_whose_documents_are_all_done_is_no_mistake(command: Command, place: Place) -> None:
    place.put({"a.pdf": documents.text_pdf(["done before"])})
    for _ in range(2):
        assert command("run", place.source, place.destination, *FAST).returncode == 0
    assert command("plan", place.source, place.destination).returncode == 0


@pytest.mark.usefixtures("api")
def test_a_destination_without_a_ledger_is_told_with_the_one_that_was_meant(command: Command, place: Place) -> None:
    place.put({"a.txt": b"words"})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    wrong = f"s3://{place.bucket}/uot"
    for arguments in (("status",), ("failures", "--json"), ("retry",)):
        process = command(*arguments, wrong)
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr == (
            f"bulk-ocr: there is no ledger at {wrong}: no run has used this destination. Did you mean "
            f"{place.destination}?\n"
        )


@pytest.mark.usefixtures("api")
def test_putting_back_what_did_not_fail_is_told_and_a_key_may_leave_the_source_out(
    command: Command, place: Place
) -> None:
    place.put({"a/b.txt": b"words", "c.txt": b"words", "locked.pdf": documents.encrypted_pdf()})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    retry = ("retry", place.destination)
    for flags, words in (
        (("--reason", "encrypted-pdf"), "none has the reason 'encrypted-pdf'"),
        (("--reason", "encryptd"), "Did you mean encrypted?"),
        (("--key", "b.txt"), "none has the key 'b.txt'"),
        (("--key", "a/b.txt", "--key", "a/c.txt"), "none has the key 'a/c.txt'; nothing was put back"),
        (("--key", "a/c.txt"), "Did you mean a/b.txt?"),
        (("--key", "c.txt", "--reason", "encrypted"), "matches both --reason and --key"),
    ):
        process = command(*retry, *flags)
        assert (process.returncode, process.stdout, process.stderr.count("\n")) == (2, "", 1)
        assert words in process.stderr
    assert len(place.records("failed")) == 3, "nothing was put back"
    for key in ("a/b.txt", "in/c.txt", f"{place.source}/locked.pdf"):
        assert report_of(command(*retry, "--key", key, "--json"))["put_back"] == 1
    none_left = command(*retry, "--reason", "encrypted").stderr
    assert none_left == f"bulk-ocr: there is no failed document at {place.destination}; nothing was put back\n"


def test_a_budget_of_a_plan_is_told(command: Command, place: Place) -> None:
    process = command("plan", place.source, place.destination, "--page-budget", "5")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--page-budget bounds what a run sends, and a plan sends nothing" in process.stderr


@pytest.mark.parametrize(("given", "told"), [((), True), (("--shard", "1"), False)])
def test_shards_without_the_number_of_one_are_told_of(
    command: Command, place: Place, given: tuple[str, ...], told: bool
) -> None:
    unreachable = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    process = command("run", place.source, place.destination, "--shards", "2", *given, **unreachable)
    assert process.returncode == 2, process.stderr
    assert ("this is shard 1 of 2; each of the others needs a run of its own: --shard 2" in process.stderr) == told


@pytest.mark.parametrize(("end", "words"), [("/v1\n", "white space around the URL removed"), ("", "no version")])
def test_a_base_url_that_is_not_quite_right_is_named(
    command: Command, place: Place, api: StandInControl, end: str, words: str
) -> None:
    place.put({"a.pdf": documents.text_pdf(["base url"])})
    checked = command("check", place.source, place.destination, "--json", UPSTAGE_BASE_URL=f"{api.url}{end}")
    (found,) = [check for check in report_of(checked)["checks"] if check["part"] == "API"]
    assert (checked.returncode, found["ok"]) == ((0, True) if end else (2, False))
    assert words in found["words"]


@pytest.mark.usefixtures("api")
def test_a_run_over_some_documents_counts_and_waits_for_no_others(
    command: Command, place: Place, api: StandInControl
) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"{place.bucket} {name}"]) for name in ("a", "b", "c")})
    api.set(hang_requests=[{"times": 2}])  # those of a and b stay open for longer than anybody wants to wait
    submitted = command("submit", place.source, place.destination, *FAST, "--include", "[ab].pdf", "--json")
    assert (report_of(submitted)["documents"], report_of(submitted)["open"]) == (2, 2)
    ran = command("run", place.source, place.destination, *FAST, "--include", "c.pdf", "--json")
    report = report_of(ran)
    assert ran.returncode == 0, "it does not wait for them"
    assert (report["documents"], report["done"], report["open"], report["others"]) == (1, 1, 0, 0)
    status = report_of(command("status", place.destination, "--json"))
    assert (status["documents"], status["done"], status["open"]) == (3, 1, 2)


@pytest.mark.usefixtures("api")
def test_what_is_collected_of_others_on_the_way_is_counted_apart(command: Command, place: Place) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"{place.bucket} {name}"]) for name in ("a", "b")})
    assert command("submit", place.source, place.destination, *FAST, "--include", "a.pdf").returncode == 0
    ran = command("run", place.source, place.destination, *FAST, "--include", "b.pdf", "--json")
    report = report_of(ran)
    assert ran.returncode == 0
    assert (report["documents"], report["done"], report["requests"]) == (1, 1, 1)
    assert report["others"] in (0, 1), "by how fast the API was"
    assert len(place.records("done")) == 1 + report["others"]


@pytest.mark.usefixtures("api")
def test_open_means_the_same_to_a_run_and_to_status(command: Command, place: Place) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"{place.bucket} {name}"] * 2) for name in ("a", "b", "c")})
    few = ("--page-budget", "3", "--workers", "1")
    report = report_of(command("submit", place.source, place.destination, *FAST, *few, "--json"))
    assert (report["open"], report["left"]) == (1, report["documents"] - 1)
    status = report_of(command("status", place.destination, "--json"))
    assert (status["documents"], status["open"]) == (1, 1)


def test_a_result_of_another_document_is_never_written_over(machine: Machine, gateway: FlakyS3, tmp_path: Path) -> None:
    machine.put("x/scan.pdf", pdf("of x"))
    machine.put("y/scan.pdf", pdf("of y"))
    for output in ((), ("-o", f"{tmp_path / 'out'}/")):
        first = machine.delivered("x/scan.pdf", *output)
        status, out, complaints = machine.run("y/scan.pdf", *output)
        second = Path(out.strip())
        assert status == 0
        assert second.name == first.name.replace(".ocr.json", "-2.ocr.json")
        assert f"{first} is the result of another document" in complaints
        assert (texts(first), texts(second)) == (["of x 1"], ["of y 1"])
        # Each again, and one of them changed: the results are where they were.
        machine.put("y/scan.pdf", pdf(f"of y, changed for {len(output)}"))
        assert machine.delivered("y/scan.pdf", *output) == second
        assert machine.delivered("x/scan.pdf", *output) == first
        machine.put("y/scan.pdf", pdf("of y"))
        foreign = first.with_name(first.name.replace("scan", "note"))
        foreign.write_text("somebody's own")
        machine.put("note.pdf", pdf("of a note"))
        assert machine.delivered("note.pdf", *output).name == foreign.name.replace(".ocr.json", "-2.ocr.json")
        assert foreign.read_text() == "somebody's own"
        (machine.documents / "note.pdf").unlink()
    named = tmp_path / "named.json"
    for name in ("x/scan.pdf", "y/scan.pdf"):
        assert machine.delivered(name, "-o", named) == named, "a file that was named is what was meant"
    assert json.loads(named.read_bytes())["pages"][0]["text"] == "of y 1"
    assert submissions(gateway) == 5
