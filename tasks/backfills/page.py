"""The report of a backfill as one HTML page that needs nothing from elsewhere: it can be kept, sent, and opened."""

import html
from collections.abc import Iterable, Sequence

from tasks.backfills.charts import bars, histogram
from tasks.backfills.figures import Figures, dollars, span
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


def report_page(found: Figures) -> str:
    """The report of a backfill that stands like this."""
    share = 100 * found.finished / found.total if found.total else 100.0
    numbers = [
        ("documents", f"{found.finished:,} of {found.total:,}"),
        ("done", f"{found.done:,}"),
        ("failed", f"{found.failed:,}"),
        ("set aside", f"{found.aside:,}"),
        ("open", f"{found.open:,}"),
        ("pages done", f"{found.pages:,}"),
        ("pages paid", f"{found.pages_sent:,}" + (f" of {found.max_pages:,}" if found.max_pages else "")),
        ("possibly paid twice", f"{found.pages_lost:,}"),
        ("money", dollars(found.cost) + (f" of {dollars(found.max_cost)}" if found.max_cost else "")),
    ]
    if found.seconds_p50 is not None and found.seconds_p90 is not None:
        numbers.append(("from claim to result", f"{span(found.seconds_p50)}, p90 {span(found.seconds_p90)}"))
    if found.api_p50 is not None and found.api_p90 is not None:
        numbers.append(("at the API", f"{span(found.api_p50)}, p90 {span(found.api_p90)}"))
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in numbers)
    parts = [
        f"<h1>{_text(found.name)}: {_text(found.state)}</h1>",
        f"<p class=dim>{_text(found.source)} → {_text(found.destination)}, as of {found.at:%Y-%m-%d %H:%M} UTC</p>",
        f'<progress max="100" value="{share:.1f}"></progress><dl>{facts}</dl>',
    ]
    parts += [f"<p>{_text(remark)}</p>" for remark in (found.why, found.changed) if remark]
    if found.per_minute:
        labels = [f"{minute:%m-%d %H:%M}" for minute, _ in found.per_minute]
        parts.append(bars("pages published a minute", [pages for _, pages in found.per_minute], labels, "pages"))
    if found.latencies:
        bins = histogram(found.latencies, 20)
        labels = [f"{span(low)} to {span(high)}" for low, high, _ in bins]
        title = f"seconds from claim to result, of the last {len(found.latencies):,} documents"
        parts.append(bars(title, [count for _, _, count in bins], labels, "documents"))
    if found.confidence:
        labels = [f"{number / 10:.1f} to {(number + 1) / 10:.1f}" for number in range(len(found.confidence))]
        parts.append(bars("words by confidence", found.confidence, labels, "words"))
    if found.failures:
        rows = [(code, f"{number:,}", found.reasons.get(code, "")) for code, number in found.failures.items()]
        header = ("code", "documents", "what was said of one of them")
        parts += ["<h2>Failures</h2>", _table(header, rows, "words")]
    if found.partitions:
        columns = ("partition", "finished", "failed", "set aside", "open", "new", "pages", "pages paid", "cost")
        partitions = [
            (
                each.name,
                f"{each.finished:,} of {each.total:,}",
                *(f"{number:,}" for number in (each.failed, each.aside, each.open, each.new, each.pages, each.spent)),
                dollars(each.cost),
            )
            for each in found.partitions
        ]
        parts += ["<h2>Partitions</h2>", _table(columns, partitions)]
    if found.slowest:
        slowest = [(document, span(seconds)) for document, seconds in found.slowest]
        parts += ["<h2>Slowest documents</h2>", _table(("document", "from claim to result"), slowest)]
    if found.least_confident:
        least = [(document, f"{mean:.3f}") for document, mean in found.least_confident]
        parts += ["<h2>Least confident documents</h2>", _table(("document", "mean of its words"), least)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(found.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table class={kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(words: str) -> str:
    """Words of strangers, such as keys, that neither HTML nor a terminal takes for anything else."""
    return html.escape(printable(words))
