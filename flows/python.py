"""The Python interface for flows, scripts and notebooks: price a backfill, run it, read a ledger's state and results.

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
from tasks.access.environment import prove_key
from tasks.access.open import open_results
from tasks.faults import Fault, SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.outputs import results
from tasks.outputs.results import Results, read_ahead
from tasks.report import RunReport
from tasks.selection import EVERYTHING, Selection
from tasks.store.settings import AS_IT_IS, DestinationOptions

__all__ = [
    "Credentials",
    "DestinationOptions",
    "Fault",
    "LedgerStatus",
    "Options",
    "PlanReport",
    "Progress",
    "Results",
    "RunReport",
    "Selection",
    "find_results",
    "plan_backfill",
    "read_ahead",
    "read_status",
    "run_backfill",
]

_CONNECTIONS = 8  # as many as `read_ahead` has threads


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
        options: options of the planned run.
        selection: which documents to process.
        credentials: blocks with S3's secrets; the environment by default.
        sample: read only this many of the new documents, chosen at random, and extrapolate.

    Returns:
        Documents, pages, price, minimum duration, and the documents that would fail.

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
    """Submit and collect until every document is done or failed. Called within a flow, it is a subflow.

    Can be interrupted and called again: requests are recorded, and nothing is sent twice.

    Args:
        source: where the documents are, as s3://bucket/prefix.
        destination: where results and ledger are, as s3://bucket/prefix.
        options: how to work; every setting has a default.
        selection: which documents to process.
        credentials: blocks with the secrets; the environment by default.
        name: the backfill to serve; by default, a name is derived from the work.

    Returns:
        The run's report. It includes failed documents, a refused account, a reached ceiling and a source in which
        nothing was found: see `RunReport.exit_status` and `RunReport.explanation`.

    Raises:
        Fault: the run could not begin, or was ended.
    """
    prove_key(credentials, options)
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


def find_results(
    where: str, *, credentials: Credentials = ENVIRONMENT, bucket: DestinationOptions = AS_IT_IS
) -> Results:
    """Find results in S3 or on this machine. `read_ahead` yields them with a local file of each.

    Args:
        where: a destination or a folder; one result; or a document, by its name beside its result.
        credentials: the block that holds the secrets of S3; the environment does when left out.
        bucket: settings of the destination's bucket.

    Returns:
        The results, listed lazily: none if a destination or folder has none.

    Raises:
        SetupFault: there is no such place, or S3 rejects the credentials.
        TransientFault: S3 cannot be reached now.
    """
    return results.find_results(where, lambda: open_results(credentials, _CONNECTIONS, bucket))
