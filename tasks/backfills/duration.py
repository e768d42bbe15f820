"""How long a backfill takes, and which limit decides about that; and how sure an estimate from a sample is."""

import math
from collections.abc import Sequence

from tasks.options import Options
from tasks.upstage.throttle import START_PAGES, START_REQUESTS, Rate

_POLLS_A_REQUEST = 2  # a job is asked for about twice: too early once, and when it is finished
_DAY = 86_400.0
_SURE = 1.96  # standard errors on either side: 95 of 100 samples are right


def duration(requests: int, pages: int, options: Options, price: float) -> tuple[float, str]:
    """How long the work takes at least, by the slowest of its limits.

    Args:
        requests: submissions.
        pages: pages in them.
        options: the run's.
        price: dollars a page.

    Returns:
        Seconds, and the limit that decides, in words.
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
    """A rate in numbers, and in words. What is yet to be found out is reckoned as the lowest tier."""
    return (start, f"auto, reckoned as {start:g}") if rate == "auto" else (rate, f"{rate:g}")


def interval(sample: Sequence[int], population: int) -> tuple[int, int]:
    """Between which two numbers the sum over a population lies, as a random sample of it tells; 95 % sure.

    Args:
        sample: the values of those that were looked at.
        population: how many there are in all.
    """
    number = len(sample)
    if number < 2:
        return 0, 0
    mean = sum(sample) / number
    variance = sum((value - mean) ** 2 for value in sample) / (number - 1)
    correction = max(0.0, 1 - number / population)  # where all were looked at, nothing is unsure
    error = _SURE * math.sqrt(variance / number * correction) * population
    total = mean * population
    return max(sum(sample), math.floor(total - error)), math.ceil(total + error)
