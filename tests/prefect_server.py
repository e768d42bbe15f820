"""Prefect servers for tests. They start on copies of one empty database, whose making takes as long as two starts."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployments.local.stack import LocalStack

# To register its blocks, a server that starts imports every installed Prefect integration, those of Dask and Ray among
# them. They are registered in the copied database.
_REGISTERED = """\
[server]
register_blocks_on_start = false
memoize_block_auto_registration = false
"""


def empty_database(folder: Path) -> Path:
    """What a Prefect server keeps that has done nothing yet; made by the first process that asks.

    Args:
        folder: a folder that all who share it know; it exists.
    """
    made, lock = folder / "empty-prefect", folder / "empty-prefect.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not made.exists():
            first = folder / "first-prefect"
            with LocalStack(first, services=("prefect",)):
                pass
            (first / "prefect" / "prefect.toml").write_text(_REGISTERED)
            (first / "prefect").rename(made)
    return made


@contextlib.contextmanager
def prefect_server(data: Path, database: Path, settings: str = "") -> Iterator[LocalStack]:
    """A server of its own, on a copy of a database.

    Args:
        data: its folder.
        database: the database, from `empty_database`.
        settings: more for its `prefect.toml`.
    """
    shutil.copytree(database, data / "prefect")
    with (data / "prefect" / "prefect.toml").open("a") as file:
        file.write(settings)
    with LocalStack(data, services=("prefect",)) as running:
        yield running


def prefect_home(folder: Path, database: Path) -> Path:
    """A folder for PREFECT_HOME: with a copy of a database, and no profile that would name a server."""
    folder.mkdir(parents=True)
    for part in database.glob("prefect.db*"):
        shutil.copy2(part, folder)
    return folder
