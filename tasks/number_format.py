"""Formatting of amounts, durations, counts and confidences for people."""


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


def share(value: float | None) -> str:
    """Format a confidence; empty if there is none."""
    return "" if value is None else f"{value:.3f}"
