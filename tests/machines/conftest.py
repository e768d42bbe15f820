"""Only with `--machines`: PostgreSQL and Redis are no Python packages."""

import pytest

from tests.machines.servers import ProgramsMissing, require_programs


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the tests here out unless they are asked for; then say what is missing, once."""
    if not config.getoption("--machines"):
        return True
    try:
        require_programs()
    except ProgramsMissing as error:
        raise pytest.UsageError(str(error)) from error
    return None
