"""`python -m deployments.alerts`: makes the alerts on the Prefect server, or brings them up to date."""

import sys
from typing import Annotated

import httpx
from cyclopts import App, Parameter
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.alerts.apply import AlertsError, apply, find_block
from deployments.alerts.automations import Thresholds, automations

app = App(name="python -m deployments.alerts", version_flags=[])

DEFAULTS = Thresholds()


@app.default
def main(
    *,
    block: str | None = None,
    thresholds: Annotated[Thresholds, Parameter(name="*", negative_iterable="")] = DEFAULTS,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make the alerts on the Prefect server of PREFECT_API_URL. A second time changes nothing.

    Args:
        block: the notification block that sends the alerts: its name, or TYPE/NAME.
        dry_run: change nothing, and say what would be done.
    """
    if not PREFECT_API_URL.value():
        print("Set PREFECT_API_URL to the Prefect server that the alerts are for.", file=sys.stderr)
        return 2
    try:
        with get_client(sync_client=True) as client:
            notification = find_block(client, block)
            done = apply(client, automations(thresholds, notification), dry_run=dry_run)
    except AlertsError as error:
        print(error, file=sys.stderr)
        return 2
    except (httpx.HTTPError, PrefectException) as error:
        print(f"The Prefect server at {PREFECT_API_URL.value()} does not do it: {error}", file=sys.stderr)
        return 2
    for name, did, paused in done:
        words = did if did == "as it was" or not dry_run else f"would be {did}"
        print(f"{name}: {words}{', and paused' if paused else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
