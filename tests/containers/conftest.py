"""Only with `--containers`. Images are built once a test run, on an engine of the tests' own."""

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, EngineMissing, default_folder, require_engine
from tests.containers.images import make_base, make_own
from tests.containers.site import Site, site


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the tests here out unless they are asked for."""
    return None if config.getoption("--containers") else True


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine with the worker's image; where there is none, the tests are skipped with the reason."""
    try:
        require_engine()
    except EngineMissing as error:
        pytest.skip(str(error))
    found = Engine(default_folder())
    make_base(found)
    make_own(found, "worker")
    return found


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """The same engine with all images of the project."""
    make_own(engine, "server", "local")
    return engine


@pytest.fixture(scope="session")
def services(images: Engine) -> Iterator[Site]:
    """S3, the stand-in and Prefect's server in containers, once for all tests here."""
    with site(images) as running:
        yield running
