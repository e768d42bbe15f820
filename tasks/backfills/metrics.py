"""The figures of a backfill as metrics: one list, for Prometheus's textfile and for OpenTelemetry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.backfills.figures import Figures

STATES = ("done", "failed", "open", "aside", "new")

_PLAIN = {
    "planned": "Documents planned",
    "pages": "Pages in published results",
    "pages_sent": "Pages in accepted submissions",
    "pages_lost": "Pages in submissions without an answer on record, which may be billed",
    "possible_duplicates": "Submissions that may be billed and were, or will be, repeated",
    "pages_reserved": "Pages about to be sent",
    "pages_per_minute": "Pages published a minute, in the last ten minutes",
    "at_api": "Jobs that the API works on",
    "held": "Jobs that a stopped run holds",
}
_WHERE_KNOWN = {
    "seconds_left": "Time left at the present pace",
    "oldest_open_seconds": "Age of the oldest open job, whose result is waited for",
    "throttle_wait_seconds": "Time that the calls of a run have waited for the rate limit, all threads together",
}

Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Metric:
    """One gauge.

    Attributes:
        name: without the prefix `bulk_ocr`.
        words: its description.
        labels: the names of its labels, in addition to the backfill and its destination.
        samples: the values by label values.
    """

    name: str
    words: str
    labels: Sequence[str]
    samples: Samples


def metrics_of(figures: Figures) -> list[Metric]:
    """Return the metrics of a backfill. Metrics without a value yet are omitted."""
    plain = [(name, words, getattr(figures, name)) for name, words in _PLAIN.items()]
    plain += [
        ("cost_dollars", "Money for pages sent and lost", figures.cost),
        ("budget_share", "Share of the nearest ceiling that is spent", figures.budget_share or 0),
        ("serving_runs", "Runs that work for it", len(figures.served_by)),
        ("read_timestamp_seconds", "When these figures were read", figures.at.timestamp()),
    ]
    known = [(name, words, getattr(figures, name)) for name, words in _WHERE_KNOWN.items()]
    plain += [metric for metric in known if metric[2] is not None]
    metrics = [Metric(name, words, (), {(): float(value)}) for name, words, value in plain]
    quantiles = (
        ("api_seconds", "At the API, of the last documents", figures.api_p50, figures.api_p90),
        ("document_seconds", "From claim to result, of the last documents", figures.seconds_p50, figures.seconds_p90),
    )
    for name, words, half, most in quantiles:
        samples: Samples = {
            (quantile,): value for quantile, value in (("0.5", half), ("0.9", most)) if value is not None
        }
        metrics.append(Metric(name, words, ("quantile",), samples))
    failures: Samples = {(code,): float(number) for code, number in figures.failures.items()}
    metrics.append(Metric("failures", "Documents given up, by code", ("code",), failures))
    documents: Samples = {
        (partition.name, state): float(getattr(partition, state))
        for partition in figures.partitions
        for state in STATES
    }
    metrics.append(Metric("documents", "Documents by partition and state", ("partition", "state"), documents))
    return metrics
