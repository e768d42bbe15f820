"""Flow `backfill`: submits, polls and collects side by side until everything in the source is done or failed."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.run.announce import final_state
from flows.run.run import open_run
from tasks.backfills.record import Order, own_name
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection


@flow(name="backfill", flow_run_name="backfill {source}", persist_result=False)
def backfill(
    source: str,
    destination: str,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] | None = None,
    order: Order = "listed",
    limit: Annotated[int, Field(ge=1)] | None = None,
) -> Any:
    """Bring every document of the source to a result. Safe to cancel and to start again, at any moment.

    Args:
        source: Where the documents lie, as s3://bucket/prefix.
        destination: Where results and ledger go, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        selection: Which of the documents are meant; all when left out.
        credentials: Blocks that hold the secrets; the worker's environment does when left out.
        name: The backfill to serve; it is made where there is none. One with a name of its own when left out.
        order: Which documents are sent first: as listed, oldest, newest or smallest.
        limit: Most documents to send in this run.
    """
    given = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    settings = RunSettings.model_validate({**dict(given), "backfill": name or own_name(given)})
    with open_run("backfill", settings) as run:
        run.work(run.prepare(), order, limit)
        run.write_texts()
        return final_state(run.close())
