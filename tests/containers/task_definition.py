"""The task definition of the flow runs, evaluated by Terraform itself with made-up resources: no provider is needed."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deployments.aws.rendering import FOLDER, terraform

_RESOURCE = re.compile(r"(?:data\.)?aws_\w+\.\w+\.\w+")


def run_task_definition(folder: Path, resources: Mapping[str, str], **variables: str) -> dict[str, Any]:
    """What `aws_ecs_task_definition.run` of `runs.tf` registers, as the API takes it.

    Args:
        folder: an empty folder.
        resources: attributes of resources that it refers to, such as `aws_secretsmanager_secret.upstage.arn`.
        **variables: those of `variables.tf` that have no default, and others.

    Raises:
        LookupError: Terraform is not installed.
    """
    program = shutil.which("terraform")
    if program is None:
        raise LookupError("Terraform is not installed")
    runs, shared = ((FOLDER / name).read_text() for name in ("runs.tf", "main.tf"))
    body = re.search(r'^resource "aws_ecs_task_definition" "run" \{\n(.*?)^\}', runs, re.MULTILINE | re.DOTALL)
    local = re.search(r"^  container = .*?^  \}\]\n", shared, re.MULTILINE | re.DOTALL)
    assert body is not None
    assert local is not None
    # Blocks of the resource become values of one object.
    values = re.sub(r"^  (\w+) \{$", r"  \1 = {", body[1], flags=re.MULTILINE)
    names = sorted(set(_RESOURCE.findall(values + local[0])))
    (folder / "variables.tf").write_text((FOLDER / "variables.tf").read_text())
    (folder / "main.tf").write_text(
        f"locals {{\nmade = jsondecode({json.dumps(json.dumps({name: resources[name] for name in names}))})\n"
        f"{_made(local[0])}task = {{\n{_made(values)}}}\n}}\n"
        'output "task" {\nvalue = local.task\n}\n'
    )
    terraform(program, folder, "init", "-backend=false", "-input=false")
    given = [f"-var={name}={value}" for name, value in variables.items()]
    terraform(program, folder, "apply", "-auto-approve", "-input=false", *given)
    task = json.loads(terraform(program, folder, "output", "-json", "task"))
    return {
        "family": task["family"],
        "requiresCompatibilities": task["requires_compatibilities"],
        "networkMode": task["network_mode"],
        "cpu": str(task["cpu"]),
        "memory": str(task["memory"]),
        "executionRoleArn": task["execution_role_arn"],
        "taskRoleArn": task["task_role_arn"],
        "runtimePlatform": {
            "operatingSystemFamily": task["runtime_platform"]["operating_system_family"],
            "cpuArchitecture": task["runtime_platform"]["cpu_architecture"],
        },
        "ephemeralStorage": {"sizeInGiB": task["ephemeral_storage"]["size_in_gib"]},
        "containerDefinitions": json.loads(task["container_definitions"]),
    }


def _made(text: str) -> str:
    return _RESOURCE.sub(lambda found: f'local.made["{found[0]}"]', text)
