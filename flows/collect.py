"""Flow `collect`: one pass over the open jobs. Scheduled every minute."""

from typing import Any

from prefect import flow

from flows.run import Run, final_state
from tasks.options import DEFAULTS, Options, RunSettings


@flow(name="collect", flow_run_name="collect {destination}", persist_result=False)
def collect(destination: str, options: Options = DEFAULTS) -> Any:
    """Poll the open jobs that are due, publish those that are finished, send again the pages that are missing.

    Args:
        destination: Where results and ledger lie, as s3://bucket/prefix.
        options: How to work; every setting has a default.
    """
    with Run("collect", RunSettings(source=None, destination=destination, options=options)) as run:
        run.prepare()
        run.collect()
        return final_state(run.close())
