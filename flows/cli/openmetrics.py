"""A backfill's figures as a text file for Prometheus's node exporter: gauges by backfill and partition."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from tasks.backfills.figures import Figures
from tasks.backfills.metrics import metrics_of
from tasks.faults import SetupFault


def write_metrics(figures: Figures, file: Path) -> None:
    """Write the file atomically: a reader never sees part of it.

    Raises:
        SetupFault: it cannot be written.
    """
    registry = CollectorRegistry()
    for metric in metrics_of(figures):
        labels = ["backfill", "destination", *metric.labels]
        gauge = Gauge(f"bulk_ocr_{metric.name}", metric.words, labels, registry=registry)
        for values, number in metric.samples.items():
            gauge.labels(figures.name, figures.destination, *values).set(number)
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise SetupFault(f"the metrics cannot be written to {file}: {error.strerror}; correct --metrics") from error
