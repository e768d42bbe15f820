"""Flow `backfill`: submits, polls and collects side by side until everything in the source is done or failed."""

from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from flows.run.announce import final_state
from flows.run.run import open_run
from tasks.backfills.record import BackfillName, Order, own_name
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection

_SHOWN = 3  # partitions in the name of a run


def _run_name() -> str:
    """What a run is called in the UI: the source, or the partitions that it is confined to and their backfill."""
    parameters = flow_run.parameters
    name, selection = parameters.get("name"), parameters.get("selection")
    partitions = selection.partition if isinstance(selection, Selection) else (selection or {}).get("partition") or ()
    if not (name and partitions):
        return f"backfill {parameters['source']}"
    more = f" and {len(partitions) - _SHOWN} more" if len(partitions) > _SHOWN else ""
    return f"{name} {', '.join(partitions[:_SHOWN])}{more}"


@flow(name="backfill", flow_run_name=_run_name, persist_result=False)
def backfill(
    source: str,
    destination: str,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: BackfillName | None = None,
    order: Order = "listed",
    limit: Annotated[int, Field(ge=1)] | None = None,
    retry_failed: bool = False,
) -> Any:
    """Bring every document of the source to a result. Safe to cancel and to start again, at any moment.

    Args:
        source: Where the documents lie, as s3://bucket/prefix.
        destination: Where results and ledger go, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        selection: Which of the documents are meant; all when left out.
        credentials: Blocks that hold the secrets; the worker's environment does when left out.
        name: The backfill to serve; it is made where there is none. One with a name of its own when left out.
            Documents, model, price, order and limit are as planned, where they are left out here.
        order: Which documents are sent first: as listed, oldest, newest or smallest.
        limit: Most documents to send in this run.
        retry_failed: Put back first what failed of these documents, to be tried again.
    """
    given = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    settings = RunSettings.model_validate({**dict(given), "backfill": name or own_name(given)})
    with open_run("backfill", settings, by_name=name is not None) as run:
        run.work(run.prepare(retry_failed=retry_failed), order, limit)
        run.write_texts()
        return final_state(run.close())
