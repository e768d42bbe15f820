"""One Prefect server and one worker, and two places deployed: one on a schedule, one that is started by hand."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments.local.stack import LocalStack
from tests.deployed.ground import Ground, grounds, places
from tests.flows.conftest import Place

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_EVERY = {"schedule": {"every": 5}}


@pytest.fixture(scope="module")
def scheduled(s3: "S3Client") -> Place:
    """A place whose flows start by themselves."""
    return _place(s3)


@pytest.fixture(scope="module")
def by_hand(s3: "S3Client") -> Place:
    """A place whose flows start when somebody says so."""
    return _place(s3)


@pytest.fixture(scope="module")
def months(s3: "S3Client") -> Place:
    """A place of no deployment's own, for runs that are told where to work."""
    return _place(s3)


@pytest.fixture(scope="module")
def ground(
    stack: LocalStack,
    tmp_path_factory: pytest.TempPathFactory,
    prefect_database: Path,
    scheduled: Place,
    by_hand: Place,
) -> Iterator[Ground]:
    """Both are deployed, and a worker is there."""
    with grounds(stack, tmp_path_factory.mktemp("deployed"), prefect_database) as ready:
        deployed = ready.deploy(
            places({"scheduled": scheduled, "by-hand": by_hand}, {"scheduled": {"submit": _EVERY, "collect": _EVERY}})
        )
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        with ready.worker():
            yield ready


def _place(s3: "S3Client") -> Place:
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return Place(name, s3)
