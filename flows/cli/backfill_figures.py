"""A backfill's figures on a terminal, for `watch` and `backfill show`, from 80 columns on."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks.backfills.figures import Figures, PartitionFigures
from tasks.job.spending import duplicates_text
from tasks.number_format import dollars, span
from tasks.printable import printable

_REASONS = 6
_WIDE = 150  # columns, from which on each line has three numbers
_CELL = 26  # columns of a partition in the grid
_STATES = {
    "running": "green",
    "finished": "green",
    "paused": "yellow",
    "budget reached": "yellow",
    "cancelled": "red",
    "planned": "cyan",
}


def picture(figures: Figures, width: int, height: int | None = None) -> RenderableType:
    """Lay out the figures for a terminal.

    Args:
        figures: the figures.
        width: the number of columns.
        height: the number of lines, to which the grid of partitions is shortened; None for no limit.
    """
    lines: list[RenderableType] = [_title(figures), _bar(figures), _numbers(figures, width)]
    if figures.why:
        lines.append(Text(printable(figures.why), style="yellow"))
    if figures.changed:
        lines.append(Text(printable(figures.changed), style="yellow"))
    if figures.held and figures.held_until:
        lines.append(
            Text(
                f"{figures.held:,} jobs are held by a run that stopped, until {figures.held_until:%H:%M:%S} UTC",
                "yellow",
            )
        )
    if figures.possible_duplicates:
        lines.append(Text(duplicates_text(figures.possible_duplicates), style="yellow"))
    if figures.failures:
        reasons = list(figures.failures.items())
        some = ", ".join(f"{printable(code)} {number:,}" for code, number in reasons[:_REASONS])
        rest = f", {len(reasons) - _REASONS} more reasons" if len(reasons) > _REASONS else ""
        lines.append(Text(f"failed: {some}{rest}", style="red"))
    lines.append(Text("served by " + ("; ".join(map(printable, figures.served_by)) or "no run"), style="dim"))
    if figures.partitions:
        # The rest of the height: without the other lines, the rows of numbers, an empty line and the last line.
        most = None if height is None else max(3, height - len(lines) + 1 - _rows(width) - 2)
        lines += [Text(""), grid(figures.partitions, width, most)]
    return Group(*lines)


def _title(figures: Figures) -> Text:
    title = Text(printable(figures.name), style="bold")
    state = figures.shown_state
    title.append(f"  {state}", style=_STATES.get(state, ""))
    title.append(f"  {printable(figures.source)} → {printable(figures.destination)}", style="dim")
    return title


def _bar(figures: Figures) -> RenderableType:
    words = f"{figures.finished:,} of {figures.total:,} documents"
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    share = 100 * figures.finished / figures.total if figures.total else 100.0
    row.add_row(
        ProgressBar(total=100, completed=share, complete_style="green", finished_style="green"),
        f"{share:.1f} %  {words}",
    )
    return row


def _time_left(figures: Figures, left: str) -> str:
    if figures.total and figures.finished == figures.total:
        return "nothing left"
    if figures.waiting_for == "budget" and not figures.served_by:
        return "until there is budget"
    return (left or "not known yet") if figures.served_by else "no run is working on it"


def _numbers(figures: Figures, width: int) -> RenderableType:
    """Lay out the numbers in as many columns as fit."""
    charged = f"{figures.pages_charged:,}" + (f" of {figures.max_pages:,}" if figures.max_pages else "")
    if figures.pages_lost:
        charged += f", {figures.pages_lost:,} without an answer"
    money = dollars(figures.cost) + (f" of {dollars(figures.max_cost)}" if figures.max_cost else "")
    planned = f"{figures.pages:,}" + (f" of {figures.planned_pages:,}" if figures.planned_pages else "")
    left = ""
    if figures.seconds_left is not None and figures.ends_at is not None:
        today = figures.ends_at.date() == figures.at.date()
        left = f"{span(figures.seconds_left)}, until {figures.ends_at:{'%H:%M' if today else '%Y-%m-%d %H:%M'}} UTC"
    latency = ""
    if figures.seconds_p50 is not None and figures.seconds_p90 is not None:
        latency = f"{span(figures.seconds_p50)}, p90 {span(figures.seconds_p90)}"
    api = ""
    if figures.api_p50 is not None and figures.api_p90 is not None:
        api = f"{span(figures.api_p50)}, p90 {span(figures.api_p90)}"
    pairs = [
        ("done", f"{figures.done:,}"),
        ("failed", f"{figures.failed:,}"),
        ("set aside", f"{figures.aside:,}"),
        ("open", f"{figures.open:,}, at the API {figures.at_api:,}"),
        ("new", f"{figures.new:,}"),
        ("pages done", planned),
        ("pages charged", charged),
        ("money charged", money),
        ("pages a minute", f"{figures.pages_per_minute:,.0f}"),
        ("time left", _time_left(figures, left)),
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
    """Return the number of lines for the numbers."""
    return 6 if width < _WIDE else 4


def grid(partitions: list[PartitionFigures], width: int, most: int | None = None) -> RenderableType:
    """Lay out the partitions in columns, each with a small bar. Finished ones are omitted first if space is short.

    Args:
        partitions: the partitions.
        width: the terminal's number of columns.
        most: the maximum number of lines; None for no limit.
    """
    columns = max(1, width // _CELL)
    shown, left = partitions, 0
    if most is not None and len(partitions) > most * columns:
        room = (most - 1) * columns
        unfinished_first = sorted(
            partitions,
            key=lambda partition: (partition.total and partition.finished >= partition.total, partition.name),
        )
        shown = sorted(unfinished_first[:room], key=lambda partition: partition.name)
        left = len(partitions) - len(shown)
    rows = -(-len(shown) // columns)
    table = Table.grid(padding=(0, 1))
    for index in range(rows):
        table.add_row(*[_cell(partition, width // columns - 1) for partition in shown[index::rows]])
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
