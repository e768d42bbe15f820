"""The images: bases of Debian's packages, where there is no registry to pull from, and the project's own.

Kept in the engine's storage from one run to the next. The project's own are built each time, and the engine finds
unchanged layers itself.
"""

import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

from tests.containers.engine import Engine
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PYTHON, POSTGRES, REDIS = "python:3.11-slim-bookworm", "postgres:15-bookworm", "redis:7.2-bookworm"
OWN = {"worker": f"bulk-ocr:{VERSION}", "server": f"bulk-ocr-server:{VERSION}", "local": f"bulk-ocr-local:{VERSION}"}
REVISION = "tested"
_BASES = Path(__file__).with_name("bases")
_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
# Without what a slim image leaves out too.
_NEEDLESS = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
)


def make_base(engine: Engine) -> None:
    """Make the image that the Dockerfile begins with, unless it is there."""
    if PYTHON not in engine.images():
        _debian(engine)


def make_databases(engine: Engine) -> None:
    """Make the images of PostgreSQL and Redis that the compose file names, unless they are there."""
    present = engine.images()
    for name, tag in (("postgres", POSTGRES), ("redis", REDIS)):
        if tag not in present:
            build(engine, _BASES, _BASES / f"{name}.Containerfile", tag)


def make_own(engine: Engine, *targets: str) -> None:
    """Build images of the project, as the README says."""
    dockerfile = ROOT / "deployments" / "docker" / "Dockerfile"
    for target in targets:
        build(engine, ROOT, dockerfile, OWN[target], "--target", target, "--build-arg", f"REVISION={REVISION}")


def build(engine: Engine, context: Path, dockerfile: Path, tag: str, *options: str) -> None:
    """Build one image, with this machine's network and the certificates that it trusts."""
    certificates = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    trusted = (
        ["--volume", f"{certificates}:/etc/ssl/certs/ca-certificates.crt:ro"] if Path(certificates).is_file() else []
    )
    arguments = ["build", "--quiet", "--network", "host", *trusted, "--file", str(dockerfile), "--tag", tag, *options]
    engine.podman(*arguments, str(context))


def _debian(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(dir=engine.folder) as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr
        exclude = [f"--exclude=./{path}/*" for path in _NEEDLESS]
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "-C", str(root), *exclude, "-cf", str(archive), "."], check=True, timeout=PATIENCE)
        engine.podman("import", "--change", 'CMD ["python3"]', str(archive), PYTHON)
