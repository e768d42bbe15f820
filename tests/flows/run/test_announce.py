"""What a run tells Prefect's server is worth little of its time, and none of it when the server is gone."""

import json
import uuid

import httpx
import pytest
from prefect.exceptions import Abort, CancelledRun, FailedRun

from flows.run.announce import final_state
from flows.run.prefect_server import PrefectServer
from tasks.report import RunReport
from tests.fakes import FakeClock


class Calls:
    """Calls that take their time, or fail."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self._clock = clock
        self.seconds = seconds
        self.failing: Exception | None = None
        self.made = 0

    def __call__(self) -> None:
        self.made += 1
        self._clock.advance(self.seconds)
        if self.failing is not None:
            raise self.failing


@pytest.mark.parametrize("seconds", [0.01, 5.0])
def test_a_slow_server_costs_a_twentieth_of_the_time(clock: FakeClock, seconds: float) -> None:
    server, call = PrefectServer(clock), Calls(clock, seconds)
    while clock.monotonic() < 10_000:
        server.tell(call)
        clock.advance(seconds)
    assert call.made * seconds == pytest.approx(500, rel=0.1)
    server.tell(call, once=True)
    before = call.made
    server.tell(call, once=True)
    assert call.made == before + 1, "the report is told in any case"


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("gone"),
        json.JSONDecodeError("Expecting value", "<html>", 0),  # what Prefect's client makes of a proxy's page
        RuntimeError("Failed to reach API"),
    ],
)
def test_a_server_that_is_gone_is_left_alone_for_five_minutes(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    server, call = PrefectServer(clock), Calls(clock, 60)
    call.failing = fault
    for _ in range(250):
        server.tell(call, once=True)
        clock.advance(1)
    assert call.made == 1
    assert caplog.text.count("Prefect's server did not take the run's progress") == 1
    call.failing = None
    clock.advance(300)
    server.tell(call, once=True)
    server.tell(call, once=True)
    assert call.made == 3


@pytest.mark.parametrize(
    ("numbers", "kind", "name"),
    [
        ({"done": 1}, "COMPLETED", "Completed"),
        ({"failed": 1, "aside": 1}, "COMPLETED", "Some failed"),
        ({"aside": 1, "missing": 1}, "COMPLETED", "Some set aside"),
        ({"missing": 1}, "COMPLETED", "Some missing"),
        ({"refused": "no credit", "failed": 1}, "FAILED", "Account refused"),
    ],
)
def test_the_state_of_a_flow_run_tells_how_it_ended(numbers: dict[str, object], kind: str, name: str) -> None:
    given = {"flow": "backfill", "source": "s3://in", "destination": "s3://out", **numbers}
    state = final_state(RunReport.model_validate(given))
    assert (state.type.value, state.name) == (kind, name)


@pytest.mark.parametrize(
    ("numbers", "wrapper", "in_own_process"),
    [
        ({"ceiling": "7 pages"}, CancelledRun, Abort),
        ({"held": "x"}, CancelledRun, Abort),
        ({"refused": "no credit"}, FailedRun, FailedRun),
        ({"ended": "no bucket"}, FailedRun, FailedRun),
    ],
)
def test_a_run_that_is_not_completed_gives_its_caller_the_reason_and_its_own_process_a_quiet_end_unless_it_failed(
    numbers: dict[str, str],
    wrapper: type[Exception],
    in_own_process: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = RunReport.model_validate({"flow": "backfill", "source": "s3://in", "destination": "s3://out", **numbers})
    (reason,) = numbers.values()
    with pytest.raises(wrapper, match=reason):
        final_state(report).result()
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid.uuid4()))  # as a worker does for the process of a run
    with pytest.raises(in_own_process, match=reason):  # Prefect logs no `Abort` as a fault of the program
        final_state(report).result()
