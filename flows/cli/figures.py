"""Amounts, spans of time and shares as people read them."""


def money(dollars: float) -> str:
    """An amount, with so many digits that it says something."""
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}"


def span(seconds: float | None) -> str:
    """A time in its largest unit; a question mark where nobody knows it."""
    if seconds is None:
        return "?"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def number(value: float | None) -> str:
    """A count; a question mark where nobody knows it."""
    return "?" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A confidence; empty where there is none."""
    return "" if value is None else f"{value:.3f}"
