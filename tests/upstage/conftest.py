"""A client on a throttle that nobody waits for."""

from tasks.upstage.client import UpstageClient
from tasks.upstage.throttle import Throttle
from tests.fakes import FakeClock


def connect(base_url: str, key: str, clock: FakeClock) -> UpstageClient:
    """A client of the API at an address."""
    return UpstageClient(base_url, key, Throttle(1e6, 1e9, clock), clock)
