"""A worker's process, for the alerts to see: `python -m tests.deployments.alerts.runs`. Ends only by SIGKILL."""

import os
from datetime import UTC, datetime
from typing import Any

from prefect import flow, tags
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.collect import collect
from flows.run.announce import final_state
from flows.run.events import emit_backfill_event, emit_events
from tasks.backfills.figures import Figures
from tasks.report import RunReport

FAILED = "s3://failed/ocr"
LATER = "s3://later/ocr"
REFUSED = "s3://refused/ocr"
EXPIRING = "s3://expiring/ocr"
IDLE = "s3://idle/ocr"
ENDED = "s3://ended/ocr"
BY_HAND = "s3://by-hand/ocr"
BROKEN = "s3://broken/ocr"
FINISHED = "s3://finished/ocr"
HANGING = "s3://hanging/ocr"

ENDINGS: dict[str, dict[str, Any]] = {
    ENDED: {},
    IDLE: {"left_open": 4, "next_open": 4},
    EXPIRING: {"left_open": 3, "expiring": 3, "next_open": 3},
    REFUSED: {"refused": "no credit"},
    FAILED: {"failed": 2},
    LATER: {"failed": 1},
}


@flow(name="collect", flow_run_name="collect {destination}")
def ending(
    destination: str, left_open: int = 0, expiring: int = 0, next_open: int | None = None, **numbers: Any
) -> Any:
    """Tells what a run with these numbers tells, and ends as it ends.

    With `next_open` it tells as well what the next run would, which leaves so many jobs open: on a slow machine that
    run would come after the time that an alert waits for it.
    """
    report = RunReport(flow="collect", source=None, destination=destination, **numbers)
    emit_events(report, left_open=left_open, expiring=expiring)
    if next_open is not None:
        emit_events(report, left_open=next_open, expiring=min(next_open, expiring))
    return final_state(report)


@flow(name="backfill")
def finishing() -> None:
    """Tells what a run tells that finishes a backfill; a failure's code may be anything."""
    found = Figures(
        name="scans", source="s3://scans/in", destination=FINISHED, at=datetime.now(UTC), state="finished",
        planned=3, documents=3, done=2, failed=1, pages_sent=7, cost=0.0105, failures={'a "quoted" code': 1},
    )  # fmt: skip
    emit_backfill_event("finished", found)


def main() -> None:
    """Runs that end in all ways, and one that hangs."""
    with tags("bulk-ocr"):
        ending(ENDED, left_open=2, next_open=0)
        # Heartbeats cost a flow a second at its end.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            # Everything twice, one after the other, as the collects of a minute do; and the server can drop an event.
            for destination, told in ENDINGS.items():
                for _ in range(1 if "next_open" in told else 2):
                    ending(destination, **told, return_state=True)
            for _ in range(2):
                collect(BROKEN, return_state=True)  # without an API key
    collect(BY_HAND, return_state=True)
    finishing()
    os.environ["UPSTAGE_API_KEY"] = "up_test"
    with tags("bulk-ocr"):
        collect(HANGING)  # the S3 server of the test never answers


if __name__ == "__main__":
    main()
