"""The Dockerfile, what reaches its build, and the compose files."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from docker.utils.build import exclude_paths
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_docker.worker import DockerWorkerJobConfiguration
from ruamel.yaml import YAML

from deployments.local.stack import _prefect, _s3
from tests.deployments.settings_names import known_settings, unknown_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deployments" / "docker"
DOCKERFILE = FOLDER / "Dockerfile"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    if version
}


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(FOLDER / name)
    return content


def _stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, in order; the first of a stage is its FROM."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.split(" AS ")[1]
            stages[name] = []
        if name:
            stages[name].append((word, rest))
    return stages


def _context() -> set[str]:
    """What `.dockerignore` lets into a build, by the rules of Docker's own client."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    return {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}


COMPOSE = _load("compose.yaml")
LOCAL = _load("compose.local.yaml")
SERVICES: dict[str, dict[str, Any]] = {**LOCAL["services"], **COMPOSE["services"]}
IMAGES = ("worker", "server", "local")


# ---- the Dockerfile


def test_every_file_that_is_copied_reaches_the_build() -> None:
    context = _context()
    copied = [
        source
        for stage in _stages().values()
        for word, rest in stage
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"pyproject.toml", "deployments/docker/hashes.txt", "prefect.yaml", "flows"} <= set(copied)
    lost = [
        copied_path
        for copied_path in copied
        if not any(path == copied_path or path.startswith(f"{copied_path}/") for path in context)
    ]
    assert lost == []


def test_the_build_has_all_packages_and_no_more_than_it_should() -> None:
    context = _context()
    for package in ("flows", "tasks", "deployments/local"):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert sources
        assert sources <= context
    # Where things are deployed from lie states and variables of people's own.
    folders = {"flows", "tasks", "deployments/__init__.py", "deployments/local"}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "prefect.yaml", ".dockerignore"}
    files |= {"deployments/docker/requirements.py", "deployments/docker/hashes.txt"}
    assert not [path for path in context - files if not any(path == f or path.startswith(f"{f}/") for f in folders)]
    assert not [path for path in context if Path(path).name.startswith(".env") or path.endswith(".pyc")]


def test_secrets_beside_the_compose_file_reach_neither_build_nor_commit(tmp_path: Path) -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for name in (".env", "deployments/docker/.env", "flows/.env.production", "flows/run/run.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {path for path in exclude_paths(str(tmp_path), patterns) if (tmp_path / path).is_file()} == {
        "flows/run/run.py"
    }
    assert ".env" in (FOLDER / ".gitignore").read_text().split()


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_as_a_fixed_user_that_is_not_root(image: str) -> None:
    users = [rest for word, rest in _stages()[image] if word == "USER"]
    assert users == ["10001:10001"]
    assert _stages()[image][-1][0] == "USER"


def test_the_worker_is_what_a_plain_build_makes() -> None:
    assert list(_stages())[-1] == "worker"


@pytest.mark.parametrize("image", IMAGES)
def test_images_hold_no_compiler_and_are_built_of_wheels_only(image: str) -> None:
    stages = _stages()
    kept = stages["base"] + stages[image]
    assert not [rest for word, rest in kept if word == "RUN" and re.search(r"apt-get|pip|gcc|build-essential", rest)]
    installs = [rest for stage in stages.values() for word, rest in stage if "pip install" in rest]
    assert len(installs) == 6
    # The project's own wheel comes last, without an index.
    fetched = [command for command in installs if "--no-index" not in command]
    assert len(fetched) == 4
    assert "--require-hashes --requirement pip.txt" in fetched[0]
    assert all("--require-hashes --constraint hashes.txt" in command for command in fetched[1:])
    assert all("--only-binary :all:" in command for command in fetched[1:])


def test_no_image_is_taken_by_a_tag_that_says_nothing() -> None:
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert base is not None
    froms = [rest.split()[0] for stage in _stages().values() for word, rest in stage if word == "FROM"]
    assert {base for base in froms if base not in _stages()} == {"${PYTHON_IMAGE}"}
    for image in [base[1], *(service["image"] for service in SERVICES.values())]:
        name, _, tag = image.partition(":")
        assert name
        assert re.match(r"\d+\.?\d*", tag), image
        assert "latest" not in tag


def test_versions_are_those_of_the_project_and_its_pins() -> None:
    text = DOCKERFILE.read_text()
    assert f'image.version="{VERSION}"' in text
    for package, version in re.findall(r"([a-z][a-z0-9-]*)==([0-9.]+)", text):
        assert PINS.get(package, version) == version, package
    for service in SERVICES.values():
        if "build" in service:
            assert service["image"].endswith(f":{VERSION}")
            assert service["build"]["target"] in IMAGES
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DOCKERFILE)


# ---- the hashes that images are built of


# Debian's Python in an image; that of the official image is newer, and needs less.
INSIDE: dict[str, str] = {
    name: str(value)
    for name, value in {
        **default_environment(),
        "python_version": "3.11",
        "python_full_version": "3.11.2",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extra": "",
    }.items()
}


def _hashed() -> dict[str, tuple[Requirement, list[str]]]:
    """What `hashes.txt` holds for an image: the requirement and the hashes of each package."""
    lines = (FOLDER / "hashes.txt").read_text().replace("\\\n", " ").splitlines()
    parts = [line.split(" --hash=") for line in lines]
    found = [(Requirement(first.strip()), [digest.strip() for digest in hashes]) for first, *hashes in parts]
    return {
        canonicalize_name(requirement.name): (requirement, hashes)
        for requirement, hashes in found
        if requirement.marker is None or requirement.marker.evaluate(INSIDE)
    }


def test_the_hashed_pins_are_those_of_the_constraints() -> None:
    """`make hashes` brings them up to date."""
    hashed = _hashed()
    assert {name: str(requirement.specifier) for name, (requirement, _) in hashed.items()} == {
        name: f"=={PINS.get(name)}" for name in hashed
    }
    assert [name for name, (_, hashes) in hashed.items() if not hashes] == []
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for _, hashes in hashed.values() for digest in hashes)
    assert "://" not in (FOLDER / "hashes.txt").read_text()


def test_everything_that_an_image_may_need_has_a_hash() -> None:
    """pip refuses a package without one; this says so before a build does."""
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras is not None
    needed = [(name, frozenset[str]()) for name in ("pip", "hatchling", "prefect-redis")]
    needed += _needs(Requirement(f"bulk-ocr[{','.join(extras[1].split())}]"))
    seen: set[tuple[str, frozenset[str]]] = set()
    while needed:
        name, wanted = package = needed.pop()
        if package in seen or name == "bulk-ocr":
            continue
        seen.add(package)
        if name not in ("hatchling", "async-timeout"):  # not installed by `make test`
            needed += _needs(Requirement(f"{name}[{','.join(wanted)}]" if wanted else name))
    assert len(seen) > 150
    assert {name for name, _ in seen} - set(_hashed()) == set()


def _needs(package: Requirement) -> list[tuple[str, frozenset[str]]]:
    """What an installed package asks for, with the extras that it asks for."""
    wanted = [Requirement(line) for line in requires(package.name) or ()]
    environments = [{**INSIDE, "extra": extra} for extra in package.extras or {""}]
    return [
        (canonicalize_name(found.name), frozenset(found.extras))
        for found in wanted
        if found.marker is None or any(found.marker.evaluate(environment) for environment in environments)
    ]


# ---- the compose files


def test_services_are_the_expected_ones() -> None:
    assert set(COMPOSE["services"]) == {"postgres", "redis", "prefect", "worker"}
    assert set(LOCAL["services"]) == {"s3", "upstage", "worker"}


def test_every_variable_for_prefect_is_one_it_knows() -> None:
    for name, service in SERVICES.items():
        assert unknown_settings(service.get("environment", {})) == [], name
    assert "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE" in known_settings()
    assert unknown_settings({"PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCHSIZE": ""})


def test_prefect_reads_the_values_as_they_are_meant(tmp_path: Path) -> None:
    code = (
        "from prefect.settings import get_current_settings as s; c = s().server; "
        "from prefect_redis.client import RedisMessagingSettings as r; "
        "print(c.services.task_run_recorder.batch_size, c.services.event_persister.batch_size, c.analytics_enabled, "
        "c.database.host, c.events.messaging_broker, sorted(c.services.db_vacuum.enabled), r().host)"
    )
    given = {name: str(value) for name, value in SERVICES["prefect"]["environment"].items() if "${" not in str(value)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), **given}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = "200 500 False postgres prefect_redis.messaging ['events', 'flow_runs'] redis"
    assert done.stdout.strip() == expected


def test_prefect_has_the_batch_settings_of_the_local_stack(tmp_path: Path) -> None:
    local = {
        name: value for name, value in _prefect(tmp_path, 1).environment.items() if "BATCH" in name or "FLUSH" in name
    }
    assert len(local) == 3
    assert local.items() <= SERVICES["prefect"]["environment"].items()


def test_ports_are_published_on_loopback_only_and_the_stores_have_none() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"prefect", "s3", "upstage"}
    for ports in published.values():
        assert all(re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z0-9_]+:-\d+\}:\d+", port) for port in ports)
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "inside" in service["networks"]] == [
        *("postgres", "redis", "prefect")
    ]
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["inside"]


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_watched_bounded_and_without_root(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert "privileged" not in service
    user = service.get("user", "10001" if "build" in service else "root")
    assert user not in ("root", "0")


def test_services_wait_for_healthy_ones_only() -> None:
    waits = {
        (name, other): how["condition"]
        for compose in (COMPOSE, LOCAL)
        for name, service in compose["services"].items()
        for other, how in service.get("depends_on", {}).items()
    }
    assert set(waits) == {
        ("prefect", "postgres"),
        ("prefect", "redis"),
        ("worker", "prefect"),
        ("worker", "s3"),
        ("worker", "upstage"),
    }
    assert set(waits.values()) == {"service_healthy"}


def test_what_is_kept_lies_in_named_volumes() -> None:
    declared = {*COMPOSE["volumes"], *LOCAL["volumes"]}
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == declared


def test_secrets_come_from_the_environment_and_the_example_names_them_all() -> None:
    example = {
        line.lstrip("#").split("=")[0] for line in (FOLDER / ".env.example").read_text().splitlines() if "=" in line
    }
    text = (FOLDER / "compose.yaml").read_text() + (FOLDER / "compose.local.yaml").read_text()
    assert set(re.findall(r"\$\{([A-Z0-9_]+)", text)) <= example
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|_KEY|TOKEN", variable):
                assert value is None or re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{name}: {variable}"


def test_the_s3_server_has_every_setting_of_the_local_stack(tmp_path: Path) -> None:
    local, here = _s3(tmp_path, 1).environment, SERVICES["s3"]["environment"]
    assert set(local) - {"TMPDIR"} == set(here)
    same = ("SERVICES", "AUTH", "S3_PERSIST", "PERSIST_STATE", "SFTP_ENABLED", "IOT_MTLS_ENABLED", "MINISTACK_REGION")
    assert {name: here[name] for name in same} == {name: local[name] for name in same}


# ---- the template of a Docker work pool


def test_every_placeholder_of_the_template_is_a_variable_and_every_variable_is_used() -> None:
    template = json.loads((FOLDER / "base-job-template.json").read_text())
    placed = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert placed == set(template["variables"]["properties"])
    assert template["variables"]["properties"]["image"]["default"] == f"bulk-ocr:{VERSION}"


def test_the_template_is_what_prefects_docker_worker_takes_and_bounds_the_container() -> None:
    template = json.loads((FOLDER / "base-job-template.json").read_text())
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        made = asyncio.run(DockerWorkerJobConfiguration.from_template_and_values(template, {"mem_limit": "4g"}))
    assert made.mem_limit == made.memswap_limit == "4g"
    assert made.volumes == ["bulk-ocr-scratch:/tmp"]
    assert made.privileged is False
    # Without it, the worker of prefect-docker 0.7.4 never sees how a container ended, and its run waits for ever.
    assert made.stream_output is True
    assert made.container_create_kwargs == {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    assert set(template["job_configuration"]) <= set(DockerWorkerJobConfiguration.model_fields)
