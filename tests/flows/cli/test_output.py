"""What reaches a terminal: nothing that it would obey, whoever wrote it; and no output is a reason for a traceback."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.cli.output import Page
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Machine, Place, report_of
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE

# The title, a link, an empty screen in red, the same as C1, another line, a name read backwards.
EVIL = "\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\\x1b[2J\x1b[31m\x9b2J\x9d0;x\x9c\nbulk-ocr: all done\u202e"
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def obeyed(shown: str) -> list[str]:
    """What of an output a terminal would obey, or not show; line breaks are the command's own."""
    return sorted({letter for letter in shown if not letter.isprintable() and letter not in "\n\t"})


ROWS = [
    ("s3://bucket/in/letter 1.pdf", "s3://bucket/out/letter 1.pdf.ocr.json", "3"),
    ("s3://bucket/in/2.pdf", "", "1"),
]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            80,
            [
                "document                     result                                 pages",
                "s3://bucket/in/letter 1.pdf  s3://bucket/out/letter 1.pdf.ocr.json  3",
                "s3://bucket/in/2.pdf                                                1",
            ],
        ),
        (
            40,
            [
                "s3://bucket/in/letter 1.pdf",
                "  result s3://bucket/out/letter 1.pdf.ocr.json · pages 3",
                "s3://bucket/in/2.pdf",
                "  pages 1",
            ],
        ),
    ],
)
def test_addresses_are_never_folded(width: int, lines: list[str]) -> None:
    shown = io.StringIO()
    Page(Console(file=shown, width=width)).table(ROWS, ("document", "result", "pages"))
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == lines


def test_a_table_may_be_empty() -> None:
    shown = io.StringIO()
    Page(Console(file=shown, width=40)).table([], ("document", "result", "pages"))
    assert shown.getvalue().split() == ["document", "result", "pages"]


def test_no_name_and_no_word_of_the_api_is_obeyed(command: Command, place: Place, api: StandInControl) -> None:
    place.put({f"{EVIL}.pdf": documents.text_pdf(["evil"]), f"{EVIL}.txt": b"words"})
    api.fail({"method": "POST", "path": "/async", "action": "status", "status": 400, "body": {"message": EVIL}})
    shown = [
        command("plan", place.source, place.destination),
        command("run", place.source, place.destination, *FAST, "--verbose"),
        command("run", place.source, place.destination, *FAST),
        command("status", place.destination),
        command("failures", place.destination),
        command("retry", place.destination, "--key", EVIL),
        command("submit", f"s3://{EVIL}", place.destination),
        command("status", place.destination, EVIL),
    ]
    assert [process.returncode for process in shown] == [0, 1, 1, 1, 1, 2, 2, 2]
    for process in shown:
        assert obeyed(process.stdout + process.stderr) == [], process.args
        assert "\nbulk-ocr: all done" not in process.stdout + process.stderr, "no line is forged"
    assert "\\x1b]0;owned\\x07" in shown[1].stdout
    assert "\\x1b]0;owned\\x07" in shown[1].stderr, "the log"

    for arguments in (("status", place.destination), ("failures", place.destination), ("collect", place.destination)):
        process = command(*arguments, "--json")
        assert obeyed(process.stdout) == []
        report = report_of(process)
        if "groups" in report:
            names = {document["document"] for group in report["groups"] for document in group["documents"]}
            assert names == {f"{place.source}/{EVIL}{end}" for end in (".pdf", ".txt")}, (
                "a program gets them as they are"
            )


def test_texts_and_names_are_printable_on_a_terminal_and_as_they_are_in_a_pipe(machine: Machine) -> None:
    name = "a\x1b]0;owned\x07\n.pdf"
    machine.put(name, documents.text_pdf(["to read\nin lines"]))
    expected = machine.temporary / f"{Path(name).stem}.ocr.json"
    assert machine.run(name)[1] == f"{expected}\n"
    controller, terminal = pty.openpty()
    process = machine.start(name, name, "--text", stdout=terminal)
    os.close(terminal)
    _, complaints = process.communicate(timeout=PATIENCE)
    shown = os.read(controller, 1 << 16).decode().replace("\r\n", "\n")
    os.close(controller)
    assert (process.returncode, obeyed(shown), obeyed(complaints)) == (0, [], [])
    assert "to read\nin lines\n" in shown


def run_with(place: Place, environment: dict[str, str], *arguments: str, **streams: Any) -> tuple[int, str]:
    """A command whose output goes somewhere else. Gives its exit status and what it complained of."""
    takes_address = arguments[0] != "run" and any(argument.startswith("s3://") for argument in arguments)
    destination = () if takes_address else (place.destination,)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments, *destination],
        env=environment,
        encoding="ascii",
        stdin=subprocess.DEVNULL,
        **({"stderr": subprocess.PIPE} | streams),
    )
    _, written = process.communicate(timeout=PATIENCE)
    complaints = str(written or "")
    assert "Traceback" not in complaints
    return process.returncode, complaints


def test_an_output_without_the_letters_gets_them_escaped(
    command: Command, place: Place, environment: dict[str, str]
) -> None:
    place.put({"ü日.txt": b"words"})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    ascii_only = environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for arguments in (("failures",), ("failures", "--json"), ("status", "s3://ü")):
        out, writing = os.pipe()
        status, complaints = run_with(place, ascii_only, *arguments, stdout=writing)
        os.close(writing)
        with os.fdopen(out, "rb") as reading:
            shown = reading.read().decode("ascii")
        if "ü" in arguments[-1]:
            assert (status, complaints.count("\n")) == (2, 1)
            assert "'s3://\\x" in complaints, "as a letter, or as the bytes that the locale knows no letter for"
        elif "--json" in arguments:
            assert (status, "\\u00fc\\u65e5.txt" in shown) == (1, True)
        else:
            assert (status, "\\xfc\\u65e5.txt" in shown) == (1, True)


def test_a_full_output_is_one_sentence(command: Command, place: Place, environment: dict[str, str]) -> None:
    place.put({"a.txt": b"words"})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    for arguments in (("status",), ("status", "--json"), ("failures",)):
        with Path("/dev/full").open("wb") as full:
            status, complaints = run_with(place, environment, *arguments, stdout=full)
            assert (status, complaints.count("\n")) == (2, 1), complaints
            assert "standard output cannot be written (No space left on device)" in complaints
            assert run_with(place, environment, *arguments, stdout=subprocess.DEVNULL, stderr=full) == (1, "")


@pytest.mark.usefixtures("api")
def test_a_run_whose_report_cannot_be_printed_has_done_its_work(place: Place, environment: dict[str, str]) -> None:
    place.put({"a.pdf": documents.text_pdf(["printed to nobody"])})
    with Path("/dev/full").open("wb") as full:
        status, complaints = run_with(place, environment, "run", *FAST, place.source, stdout=full)
    assert status == 2
    assert "standard output cannot be written" in complaints.splitlines()[-1]
    assert set(place.results()) == {"a.pdf.ocr.json"}


@pytest.mark.usefixtures("api")
def test_closed_streams_and_readers_that_leave_change_nothing(
    command: Command, place: Place, environment: dict[str, str]
) -> None:
    place.put({"a.txt": b"words"})
    assert command("run", place.source, place.destination, *FAST).returncode == 1
    for streams in (">&-", "2>&-", ">&- 2>&-", "| true"):
        line = f"set -o pipefail; '{sys.executable}' -m flows.cli status {place.destination} {streams}"
        process = subprocess.run(
            ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (process.returncode, process.stderr) == (1, ""), streams
