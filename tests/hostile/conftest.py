"""An API that answers whatever the test says, a world around it, and an eye on what is said about secrets."""

import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.fakes import FakeClock
from tests.hostile.server import KEY, SECRET, HostileApi
from tests.steps.conftest import world

__all__ = ["world"]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still near the S3 server's time."""
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def hostile() -> Iterator[HostileApi]:
    """The API, with its storage host."""
    with HostileApi() as running:
        yield running


@pytest.fixture(autouse=True)
def no_secret_is_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """In no test of this folder, at no level, does a log record or its traceback hold the key or a presigned query."""
    caplog.set_level(logging.DEBUG)
    for talkative in ("botocore", "boto3", "s3transfer"):  # the way to S3; neither secret goes there
        caplog.set_level(logging.WARNING, talkative)
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            logged = logging.Formatter().format(record) + repr(record.args)
            if record.exc_info and record.exc_info[1]:
                logged += "".join(traceback.format_exception(record.exc_info[1]))
            assert KEY not in logged, record.name
            assert SECRET not in logged, record.name
