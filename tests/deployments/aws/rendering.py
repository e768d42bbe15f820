"""The policies of the flow runs as Terraform renders them, without Terraform: its template is plain `${name}`."""

import json
import subprocess
from pathlib import Path
from string import Template
from typing import Any

from tasks.store.location import Location
from tests.deployments.aws.iam import Policy
from tests.waiting import PATIENCE

FOLDER = Path(__file__).parents[3] / "deployments" / "aws"


def rendered(name: str, **values: Any) -> Policy:
    """One template with its values. A name without a value, or the other way round, is an error."""
    template = Template((FOLDER / "policy" / f"{name}.json.tftpl").read_text(encoding="utf-8"))
    assert set(template.get_identifiers()) == set(values)
    return dict(json.loads(template.substitute({key: json.dumps(value) for key, value in values.items()})))


def policies(
    source: str,
    destination: str,
    *,
    lists: str | None = None,
    source_key: str | None = None,
    destination_key: str | None = None,
) -> dict[str, Policy]:
    """What policy/main.tf makes of these addresses; `by_terraform` shows that it is the same."""
    begin, end = Location.parse(source), Location.parse(destination)
    bucket, folder = f"arn:aws:s3:::{end.bucket}", end.prefix
    found = {
        "documents": rendered(
            "documents",
            source_bucket=f"arn:aws:s3:::{begin.bucket}",
            source_listed=_listed(begin),
            source_objects=_objects(begin),
            destination_bucket=bucket,
            destination_listed=f"{folder}*",
            destination_objects=f"{bucket}/{folder}*",
            ledger_objects=f"{bucket}/{folder}_jobs/*",
        )
    }
    if lists is not None:
        place = Location.parse(lists)
        found["lists"] = rendered("lists", objects=f"arn:aws:s3:::{place.bucket}/{place.prefix}*")
    if source_key is not None:
        found["source-key"] = rendered("source-key", key=source_key)
    if destination_key is not None:
        found["destination-key"] = rendered("destination-key", key=destination_key)
    return found


def _listed(location: Location) -> list[str]:
    return [f"{location.prefix}*", *([location.prefix.rstrip("/")] if location.prefix else [])]


def _objects(location: Location) -> list[str]:
    return [f"arn:aws:s3:::{location.bucket}/{pattern}" for pattern in _listed(location)]


def by_terraform(program: str, folder: Path, **variables: str) -> dict[str, Policy]:
    """The same by Terraform itself, which needs no provider for this module."""
    for file in (FOLDER / "policy").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    terraform(program, folder, "init", "-backend=false", "-input=false")
    terraform(program, folder, "validate")
    given = [f"-var={name}={value}" for name, value in variables.items()]
    terraform(program, folder, "apply", "-auto-approve", "-input=false", "-var=partition=aws", *given)
    found = json.loads(terraform(program, folder, "output", "-json", "documents"))
    return {name: json.loads(document) for name, document in found.items()}


def terraform(program: str, folder: Path, *arguments: str) -> str:
    """Run Terraform in a folder. Gives what it says."""
    environment = {
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": "/dev/null",
        "HOME": str(folder),
        "TF_IN_AUTOMATION": "1",
    }
    done = subprocess.run(
        [program, f"-chdir={folder}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"terraform {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout
