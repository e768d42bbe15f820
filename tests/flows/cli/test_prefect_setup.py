"""Prefect that cannot be used is one sentence; the server that a command starts ends with it, whatever ends that."""

import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.cli.prefect_setup import prove_prefect
from tasks.faults import SetupFault
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.prefect_server import prefect_home
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE, until

UNUSABLE = "/dev/null/nowhere"  # no user can make a folder there


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PREFECT_API_URL": None, "PREFECT_HOME": UNUSABLE}, "Prefect's temporary server does not start"),
        (
            {"PREFECT_API_URL": None, "HOME": UNUSABLE, "PREFECT_HOME": None},
            f"it keeps its history in {UNUSABLE}/.prefect, which has to be writable",
        ),
        (
            {"NO_PROXY": "127.0.0.1,localhost,fd00::/8", "no_proxy": None},
            "cannot read the entry 'fd00::/8' of NO_PROXY",
        ),
        (
            {"PREFECT_API_URL": None, "PREFECT_HOME": UNUSABLE, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"},
            "set PREFECT_API_URL to a server",
        ),
    ],
    ids=["PREFECT_HOME", "HOME", "NO_PROXY", "no server"],
)
def test_a_prefect_that_cannot_be_used_is_one_sentence_and_check_sees_it(
    command: Command, place: Place, api: StandInControl, variables: dict[str, str | None], words: str
) -> None:
    ran = command("run", place.source, place.destination, *FAST, **variables)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
    assert words in ran.stderr
    assert api.calls() == {}
    checked = command("check", place.source, place.destination, "--json", **variables)
    (prefect,) = [check for check in report_of(checked)["checks"] if check["part"] == "Prefect"]
    assert (checked.returncode, prefect["ok"]) == (2, False)
    assert words in prefect["words"]


def test_a_temporary_server_that_fails_by_itself_is_quoted_in_one_sentence(
    command: Command, place: Place, tmp_path: Path
) -> None:
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{UNUSABLE}"}
    ran = command(
        "run", place.source, place.destination, *FAST, PREFECT_API_URL=None, PREFECT_HOME=str(tmp_path), **database
    )
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
    assert "Prefect's temporary server does not start" in ran.stderr
    assert "unable to open database file" in ran.stderr


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SetupFault, match="set HOME to a folder"):
        prove_prefect()


@pytest.mark.usefixtures("api")
def test_a_home_that_cannot_be_written_is_no_reason_to_fail_beside_a_server(command: Command, place: Place) -> None:
    place.put({"a.pdf": documents.text_pdf(["no home"])})
    ran = command("run", place.source, place.destination, *FAST, "--json", HOME=UNUSABLE, PREFECT_HOME=None)
    assert (ran.returncode, report_of(ran)["done"]) == (0, 1), ran.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_temporary_server_ends_with_its_command_whatever_ends_that(
    environment: dict[str, str],
    place: Place,
    api: StandInControl,
    tmp_path: Path,
    prefect_database: Path,
    number: signal.Signals,
) -> None:
    place.put({"a.pdf": documents.text_pdf([f"killed by {number}"])})
    api.set(queue_seconds=300)
    alone = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", place.source, place.destination, *FAST],
        env=alone | {"PREFECT_HOME": str(prefect_home(tmp_path / "prefect", prefect_database))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: place.keys("out/_jobs/open/"), "work")
        children = psutil.Process(process.pid).children()
        (server,) = [child for child in children if "flows.cli.prefect_setup" in child.cmdline()]
        assert server.is_running()
        libraries = {Path(mapped.path).name for mapped in server.memory_maps()}
        assert "_raylet.so" not in libraries, "no integration that the command does not use is imported"
        process.send_signal(number)
        assert process.wait(PATIENCE) == (-number if number == signal.SIGKILL else 130)
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the server's end")
    finally:
        process.kill()
        process.wait()
