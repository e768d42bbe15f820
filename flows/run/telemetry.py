"""A backfill's figures over OpenTelemetry (OTLP over HTTP), where the environment names a collector.

    OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT   where it listens; nothing is sent without
    OTEL_METRIC_EXPORT_INTERVAL                                           milliseconds between two exports: 60000
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, …               as OpenTelemetry's own library reads them

A collector that cannot be reached costs a run some seconds now and then, and nothing else.
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
_TIMEOUT_SECONDS = 5.0  # a run waits for no collector for longer; OTEL_EXPORTER_OTLP_TIMEOUT says otherwise
_INTERVAL_SECONDS = 60.0
_SILENCE_SECONDS = 300.0


def open_telemetry(now: Callable[[], float]) -> "Telemetry | None":
    """What sends the figures, where the environment names a collector; None where it does not.

    Args:
        now: seconds of a clock that only goes forward.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "") == "true":
        return None
    if importlib.util.find_spec("opentelemetry.exporter") is None or not _is_installed():
        log.warning(
            "%s is set, and no metrics are sent: pip install 'bulk-ocr[otel]'",
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
    """Sends the figures of a backfill to a collector. It never raises.

    Args:
        now: seconds of a clock that only goes forward.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.resources import Resource

        # The exporter logs each failure with a traceback; what matters of that is said below.
        logging.getLogger(OTLPMetricExporter.__module__).setLevel(logging.CRITICAL)
        self._now = now
        self._exporter = OTLPMetricExporter(
            timeout=None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else _TIMEOUT_SECONDS
        )
        self._resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "bulk-ocr")})
        self._interval = _interval()
        self._next = now()

    def send(self, found: Figures, *, last: bool = False) -> None:
        """Send the figures, as often as the environment asks for.

        Args:
            found: how the backfill stands.
            last: whether there is no other time: then it is sent unless the collector was just found unreachable.
        """
        now = self._now()
        if now < self._next and not (last and self._next - now <= self._interval):
            return
        self._next = now + self._interval
        try:
            reason = self._export(found)
        except Exception as error:  # noqa: BLE001  # metrics are looked at; the work does not depend on them
            reason = str(error) or type(error).__name__
        if reason is not None:
            log.warning("the metrics could not be sent (%s); the run continues and will retry", reason)
            self._next = self._now() + max(self._interval * 2, _SILENCE_SECONDS)

    def _export(self, found: Figures) -> str | None:
        """Export once. Returns why not, if it failed."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

        # Made anew each time: a code of failure or a partition that is gone is not sent for ever.
        reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[reader], resource=self._resource)
        meter = provider.get_meter("bulk-ocr")
        where = {"backfill": found.name, "destination": found.destination}
        for metric in metrics_of(found):
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
