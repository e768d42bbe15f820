"""Charts of a backfill: as block characters for text, and as SVG for HTML pages."""

import html
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 180, 56, 24


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Draw the values as a line of block characters, averaged if there are more values than columns."""
    columns = _in_columns(values, width)
    highest = max(columns, default=0)
    if not highest:
        return ""
    return "".join(_BLOCKS[min(7, int(value / highest * 7.999))] for value in columns)


def histogram(values: Sequence[float], bins: int = 10) -> list[tuple[float, float, int]]:
    """Count values in bins of equal width, each as lower bound, upper bound and count."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [(low + index * width, low + (index + 1) * width, count) for index, count in enumerate(counts)]


def bars(title: str, values: Sequence[float], labels: Sequence[str], unit: str = "") -> str:
    """Draw a bar chart as self-contained SVG.

    Args:
        title: the caption.
        values: the heights of the bars.
        labels: a label for each bar, shown as a tooltip; the first and the last are also shown below the axis.
        unit: the unit of the values.
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
