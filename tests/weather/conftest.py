"""The ground for all scenarios, and the undisturbed run they are measured against."""

from typing import TYPE_CHECKING

import pytest

from deployments.local.stack import UPSTAGE_KEY, LocalStack
from tests.stand_in import StandInControl
from tests.weather.drive import Calm, calm
from tests.weather.ground import Ground

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def ground(stack: LocalStack, s3: "S3Client", s3_url: str) -> Ground:
    """Where things are."""
    control = StandInControl(stack.upstage_url, UPSTAGE_KEY)
    return Ground(s3, s3_url, control, stack.data / "upstage" / "requests")


@pytest.fixture(scope="session")
def undisturbed(ground: Ground) -> Calm:
    """The undisturbed run."""
    return calm(ground)
