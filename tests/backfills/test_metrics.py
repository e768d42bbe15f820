"""The metrics of a backfill: the same numbers in the textfile and at an OpenTelemetry collector."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from flows.cli.openmetrics import write_metrics
from flows.run.telemetry import open_telemetry
from tasks.backfills.figures import Figures, PartitionFigures
from tests.fakes import FakeClock

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Collector(HTTPServer):
    """Takes metrics over OTLP/HTTP, as OpenTelemetry's own collector does, and keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def samples(self) -> Samples:
        """What came last."""
        request = ExportMetricsServiceRequest.FromString(self.bodies[-1])
        (resource,) = request.resource_metrics
        assert ("service.name", "bulk-ocr") in {
            (each.key, each.value.string_value) for each in resource.resource.attributes
        }
        return {
            (metric.name.replace(".", "_"), _attributes(point)): point.as_double
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.gauge.data_points
        }  # fmt: skip


def _attributes(holder: Any) -> frozenset[tuple[str, str]]:
    return frozenset((attribute.key, attribute.value.string_value) for attribute in holder.attributes)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/metrics"
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Nothing on the terminal of the tests."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def figures(**changes: object) -> Figures:
    """Those of a backfill under way."""
    month = PartitionFigures(name="2021-03", documents=5, done=3, failed=1, open=1)
    defaults = {
        "name": "scans", "source": "s3://bucket/in", "destination": "s3://bucket/out",
        "at": datetime(2026, 7, 1, tzinfo=UTC), "state": "running", "pages_sent": 12, "cost": 0.018,
        "failures": {"encrypted": 1}, "partitions": [month], "api_p50": 2.5, "throttle_wait_seconds": 7.25,
        "oldest_open_seconds": 61.0,
    }  # fmt: skip
    return Figures.model_validate({**defaults, **changes})


def test_a_collector_gets_what_the_textfile_has(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: FakeClock
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    telemetry = open_telemetry(clock.monotonic)
    assert telemetry is not None
    telemetry.send(figures())
    write_metrics(figures(), tmp_path / "bulk-ocr.prom")
    in_the_file: Samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families((tmp_path / "bulk-ocr.prom").read_text())
        for sample in family.samples
    }
    assert collector.samples() == in_the_file
    where = {("backfill", "scans"), ("destination", "s3://bucket/out")}
    assert in_the_file["bulk_ocr_failures", frozenset({*where, ("code", "encrypted")})] == 1
    assert in_the_file["bulk_ocr_documents", frozenset({*where, ("partition", "2021-03"), ("state", "done")})] == 3
    assert in_the_file["bulk_ocr_throttle_wait_seconds", frozenset(where)] == 7.25
    assert in_the_file["bulk_ocr_oldest_open_seconds", frozenset(where)] == 61

    telemetry.send(figures(pages_sent=13))
    assert len(collector.bodies) == 1, "not more often than once a minute"
    telemetry.send(figures(failures={}), last=True)
    assert len(collector.bodies) == 2, "the last figures are sent in any case"
    assert not [name for name, _ in collector.samples() if name == "bulk_ocr_failures"], "what is gone is not sent"


def test_a_collector_that_is_gone_harms_nothing_and_is_left_alone_for_a_while(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    collector.server_close()  # nobody listens there any more
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    telemetry = open_telemetry(clock.monotonic)
    assert telemetry is not None
    with caplog.at_level(logging.WARNING):
        telemetry.send(figures())
        telemetry.send(figures(), last=True)
    assert [record.message for record in caplog.records] == [
        f"the metrics could not be sent (the collector at {collector.url} does not take them); the run continues "
        "and will retry"
    ]


def test_without_a_collector_nothing_is_sent() -> None:
    assert open_telemetry(FakeClock().monotonic) is None


def test_the_board_shows_metrics_that_there_are(tmp_path: Path) -> None:
    write_metrics(figures(seconds_left=60, seconds_p50=1, seconds_p90=2, api_p90=3), tmp_path / "bulk-ocr.prom")
    families = {family.name for family in text_string_to_metric_families((tmp_path / "bulk-ocr.prom").read_text())}
    board = json.loads((Path(__file__).parents[2] / "deployments" / "alerts" / "grafana.json").read_text())
    targets = [target for panel in board["panels"] for target in panel["targets"]]
    shown = {name for target in targets for name in re.findall(r"bulk_ocr_\w+", target["expr"])}
    assert shown <= families
    assert all(target["refId"] for target in targets)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
