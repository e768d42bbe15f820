"""Estimates for a backfill: its minimum duration, the limit that determines it, and confidence intervals of samples."""

import math
from collections.abc import Sequence

from tasks.options import Options
from tasks.upstage.throttle import START_PAGES, START_REQUESTS, Rate

_POLLS_A_REQUEST = 2  # a job is polled about twice: once too early, and once when it is finished
_DAY = 86_400.0
_SURE = 1.96  # standard errors on either side, for a confidence of 95 %


def duration(requests: int, pages: int, options: Options, price: float) -> tuple[float, str]:
    """Estimate the minimum duration from the strictest limit.

    Args:
        requests: number of submissions.
        pages: number of pages in them.
        options: the run's options.
        price: dollars per page.

    Returns:
        The duration in seconds, and the limit that determines it, as an option.
    """
    calls = requests if options.mode == "sync" else requests * (1 + _POLLS_A_REQUEST)
    second, named_second = _rate(options.requests_per_second, START_REQUESTS)
    minute, named_minute = _rate(options.pages_per_minute, START_PAGES)
    limits = [
        (calls / second, f"--requests-per-second {named_second}"),
        (pages / minute * 60, f"--pages-per-minute {named_minute}"),
    ]
    if options.max_pages_per_day:
        days = math.ceil(pages / options.max_pages_per_day) - 1
        limits.append((days * _DAY, f"--max-pages-per-day {options.max_pages_per_day}"))
    if options.max_cost_per_day:
        days = math.ceil(pages * price / options.max_cost_per_day) - 1
        limits.append((days * _DAY, f"--max-cost-per-day {options.max_cost_per_day:g}"))
    return max(limits)


def _rate(rate: Rate, start: float) -> tuple[float, str]:
    """Return a rate as a number and as text. "auto" counts as the rate of the lowest tier."""
    return (start, f"auto, estimated at {start:g}") if rate == "auto" else (rate, f"{rate:g}")


def interval(sample: Sequence[int], population: int) -> tuple[int, int]:
    """Estimate the sum over a population from a random sample, as an interval with 95 % confidence.

    Args:
        sample: the values in the sample.
        population: the size of the population.
    """
    number = len(sample)
    if number < 2:
        return 0, 0
    mean = sum(sample) / number
    variance = sum((value - mean) ** 2 for value in sample) / (number - 1)
    correction = max(0.0, 1 - number / population)  # a sample of everything has no error
    error = _SURE * math.sqrt(variance / number * correction) * population
    total = mean * population
    return max(sum(sample), math.floor(total - error)), math.ceil(total + error)
