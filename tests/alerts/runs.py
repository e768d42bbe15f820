"""What a worker's process does, for the alerts to see: `python -m tests.alerts.runs`. Ends only by SIGKILL."""

import os
from typing import Any

from prefect import flow, tags

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


def _report(destination: str, **numbers: Any) -> RunReport:
    return RunReport(flow="collect", source=None, destination=destination, **numbers)


@flow(name="collect", flow_run_name="collect {destination}")
def ending(destination: str, report: RunReport) -> Any:  # noqa: ARG001  # it is in the run's name
    """Ends in the state that a run with this report ends in."""
    return final_state(report)


def main() -> None:
    """Runs that end in all ways, and one that hangs."""
    refused = _report(REFUSED, refused="no credit")
    # As the collects of a minute do: the same thing again and again.
    for _ in range(2):
        emit_events(_report(FAILED, failed=2), left_open=0, expiring=0)
        emit_events(refused, left_open=0, expiring=0)
        emit_events(_report(EXPIRING), left_open=3, expiring=3)
    emit_events(_report(EXPIRING, done=3), left_open=0, expiring=0)
    emit_events(_report(LATER, failed=1), left_open=0, expiring=0)
    emit_events(_report(ENDED), left_open=2, expiring=0)
    emit_events(_report(IDLE), left_open=4, expiring=0)
    emit_events(_report(ENDED), left_open=0, expiring=0)  # somebody else's run has ended them
    with tags("bulk-ocr"):
        ending(REFUSED, refused, return_state=True)
        ending(FAILED, _report(FAILED, failed=2), return_state=True)
        for _ in range(2):
            collect(BROKEN, return_state=True)  # without an API key
    collect(BY_HAND, return_state=True)
    os.environ["UPSTAGE_API_KEY"] = "up_test"
    with tags("bulk-ocr"):
        collect(HANGING)  # the S3 server of the test never answers


if __name__ == "__main__":
    main()
