"""The command `view`: pages of results in S3 and on this machine, and the list that it serves until Ctrl-C."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.cli.app import main
from tests.flows.conftest import FAST, Command, Machine, Place, report_of
from tests.outputs import pictured
from tests.outputs.result_samples import write_result
from tests.waiting import PATIENCE

PAGES = [["Annual Report"], ["second"]]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def pictures(page: str) -> list[str]:
    return re.findall(r'id="picture-(\d+)"', Path(page).read_text(encoding="utf-8"))


def test_a_result_in_s3_is_shown_with_its_document_and_the_destination_as_a_list(
    command: Command, environment: dict[str, str], place: Place, tmp_path: Path
) -> None:
    place.put({"a/report.pdf": pictured.document(PAGES, "PDF"), "b.tif": pictured.document(PAGES, "TIFF")})
    assert command("run", place.source, place.destination, *FAST).returncode == 0
    result = f"{place.destination}/a/report.pdf.ocr.json"
    report = report_of(command("view", result, "-o", str(tmp_path / "a.html"), "--json"))
    assert (report["pages"], report["reason"]) == (2, "")
    assert pictures(report["page"]) == ["1", "2"]
    place.put({"b.tif": pictured.document([["changed"]], "TIFF")})
    changed = report_of(command("view", f"{place.destination}/b.tif", "-o", str(tmp_path / "b.html"), "--json"))
    assert "changed or vanished" in changed["reason"]
    assert pictures(changed["page"]) == []
    arguments = [sys.executable, "-m", "flows.cli", "view", place.destination, "--json"]
    serving = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert serving.stdout is not None
    address = urlsplit(json.loads(serving.stdout.readline())["url"])
    connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
    connection.request("GET", address.path)
    body = connection.getresponse().read().decode()
    assert re.findall(r">([^<]*)</a>", body) == ["a/report.pdf", "b.tif"]
    connection.close()
    serving.send_signal(signal.SIGINT)
    assert serving.wait(PATIENCE) == 0
    serving.stdout.close()


def test_a_document_on_this_machine_is_shown_wherever_its_result_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = machine.put("scan.pdf", pictured.document(PAGES, "PDF"))
    result = machine.delivered("scan.pdf")
    monkeypatch.setenv("TMPDIR", str(machine.temporary))
    for shown in (result, document):
        assert run("view", shown) == 0
        page = capsys.readouterr().out.strip()
        assert Path(page).parent == machine.temporary
        assert Path(page).stat().st_mode & 0o777 == 0o600, "others may look into the temporary folder"
        assert pictures(page) == ["1", "2"]
    machine.put("scan.pdf", pictured.document([["other"]], "PDF"))
    assert run("view", result, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert "changed since it was recognised" in report["reason"]
    assert pictures(report["page"]) == []


def test_mistakes_are_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_result(tmp_path / "in" / f"{name}.pdf.ocr.json", PAGES)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.ocr.json").write_text("{")
    for arguments, complaint in (
        (("view", "nowhere"), "there is no file or folder 'nowhere'"),
        (("view", "empty"), "there is no result at empty"),
        (("view", "in", "-o", "x.html"), "--output and --document are for one result"),
        (("view", "broken.ocr.json"), "the file is not a result of the API"),
        (("view", "in/a.pdf.ocr.json", "--document", "x.pdf"), "there is no document 'x.pdf'"),
        (("view", "in/a.pdf", "-o", "none/x.html"), "cannot be written"),
    ):
        assert run(*arguments) == 2, arguments
        assert complaint in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.ocr.json", "empty", "in"]
