"""The Terraform files hold together, as far as that can be seen without the provider, which has to be downloaded."""

import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.deployments.aws.rendering import FOLDER, terraform

Files = dict[str, str]
_REFERENCE = re.compile(r"(?<![\w.\"-])(?:(var|local)\.(\w+)|module\.(\w+)\.(\w+)|(data\.)?(aws_\w+)\.(\w+))")
_SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|\bup_[A-Za-z0-9]{20,}|\bpn[ub]_[A-Za-z0-9]{20,}|(?<![\w.])[0-9]{12}(?!\w)"
    r"|[\w-]+\.dkr\.ecr\.|docker\.io|ghcr\.io|quay\.io|public\.ecr\.aws"
)


def files_of(folder: Path) -> Files:
    """The files of one module."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.tf"))}


ROOT, POLICY = files_of(FOLDER), files_of(FOLDER / "policy")
POLICY_OUTPUTS = {"policy": set(re.findall(r'^output "(\w+)"', POLICY["outputs.tf"], re.MULTILINE))}


@functools.cache
def parsed_file(name: str, text: str) -> dict[str, Any]:
    """What the parser of HCL makes of a file."""
    try:
        return dict(hcl2.loads(text))
    except Exception as error:
        raise AssertionError(f"{name} cannot be parsed: {error}") from error


def blocks(files: Files, kind: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The blocks of a kind in all files: their labels, and what they hold."""

    def inside(labels: tuple[str, ...], block: dict[str, Any], depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
        if depth == 0:
            yield labels, block
            return
        for label, value in block.items():
            if label.startswith('"'):
                yield from inside((*labels, label.strip('"')), value, depth - 1)

    depth = {"resource": 2, "data": 2, "variable": 1, "output": 1, "module": 1, "provider": 1}.get(kind, 0)
    for name, text in files.items():
        for block in parsed_file(name, text).get(kind, []):
            yield from inside((), block, depth)


def names(files: Files, kind: str) -> set[str]:
    """What is declared of a kind, as it is referred to."""
    if kind == "locals":
        return {name for _, block in blocks(files, kind) for name in block if not name.startswith("__")}
    return {".".join(labels) for labels, _ in blocks(files, kind)}


def without_words(text: str) -> str:
    """The file without its comments and the texts that only people read."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return "\n".join(line for line in lines if not re.match(r"\s*(description|error_message)\s+=", line))


def used(files: Files) -> Iterator[tuple[str, str]]:
    """Every reference: its kind, and what is referred to."""
    for text in files.values():
        for kind, name, module, output, data, resource, label in _REFERENCE.findall(without_words(text)):
            if kind:
                yield kind, name
            elif module:
                yield "module", f"{module}.{output}"
            else:
                yield "data" if data else "resource", f"{resource}.{label}"


def problems(files: Files, modules: dict[str, set[str]]) -> list[str]:
    """What is used and not declared, or declared and not used."""
    declared = {
        "var": names(files, "variable"),
        "local": names(files, "locals"),
        "resource": names(files, "resource"),
        "data": names(files, "data"),
        "module": {f"{module}.{output}" for module in names(files, "module") for output in modules.get(module, set())},
    }
    references = set(used(files))
    found = [f"{kind} {name} is not declared" for kind, name in references if name not in declared[kind]]
    for kind in ("var", "local", "data"):
        found += [f"{kind} {name} is not used" for name in declared[kind] if (kind, name) not in references]
    return sorted(found)


def unexplained(files: Files) -> list[str]:
    """Lines that allow everything ("*") without a comment on them or above them."""
    found = []
    for name, text in files.items():
        lines = text.splitlines()
        for number, line in enumerate(lines):
            statement = re.search(r'^\s*(not_)?(actions|resources|identifiers)\s*=.*"([\w-]+:)?\*"', line)
            if statement and "#" not in line and not lines[number - 1].lstrip().startswith("#"):
                found.append(f"{name}:{number + 1}: {line.strip()}")
    return found


@pytest.mark.parametrize(("files", "modules"), [(ROOT, POLICY_OUTPUTS), (POLICY, {})], ids=["root", "policy"])
def test_what_is_used_is_declared_and_what_is_declared_is_used(files: Files, modules: dict[str, set[str]]) -> None:
    assert len(files) >= 3
    assert problems(files, modules) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("worker.tf", "var.work_pool", "var.pool", "var pool is not declared"),
        ("worker.tf", "aws_iam_role.worker.arn", "aws_iam_role.walker.arn", "resource aws_iam_role.walker is not"),
        (
            "main.tf",
            "data.aws_caller_identity.current.",
            "data.aws_caller_identity.now.",
            "data aws_caller_identity.now",
        ),
        ("events.tf", "module.policy.source_prefix", "module.policy.prefix", "module policy.prefix is not declared"),
        ("iam.tf", "[local.cluster_tasks]", "[local.tasks]", "local tasks is not declared"),
        ("main.tf", "locals {", "locals {\n  idle = 1", "local idle is not used"),
        ("variables.tf", 'variable "tags" {', 'variable "tag" {', "var tag is not used"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(name: str, old: str, new: str, found: str) -> None:
    assert old in ROOT[name]
    broken = problems({**ROOT, name: ROOT[name].replace(old, new)}, POLICY_OUTPUTS)
    assert any(problem.startswith(found) for problem in broken), broken


@pytest.mark.parametrize("files", [ROOT, POLICY], ids=["root", "policy"])
def test_variables_and_outputs_say_what_they_are(files: Files) -> None:
    for labels, block in [*blocks(files, "variable"), *blocks(files, "output")]:
        assert len(block.get("description", "")) > 15, labels
    for labels, block in blocks(files, "variable"):
        assert "type" in block, labels


def test_variables_are_checked_before_anything_is_made() -> None:
    unchecked = {labels[0] for labels, block in blocks(ROOT, "variable") if "validation" not in block}
    assert unchecked == {"tags", "assign_public_ip", "create_endpoints", "create_events"}, (
        "tags are free; the rest bool"
    )


def test_the_policy_module_gets_each_of_its_variables() -> None:
    (given,) = (block for labels, block in blocks(ROOT, "module") if labels == ("policy",))
    assert {name for name in given if not name.startswith("__")} - {"source"} == names(POLICY, "variable")


def test_nothing_allows_everything_without_saying_why() -> None:
    assert unexplained(ROOT) == []
    assert unexplained({"x.tf": '  resources = ["*"]\n'}) == ['x.tf:1: resources = ["*"]']
    assert unexplained({"x.tf": '  actions = ["s3:Get", "s3:*"]\n'}) == ['x.tf:1: actions = ["s3:Get", "s3:*"]']
    stars = re.findall(r'"\*"', "".join(ROOT.values()))
    assert len(stars) == 2, "the login to ECR, and three look-ups: another one needs a reason, and a look at this test"


def test_templates_allow_nothing_everywhere() -> None:
    for file in (FOLDER / "policy").glob("*.tftpl"):
        text = file.read_text(encoding="utf-8")
        for statement in json.loads(re.sub(r"\$\{\w+\}", '"x"', text))["Statement"]:
            assert not any("*" in action for action in statement["Action"]), file.name
            assert statement["Resource"] == "x", file.name
            assert statement["Effect"] == "Allow", file.name


def test_the_worker_may_pass_two_roles_and_run_one_definition_in_one_cluster() -> None:
    ((_, document),) = (block for block in blocks(ROOT, "data") if block[0] == ("aws_iam_policy_document", "worker"))
    statements = {statement["sid"].strip('"'): statement for statement in document["statement"]}
    given = {
        action.strip('"'): [re.sub(r"^\$\{(.*)\}$", r"\1", place.strip('"')) for place in statement["resources"]]
        for statement in statements.values()
        for action in statement["actions"]
    }
    cluster, queue = ["local.cluster_tasks"], ["aws_sqs_queue.task_states.arn"]
    assert given == {
        "ecs:RunTask": ["${aws_ecs_task_definition.run.arn_without_revision}:*"],
        "ecs:DescribeTasks": cluster,
        "ecs:StopTask": cluster,
        "ecs:TagResource": cluster,
        "iam:PassRole": ["aws_iam_role.execution.arn", "aws_iam_role.run.arn"],
        "ecs:DescribeTaskDefinition": ["*"],
        "ec2:DescribeVpcs": ["*"],
        "ec2:DescribeSubnets": ["*"],
        "logs:GetLogEvents": ["${aws_cloudwatch_log_group.runs.arn}:*"],
        **dict.fromkeys(
            ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"), queue
        ),
    }
    for sid in ("StartFlowRuns", "FollowAndStopThem"):
        (condition,) = statements[sid]["condition"]
        assert condition["variable"].strip('"') == "ecs:cluster"


def test_logs_end_and_secrets_have_no_values_here() -> None:
    resources = list(blocks(ROOT, "resource"))
    kept = [block["retention_in_days"] for (kind, _), block in resources if kind == "aws_cloudwatch_log_group"]
    assert kept == ["${var.log_retention_days}"] * 2
    secrets = {label for (kind, label), _ in resources if kind == "aws_secretsmanager_secret"}
    assert secrets == {"upstage", "prefect"}
    assert not [kind for (kind, _), _ in resources if kind == "aws_secretsmanager_secret_version"]


def test_no_secret_account_or_registry_stands_in_the_files() -> None:
    texts = [file for file in FOLDER.rglob("*") if file.suffix in {".tf", ".tftpl", ".example", ".md"}]
    assert len(texts) > 15
    for file in texts:
        assert not _SECRET.findall(file.read_text(encoding="utf-8")), file.name
    # Made here, so that nothing that looks like one stands in this file either.
    for leak in (
        "12" * 6,
        "AKIA" + "A" * 16,
        ".".join(("x", "dkr", "ecr", "eu", "amazonaws", "com")),
        "ghcr" + ".io/a/b",
    ):
        assert _SECRET.search(f'image = "{leak}"'), leak


def test_the_example_names_variables_that_exist_and_all_that_are_needed() -> None:
    text = (FOLDER / "terraform.tfvars.example").read_text(encoding="utf-8")
    given = set(re.findall(r"^#? ?(\w+)\s+=", text, re.MULTILINE))
    needed = {labels[0] for labels, block in blocks(ROOT, "variable") if "default" not in block}
    assert needed <= set(re.findall(r"^(\w+)\s+=", text, re.MULTILINE))
    assert given <= names(ROOT, "variable")


def test_files_are_indented_as_terraform_does() -> None:
    for name, text in [*ROOT.items(), *POLICY.items()]:
        for number, line in enumerate(text.splitlines(), 1):
            indent = len(line) - len(line.lstrip())
            assert "\t" not in line, f"{name}:{number}"
            assert line == line.rstrip(), f"{name}:{number}"
            assert indent % 2 == 0, f"{name}:{number}"
        assert text.endswith("}\n"), name


@pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed")
def test_terraform_finds_the_files_formatted(tmp_path: Path) -> None:
    program = shutil.which("terraform")
    assert program is not None
    for folder, files in ((tmp_path, ROOT), (tmp_path / "policy", POLICY)):
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    terraform(program, tmp_path, "fmt", "-check", "-recursive", "-diff")
    (tmp_path / "main.tf").write_text("locals {\n a = 1\n}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="fmt"):
        terraform(program, tmp_path, "fmt", "-check")


VALUES = {
    "region": "eu-central-1",
    "source_address": "s3://scans/in",
    "destination_address": "s3://ocr",
    "vpc_id": "vpc-0a",
    "subnet_ids": '["subnet-0a"]',
    "image": "registry.test:5000/bulk-ocr@sha256:00",
    "worker_image": "prefect-worker:3",
}
WRONG = {
    "region": "Frankfurt",
    "name": "Bulk OCR",
    "source_address": "s3://scans/in*",
    "destination_address": "ocr/out",
    "lists_address": "s3://lists/${x}",
    "source_kms_key_arn": "alias/scans",
    "destination_kms_key_arn": "arn:aws:kms:eu-central-1:111122223333:alias/ocr",
    "image": "registry.test:5000/bulk-ocr",
    "worker_image": "prefect-worker",
    "ecr_repository_arns": '["arn:aws:ecr:eu-central-1:111122223333:repository/*"]',
    "cpu_architecture": "arm64",
    "run_cpu": "1000",
    "run_memory": "2000",
    "run_storage_gib": "20",
    "run_environment": '{UPSTAGE_API_KEY = "x"}',
    "work_pool": "my pool",
    "prefect_credential": "password",
    "prefect_port": "0",
    "worker_count": "1.5",
    "vpc_id": "my-vpc",
    "subnet_ids": "[]",
    "route_table_ids": '["my-table"]',
    "log_retention_days": "31",
    "secret_recovery_days": "3",
}


@pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed")
def test_terraform_takes_values_that_make_sense_and_refuses_each_that_does_not(tmp_path: Path) -> None:
    program = shutil.which("terraform")
    assert program is not None
    (tmp_path / "variables.tf").write_text(ROOT["variables.tf"], encoding="utf-8")
    terraform(program, tmp_path, "init", "-backend=false", "-input=false")
    terraform(program, tmp_path, "plan", "-input=false", *(f"-var={name}={value}" for name, value in VALUES.items()))
    wrong = [f"-var={name}={value}" for name, value in {**VALUES, **WRONG}.items()]
    with pytest.raises(AssertionError, match="Invalid value for variable") as error:
        terraform(program, tmp_path, "plan", "-input=false", "-no-color", *wrong)
    refused = set(re.findall(r'variable "(\w+)" \{', str(error.value)))
    assert refused == set(WRONG)
    checked = {labels[0] for labels, block in blocks(ROOT, "variable") if "validation" in block}
    assert checked == set(WRONG)
