"""Every `--json` has a documented schema with a version. `report_of` in the conftest holds real output against it."""

import json
from collections.abc import Iterator

import jsonschema
import pytest
from cyclopts import App

from flows.cli import app as program
from flows.cli.repeated import call
from flows.cli.schemas import MODELS, schema_of


def _commands(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    for name in app:
        if not name.startswith("-"):
            inner = list(_commands(app[name], (*above, name)))
            yield from inner or [(" ".join((*above, name)), app[name])]


def test_every_command_with_json_has_a_schema_and_no_other_has() -> None:
    with_json = {
        name
        for name, app in _commands(program.app)
        if any("--json" in argument.names for argument in app.assemble_argument_collection())
    }
    assert with_json == set(MODELS)


@pytest.mark.parametrize("command", sorted(MODELS))
def test_a_schema_is_one(command: str) -> None:
    schema = schema_of(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema_version": 1}, schema)


def test_output_is_held_against_its_schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULK_OCR_CONFIG", "/dev/null")
    assert call(program.app, ["config", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, schema_of("config"))
    with pytest.raises(jsonschema.ValidationError, match="unexpected"):
        jsonschema.validate(printed | {"unheard_of": 1}, schema_of("config"))
