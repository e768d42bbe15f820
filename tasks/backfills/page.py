"""The report of a backfill as a self-contained HTML page."""

import html
from collections.abc import Iterable, Sequence

from tasks.backfills.charts import bars, histogram
from tasks.backfills.figures import Figures
from tasks.number_format import dollars, span
from tasks.printable import printable

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #6a737d; --line: #d0d7de; --bar: #2f6feb; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #8b949e; --line: #30363d; --bar: #58a6ff; --page: #0d1117; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.dim, figcaption, th, svg text { color: var(--dim); fill: var(--dim); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .words :last-child { text-align: left; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem; }
dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; font-size: 1.2rem; }
figure { margin: 1rem 0; } svg { width: 100%; } rect { fill: var(--bar); } line { stroke: var(--line); }
progress { width: 100%; accent-color: var(--bar); }
"""


def report_page(figures: Figures) -> str:
    """Render the report of a backfill."""
    share = 100 * figures.finished / figures.total if figures.total else 100.0
    numbers = [
        ("documents", f"{figures.finished:,} of {figures.total:,}"),
        ("done", f"{figures.done:,}"),
        ("failed", f"{figures.failed:,}"),
        ("set aside", f"{figures.aside:,}"),
        ("open", f"{figures.open:,}"),
        ("pages done", f"{figures.pages:,}"),
        ("pages charged", f"{figures.pages_charged:,}" + (f" of {figures.max_pages:,}" if figures.max_pages else "")),
        ("of these, without an answer", f"{figures.pages_lost:,}"),
        ("submissions possibly paid twice", f"{figures.possible_duplicates:,}"),
        ("money charged", dollars(figures.cost) + (f" of {dollars(figures.max_cost)}" if figures.max_cost else "")),
    ]
    if figures.seconds_p50 is not None and figures.seconds_p90 is not None:
        numbers.append(("from claim to result", f"{span(figures.seconds_p50)}, p90 {span(figures.seconds_p90)}"))
    if figures.api_p50 is not None and figures.api_p90 is not None:
        numbers.append(("at the API", f"{span(figures.api_p50)}, p90 {span(figures.api_p90)}"))
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in numbers)
    parts = [
        f"<h1>{_text(figures.name)}: {_text(figures.shown_state)}</h1>",
        f"<p class=dim>{_text(figures.source)} → {_text(figures.destination)}, "
        f"as of {figures.at:%Y-%m-%d %H:%M} UTC</p>",
        f'<progress max="100" value="{share:.1f}"></progress><dl>{facts}</dl>',
    ]
    parts += [f"<p>{_text(remark)}</p>" for remark in (figures.why, figures.changed) if remark]
    if figures.per_minute:
        labels = [f"{minute:%m-%d %H:%M}" for minute, _ in figures.per_minute]
        parts.append(bars("pages published a minute", [pages for _, pages in figures.per_minute], labels, "pages"))
    if figures.latencies:
        bins = histogram(figures.latencies, 20)
        labels = [f"{span(low)} to {span(high)}" for low, high, _ in bins]
        title = f"seconds from claim to result, of the last {len(figures.latencies):,} documents"
        parts.append(bars(title, [count for _, _, count in bins], labels, "documents"))
    if figures.confidence:
        labels = [f"{number / 10:.1f} to {(number + 1) / 10:.1f}" for number in range(len(figures.confidence))]
        parts.append(bars("words by confidence", figures.confidence, labels, "words"))
    if figures.failures:
        rows = [(code, f"{number:,}", figures.reasons.get(code, "")) for code, number in figures.failures.items()]
        header = ("code", "documents", "what was said of one of them")
        parts += ["<h2>Failures</h2>", _table(header, rows, "words")]
    if figures.partitions:
        columns = ("partition", "finished", "failed", "set aside", "open", "new", "pages", "pages charged", "cost")
        partitions = [
            (
                partition_figures.name,
                f"{partition_figures.finished:,} of {partition_figures.total:,}",
                *(
                    f"{number:,}"
                    for number in (
                        partition_figures.failed,
                        partition_figures.aside,
                        partition_figures.open,
                        partition_figures.new,
                        partition_figures.pages,
                        partition_figures.spent,
                    )
                ),
                dollars(partition_figures.cost),
            )
            for partition_figures in figures.partitions
        ]
        parts += ["<h2>Partitions</h2>", _table(columns, partitions)]
    if figures.slowest:
        slowest = [(document, span(seconds)) for document, seconds in figures.slowest]
        parts += ["<h2>Slowest documents</h2>", _table(("document", "from claim to result"), slowest)]
    if figures.least_confident:
        least = [(document, f"{mean:.3f}") for document, mean in figures.least_confident]
        parts += ["<h2>Least confident documents</h2>", _table(("document", "mean of its words"), least)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(figures.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table class={kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(words: str) -> str:
    """Escape untrusted text, such as keys, for HTML and terminals."""
    return html.escape(printable(words))
