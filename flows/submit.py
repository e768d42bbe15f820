"""Flow `submit`: one pass over the source that sends new documents. Scheduled with cron."""

from typing import Any

from prefect import flow

from flows.run.announce import final_state
from flows.run.run import open_run
from tasks.backfills.record import BackfillName
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection


@flow(name="submit", flow_run_name="submit {source}", persist_result=False)
def submit(
    source: str,
    destination: str,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: BackfillName | None = None,
) -> Any:
    """List the documents and submit new ones, up to the window of open jobs and the page budget.

    Args:
        source: Location of the documents, as s3://bucket/prefix.
        destination: Location of results and ledger, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        selection: Which documents to process; all by default.
        credentials: Blocks with the secrets; the worker's environment by default.
        name: The backfill to serve; created if it does not exist. By default, the documents belong to no backfill.
    """
    settings = RunSettings(
        source=source,
        destination=destination,
        selection=selection,
        options=options,
        credentials=credentials,
        backfill=name,
    )
    with open_run("submit", settings, by_name=name is not None) as run:
        open_jobs, window = run.prepare(), run.steering.window
        room = max(0, window - open_jobs)
        if run.submit(run.new_documents(), room) >= room and not run.tally.stopped:
            run.tally.stop_sending(f"{window} jobs are open, which is the window; collecting makes room")
        return final_state(run.close())
