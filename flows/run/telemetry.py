"""Export of a backfill's figures with OpenTelemetry (OTLP over HTTP), if the environment names a collector.

    OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT   its address; required
    OTEL_METRIC_EXPORT_INTERVAL                                           milliseconds between two exports: 60000
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, …               read by OpenTelemetry's own library

An unreachable collector delays a run by some seconds now and then, and has no other effect.
"""

import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any

from tasks.backfills.figures import Figures
from tasks.backfills.metrics import metrics_of

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
_TIMEOUT_SECONDS = 5.0  # the longest wait for a collector, unless OTEL_EXPORTER_OTLP_TIMEOUT is set
_INTERVAL_SECONDS = 60.0
_SILENCE_SECONDS = 300.0


def open_telemetry(now: Callable[[], float]) -> "Telemetry | None":
    """Return the exporter of figures; None if the environment names no collector.

    Args:
        now: a monotonic timer, in seconds.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "") == "true":
        return None
    if importlib.util.find_spec("opentelemetry.exporter") is None or not _is_installed():
        log.warning(
            "%s is set, and no metrics are sent: pip install --constraint constraints.txt '.[otel]'",
            next(name for name in _ENDPOINTS if os.environ.get(name)),
        )
        return None
    return Telemetry(now)


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.metric_exporter") is not None
    except ModuleNotFoundError:
        return False


class Telemetry:
    """Sends the figures of a backfill to a collector. Never raises.

    Args:
        now: a monotonic timer, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.resources import Resource

        # The exporter logs each failure with a traceback; `send` logs what matters.
        logging.getLogger(OTLPMetricExporter.__module__).setLevel(logging.CRITICAL)
        self._now = now
        self._exporter = OTLPMetricExporter(
            timeout=None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else _TIMEOUT_SECONDS
        )
        self._resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "bulk-ocr")})
        self._interval = _interval()
        self._next = now()

    def send(self, figures: Figures, *, last: bool = False) -> None:
        """Send the figures, at most once per configured interval.

        Args:
            figures: how the backfill stands.
            last: whether this is the last call: then it is sent early, unless the collector was just unreachable.
        """
        now = self._now()
        if now < self._next and not (last and self._next - now <= self._interval):
            return
        self._next = now + self._interval
        try:
            reason = self._export(figures)
        except Exception as error:  # noqa: BLE001  # the work does not depend on metrics
            reason = str(error) or type(error).__name__
        if reason is not None:
            log.warning("the metrics could not be sent (%s); the run continues and will retry", reason)
            self._next = self._now() + max(self._interval * 2, _SILENCE_SECONDS)

    def _export(self, figures: Figures) -> str | None:
        """Export once. Returns the reason if it failed."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

        # Created for each export: otherwise failure codes and partitions that no longer exist would be sent forever.
        reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[reader], resource=self._resource)
        meter = provider.get_meter("bulk-ocr")
        where = {"backfill": figures.name, "destination": figures.destination}
        for metric in metrics_of(figures):
            gauge = meter.create_gauge(f"bulk_ocr.{metric.name}", description=metric.words)
            for values, number in metric.samples.items():
                attributes: dict[str, Any] = {**where, **dict(zip(metric.labels, values, strict=True))}
                gauge.set(number, attributes)
        data = reader.get_metrics_data()
        provider.shutdown()
        if data is None or self._exporter.export(data) is MetricExportResult.SUCCESS:
            return None
        address = next(address for name in reversed(_ENDPOINTS) if (address := os.environ.get(name)))
        return f"the collector at {address} does not take them"


def _interval() -> float:
    try:
        return float(os.environ["OTEL_METRIC_EXPORT_INTERVAL"]) / 1000
    except (KeyError, ValueError):
        return _INTERVAL_SECONDS
