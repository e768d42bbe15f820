"""What is in the images."""

import json
import re

import pytest

from tests.containers.engine import BOUNDS, Engine
from tests.containers.images import OWN, REVISION, ROOT, VERSION

_PINS = dict(
    line.lower().split("==", 1) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
_VERSIONS = (
    "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


@pytest.mark.parametrize("target", OWN)
def test_an_image_holds_the_pinned_versions_and_nothing_to_install_with(images: Engine, target: str) -> None:
    printed = images.podman("run", "--rm", "--network=none", *BOUNDS, OWN[target], "python", "-c", _VERSIONS)
    pins = {re.sub(r"[-_.]+", "-", name): version for name, version in _PINS.items()}
    found = {re.sub(r"[-_.]+", "-", name): version for name, version in json.loads(printed).items()}
    assert "prefect" in found
    assert ("bulk-ocr" in found) == (target != "server")
    assert {name: version for name, version in found.items() if pins.get(name) != version} == (
        {} if target == "server" else {"bulk-ocr": VERSION}
    )
    assert not {"pip", "setuptools", "pytest", "mypy"} & set(found)


@pytest.mark.parametrize("target", OWN)
def test_an_image_runs_as_10001_and_says_what_it_is(images: Engine, target: str) -> None:
    configuration = json.loads(images.podman("image", "inspect", OWN[target]))[0]["Config"]
    assert configuration["User"] == "10001:10001"
    assert configuration["Labels"]["org.opencontainers.image.version"] == VERSION
    assert configuration["Labels"]["org.opencontainers.image.revision"] == REVISION
    code = "import os; print(os.getuid(), os.getgid(), os.access('/opt', os.W_OK), os.access('/tmp', os.W_OK))"
    ran = images.podman("run", "--rm", "--network=none", *BOUNDS, "--tmpfs=/tmp", OWN[target], "python", "-c", code)
    assert ran == "10001 10001 False True"
