"""Formatting of amounts, durations, counts, quantities and confidences for people."""


def dollars(amount: float) -> str:
    """Format an amount, with more digits if it is small."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def span(seconds: float | None) -> str:
    """Format a duration in its largest unit; a question mark if it is unknown."""
    if seconds is None:
        return "?"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def number(value: float | None) -> str:
    """Format a count; a question mark if it is unknown."""
    return "?" if value is None else f"{value:,}"


def quantity(count: int, noun: str) -> str:
    """Format a count with its noun: 1 page, 2,345 pages.

    Args:
        count: the count.
        noun: the noun in the singular; its plural ends in -s.
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(value: float | None) -> str:
    """Format a confidence; empty if there is none."""
    return "" if value is None else f"{value:.3f}"
