"""`bulk-ocr.toml` and the variables `BULK_OCR_…`: which value is in force, where it comes from, and what is refused."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app as program
from flows.cli.arguments import RunArguments
from flows.cli.configuration import Configuration, known_settings, read_configuration, variable_of
from flows.cli.repeated import call
from tasks.faults import SetupFault
from tasks.options import Options


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bulk-ocr.toml"
    file.write_text(text, encoding="utf-8")
    return file


def _read(folder: Path, variables: Mapping[str, str] | None = None) -> Configuration:
    return read_configuration(variables or {}, folder, folder / "user")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; nothing of the machine's own configuration is read."""
    for name in [name for name in os.environ if name.startswith("BULK_OCR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _bound(*arguments: str) -> Any:
    _, bound, _ = program.app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    return bound.arguments


def test_a_variable_wins_over_the_folder_which_wins_over_the_user(tmp_path: Path) -> None:
    user = _write(tmp_path / "user", "[options]\nworkers = 1\nwindow = 1\nrounds = 1\n")
    near = _write(tmp_path, "[options]\nworkers = 2\nwindow = 2\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    configuration = read_configuration({"BULK_OCR_WORKERS": "3"}, below, tmp_path / "user")
    assert {name: (made.value, made.origin) for name, made in configuration.settings.items()} == {
        "options.workers": ("3", "BULK_OCR_WORKERS"),
        "options.window": (2, f"{near}, line 3"),
        "options.rounds": (1, f"{user}, line 4"),
    }
    assert configuration.files == [near, user]


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    _write(tmp_path, "[options]\nworkers = 2\n")
    other = _write(tmp_path / "other", "")
    assert _read(tmp_path, {"BULK_OCR_CONFIG": str(other)}).settings == {}
    with pytest.raises(SetupFault, match=r"BULK_OCR_CONFIG names .*missing, which does not exist"):
        _read(tmp_path, {"BULK_OCR_CONFIG": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("max-cost = 3", 1, "max-cost is one of the options: write it below [options]"),
        ("[optoins]\nmax-cost = 5", 1, "optoins is no setting: did you mean options?"),
        ("[options]\nmax-cots = 5", 2, "options.max-cots is no setting: did you mean max-cost?"),
        ("[options]\n# spending\nmax_cost = -5", 3, "options.max-cost = -5: Input should be greater than 0"),
        ("[options]\nworkers = [3]", 2, "workers takes one value: text, a number, true or false"),
        ("[options]\nlimits = 5", 2, "options.limits is a table of several settings"),
        (
            "[options]\nsource = 's3://aaa'",
            2,
            "options.source is a table of several settings: did you mean source at the top of the file, above all "
            "tables?",
        ),
        (
            "[file]\nplaces-file = 'a'",
            2,
            "file.places-file is no setting: did you mean places-file at the top of the file, above all tables?",
        ),
        ("[options.limits]\npagez = 5", 2, "options.limits.pagez is no setting: did you mean pages?"),
        ("[options]\nlimits.pages = 0", 2, "options.limits.pages = 0: Input should be greater than or equal to 1"),
        ("[options]\nschema = 'x'", 2, "options.answer-schema = 'x': Input should be 'clova' or 'google'"),
        ("[places.a]\nsource = 's3://aaa'", 1, "the place a has no destination: add it"),
        ("[places.a]\nsuorce = 's3://aaa'", 2, "places.a.suorce is no setting: did you mean source?"),
        ("destination = 3", 1, "destination takes text in quotation marks"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = _write(tmp_path, text)
    with pytest.raises(SetupFault) as caught:
        _read(tmp_path)
    assert str(caught.value) == f"{file}, line {line}: {message}"


def test_a_missing_quotation_mark_is_told(tmp_path: Path) -> None:
    file = _write(tmp_path, 'destination = "s3://aaa\n')
    with pytest.raises(SetupFault) as told:
        _read(tmp_path)
    assert str(told.value) == (
        f"{file} cannot be read: Illegal character '\\n' (at line 1, column 24); perhaps a quotation mark is missing "
        "at the end of that line. Correct it"
    )


# In the shape of AWS's ids of keys; put together here, so that no file of this project holds one.
_KEY_ID = "AK" + "IA" + "hunter2".upper().ljust(16, "X")


@pytest.mark.parametrize(
    "text",
    [
        "upstage-api-key = 'hunter2secret'",
        "[blocks]\nupstage = 'up_hunter2secrethunter2'",
        "[options]\naws_secret_access_key = 'hunter2secret'",
        "[options]\ncluster = 'tcp://me:hunter2secret@host:1'",
        f"[options]\nsomething = '{_KEY_ID}'",
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    _write(tmp_path, text)
    with pytest.raises(SetupFault, match="looks like a secret") as caught:
        _read(tmp_path)
    assert "hunter2" not in str(caught.value).lower()


def test_a_misspelt_variable_is_told_and_a_foreign_one_ignored(tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="BULK_OCR_MAX_COTS is no setting: did you mean BULK_OCR_MAX_COST"):
        _read(tmp_path, {"BULK_OCR_MAX_COTS": "5"})
    with pytest.raises(SetupFault, match="BULK_OCR_MAX_COST = 'much': Input should be a valid number"):
        _read(tmp_path, {"BULK_OCR_MAX_COST": "much"})
    assert _read(tmp_path, {"BULK_OCR_SERVICE_HOST": "10.0.0.1"}).ignored == ["BULK_OCR_SERVICE_HOST"]


def test_another_users_file_is_not_believed(tmp_path: Path) -> None:
    file = _write(tmp_path, "")
    if os.getuid() == 0:  # root's files are believed by everybody
        os.chown(file, 12345, -1)
    with pytest.raises(SetupFault, match="belongs to another user"):
        read_configuration({}, tmp_path, tmp_path / "user", user=54321)
    assert _read(tmp_path, {"BULK_OCR_CONFIG": str(file)}).files == [file]


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = [variable for name in known_settings() if (variable := variable_of(name)) is not None]
    assert len(set(variables)) == len(variables)


def test_the_command_line_wins_and_the_rest_is_filled_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(
        folder,
        """
        source = "s3://scans/in"
        destination = "s3://scans/out"
        [options]
        max-cost = 20
        max-pages = 100
        text = true
        limits.pages = 500
        [options.destination]
        encryption = "AES256"
        [file]
        mode = "sync"
        [blocks]
        upstage = "mine"
        aws = "ours"
        """,
    )
    monkeypatch.setenv("BULK_OCR_MAX_COST", "30")
    run: RunArguments = _bound("run")["arguments"]
    assert (run.source, run.destination) == ("s3://scans/in", "s3://scans/out")
    assert (run.options.max_cost, run.options.run_pages, run.options.text) == (30, 100, True)
    assert (run.options.limits.pages, run.options.destination.encryption) == (500, "AES256")
    assert (run.credentials.upstage, run.credentials.aws) == ("mine", "ours")
    given: RunArguments = _bound("run", "s3://aaa/b", "--max-cost", "1", "--page-budget", "7", "--no-text")["arguments"]
    assert (given.source, given.destination) == ("s3://aaa/b", "s3://scans/out")
    assert (given.options.max_cost, given.options.run_pages, given.options.text) == (1, 7, False)
    here = _bound("file", "x.pdf")
    assert (here["options"].mode, here["options"].max_cost, here.get("text", False)) == ("sync", 30, False)
    assert here["options"].limits.pages == 500
    # A plan sends nothing, so a ceiling of a run is none of it; and what changes a backfill is only said by hand.
    assert _bound("plan")["arguments"].options.run_pages is None
    assert "max_pages" not in _bound("backfill", "set", "x")


def test_the_configured_destination_is_the_one_that_is_looked_at(folder: Path) -> None:
    _write(folder, 'destination = "letters"\n[places.letters]\nsource = "s3://aaa/in"\ndestination = "s3://aaa/out"\n')
    assert _bound("status")["places"] == ("letters",)
    assert _bound("backfill", "list")["place"].destination == "s3://aaa/out"
    assert _bound("show", "x")["at"] == "letters"
    assert _bound("index")["place"] == "letters"
    assert _bound("failures")["arguments"].destination == "s3://aaa/out"


def test_the_name_of_a_place_is_both_its_addresses(folder: Path) -> None:
    _write(
        folder, 'destination = "s3://xxx/y"\n[places.letters]\nsource = "s3://aaa/in"\ndestination = "s3://aaa/out"\n'
    )
    for command in ("run", "submit", "plan", "check"):
        arguments = _bound(command, "letters")["arguments"]
        assert (arguments.source, arguments.destination) == ("s3://aaa/in", "s3://aaa/out"), command
    for command in ("collect", "failures", "retry", "redo", "documents", "usage"):
        assert _bound(command, "letters")["arguments"].destination == "s3://aaa/out", command
    with pytest.raises(SetupFault, match=r"'lettres' is not an S3 address .* Did you mean letters"):
        _bound("run", "lettres")


def test_config_shows_what_is_in_force_and_no_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _write(folder, "[options]\nmax-cost = 20\n")
    monkeypatch.setenv("UPSTAGE_API_KEY", "up_hunter2")
    monkeypatch.setenv("PREFECT_API_URL", "http://me:hunter2@prefect/api")
    assert call(program.app, ["config", "--all", "--json"]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed)
    assert "hunter2" not in printed
    by_name = {setting["name"]: setting for setting in report["settings"]}
    assert by_name["options.max-cost"] == {
        "name": "options.max-cost", "value": 20, "origin": f"{file}, line 2", "variable": "BULK_OCR_MAX_COST",
    }  # fmt: skip
    assert (by_name["options.workers"]["value"], by_name["options.workers"]["origin"]) == (Options().workers, "default")
    assert call(program.app, ["config"]) == 0
    shown = capsys.readouterr().out
    assert "options.max-cost" in shown
    assert "options.workers" not in shown
    assert ["UPSTAGE_API_KEY", "set,", "not", "shown", "environment"] in [line.split() for line in shown.splitlines()]
