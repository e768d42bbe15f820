"""Prefect servers for tests. They start on copies of one empty database, whose making takes as long as two starts."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployments.local.stack import LocalStack


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
            (first / "prefect").rename(made)
    return made


@contextlib.contextmanager
def prefect_server(data: Path, database: Path) -> Iterator[LocalStack]:
    """A server of its own, on a copy of a database."""
    shutil.copytree(database, data / "prefect", dirs_exist_ok=True)
    with LocalStack(data, services=("prefect",)) as running:
        yield running


def prefect_home(folder: Path, database: Path) -> Path:
    """A folder for PREFECT_HOME: with a copy of a database, and no profile that would name a server."""
    folder.mkdir(parents=True)
    for part in database.glob("prefect.db*"):
        shutil.copy2(part, folder)
    return folder
