"""Flow runs in processes of their own that start at once: Prefect is imported a single time, by a fork server.

For tests that kill a run dozens of times; a command takes three seconds to start, of which this saves two.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tasks.report import RunReport


def context(environment: Mapping[str, str]) -> ForkServerContext:
    """A fork server whose processes find the environment; the first call starts it."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["flows.backfill"])
    before = dict(os.environ)
    try:
        os.environ.update(environment)
        ensure_running()
    finally:  # the other tests' environment is none of its business
        os.environ.clear()
        os.environ.update(before)
    return forkserver


def start_backfill(
    forkserver: ForkServerContext,
    variables: Mapping[str, str],
    source: str,
    destination: str,
    options: Mapping[str, Any],
    report: Path,
) -> BaseProcess:
    """Start a backfill; it writes its report to the file when it ends by itself."""
    process = forkserver.Process(target=_run, args=(dict(variables), source, destination, dict(options), report))
    process.start()
    return process


def _run(variables: dict[str, str], source: str, destination: str, options: dict[str, Any], report: Path) -> None:
    os.environ.update(variables)
    from flows.backfill import backfill
    from tasks.options import Options

    flow: Callable[..., RunReport] = backfill
    report.write_text(flow(source, destination, Options(**options)).model_dump_json())
