"""`python -m deployments.alerts`: creates the alerts on the Prefect server, or updates them."""

import sys
from typing import Annotated

import httpx
from cyclopts import App, Parameter
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.alerts.apply import AlertsError, apply, find_block, find_webhook, missing_work_pools
from deployments.alerts.automations import Thresholds, automations
from deployments.alerts.automations import callback as backfill_callback

app = App(name="python -m deployments.alerts", version_flags=[])

DEFAULTS = Thresholds()


@app.default
def main(
    *,
    block: str | None = None,
    callback: str | None = None,
    thresholds: Annotated[Thresholds, Parameter(name="*", negative_iterable="")] = DEFAULTS,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Create or update the alerts on the Prefect server of PREFECT_API_URL. Running it again changes nothing.

    Args:
        block: the notification block that sends the alerts: its name, or TYPE/NAME.
        callback: a "Webhook" block to call with the figures of each finished backfill.
        dry_run: show what would be done, and change nothing.
    """
    if not PREFECT_API_URL.value():
        print("Set PREFECT_API_URL to the Prefect server on which to create the alerts.", file=sys.stderr)
        return 2
    try:
        with get_client(sync_client=True) as client:
            notification = find_block(client, block)
            missing = missing_work_pools(client, thresholds.work_pool)
            wanted = automations(thresholds, notification)
            if callback is not None:
                wanted.append(backfill_callback(find_webhook(client, callback)))
            done = apply(client, wanted, dry_run=dry_run)
    except AlertsError as error:
        print(error, file=sys.stderr)
        return 2
    except (httpx.HTTPError, PrefectException) as error:
        print(f"The Prefect server at {PREFECT_API_URL.value()} did not accept this: {error}", file=sys.stderr)
        return 2
    for pool in missing:
        print(f"There is no work pool named {pool!r} yet: create it, so that its workers are watched.", file=sys.stderr)
    for name, did, paused in done:
        action = did if did == "unchanged" or not dry_run else f"would be {did}"
        print(f"{name}: {action}{', and paused' if paused else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
