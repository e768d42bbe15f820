"""A stand-in for each module of tests, put back to its first settings after each test."""

from collections.abc import Iterator

import pytest

from tests.deployments.local.process import StandIn, call


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A server for the tests of a module."""
    started = StandIn(tmp_path_factory.mktemp("stand-in") / "data", "--recogniser", "text")
    yield started
    assert started.stop() == 0
    assert started.log.read_text() == ""


@pytest.fixture
def stand_in(server: StandIn) -> Iterator[StandIn]:
    """The server for one test."""
    settings = server.control("settings")
    call("DELETE", f"{server.url}/_control/calls")
    yield server
    server.faults()
    server.set(**settings)
