"""Flow `collect`: one pass over the open jobs. Scheduled every minute."""

from typing import Any

from prefect import flow

from flows.run.announce import final_state
from flows.run.run import open_run
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings


@flow(name="collect", flow_run_name="collect {destination}", persist_result=False)
def collect(destination: str, options: Options = DEFAULTS, credentials: Credentials = ENVIRONMENT) -> Any:
    """Poll the open jobs that are due, publish finished ones, and send missing pages again.

    Args:
        destination: Location of results and ledger, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        credentials: Blocks with the secrets; the worker's environment by default.
    """
    settings = RunSettings(source=None, destination=destination, options=options, credentials=credentials)
    with open_run("collect", settings) as run:
        run.prepare()
        run.collect()
        return final_state(run.close())
