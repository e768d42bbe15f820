"""The JSON output of each command: its models, their JSON schemas, and a version for all of them.

The version is increased when a field changes its meaning or is removed, but not for new fields. Run as a program, this
module prints the table for the documentation.
"""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel, TypeAdapter

from flows.cli.output import SCHEMA_VERSION
from tasks.faults import ExitStatus, SetupFault

_PLAN = "flows.cli.plan:PlanReport"
_RUN = "tasks.report:RunReport"
_STATUS = "flows.cli.status:LedgerStatus"
_CHANGED = "flows.cli.backfill:BackfillChanged"
_DRY_RUN = "flows.cli.dry_run:DryRunReport"
# The models that each command prints; the later ones with --dry-run, or as described in the command's help.
MODELS: Mapping[str, tuple[str, ...]] = {
    "check": ("flows.cli.check:CheckReport",),
    "plan": (_PLAN,),
    "run": (_RUN, _PLAN),
    "watch": ("tasks.backfills.figures:Figures",),
    "status": (_STATUS, "flows.cli.status:Statuses"),
    "failures": ("flows.cli.failures:Failures",),
    "retry": ("flows.cli.failures:PutBack",),
    "redo": ("flows.cli.redo:Redone",),
    "backfill list": ("flows.cli.backfill:BackfillList",),
    "backfill show": ("flows.cli.backfill:BackfillShown",),
    "backfill start": (_RUN, _PLAN),
    "backfill pause": (_CHANGED,),
    "backfill resume": (_CHANGED,),
    "backfill cancel": (_CHANGED,),
    "backfill set": (_CHANGED,),
    "submit": (_RUN, _PLAN),
    "collect": (_RUN, _STATUS),
    "listen": (_RUN,),
    "documents": ("flows.cli.documents:DocumentList",),
    "show": ("flows.cli.show:DocumentHistory",),
    "usage": ("flows.cli.usage:UsageReport",),
    "pdf": ("flows.cli.pdf:PdfReport", _DRY_RUN),
    "view": ("flows.cli.view:ViewReport", "flows.cli.view:Serving"),
    "index": ("flows.cli.index:IndexReport", _DRY_RUN),
    "search": ("flows.cli.search:SearchReport",),
    "words": ("flows.cli.words:WordsReport", _DRY_RUN),
    "export": ("flows.cli.export:ExportReport", _DRY_RUN),
    "file": ("flows.cli.file:FilesReport", "flows.cli.local_plan:FilesPlan"),
    "config": ("flows.cli.config:ConfigReport",),
}


def models_of(command: str) -> list[type[BaseModel]]:
    """Return the models that a command prints.

    Raises:
        SetupFault: there is no such command, or it does not print JSON.
    """
    if command not in MODELS:
        names = ", ".join(MODELS)
        raise SetupFault(f"'{command}' is no command with --json; these are: {names}")
    models = []
    for address in MODELS[command]:
        module, _, name = address.partition(":")
        models.append(getattr(import_module(module), name))
    return models


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON schema of a command's `--json` output."""
    schemas = [_with_version(model) for model in models_of(command)]
    if len(schemas) == 1:
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schemas[0]}
    definitions: dict[str, Any] = {}
    for schema in schemas:
        definitions |= schema.pop("$defs", {})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "anyOf": schemas, "$defs": definitions}


def _with_version(model: type[BaseModel]) -> dict[str, Any]:
    schema = TypeAdapter(model).json_schema(mode="serialization")
    schema["properties"] = {"schema_version": {"const": SCHEMA_VERSION}, **schema.get("properties", {})}
    for described in (schema, *schema.get("$defs", {}).values()):
        if "properties" in described:  # fields with a default are printed as well
            described["required"] = list(described["properties"])
            described["additionalProperties"] = False
    return schema


def schema(
    *command: Annotated[str, Parameter(help="The command, such as run or backfill show; without it, a list.")],
) -> ExitStatus:
    """Print the JSON schema of a command's --json output."""
    if not command:
        for name in MODELS:
            print(name)
        return ExitStatus.DONE
    print(json.dumps(schema_of(" ".join(command)), indent=2, ensure_ascii=False))
    return ExitStatus.DONE


def documented_fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and description of a model's fields, for the documentation."""
    described = TypeAdapter(model).json_schema(mode="serialization")
    for name, field in described.get("properties", {}).items():
        yield name, _type(field), field.get("description", "")


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(variant) for variant in field["anyOf"]))
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_type(field['additionalProperties'])}"
    if field.get("format") == "date-time":
        return "time"
    return {"string": "text", "boolean": "true or false"}.get(str(field.get("type")), str(field.get("type", "any")))
