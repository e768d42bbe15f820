"""Charts of a backfill: in letters for pages that take no pictures, and as SVG for those that do."""

import html
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 180, 56, 24


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The values as a line of blocks, the highest as a full one; several in a column where there are too many."""
    columns = _in_columns(values, width)
    highest = max(columns, default=0)
    if not highest:
        return ""
    return "".join(_BLOCKS[min(7, int(value / highest * 7.999))] for value in columns)


def histogram(values: Sequence[float], bins: int = 10) -> list[tuple[float, float, int]]:
    """How many of the values are between which two numbers, in bins of one width."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [(low + index * width, low + (index + 1) * width, count) for index, count in enumerate(counts)]


def bars(title: str, values: Sequence[float], labels: Sequence[str], unit: str = "") -> str:
    """A bar chart as SVG, which needs nothing from elsewhere.

    Args:
        title: what it shows.
        values: the heights.
        labels: what each bar is, shown when it is pointed at; the first and the last stand below.
        unit: of the values.
    """
    highest = max(values, default=0) or 1
    step = (_WIDTH - _LEFT) / max(1, len(values))
    room = _HEIGHT - _BOTTOM - 8
    shapes = []
    for index, (value, label) in enumerate(zip(values, labels, strict=True)):
        height = room * value / highest
        shapes.append(
            f'<rect x="{_LEFT + index * step:.1f}" y="{8 + room - height:.1f}" width="{max(0.5, step - 1):.1f}" '
            f'height="{height:.1f}"><title>{html.escape(label)}: {_number(value)} {html.escape(unit)}</title></rect>'
        )
    ends = ""
    if labels:
        ends = f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{html.escape(labels[0])}</text>'
        if len(labels) > 1:
            ends += f'<text x="{_WIDTH}" y="{_HEIGHT - 6}" text-anchor="end">{html.escape(labels[-1])}</text>'
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{8 + room}" y2="{8 + room}"/>'
        f'<text x="{_LEFT - 6}" y="18" text-anchor="end">{_number(highest)}</text>'
        f'<text x="{_LEFT - 6}" y="{8 + room}" text-anchor="end">0</text>{"".join(shapes)}{ends}</svg></figure>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _in_columns(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    size = len(values) / width
    slices = (values[int(index * size) : max(int(index * size) + 1, int((index + 1) * size))] for index in range(width))
    return [sum(part) / len(part) for part in slices]
