"""The command `file`: documents on this machine, without a bucket and without Prefect, paid once whatever happens."""

import dataclasses
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.app import main
from flows.cli.local_files import LocalDocument
from flows.cli.local_run import RESULTS, LocalRun
from tasks.context import RunContext
from tasks.options import Options, RunSettings
from tasks.store.ledger import Ledger
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location
from tests import sample_documents as documents
from tests.flows.conftest import Machine, pdf, submissions, texts
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """`main` answers SIGTERM; pytest's own way is wanted back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


FORMATS: dict[str, tuple[bytes, int]] = {
    "a.pdf": (pdf("of a format", 2), 2),
    "b.png": (documents.png("a picture"), 1),
    "c.tiff": (documents.tiff(["one", "two", "three"]), 3),
    "d.docx": (documents.docx(["one", "two"]), 2),
    "e.heic": (documents.heic("a photograph"), 1),
    "f.hwp": (documents.hwp(["one"]), 1),
    "no extension at all": (pdf("without an extension"), 1),
}


def test_every_format_is_recognised_into_the_temporary_folder_and_the_path_is_all_that_is_printed(
    machine: Machine,
) -> None:
    for name, (body, _) in FORMATS.items():
        machine.put(name, body)
    status, out, complaints = machine.run(*FORMATS)
    results = [machine.temporary / f"{Path(name).stem}.ocr.json" for name in FORMATS]
    assert (status, out.splitlines(), complaints) == (0, [str(result) for result in results], "")
    assert [len(texts(result)) for result in results] == [pages for _, pages in FORMATS.values()]
    assert {result.stat().st_mode & 0o777 for result in results} == {0o600}, "others may look into the temporary folder"


def test_neither_prefect_nor_a_bucket_is_needed(machine: Machine) -> None:
    machine.put("a.pdf", pdf("alone"))
    code = (
        "import sys\nfrom flows.cli.app import main\ntry: main(['file', 'a.pdf'])\n"
        "except SystemExit as end: print(end.code, 'prefect' in sys.modules)"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code], env=machine.environment, cwd=machine.documents, text=True, timeout=PATIENCE
    )
    assert out.splitlines() == [str(machine.temporary / "a.ocr.json"), "0 False"]


def test_up_to_a_hundred_pages_are_answered_at_once_and_more_go_as_a_job(machine: Machine, gateway: FlakyS3) -> None:
    machine.put("short.pdf", pdf("short", 100))
    machine.put("long.pdf", pdf("long", 101))
    assert len(texts(machine.delivered("short.pdf"))) == 100
    assert not any("/async" in path for _, path in gateway.seen)
    assert texts(machine.delivered("long.pdf")) == [f"long {number}" for number in range(1, 102)]
    assert sum("/async" in path for _, path in gateway.seen) == 1


def test_an_account_without_jobs_gets_long_documents_in_parts(machine: Machine, api: StandInControl) -> None:
    api.set(refuse_async=True)
    machine.put("long.pdf", pdf("in parts", 101))
    status, out, complaints = machine.run("long.pdf")
    assert (status, len(texts(Path(out.strip())))) == (0, 101)
    assert complaints.startswith("bulk-ocr: this account has no async access")


@pytest.mark.parametrize(
    "name",
    [
        "with space.pdf", "ümlaut 日本.pdf", "line\nbreak.pdf", "-dash.pdf", "-", ".hidden.pdf", "a" * 245 + ".pdf",
        b"\xff.pdf",
    ],
    ids=ascii,
)  # fmt: skip
def test_any_name_will_do(machine: Machine, name: str | bytes) -> None:
    name = os.fsdecode(name)
    machine.put(name, pdf(f"named {name[:20]!a}"))
    result = machine.delivered(name if name != "-" else "./-")
    assert result == machine.temporary / f"{Path(name).stem}.ocr.json"
    assert texts(result) == [f"named {name[:20]!a} 1"]
    status, out, _ = machine.run(name if name != "-" else "./-", "--json")
    assert (status, json.loads(out)["done"]) == (0, 1)


def test_a_result_goes_where_it_is_wanted(machine: Machine, tmp_path: Path) -> None:
    machine.put("a.pdf", pdf("wanted elsewhere"))
    output_folder = tmp_path / "out"
    assert machine.delivered("a.pdf", "-o", tmp_path / "new" / "name.json") == tmp_path / "new" / "name.json"
    assert machine.delivered("a.pdf", "--output", f"{output_folder}/") == output_folder / "a.pdf.ocr.json"
    assert machine.delivered("a.pdf", "-o", output_folder) == output_folder / "a.pdf.ocr.json"
    assert machine.delivered("a.pdf", "-o", "../relative.json") == tmp_path / "relative.json"
    assert list(output_folder.iterdir()) == [output_folder / "a.pdf.ocr.json"], "and nothing beside it"


def test_standard_input_is_a_document(machine: Machine) -> None:
    process = machine.start("-", "--json", stdin=subprocess.PIPE)
    out, _ = process.communicate(pdf("from a pipe").decode("utf-8", "surrogateescape"), PATIENCE)
    (document,) = json.loads(out)["documents"]
    assert (process.returncode, document["document"], document["pages_sent"]) == (0, "standard input", 1)
    assert document["output"] == str(machine.temporary / "stdin.ocr.json")


def test_a_folder_comes_out_in_order_with_what_failed_named_and_the_rest_done(machine: Machine, tmp_path: Path) -> None:
    machine.put("scans/b/a.pdf", pdf("in a folder", 5))
    machine.put("scans/a.pdf", pdf("in the folder"))
    machine.put("scans/a.png", documents.png("in the folder too"))
    machine.put("scans/broken.pdf", documents.encrypted_pdf())
    machine.put("scans/notes.txt", b"notes")
    machine.put("scans/.git/c.pdf", b"hidden")
    status, out, complaints = machine.run("scans", "-o", tmp_path / "out")
    names = ["a.pdf", "a.png", "b/a.pdf"]
    assert (status, out.splitlines()) == (1, [str(tmp_path / "out" / f"{name}.ocr.json") for name in names])
    assert complaints.splitlines() == [
        "bulk-ocr: skipped in folders because of unsupported extensions: 1 (scans/notes.txt)",
        "bulk-ocr: scans/broken.pdf failed: the PDF is encrypted with a password: remove the password first",
    ]
    status, out, _ = machine.run("scans", "-o", tmp_path / "out", "--json")
    report = json.loads(out)
    assert (status, report["done"], report["failed"], report["left_out"]) == (1, 3, 1, ["scans/notes.txt"])
    assert [document["document"] for document in report["documents"]] == [
        "scans/a.pdf", "scans/a.png", "scans/broken.pdf", "scans/b/a.pdf",
    ]  # fmt: skip


def test_text_and_words_are_printed(machine: Machine) -> None:
    machine.put("a.pdf", documents.text_pdf(["to print\nfirst", "second"]))
    machine.put("b.pdf", documents.text_pdf(["to print, too"]))
    assert machine.run("a.pdf", "--text")[1] == "to print\nfirst\fsecond\n"
    assert machine.run("a.pdf", "b.pdf", "--text")[1] == (
        "==> a.pdf <==\nto print\nfirst\fsecond\n==> b.pdf <==\nto print, too\n"
    )
    rows = [line.split("\t") for line in machine.run("a.pdf", "--words")[1].splitlines()]
    assert [(row[0], row[3]) for row in rows] == [("1", "to"), ("1", "print"), ("1", "first"), ("2", "second")]
    for _, confidence, box, _ in rows:
        assert 0 < float(confidence) <= 1
        assert len([[float(number) for number in corner.split(",")] for corner in box.split(" ")]) == 4
    rows = [line.split("\t") for line in machine.run("b.pdf", "a.pdf", "--words")[1].splitlines()]
    assert [row[0] for row in rows] == ["b.pdf"] * 3 + ["a.pdf"] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no file was given"),
        (["nothing.pdf"], "no file 'nothing.pdf'"),
        (["a.pdf", "--txt"], "no file or option '--txt'"),
        (["a.pdf", "nothing.pdf"], "no file 'nothing.pdf'"),
        (["x" * 5000], "name too long"),
        (["a.pdf", "-o", "x" * 5000], "too long"),
        (["a" * 247 + ".pdf"], "name of the result of .* too long"),
        (["empty"], "no document in empty"),
        (["/dev/null"], "neither a file nor a folder"),
        (["a.pdf", "-o", "/dev/null"], "not a regular file"),
        (["a.pdf", "-o", "/proc/nowhere/a"], "cannot be written to /proc/nowhere"),
        (["a.pdf", "-o", "a.pdf"], "would overwrite"),
        (["a.pdf", "b/a.pdf"], "would both be .*a.ocr.json.*--output"),
        (["a.pdf", "b/a.pdf", "-o", "b/a.pdf"], "is a file, but several results need a folder"),
        (["a.pdf", "--text", "--json"], "exclude one another"),
        (["a.pdf", "--workers", "0"], "--workers"),
    ],
    ids=lambda given: " ".join(argument[:20] for argument in given) if isinstance(given, list) else "",
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    machine: Machine,
    gateway: FlakyS3,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a.pdf", "b/a.pdf", "a" * 247 + ".pdf"):
        machine.put(name, pdf("never sent"))
    (machine.documents / "empty").mkdir()
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(machine.documents)
    with pytest.raises(SystemExit) as ended:
        main(["file", *arguments])
    out, complaints = capsys.readouterr()
    assert (ended.value.code, out, complaints.count("\n")) == (2, "", 1)
    assert complaints.startswith("bulk-ocr: ")
    assert re.search(said, complaints, re.IGNORECASE)
    assert gateway.seen == []


def test_without_a_key_or_with_a_wrong_one_it_says_so(machine: Machine) -> None:
    machine.put("a.pdf", pdf("not accepted"))
    for key, expected in (("", 2), ("wrong", 3)):
        machine.environment["UPSTAGE_API_KEY"] = key
        status, out, complaints = machine.run("a.pdf")
        assert (status, out) == (expected, "")
        assert "UPSTAGE_API_KEY" in complaints


def test_what_was_finished_before_the_account_was_refused_is_printed(machine: Machine, api: StandInControl) -> None:
    machine.put("a.pdf", pdf("before"))
    machine.delivered("a.pdf")
    api.set(credit_pages=0)
    machine.put("b.pdf", pdf("refused"))
    status, out, complaints = machine.run("a.pdf", "b.pdf", "--json")
    assert (status, [document["document"] for document in json.loads(out)["documents"]]) == (3, ["a.pdf"])
    assert complaints


def test_a_document_recognised_before_is_delivered_again_and_not_paid_for(machine: Machine, gateway: FlakyS3) -> None:
    path = machine.put("a.pdf", pdf("again"))
    first = machine.delivered("a.pdf")
    content = first.read_bytes()
    first.unlink()
    path.rename(machine.documents / "renamed.pdf")
    status, out, complaints = machine.run("renamed.pdf")
    assert (status, Path(out.strip()).read_bytes()) == (0, content)
    assert "not paid for again" in complaints
    assert submissions(gateway) == 1
    assert machine.run("renamed.pdf", "--again")[0] == 0
    assert submissions(gateway) == 2


def test_again_pays_again_whatever_a_command_that_was_killed_left_open(machine: Machine, gateway: FlakyS3) -> None:
    """It was killed between the done record and the end of its claim."""
    machine.put("a.pdf", pdf("again"))
    machine.delivered("a.pdf", "--mode", "async")
    (folder,) = machine.temporary.glob("bulk-ocr-files-*")
    ledger = Ledger(FolderObjects(folder), Location.parse(f"s3://{RESULTS}"))
    (entry,) = ledger.entries("done")
    done = ledger.done(entry.id)
    assert done is not None
    assert ledger.forget_done(entry.id, entry.etag)
    held = ledger.claim(done.job)
    assert held is not None
    ledger.finish(dataclasses.replace(held, etag="another"), done)
    assert ledger.read(entry.id) is not None
    machine.delivered("a.pdf", "--mode", "async", "--again")
    assert submissions(gateway) == 2


def test_the_same_bytes_in_several_places_are_paid_for_once(
    machine: Machine, gateway: FlakyS3, api: StandInControl, tmp_path: Path
) -> None:
    api.set(seconds_per_page=0.3)  # so that the others come while the first is under way
    for number in range(6):
        machine.put(f"{number}/a.pdf", pdf("everywhere"))
    status, out, _ = machine.run(".", "-o", tmp_path / "out", "--again")
    assert (status, len({Path(line).read_bytes() for line in out.splitlines()}), out.count("\n")) == (0, 1, 6)
    assert submissions(gateway) == 1


def test_a_failed_document_is_tried_again(machine: Machine, api: StandInControl, gateway: FlakyS3) -> None:
    body = pdf("fails at first", 2)
    machine.put("a.pdf", body)
    api.set(fail_requests=[{"sha256": hashlib.sha256(body).hexdigest(), "times": 1}])
    status, out, complaints = machine.run("a.pdf", "--mode", "async", "--rounds", "1")
    assert (status, out) == (1, "")
    assert "a.pdf failed: " in complaints
    assert len(texts(machine.delivered("a.pdf", "--mode", "async"))) == 2
    assert submissions(gateway) == 2


def test_a_result_that_cannot_be_delivered_is_kept(machine: Machine, gateway: FlakyS3, tmp_path: Path) -> None:
    machine.put("a.pdf", pdf("with nowhere to go"))
    gateway.fail(Rule("pass", method="POST", after=lambda: shutil.rmtree(tmp_path / "out")))
    status, out, complaints = machine.run("a.pdf", "-o", f"{tmp_path / 'out'}/")
    assert (status, out) == (1, "")
    assert "a.pdf failed: its result cannot be written" in complaints
    assert "it is paid for and kept" in complaints
    assert machine.delivered("a.pdf", "-o", f"{tmp_path / 'out'}/").exists()
    assert submissions(gateway) == 1


def test_a_reader_that_leaves_ends_nothing(machine: Machine, tmp_path: Path) -> None:
    for number in range(3):
        machine.put(f"{number}.pdf", pdf(f"read by nobody {number}"))
    reading, writing = os.pipe()
    os.close(reading)
    process = machine.start(".", "-o", tmp_path / "out", stdout=writing)
    os.close(writing)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_progress_on_a_terminal_leaves_standard_output_alone(machine: Machine) -> None:
    machine.put("a.pdf", pdf("watched"))
    controller, terminal = pty.openpty()
    process = machine.start("a.pdf", stderr=terminal)
    os.close(terminal)
    out, _ = process.communicate(timeout=PATIENCE)
    shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert out == f"{machine.temporary / 'a.ocr.json'}\n"
    assert "documents" in shown
    assert "a.ocr.json" not in shown


class _Changing(FolderObjects):
    """A store whose user saves the document anew whenever it is about to be read."""

    def __init__(self, folder: Path, file: Path, times: int) -> None:
        super().__init__(folder)
        self._file, self._times = file, times

    def fetch(self, bucket: str, key: str, etag: str, to: Path) -> None:
        if self._times and bucket == "files":
            self._times -= 1
            self._file.write_bytes(pdf(f"saved {self._times}"))
        super().fetch(bucket, key, etag, to)


@pytest.mark.parametrize(("times", "kind"), [(1, "done"), (9, "failed")])
def test_a_file_that_changes_while_it_is_read_is_taken_as_it_is_then(
    machine: Machine, api: StandInControl, tmp_path: Path, times: int, kind: str
) -> None:
    file = machine.put("a.pdf", pdf("at first"))
    store = _Changing(tmp_path / "store", file, times)
    settings = RunSettings(
        source="s3://files", destination="s3://results", options=Options(mode="sync", requests_per_second=500)
    )
    run = LocalRun(RunContext(settings, store, base_url=api.base_url, key=api.key), store)
    output = tmp_path / "result.json"
    (result,) = run.recognise([LocalDocument(file, "a.pdf", output)], _ignore, _ignore)
    assert result.kind == kind
    if kind == "done":
        assert texts(output) == ["saved 0 1"]
    else:
        assert "keeps changing while it is read" in result.reason
        assert not output.exists()


def _ignore(_: object) -> None:
    """Told and shown to nobody."""
