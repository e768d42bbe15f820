"""A backfill's figures on a terminal: one picture for `watch` and `backfill show`, from 80 columns on."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks.backfills.figures import Figures, PartitionFigures, dollars, span
from tasks.printable import printable

_REASONS = 6
_WIDE = 150  # columns, from which on there are three numbers in a line
_CELL = 26  # columns of a partition in the grid
_STATES = {"running": "green", "finished": "green", "paused": "yellow", "cancelled": "red", "planned": "cyan"}


def picture(found: Figures, width: int, height: int | None = None) -> RenderableType:
    """The figures, laid out for a terminal.

    Args:
        found: the figures.
        width: columns.
        height: lines, where there is a bound; the grid of partitions is shortened to it.
    """
    lines: list[RenderableType] = [_title(found), _bar(found), _numbers(found, width)]
    if found.why:
        lines.append(Text(printable(found.why), style="yellow"))
    if found.changed:
        lines.append(Text(printable(found.changed), style="yellow"))
    if found.held and found.held_until:
        lines.append(
            Text(f"{found.held:,} jobs are held by a run that stopped, until {found.held_until:%H:%M:%S} UTC", "yellow")
        )
    if found.failures:
        reasons = list(found.failures.items())
        some = ", ".join(f"{printable(code)} {number:,}" for code, number in reasons[:_REASONS])
        rest = f", {len(reasons) - _REASONS} more reasons" if len(reasons) > _REASONS else ""
        lines.append(Text(f"failed: {some}{rest}", style="red"))
    lines.append(Text("served by " + ("; ".join(map(printable, found.served_by)) or "no run"), style="dim"))
    if found.partitions:
        # Beside the grid there are the other lines, the rows of numbers, an empty line and the terminal's last one.
        most = None if height is None else max(3, height - len(lines) + 1 - _rows(width) - 2)
        lines += [Text(""), grid(found.partitions, width, most)]
    return Group(*lines)


def _title(found: Figures) -> Text:
    title = Text(printable(found.name), style="bold")
    title.append(f"  {found.state}", style=_STATES.get(found.state, ""))
    title.append(f"  {printable(found.source)} → {printable(found.destination)}", style="dim")
    return title


def _bar(found: Figures) -> RenderableType:
    words = f"{found.finished:,} of {found.total:,} documents"
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    share = 100 * found.finished / found.total if found.total else 100.0
    row.add_row(
        ProgressBar(total=100, completed=share, complete_style="green", finished_style="green"),
        f"{share:.1f} %  {words}",
    )
    return row


def _numbers(found: Figures, width: int) -> RenderableType:
    """The figures, in as many columns as there is room for."""
    spent = f"{found.pages_sent:,}" + (f" of {found.max_pages:,}" if found.max_pages else "")
    if found.pages_lost:
        spent += f", {found.pages_lost:,} possibly twice"
    money = dollars(found.cost) + (f" of {dollars(found.max_cost)}" if found.max_cost else "")
    planned = f"{found.pages:,}" + (f" of {found.planned_pages:,}" if found.planned_pages else "")
    left = ""
    if found.seconds_left is not None and found.ends_at is not None:
        today = found.ends_at.date() == found.at.date()
        left = f"{span(found.seconds_left)}, until {found.ends_at:{'%H:%M' if today else '%Y-%m-%d %H:%M'}} UTC"
    latency = ""
    if found.seconds_p50 is not None and found.seconds_p90 is not None:
        latency = f"{span(found.seconds_p50)}, p90 {span(found.seconds_p90)}"
    api = ""
    if found.api_p50 is not None and found.api_p90 is not None:
        api = f"{span(found.api_p50)}, p90 {span(found.api_p90)}"
    pairs = [
        ("done", f"{found.done:,}"),
        ("failed", f"{found.failed:,}"),
        ("set aside", f"{found.aside:,}"),
        ("open", f"{found.open:,}, at the API {found.at_api:,}"),
        ("new", f"{found.new:,}"),
        ("pages done", planned),
        ("pages paid", spent),
        ("money", money),
        ("pages a minute", f"{found.pages_per_minute:,.0f}"),
        ("time left", (left or "not known yet") if found.served_by else "no run is working on it"),
        ("per document", latency or "not known yet"),
        ("at the API", api or "not known yet"),
    ]
    table = Table.grid(padding=(0, 2))
    rows = _rows(width)
    for index in range(rows):
        cells: list[Text] = []
        for name, value in pairs[index::rows]:
            cells += [Text(name, style="dim"), Text(value)]
        table.add_row(*cells)
    return table


def _rows(width: int) -> int:
    """How many lines the numbers take."""
    return 6 if width < _WIDE else 4


def grid(partitions: list[PartitionFigures], width: int, most: int | None = None) -> RenderableType:
    """The partitions in columns, each with a small bar; those that are finished last, where not all have room.

    Args:
        partitions: the partitions.
        width: columns of the terminal.
        most: lines; None for as many as it takes.
    """
    columns = max(1, width // _CELL)
    shown, left = partitions, 0
    if most is not None and len(partitions) > most * columns:
        room = (most - 1) * columns
        unfinished_first = sorted(partitions, key=lambda each: (each.total and each.finished >= each.total, each.name))
        shown = sorted(unfinished_first[:room], key=lambda each: each.name)
        left = len(partitions) - len(shown)
    rows = -(-len(shown) // columns)
    table = Table.grid(padding=(0, 1))
    for index in range(rows):
        table.add_row(*[_cell(each, width // columns - 1) for each in shown[index::rows]])
    return Group(table, Text(f"… and {left} more partitions", style="dim")) if left else table


def _cell(partition: PartitionFigures, width: int) -> Text:
    total, finished = partition.total, partition.finished
    filled = 6 * finished // total if total else 6
    counts, failed = f"{finished:,}/{total:,}", f" !{partition.failed}" if partition.failed else ""
    name = printable(partition.name)
    room = max(4, width - 8 - len(counts) - len(failed))
    name = name if len(name) <= room else f"{name[: room - 1]}…"
    style = "green" if total and finished >= total else "yellow" if partition.open else ""
    cell = Text(f"{name:<{min(room, 9)}} ")
    cell.append("█" * filled + "·" * (6 - filled), style=style)
    cell.append(f" {counts}")
    cell.append(failed, style="red")
    return cell
