"""The job template, as Prefect's Kubernetes worker uses it, the manifests and the charts' values."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import models
from ruamel.yaml import YAML

from tests.deployments.kubernetes_job import FOLDER, TEMPLATE, job_of
from tests.deployments.settings_names import unknown_settings

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS: list[dict[str, Any]] = list(YAML(typ="safe").load_all(FOLDER / "bulk-ocr.yaml"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PREFECT = re.search(r"^prefect==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

# Prefect's template has these two in the pod, where they mean nothing, and its worker insists.
MISPLACED = ("spec.template.spec.parallelism", "spec.template.spec.completions")


def _values(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(FOLDER / f"{name}.values.yaml")
    return content


def _faults(value: object, kind: str, path: str = "") -> Iterator[str]:
    """Where a manifest differs from Kubernetes' own models: unknown fields, wrong types, missing fields."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            yield f"{path}: not a list"
            return
        for number, item in enumerate(value):
            yield from _faults(item, kind[5:-1], f"{path}.{number}")
    elif kind.startswith("dict("):
        if not isinstance(value, dict):
            yield f"{path}: not a mapping"
            return
        for key, item in value.items():
            yield from _faults(item, kind[5:-1].split(", ")[1], f"{path}.{key}")
    elif kind in ("str", "int", "bool", "float"):
        if type(value).__name__ != kind:
            yield f"{path}: {value!r} is not {kind}"
    elif kind == "object":  # a port, a quantity: a number or text
        if not isinstance(value, str | int):
            yield f"{path}: {value!r} is neither a number nor text"
    else:
        model = getattr(models, kind)
        if not isinstance(value, dict):
            yield f"{path}: not a {kind}"
            return
        names = {api_name: attribute for attribute, api_name in model.attribute_map.items()}
        for key, item in value.items():
            if key not in names:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from _faults(item, model.openapi_types[names[key]], f"{path}.{key}".lstrip("."))
        for attribute, api_name in model.attribute_map.items():
            setter = inspect.getsource(getattr(model, attribute).fset)
            if api_name not in value and "must not be `None`" in setter and f"{attribute} is None" in setter:
                yield f"{path}.{api_name} is missing".lstrip(".")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return job_of()


# ---- the job template


def test_the_job_is_what_kubernetes_takes(job: dict[str, Any]) -> None:
    assert sorted(_faults(job, "V1Job")) == sorted(MISPLACED)
    assert "{{" not in json.dumps(job)


def test_a_wrong_field_and_a_wrong_type_are_seen(job: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(job))
    broken["spec"]["ttlSecondsAfterFinish"] = 1
    broken["spec"]["backoffLimit"] = "0"
    del broken["spec"]["template"]["spec"]["containers"][0]["name"]
    container = "spec.template.spec.containers.0"
    assert set(_faults(broken, "V1Job")) - set(MISPLACED) == {
        "spec.ttlSecondsAfterFinish",
        "spec.backoffLimit: '0' is not int",
        f"{container}.name is missing",
    }


def test_the_pod_runs_without_root_and_without_a_token(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user = re.search(r"USER (\d+):", (ROOT / "deployments/docker/Dockerfile").read_text())
    assert user is not None
    uid = int(user[1])
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    # Otherwise Kubernetes sets PREFECT_SERVER_PORT and the like for the service of that name.
    assert pod["enableServiceLinks"] is False


def test_documents_have_room_on_disk(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}}]
    assert container["resources"]["requests"]["ephemeral-storage"] == "10Gi"
    larger = job_of(scratch_size="50Gi")["spec"]["template"]["spec"]
    assert larger["volumes"][0]["emptyDir"]["sizeLimit"] == "50Gi"
    assert larger["containers"][0]["resources"]["requests"]["ephemeral-storage"] == "50Gi"


def test_secrets_come_from_a_secret_and_variables_are_added() -> None:
    changed = job_of(env={"AWS_DEFAULT_REGION": "eu-central-1"}, secret_name="other")
    environment = {
        variable["name"]: variable for variable in changed["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["AWS_DEFAULT_REGION"]["value"] == "eu-central-1"
    keys = ("UPSTAGE_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert {environment[key]["valueFrom"]["secretKeyRef"]["name"] for key in keys} == {"other"}
    assert "optional" not in environment["UPSTAGE_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert not [key for key in keys if "value" in environment[key]]
    assert environment["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"]["value"] == "reschedule"


def test_every_placeholder_is_a_variable_and_every_variable_is_used() -> None:
    placed = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert placed == set(TEMPLATE["variables"]["properties"])


def test_job_variables_reach_thejob_of() -> None:
    job = job_of(
        image="registry.example/bulk-ocr:9",
        node_selector={"pool": "ocr"},
        finished_job_ttl=60,
        grace_seconds=300,
        service_account_name="someone",
        memory_limit="4Gi",
        namespace="elsewhere",
    )
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/bulk-ocr:9"
    assert container["resources"]["limits"] == {"memory": "4Gi"}
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert pod["nodeSelector"] == {"pool": "ocr"}
    assert pod["terminationGracePeriodSeconds"] == 300
    assert pod["serviceAccountName"] == "someone"
    assert job["spec"]["ttlSecondsAfterFinished"] == 60
    assert job["metadata"]["namespace"] == "elsewhere"


# ---- the manifests


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}"
)
def test_manifests_are_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kinds = {
        ("v1", "Namespace"): "V1Namespace",
        ("v1", "ServiceAccount"): "V1ServiceAccount",
        ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    }
    assert list(_faults(manifest, kinds[manifest["apiVersion"], manifest["kind"]])) == []


def test_manifests_hold_together_and_no_secret(job: dict[str, Any]) -> None:
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in MANIFESTS}
    namespace = job["metadata"]["namespace"]
    assert ("Namespace", namespace) in names
    assert ("ServiceAccount", job["spec"]["template"]["spec"]["serviceAccountName"]) in names
    assert {manifest["metadata"]["namespace"] for manifest in MANIFESTS if manifest["kind"] != "Namespace"} == {
        namespace
    }
    assert not [name for kind, name in names if kind == "Secret"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    policies = {
        manifest["metadata"]["name"]: manifest["spec"] for manifest in MANIFESTS if manifest["kind"] == "NetworkPolicy"
    }
    assert policies["flow-runs"]["podSelector"]["matchLabels"].items() <= labels.items()
    outside = policies["flow-runs"]["egress"][-1]
    assert "169.254.0.0/16" in outside["to"][0]["ipBlock"]["except"]
    assert outside["ports"] == [{"protocol": "TCP", "port": 443}]


# ---- the charts' values


def test_versions_are_those_of_the_project_and_its_pins(job: dict[str, Any]) -> None:
    assert PREFECT is not None
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == f"bulk-ocr:{VERSION}"
    server = _values("prefect-server")["global"]["prefect"]["image"]["prefectTag"]
    worker = _values("prefect-worker")["worker"]["image"]["prefectTag"]
    assert server == f"{PREFECT[1]}-python3.11"
    assert worker == f"{PREFECT[1]}-python3.11-kubernetes"


def test_the_server_has_the_settings_of_the_compose_file() -> None:
    given = {variable["name"]: variable for variable in _values("prefect-server")["server"]["env"]}
    assert unknown_settings(given) == []
    compose = YAML(typ="safe").load(ROOT / "deployments/docker/compose.yaml")["services"]["prefect"]["environment"]
    shared = {name: value for name, value in compose.items() if re.search(r"_SERVICES_|_EVENTS_|ANALYTICS|LEASE", name)}
    assert len(shared) >= 12
    assert {name: given[name].get("value") for name in shared} == shared
    assert {name for name, variable in given.items() if "valueFrom" in variable} == {
        "PREFECT_REDIS_MESSAGING_URL",
        "PREFECT_SERVER_DOCKET_URL",
    }


def test_server_worker_and_template_fit_each_other() -> None:
    server, worker = _values("prefect-server"), _values("prefect-worker")["worker"]
    namespace = TEMPLATE["variables"]["properties"]["namespace"]["default"]
    assert worker["serverApiConfig"]["apiUrl"] == (
        f"http://{server['fullnameOverride']}.{namespace}.svc.cluster.local:4200/api"
    )
    assert server["server"]["basicAuth"] == worker["basicAuth"]
    assert worker["config"]["type"] == "kubernetes"
    pools = re.findall(r"work_pool:\s+name: (\S+)", (ROOT / "prefect.yaml").read_text())
    assert set(pools) == {worker["config"]["workPool"]}
    assert server["postgresql"] == server["redis"] == {"enabled": False}


@pytest.mark.parametrize(("name", "part"), [("prefect-server", "server"), ("prefect-worker", "worker")])
def test_the_charts_pods_pass_the_namespaces_bounds(name: str, part: str) -> None:
    values: Mapping[str, Any] = _values(name)[part]
    contexts = [values["containerSecurityContext"]]
    if "initContainer" in values:
        contexts.append(values["initContainer"]["containerSecurityContext"])
    for context in contexts:
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert values["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert list(_faults(values["podSecurityContext"], "V1PodSecurityContext")) == []
    assert list(_faults(values["resources"], "V1ResourceRequirements")) == []
