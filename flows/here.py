"""A flow in this process, for the commands: run, its report printed, and what ended it said in one sentence.

Prefect is imported only where it is used: it takes its settings from the environment at that moment.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console

from flows.printing import complain, console
from tasks.faults import Fault, SetupFault
from tasks.store.location import Location

interrupted = threading.Event()
"""Set when somebody ended the command: where that met Prefect at work, it may become an error of another kind."""


def run_flow(name: str, parameters: dict[str, Any], json: bool, verbose: bool) -> int:
    """Run a flow in this process and print its report."""
    for place in ("source", "destination"):
        if place in parameters:
            Location.parse(parameters[place])
    prepare_prefect(verbose)
    import httpx
    from prefect import tags
    from prefect.exceptions import PrefectException

    from flows import progress
    from flows.backfill import backfill
    from flows.collect import collect as collect_flow
    from flows.listen import listen as listen_flow
    from flows.printing import show_report
    from flows.run import reported
    from flows.submit import submit as submit_flow
    from tasks.report import RunReport

    flows: dict[str, Callable[..., Any]] = {
        "backfill": backfill,
        "submit": submit_flow,
        "listen": listen_flow,
        "collect": collect_flow,
    }
    reports: list[RunReport] = []
    reported.set(reports.append)
    lost = None
    try:
        with progress.shown(Console(stderr=True), quiet=verbose), tags("bulk-ocr"):
            outcome = flows[name](**parameters, return_state=True).result(raise_on_failure=False)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        lost = outcome = error
    except ValueError:
        if not interrupted.is_set():
            raise
    if interrupted.is_set():  # where it met Prefect at work, it may have become an error of another kind
        raise KeyboardInterrupt
    if isinstance(outcome, Fault):
        raise outcome
    if reports:
        outcome = reports[0]
    if not isinstance(outcome, RunReport):
        raise _unreachable(outcome) or outcome
    if json:
        print(outcome.model_dump_json())
    else:
        show_report(outcome, console())
    if outcome.refused:
        complain(outcome.refused)
    if lost is not None:
        complain(f"Prefect's server was lost on the way, so its history is incomplete; the ledger is not ({lost})")
        sys.stdout.flush()
        os._exit(outcome.exit_status)  # Prefect would try for minutes to deliver what is left of the history
    return outcome.exit_status


def _unreachable(error: BaseException) -> SetupFault | None:
    """What it means when Prefect cannot be reached before there is anything to report."""
    import httpx

    if not isinstance(error, httpx.HTTPError) and "Failed to reach API" not in str(error):
        return None
    address = os.environ.get("PREFECT_API_URL", "the address in its profile")
    return SetupFault(
        f"no Prefect server answers at {address}: start it, correct PREFECT_API_URL, "
        "or unset it to run with a temporary server; what was sent is on record"
    )


def prepare_prefect(verbose: bool) -> None:
    """Quiet defaults for a command, where the environment says nothing else; must come before Prefect is imported."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    logging.captureWarnings(True)
