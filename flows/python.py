"""For your own flows, scripts or notebooks: what a backfill would cost, the backfill, and the state of a ledger.

Example:
    >>> from flows.python import run_backfill
    >>> report = run_backfill("s3://bucket/scans", "s3://bucket/ocr")  # doctest: +SKIP
    >>> report.done, report.failed, report.pages_sent  # doctest: +SKIP
    (1200, 3, 4711)
"""

from typing import Any

from flows.backfill import backfill
from flows.cli.plan import PlanReport, make_plan
from flows.cli.status import LedgerStatus, read_status
from flows.run.progress import Progress, Watcher, watching
from tasks.faults import Fault, SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.report import RunReport
from tasks.selection import EVERYTHING, Selection

__all__ = [
    "Credentials",
    "Fault",
    "LedgerStatus",
    "Options",
    "PlanReport",
    "Progress",
    "RunReport",
    "Selection",
    "plan_backfill",
    "read_status",
    "run_backfill",
]


def plan_backfill(
    source: str,
    destination: str,
    *,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    sample: int | None = None,
) -> PlanReport:
    """Count the pages of the new documents and price them. Sends nothing, and needs no API key.

    Args:
        source: where the documents are, as s3://bucket/prefix.
        destination: where results and ledger are, as s3://bucket/prefix.
        options: of the run that is planned.
        selection: which of the documents are meant.
        credentials: blocks that hold the secrets of S3; the environment does when left out.
        sample: read only so many of the new documents, chosen at random, and extrapolate.

    Returns:
        Documents, pages, price, how long it takes at least, and what would fail.

    Raises:
        Fault: the source or the destination cannot be read.
    """
    settings = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    return make_plan(settings, options.price, sample)


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
