"""For your own flows, scripts or notebooks: a backfill with a typed report, and the state of a ledger.

Example:
    >>> from flows.python import run_backfill
    >>> report = run_backfill("s3://bucket/scans", "s3://bucket/ocr")  # doctest: +SKIP
    >>> report.done, report.failed, report.pages_sent  # doctest: +SKIP
    (1200, 3, 4711)
"""

from typing import Any

from flows.backfill import backfill
from flows.cli.status import LedgerStatus, read_status
from flows.run.progress import Progress, Watcher, watching
from tasks.faults import SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options
from tasks.report import RunReport
from tasks.selection import EVERYTHING, Selection

__all__ = [
    "Credentials",
    "LedgerStatus",
    "Options",
    "Progress",
    "RunReport",
    "Selection",
    "read_status",
    "run_backfill",
]


def run_backfill(
    source: str,
    destination: str,
    *,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: str | None = None,
) -> RunReport:
    """Submit and collect until every document is done or failed. Within a flow, this is a subflow of it.

    Safe to interrupt and to call again: what was sent is on record and is not sent again.

    Args:
        source: where the documents lie, as s3://bucket/prefix.
        destination: where results and ledger go, as s3://bucket/prefix.
        options: how to work; every setting has a default.
        selection: which of the documents are meant.
        credentials: blocks that hold the secrets; the environment does when left out.
        name: the backfill to serve; one with a name of its own when left out.

    Returns:
        What this run did. Documents that failed, an account that was refused and a ceiling that was reached are in
        it: see `RunReport.exit_status`.

    Raises:
        Fault: the run could not begin, or was ended.
    """
    reports: list[RunReport] = []
    token = watching.set(Watcher(report=reports.append))
    try:
        state: Any = backfill(source, destination, options, selection, credentials, name=name, return_state=True)
        if not reports:
            state.result()  # raises what ended it
            raise SetupFault(f"the run ended without a report: {state.message}")
        return reports[0]
    finally:
        watching.reset(token)
