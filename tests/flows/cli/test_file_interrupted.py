"""The command `file`, killed and interrupted: it goes on where it was, and pays for nothing twice uncounted."""

import hashlib
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Machine, pdf, texts
from tests.stand_in import StandInControl
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE

STEPS: dict[str, tuple[dict[str, Any], tuple[str, ...], int]] = {
    # the call to the API; how documents are sent; submissions that may be paid for twice
    "sent, not yet answered": ({"method": "POST"}, (), 1),
    "job accepted, not yet recorded": ({"method": "POST"}, ("--mode", "async"), 1),
    "asking for the job": ({"method": "GET", "path": "/requests/"}, ("--mode", "async"), 0),
    "downloading": ({"method": "GET", "path": "/storage/", "skip": 1}, ("--mode", "async"), 0),
}


ENDED = "anything that may be paid for twice is counted when the command is rerun"


@pytest.mark.parametrize("step", STEPS)
def test_a_command_that_is_killed_goes_on_at_once_and_pays_nothing_twice(
    machine: Machine, gateway: FlakyS3, api: StandInControl, step: str
) -> None:
    """At once: its claim would hold for ten minutes, and the system knows better."""
    rule, arguments, unknown = STEPS[step]
    body = pdf(f"killed when {step}", 25)
    machine.put("a.pdf", body)

    def kill() -> None:
        process.kill()
        process.wait(PATIENCE)

    gateway.fail(Rule("pass", **rule, after=kill))
    process = machine.start("a.pdf", *arguments)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL

    status, out, complaints = machine.run("a.pdf", *arguments)
    assert (status, len(texts(Path(out.strip())))) == (0, 25)
    billed = len(api.billed(hashlib.sha256(body).hexdigest()))
    assert billed == 1 + unknown
    assert ("may be paid for twice" in complaints) == bool(unknown), "and only that is said"


def test_interrupted_it_says_what_holds_and_goes_on(machine: Machine, gateway: FlakyS3, api: StandInControl) -> None:
    body = pdf("interrupted", 25)
    machine.put("a.pdf", body)
    api.set(queue_seconds=60)
    gateway.fail(Rule("pass", method="GET", path="/requests/", after=lambda: process.send_signal(signal.SIGINT)))
    process = machine.start("a.pdf", "--mode", "async")
    out, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "rerun the command to resume" in complaints
    api.set(queue_seconds=0)
    assert len(texts(machine.delivered("a.pdf"))) == 25
    assert len(api.billed(hashlib.sha256(body).hexdigest())) == 1


def test_interrupted_an_answer_under_way_is_waited_for_and_kept(
    machine: Machine, gateway: FlakyS3, api: StandInControl
) -> None:
    body = pdf("interrupted under way", 3)
    machine.put("a.pdf", body)
    at_the_api, answer = threading.Event(), threading.Event()
    gateway.fail(Rule("pass", method="POST", before=at_the_api.set, after=answer.wait))
    process = machine.start("a.pdf")
    assert process.stderr is not None
    assert at_the_api.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    assert "waiting for answers" in process.stderr.readline()
    answer.set()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    status, _, complaints = machine.run("a.pdf")
    assert (status, complaints) == (0, "")
    assert len(api.billed(hashlib.sha256(body).hexdigest())) == 1


def test_interrupted_twice_it_does_not_wait(machine: Machine, gateway: FlakyS3) -> None:
    machine.put("a.pdf", pdf("interrupted twice"))
    at_the_api, answer = threading.Event(), threading.Event()
    gateway.fail(Rule("pass", method="POST", before=at_the_api.set, after=answer.wait))
    process = machine.start("a.pdf")
    assert process.stderr is not None
    assert at_the_api.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, interrupted = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    answer.set()
    status, _, complaints = machine.run("a.pdf")
    assert status == 0
    # Where the upload's last bytes were just on their way, the interrupted command has counted it; else the next one.
    counted = f"{interrupted.replace(ENDED, '')}{complaints}"
    assert "may be paid for twice" in counted


def test_two_commands_on_the_same_document_send_it_once(
    machine: Machine, gateway: FlakyS3, api: StandInControl
) -> None:
    body = pdf("twice at once")
    machine.put("a.pdf", body)
    seconds: list[subprocess.Popen[str]] = []
    said: list[str] = []

    def another() -> None:
        second = machine.start("a.pdf", "-o", "other.json")
        seconds.append(second)
        assert second.stderr is not None
        said.append(second.stderr.readline())

    gateway.fail(Rule("pass", method="POST", before=another))
    result = machine.delivered("a.pdf")
    out, _ = seconds[0].communicate(timeout=PATIENCE)
    assert "another command is working on it" in said[0]
    assert Path(out.strip()).read_bytes() == result.read_bytes()
    assert len(api.billed(hashlib.sha256(body).hexdigest())) == 1
