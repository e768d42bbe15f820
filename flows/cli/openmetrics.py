"""A backfill's figures as a textfile for Prometheus' node exporter: gauges, by backfill and partition."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from tasks.backfills.figures import Figures
from tasks.faults import SetupFault

_PLAIN = {
    "planned": "Documents planned",
    "pages": "Pages in published results",
    "pages_sent": "Pages in accepted submissions",
    "pages_lost": "Pages in submissions whose answer was lost",
    "pages_reserved": "Pages about to be sent",
    "pages_per_minute": "Pages published a minute, in the last ten minutes",
    "at_api": "Jobs that the API works on",
    "held": "Jobs that a stopped run holds",
}


def write_metrics(found: Figures, file: Path) -> None:
    """Write the file; a reader never sees half of it.

    Raises:
        SetupFault: it cannot be written.
    """
    registry = CollectorRegistry()
    labels, backfill = ["backfill", "destination"], (found.name, found.destination)

    def gauge(name: str, words: str, more: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"bulk_ocr_{name}", words, [*labels, *more], registry=registry)

    for field, words in _PLAIN.items():
        gauge(field, words).labels(*backfill).set(getattr(found, field))
    gauge("cost_dollars", "Money for pages sent and lost").labels(*backfill).set(found.cost)
    gauge("budget_share", "Share of the nearest ceiling that is spent").labels(*backfill).set(found.budget_share or 0)
    gauge("serving_runs", "Runs that work for it").labels(*backfill).set(len(found.served_by))
    if found.seconds_left is not None:
        gauge("seconds_left", "Time left at the present pace").labels(*backfill).set(found.seconds_left)
    gauge("read_timestamp_seconds", "When these figures were read").labels(*backfill).set(found.at.timestamp())
    at_api = gauge("api_seconds", "At the API, of the last documents", ("quantile",))
    for quantile, seconds in (("0.5", found.api_p50), ("0.9", found.api_p90)):
        if seconds is not None:
            at_api.labels(*backfill, quantile).set(seconds)
    durations = gauge("document_seconds", "From claim to result, of the last documents", ("quantile",))
    for quantile, seconds in (("0.5", found.seconds_p50), ("0.9", found.seconds_p90)):
        if seconds is not None:
            durations.labels(*backfill, quantile).set(seconds)
    failures = gauge("failures", "Documents given up, by code", ("code",))
    for code, number in found.failures.items():
        failures.labels(*backfill, code).set(number)
    documents = gauge("documents", "Documents by partition and state", ("partition", "state"))
    for partition in found.partitions:
        for state in ("done", "failed", "open", "aside", "new"):
            documents.labels(*backfill, partition.name, state).set(getattr(partition, state))
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise SetupFault(f"the metrics cannot be written to {file}: {error.strerror}; correct --metrics") from error
