"""Flow `backfill`: submits, polls and collects concurrently until every document of the source is done or failed."""

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
    """Name a run in the UI: after its source, or after its backfill and the partitions that it is confined to."""
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
    """OCR every document of the source. Can be cancelled and restarted at any time.

    Args:
        source: Location of the documents, as s3://bucket/prefix.
        destination: Location of results and ledger, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        selection: Which documents to process; all by default.
        credentials: Blocks with the secrets; the worker's environment by default.
        name: The backfill to serve; created if it does not exist. By default, a name is derived from the work.
            Documents, model, price, order and limit are as planned, unless they are given here.
        order: Which documents to send first: as listed, oldest, newest or smallest.
        limit: Maximum number of documents to send in this run.
        retry_failed: First put back the failed ones of these documents, to try them again.
    """
    unnamed = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    settings = RunSettings.model_validate({**dict(unnamed), "backfill": name or own_name(unnamed)})
    with open_run("backfill", settings, by_name=name is not None) as run:
        run.work(run.prepare(retry_failed=retry_failed), order, limit)
        run.write_texts()
        return final_state(run.close())
