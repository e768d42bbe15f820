"""The compose files as they are, run by Docker's own `docker-compose` against podman's Docker API."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.containers.engine import Engine, EngineMissing
from tests.containers.images import ROOT
from tests.waiting import PATIENCE

FOLDER = ROOT / "deployments" / "docker"


def require_compose() -> None:
    """Look for the program.

    Raises:
        EngineMissing: it is not there.
    """
    if shutil.which("docker-compose") is None:
        raise EngineMissing("not on this machine: docker-compose. On Debian: apt-get install docker-compose")


def readme_commands() -> list[str]:
    """The commands of the README's first block, a command an item, without comments."""
    block = re.search(r"```\n(cd deployments/docker\n.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert block is not None
    lines = re.sub(r"\s+#.*$", "", block[1], flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines]


@dataclass(frozen=True)
class Compose:
    """One installation: a folder with the compose files and a `.env` of its own.

    Attributes:
        engine: the engine that the containers run on.
        folder: where commands are given.
        environment: of the commands.
        project: the project's name, with which the names of containers begin.
    """

    engine: Engine
    folder: Path
    environment: Mapping[str, str]
    project: str

    def shell(self, command: str) -> str:
        """Give a command of the README, and what it printed."""
        # What only Docker's newer compose knows: images are built already, and nothing here is a terminal.
        command = (
            command.replace("docker compose", "docker-compose")
            .replace(" --build", " --no-build")
            .replace(" --wait", "")
            .replace(" exec -T ", " exec ")
            .replace(" exec ", " exec -T ")
        )
        done = subprocess.run(
            ["bash", "-c", command],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL if "<" not in command else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.project}_{service}_1"


@contextlib.contextmanager
def installation(engine: Engine, folder: Path, settings: Mapping[str, str]) -> Iterator[Compose]:
    """A copy of `deployments/docker` for commands to be given in; what they started is removed at the end.

    Args:
        engine: where containers run.
        folder: an empty folder.
        settings: what `.env` has in place of the example's values.
    """
    place = folder / "deployments" / "docker"
    shutil.copytree(FOLDER, place, ignore=shutil.ignore_patterns(".env", "__pycache__"))
    with engine.docker_api(folder) as socket:
        found = Compose(
            engine,
            place,
            {**engine.environment, "DOCKER_HOST": f"unix://{socket}", "COMPOSE_HTTP_TIMEOUT": f"{PATIENCE:.0f}"},
            settings["COMPOSE_PROJECT_NAME"],
        )
        example = place / ".env.example"
        text = example.read_text()
        for name, value in settings.items():
            text, replaced = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert replaced == 1, name
        example.write_text(text)
        with engine.health_checks():
            try:
                yield found
            finally:
                with contextlib.suppress(AssertionError):
                    found.shell("docker compose down --volumes --timeout 5")
