"""What a worker's process does, for the alerts to see: `python -m tests.alerts.runs`. Ends only by SIGKILL."""

import os
from typing import Any

from prefect import flow, tags
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.collect import collect
from flows.events import emit_events
from flows.run import final_state
from tasks.report import RunReport

FAILED = "s3://failed/ocr"
LATER = "s3://later/ocr"
REFUSED = "s3://refused/ocr"
EXPIRING = "s3://expiring/ocr"
IDLE = "s3://idle/ocr"
ENDED = "s3://ended/ocr"
BY_HAND = "s3://by-hand/ocr"
BROKEN = "s3://broken/ocr"
HANGING = "s3://hanging/ocr"


@flow(name="collect", flow_run_name="collect {destination}")
def ending(destination: str, left_open: int = 0, expiring: int = 0, **numbers: Any) -> Any:
    """Tells what a run with these numbers tells, and ends as it ends."""
    report = RunReport(flow="collect", source=None, destination=destination, **numbers)
    emit_events(report, left_open=left_open, expiring=expiring)
    return final_state(report)


def main() -> None:
    """Runs that end in all ways, and one that hangs."""
    with tags("bulk-ocr"):
        ending(ENDED, left_open=2)
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # they cost a flow a second at its end
            ending(IDLE, left_open=4)
            # As the collects of a minute do: the same thing again and again.
            for _ in range(2):
                ending(EXPIRING, left_open=3, expiring=3)
                ending(REFUSED, refused="no credit", return_state=True)
                ending(FAILED, failed=2)
                collect(BROKEN, return_state=True)  # without an API key
                for _ in range(2):  # somebody else has ended them
                    ending(ENDED)
            ending(LATER, failed=1)
    collect(BY_HAND, return_state=True)
    os.environ["UPSTAGE_API_KEY"] = "up_test"
    with tags("bulk-ocr"):
        collect(HANGING)  # the S3 server of the test never answers


if __name__ == "__main__":
    main()
