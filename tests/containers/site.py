"""What flow runs in containers need around them, in containers too: S3, the OCR API's stand-in, Prefect's server."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import boto3

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, UPSTAGE_KEY
from tests.containers.engine import Engine
from tests.containers.images import OWN
from tests.stand_in import StandInControl
from tests.waiting import until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

S3_PORT, UPSTAGE_PORT, PREFECT_PORT = 9000, 8080, 4200
_HEALTH = {S3_PORT: "/_ministack/health", UPSTAGE_PORT: "/_control/health", PREFECT_PORT: "/api/ready"}


@dataclass(frozen=True)
class Site:
    """Services on a network of their own.

    Attributes:
        engine: the engine they run on.
        network: the network's name; `s3`, `upstage` and `prefect` are names on it.
        inside: the environment of a container that works with them.
    """

    engine: Engine
    network: str
    inside: dict[str, str] = field(default_factory=dict)

    @property
    def s3_url(self) -> str:
        """The S3 endpoint, seen from this machine."""
        return self.engine.published(f"{self.network}-s3", S3_PORT)

    @property
    def prefect_url(self) -> str:
        """Prefect's server, seen from this machine; without `/api`."""
        return self.engine.published(f"{self.network}-prefect", PREFECT_PORT)

    def s3(self) -> "S3Client":
        """A plain client, for arranging and asserting."""
        return boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            region_name=REGION,
            aws_access_key_id=S3_ACCESS_KEY,
            aws_secret_access_key=S3_SECRET_KEY,
        )

    def api(self) -> StandInControl:
        """The stand-in's control plane."""
        return StandInControl(self.engine.published(f"{self.network}-upstage", UPSTAGE_PORT), UPSTAGE_KEY)


@contextlib.contextmanager
def site(engine: Engine) -> Iterator[Site]:
    """Start all of it, empty."""
    with contextlib.ExitStack() as running:
        network = running.enter_context(engine.network(f"bulk-ocr-{os.getpid()}"))
        keys = {"AWS_ACCESS_KEY_ID": S3_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY}
        found = Site(
            engine,
            network,
            {
                **keys,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL_S3": f"http://s3:{S3_PORT}",
                "UPSTAGE_API_KEY": UPSTAGE_KEY,
                "UPSTAGE_BASE_URL": f"http://upstage:{UPSTAGE_PORT}/v1",
            },
        )
        store = {
            **keys, "SERVICES": "s3", "AUTH": "true", "MINISTACK_REGION": REGION, "S3_PERSIST": "1",
            "S3_DATA_DIR": "/tmp/objects", "BIND_HOST": "0.0.0.0", "GATEWAY_PORT": str(S3_PORT),
            "SFTP_ENABLED": "false", "IOT_MTLS_ENABLED": "false", "DOCKER_HOST": "unix:///nowhere.sock",
        }  # fmt: skip
        stand_in = [
            *("python", "-m", "deployments.local.upstage", "--host=0.0.0.0", f"--port={UPSTAGE_PORT}"),
            *("--data-dir=/tmp/upstage", f"--api-key={UPSTAGE_KEY}", "--recogniser=text"),
        ]
        server = ["prefect", "server", "start", "--host", "0.0.0.0", "--port", str(PREFECT_PORT)]
        services: tuple[tuple[str, str, list[str], int, dict[str, str]], ...] = (
            ("s3", OWN["local"], ["python", "-m", "ministack"], S3_PORT, store),
            ("upstage", OWN["local"], stand_in, UPSTAGE_PORT, {}),
            ("prefect", OWN["server"], server, PREFECT_PORT, _PREFECT),
        )
        for name, image, command, port, environment in services:
            options = (
                *(f"--network={network}", f"--network-alias={name}", "--tmpfs=/tmp:rw,mode=1777"),
                f"--publish=127.0.0.1::{port}",
            )
            running.enter_context(
                engine.container(image, *command, name=f"{network}-{name}", options=options, environment=environment)
            )
        for name, _, _, port, _ in services:
            until(partial(_healthy, engine, f"{network}-{name}", port), f"{name} in a container")
        yield found


_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_STATIC_DIRECTORY": "/tmp/ui",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


def _healthy(engine: Engine, container: str, port: int) -> bool:
    assert engine.running(container), engine.tried("logs", "--tail", "30", container)
    code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}{_HEALTH[port]}', timeout=4)"
    return engine.tried("exec", container, "python", "-c", code).returncode == 0
